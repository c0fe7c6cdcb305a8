"""A new `replay.npz` for a version that is there already, from the data that it was trained on.

Where a network is cut may change from one release to the next. The weights, and so the answers,
stay as they are; only what retraining rehearses on is made again.
"""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

from fer.errors import DataError, ManifestError
from fer.files import sha256_of, write_atomically
from fer.learning.assessment import in_model_order
from fer.learning.datasets import Votes, assign_splits, load_faces, open_dataset, read_votes
from fer.learning.layouts import TRAIN, VALIDATION
from fer.learning.material import open_model
from fer.learning.recipe import Recipe
from fer.learning.replay import make_replay
from fer.learning.runs import Splits
from fer.manifest import Manifest
from fer.registry import KERAS_FILE, MANIFEST, REPLAY_FILE, Registry


def renew_replay(
    registry: Registry,
    version: str,
    data: Path,
    votes: Path | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Manifest:
    """Write a version's `replay.npz` again, and its manifest with the new freeze point.

    Args:
        data: what the version was trained on; its validation split becomes the base hold-out.
        votes: FER+ votes, where it was trained towards them.

    Raises:
        ManifestError: the version was not made by `fer train`.
        DataError: the data cannot be used, or is not what the version was trained on.
    """
    manifest = registry.manifest(version)
    names = {field.name for field in fields(Recipe)}
    if not names <= set(manifest.settings):
        raise ManifestError(f"{version} was not made by `fer train`: its replay follows its own.")
    recipe = Recipe(**{name: manifest.settings[name] for name in names})
    dataset = open_dataset(data)
    known = {source.sha256 for source in manifest.data} - {None}
    if known and dataset.sha256() not in known:
        # Faces that it was trained on must not become the hold-out that measures forgetting.
        raise DataError(f"{data} is not the data that {version} was trained on.")
    # What was kept for a test was not trained on either.
    dataset = in_model_order(dataset, manifest.label_set)
    dataset = assign_splits(dataset, test_share=0, seed=recipe.seed)
    read: Votes | None = read_votes(votes) if votes is not None else None
    train, validation = (
        load_faces(dataset, dataset.split(split), manifest.crop_size)
        for split in (TRAIN, VALIDATION)
    )
    splits = Splits(dataset, train, validation, None, read)
    say(f"Running {len(train)} and {len(validation)} faces through the frozen part.")
    replay = make_replay(
        open_model(registry, version),
        manifest.architecture,
        (train.crops, splits.targets(train, recipe)),
        (validation.crops, splits.targets(validation, recipe), splits.accepted(validation)),
        seed=recipe.seed,
    )
    folder = registry.path(version)
    buffer = io.BytesIO()
    replay.save(buffer)
    # The replay first: a crash in between leaves one that is refused until this runs again.
    write_atomically(folder / REPLAY_FILE, buffer.getvalue())
    files = manifest.files | {REPLAY_FILE: sha256_of(folder / REPLAY_FILE)}
    renewed = manifest.model_copy(update={"files": files, "freeze_point": replay.freeze_point})
    text = renewed.model_dump_json(indent=1) + "\n"
    write_atomically(folder / MANIFEST, text.encode())
    for name in (REPLAY_FILE, MANIFEST):
        shutil.copymode(folder / KERAS_FILE, folder / name)
    return renewed
