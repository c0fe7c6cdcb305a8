"""Visitors who leave faces, and an operator who decides on them, played."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from benchmarks.loop.cells import Cell
from benchmarks.loop.people import Face
from fer.collection.database import Database
from fer.collection.operators import Operators
from fer.collection.review import ReviewQueue
from fer.collection.samples import SampleStore
from fer.collection.storage import FolderStorage
from fer.config import Settings


def visit(folder: Path, models: Path, faces: Sequence[Face]) -> dict[str, str]:
    """Every face is kept, one session a person; the true label by sample id."""
    settings = Settings(_env_file=None, data_dir=folder, models_dir=models)
    database = Database(settings.effective_database_url)
    database.migrate()
    Operators(database).add("ann", "played by a benchmark")
    store = SampleStore(database, FolderStorage(folder), settings)
    truth = {}
    for face in faces:
        if face.sample is not None:
            receipt = store.keep([face.sample], group_id=store.group_id(face.person))
            truth[receipt.sample_ids[0]] = face.label
    database.close()
    return truth


def review(
    folder: Path, models: Path, cell: Cell, truth: dict[str, str], labels: Sequence[str]
) -> int:
    """The operator decides `corrections` faces in the cell's order; how many there were."""
    settings = Settings(_env_file=None, data_dir=folder, models_dir=models)
    database = Database(settings.effective_database_url)
    queue = ReviewQueue(database, settings)
    store = SampleStore(database, FolderStorage(folder), settings)
    rng = np.random.default_rng((cell.seed, 77))
    names = sorted(set(truth.values()))
    done = 0
    for sample_id, version in next_faces(queue, store, cell, truth, rng):
        label = poisoned(truth[sample_id], cell.poison, names, rng)
        if rng.random() < cell.noise:
            label = str(rng.choice([name for name in names if name != label]))
        queue.decide(
            sample_id, "ann", "relabel", row_version=version, label=label, labels=tuple(labels)
        )
        done += 1
        if done == cell.corrections:
            break
    database.close()
    return done


def poisoned(label: str, poison: str, names: Sequence[str], rng: np.random.Generator) -> str:
    """What a poisoned operator decides: any label at all, or happy and sad swapped."""
    if poison == "shuffled":
        return str(rng.choice(names))
    if poison == "swapped":
        return {"happy": "sad", "sad": "happy"}.get(label, label)
    return label


def next_faces(
    queue: ReviewQueue,
    store: SampleStore,
    cell: Cell,
    truth: dict[str, str],
    rng: np.random.Generator,
) -> Iterator[tuple[str, int]]:
    """Sample ids and row versions as the console hands them out, or at random."""
    if cell.order == "queue":
        while views := queue.next("ann", "uncertain"):
            yield views[0].id, views[0].row_version
        return
    views = [store.get(str(sample_id)) for sample_id in rng.permutation(sorted(truth))]
    piles = {flag: [view for view in views if view.audit == flag] for flag in (True, False)}
    for number in range(1, len(views) + 1):
        # Every fifth from the audit slice here too, so that only the order differs.
        pile = piles[number % 5 == 0] or piles[number % 5 != 0]
        view = pile.pop()
        yield view.id, view.row_version
