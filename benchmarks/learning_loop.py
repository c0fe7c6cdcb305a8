"""Does it learn from corrections, and does it forget? Visitors and operators, played.

Photographs go through the real pipeline (detect, classify, store, decide), then the real retraining
job runs in a process of its own. Measured before and after on people who were in neither, and on
the base data: the challenger, and what serves after the gate.

    python benchmarks/learning_loop.py                       # the full grid
    python benchmarks/learning_loop.py --corrections 400 --orders queue --seeds 1
    python benchmarks/learning_loop.py --corrections 400 --orders queue --noise 0.3
    python benchmarks/learning_loop.py --corrections 400 --orders queue --knobs '{"copies": 0}'

Each cell of the grid is written to `--out` when it is done; `--resume` goes on from there.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.progress import track

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from fer.collection.database import Database  # noqa: E402
from fer.collection.newsample import NewSample  # noqa: E402
from fer.collection.operators import Operators  # noqa: E402
from fer.collection.review import ReviewQueue  # noqa: E402
from fer.collection.samples import SampleStore  # noqa: E402
from fer.collection.storage import FolderStorage  # noqa: E402
from fer.config import Settings  # noqa: E402
from fer.errors import PictureError  # noqa: E402
from fer.learning.datasets import (  # noqa: E402
    Dataset,
    Picture,
    load_faces,
    open_dataset,
    read_votes,
)
from fer.learning.paired import balanced_weights, gains_of, interval  # noqa: E402
from fer.registry import LITERT_FILE, Registry  # noqa: E402
from fer.vision.classifier import Classifier  # noqa: E402
from fer.vision.faces import crop_face, kept_picture  # noqa: E402
from fer.vision.images import encode_jpeg  # noqa: E402
from fer.vision.recogniser import Recogniser  # noqa: E402

SHARED = ROOT.parent / "shared" / "data"

#: Most pictures of one person, as one visitor would leave.
PER_PERSON = 10

#: Part of the people who are visitors where there is no `--test`; the others are never seen.
VISITORS = 0.6

#: Steps of the learning that an ablation takes away, each alone.
ABLATIONS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "no interpolation": {"interpolate": False},
    "no distillation": {"distillation": 0.0},
    "no varied copies": {"copies": 0},
    "no balance by label": {"class_balance": 0.0},
    "no replay": {"new_share": 1.0},
    "no trust in the champion's answer": {"trust": 1.0},
    "no early stopping": {"patience": 99},
}


@dataclass(frozen=True)
class Cell:
    """One run of the loop."""

    model: str
    order: str
    corrections: int
    seed: int
    noise: float
    poison: str
    knobs: str

    def key(self) -> tuple[Any, ...]:
        """What `--resume` goes by."""
        return (
            self.model,
            self.order,
            self.corrections,
            self.seed,
            self.noise,
            self.poison,
            self.knobs,
        )


@dataclass(frozen=True)
class Face:
    """A photograph after detection, or one in which no face was found (`sample` is None)."""

    label: str
    person: str
    sample: NewSample | None
    crop: npt.NDArray[np.uint8] | None


def person_of(name: str) -> str:
    """`happy/Jane_Doe_0003.jpg` shows `Jane_Doe`."""
    return re.sub(r"_\d+$", "", PurePosixPath(name).stem)


def read_photographs(data: Path, recogniser: Recogniser, labels: Sequence[str]) -> list[Face]:
    """Detect and classify every picture of a data set whose label the model knows."""
    dataset = open_dataset(data)
    manifest = recogniser.registry.manifest(recogniser.champion())
    known = [p for p in dataset.pictures if p.label.casefold() in {n.casefold() for n in labels}]
    faces = []
    for picture, content in track(
        dataset.read_all(known), "Detecting", total=len(known), transient=True
    ):
        person = person_of(picture.name)
        try:
            reading = recogniser.recognise(content)
        except PictureError:
            faces.append(Face(picture.label, person, None, None))
            continue
        first = reading.readings[0]
        image, box = kept_picture(reading.image, first.box)
        sample = NewSample(
            jpeg=encode_jpeg(image),
            width=image.shape[1],
            height=image.shape[0],
            face_box=box,
            probabilities=first.prediction.by_label(),
            model_version=reading.model_version,
            predicted_label=first.prediction.label,
            face_px=first.quality.face_px,
            sharpness=first.quality.sharpness,
        )
        crop = crop_face(reading.image, first.box, manifest.framing, manifest.crop_size)
        faces.append(Face(picture.label, person, sample, crop))
    return faces


def at_most(faces: Sequence[Face], rng: np.random.Generator) -> list[Face]:
    """No more than `PER_PERSON` pictures of anybody, chosen at random."""
    counts: Counter[str] = Counter()
    kept = []
    for index in rng.permutation(len(faces)):
        face = faces[index]
        counts[face.person] += 1
        if counts[face.person] <= PER_PERSON:
            kept.append(face)
    return kept


def split_by_person(
    faces: Sequence[Face], rng: np.random.Generator
) -> tuple[list[Face], list[Face]]:
    """Visitors, and people who are never seen."""
    people = sorted({face.person for face in faces})
    visitors = set(rng.permutation(people)[: round(VISITORS * len(people))].tolist())
    seen = [face for face in faces if face.person in visitors]
    return seen, [face for face in faces if face.person not in visitors]


def visit(folder: Path, models: Path, faces: Sequence[Face]) -> dict[str, str]:
    """Every face is kept, one session a person; the true label by sample id."""
    settings = Settings(_env_file=None, data_dir=folder, models_dir=models)  # type: ignore[call-arg]
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
    settings = Settings(_env_file=None, data_dir=folder, models_dir=models)  # type: ignore[call-arg]
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


def retrain_apart(
    folder: Path, models: Path, knobs: str, threads: int
) -> tuple[dict[str, Any], float, float]:
    """The retraining job in a process of its own: its outcome, seconds, and peak megabytes."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("FER_")}
    env |= {"FER_DATA_DIR": str(folder), "FER_MODELS_DIR": str(models)}
    env |= {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_NUM_INTRAOP_THREADS": str(threads)}
    env |= {"TF_NUM_INTEROP_THREADS": str(threads), "PYTHONPATH": str(ROOT)}
    started = time.monotonic()
    child = subprocess.Popen(
        [sys.executable, __file__, "--child", knobs], env=env, stdout=subprocess.PIPE, text=True
    )
    if child.stdout is None:
        raise SystemExit("The retraining has no output.")
    lines = child.stdout.read().splitlines()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode or not lines:
        raise SystemExit(f"The retraining ended with {child.returncode}: {lines[-1:]}")
    # Kilobytes on Linux.
    return json.loads(lines[-1]), time.monotonic() - started, usage.ru_maxrss / 1024


def run_child(knobs: str) -> None:
    """In the child: retrain, and set aside the challenger's file before the gate decides."""
    from rich.console import Console

    import retrain
    from fer.config import load_settings
    from fer.learning.job import Options, Workplace
    from fer.learning.journal import ConsoleJournal
    from fer.learning.knobs import FineTuning

    settings = load_settings()

    def reached(point: str) -> None:
        if point == "judged":
            (folder,) = settings.models_dir.glob(".new-*")
            shutil.copy(folder / LITERT_FILE, settings.models_dir / "challenger.tflite")

    work = Workplace(
        settings=settings,
        registry=Registry(settings.models_dir),
        database=Database(settings.effective_database_url),
        storage=FolderStorage(settings.data_dir),
        journal=ConsoleJournal(Console(stderr=True)),
        knobs=FineTuning(**json.loads(knobs)),
        reached=reached,
    )
    print(retrain.run_once(work, Options(min_new=1)).as_line(), flush=True)


class Judge:
    """Measures files on people who were never seen, and on the base."""

    def __init__(self, champion: Classifier, base: Path | None, votes: Path | None) -> None:
        self.champion = champion
        self.labels = champion.labels
        self.base_crops = np.empty((0, 1, 1, 3), np.uint8)
        if base is not None:
            dataset = open_dataset(base)
            split = "test" if "test" in dataset.splits() else "validation"
            chosen = [p for p in dataset.split(split) if p.label in self.labels]
            self._read_base(dataset, chosen, votes)

    def _read_base(self, dataset: Dataset, chosen: Sequence[Picture], votes: Path | None) -> None:
        faces = load_faces(dataset, chosen, self.champion.manifest.crop_size)
        own = [self.labels.index(dataset.labels[label]) for label in faces.labels]
        self.base_right = np.eye(len(self.labels), dtype=bool)[own]
        self.base_crops = faces.crops
        if votes is not None:
            accepted = read_votes(votes).accepted(faces.names, self.labels)
            counted = accepted.any(axis=1)
            self.base_right, self.base_crops = accepted[counted], faces.crops[counted]
        self.champion_base = self._base(self.champion)

    def _base(self, classifier: Classifier) -> npt.NDArray[np.bool_]:
        answers = classifier.probabilities(self.base_crops).argmax(axis=1)
        return np.asarray(self.base_right[np.arange(len(answers)), answers])

    def measure(self, classifier: Classifier, unseen: Sequence[Face]) -> dict[str, Any]:
        """Balanced accuracy on unseen people, accuracy on the base, and both against before."""
        truth = np.array([self.labels.index(face.label) for face in unseen], np.int64)
        people = np.unique([face.person for face in unseen], return_inverse=True)[1]
        after, before = self._right(classifier, unseen), self._right(self.champion, unseen)
        weights = balanced_weights(truth, len(self.labels), 1)
        gains = gains_of(weights, before, after)
        figures: dict[str, Any] = {
            "unseen": float(weights @ after),
            "unseen_gain": float(gains.sum()),
            "unseen_interval": interval(gains, people.astype(np.int64)),
            "unseen_n": len(unseen),
        }
        if len(self.base_crops):
            right = self._base(classifier)
            n = len(right)
            change = gains_of(np.full(n, 1 / n), self.champion_base, right)
            figures |= {
                "base": float(right.mean()),
                "base_gain": float(change.sum()),
                "base_interval": interval(change, np.arange(n)),
                "base_n": n,
            }
        return figures

    def _right(self, classifier: Classifier, faces: Sequence[Face]) -> npt.NDArray[np.bool_]:
        found = [i for i, face in enumerate(faces) if face.crop is not None]
        right = np.zeros(len(faces), bool)
        crops = np.stack([face.crop for face in faces if face.crop is not None])
        answers = classifier.probabilities(crops).argmax(axis=1)
        # A face that is not found is an error.
        right[found] = [
            answer == self.labels.index(faces[i].label)
            for i, answer in zip(found, answers, strict=True)
        ]
        return right


def play(
    cell: Cell,
    kept: Path,
    truth: dict[str, str],
    unseen: Sequence[Face],
    judge: Judge,
    threads: int,
) -> dict[str, Any]:
    """One cell: decide, retrain, measure."""
    manifest = judge.champion.manifest
    with tempfile.TemporaryDirectory() as temporary:
        folder, models = Path(temporary, "data"), Path(temporary, "models")
        shutil.copytree(kept / "data", folder)
        shutil.copytree(kept / "models", models)
        row: dict[str, Any] = {**cell.__dict__}
        measured = judge.measure(judge.champion, unseen)
        if not cell.corrections:
            return row | {"challenger": measured, "served": measured, "outcome": "none"}
        row["decided"] = review(folder, models, cell, truth, manifest.labels)
        outcome, seconds, megabytes = retrain_apart(folder, models, cell.knobs, threads)
        row |= {"outcome": outcome["outcome"], "reason": outcome["reason"]}
        row |= {"gate": outcome["metrics"], "seconds": seconds, "peak_mb": megabytes}
        file = models / "challenger.tflite"
        challenger = judge.measure(Classifier(manifest, file, 1), unseen) if file.exists() else None
        row["challenger"] = challenger
        row["served"] = challenger if outcome["outcome"] == "promoted" else measured
        return row


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Means over seeds, a line for each kind of cell, as Markdown."""
    kinds: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        kind = (
            row["model"],
            row["order"],
            row["corrections"],
            row["noise"],
            row["poison"],
            row["knobs"],
        )
        kinds.setdefault(kind, []).append(row)
    lines = [
        "| model | order | wrong labels | corrections | challenger, unseen people | served, unseen "
        "people | served, base | promoted | seconds | MB |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for (model, order, corrections, noise, poison, knobs), group in sorted(kinds.items()):
        share = sum(row["outcome"] == "promoted" for row in group)
        name = model.split("-", 1)[-1] + ("" if knobs == "{}" else f" {knobs}")
        cells = [name, order, poison or f"{noise:.0%}", str(corrections)]
        for who, what in (("challenger", "unseen"), ("served", "unseen"), ("served", "base")):
            measured = [row[who] for row in group if row[who] and what in row[who]]
            values = [row[what] for row in measured]
            gains = [100 * row[f"{what}_gain"] for row in measured]
            cells.append(
                f"{np.mean(values):.3f} ({np.mean(gains):+.1f})" if len(values) else "none"
            )
        cells.append(f"{share} of {len(group)}" if corrections else "")
        cells.append(f"{np.mean([row.get('seconds', 0) for row in group]):.0f}")
        cells.append(f"{max(row.get('peak_mb', 0) for row in group):.0f}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def plot(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Challenger and served model against corrections, one panel for people and one for base."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    plain = [row for row in rows if not row["noise"] and not row["poison"] and row["knobs"] == "{}"]
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for axis, what, title in zip(
        axes, ("unseen", "base"), ("Unseen people (balanced)", "Base data"), strict=True
    ):
        for order, colour in zip(("queue", "random"), ("C0", "C1"), strict=True):
            for who, style in (("challenger", "--"), ("served", "-")):
                points = sorted({row["corrections"] for row in plain if row["order"] == order})
                means, errors = [], []
                for point in points:
                    values = [
                        row[who][what]
                        for row in plain
                        if row["order"] == order and row["corrections"] == point and row[who]
                    ]
                    means.append(np.mean(values))
                    errors.append(np.std(values) / max(1, len(values)) ** 0.5)
                if points:
                    axis.errorbar(
                        points, means, errors, color=colour, ls=style, marker=".", capsize=2,
                        label=f"{who}, {order} order",
                    )  # fmt: skip
        axis.set(xlabel="corrections", ylabel="accuracy", title=title)
    axes[0].legend(frameon=False, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--stream", type=Path, default=SHARED / "press_photos.zip")
    parser.add_argument("--test", type=Path, help="other people; else the stream is split")
    parser.add_argument("--base", type=Path, default=SHARED / "fer2013.zip")
    parser.add_argument("--votes", type=Path, help="FER+ votes, to judge the base by")
    parser.add_argument("--model", help="starting version; the champion if not given")
    parser.add_argument("--models-dir", type=Path, default=ROOT / "models")
    parser.add_argument("--corrections", default="0,50,100,200,400")
    parser.add_argument("--orders", default="queue,random")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--noise", type=float, default=0.0)
    parser.add_argument("--poison", choices=("", "shuffled", "swapped"), default="")
    parser.add_argument("--knobs", default="{}", help="JSON that changes the fine-tuning")
    parser.add_argument("--ablate", action="store_true", help="take each step away in turn")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "learning_loop.jsonl")
    parser.add_argument("--plot", type=Path, help="draw the curves of all rows in --out")
    parser.add_argument("--resume", action="store_true", help="leave out what --out has")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser.parse_args()


def cells(arguments: argparse.Namespace, model: str) -> list[Cell]:
    """The grid, seed by seed."""
    knobs = [arguments.knobs]
    if arguments.ablate:
        knobs = [json.dumps(change) for change in ABLATIONS.values()]
    return [
        Cell(model, order, int(corrections), seed, arguments.noise, arguments.poison, change)
        for seed in range(arguments.seeds)
        for order in arguments.orders.split(",")
        for corrections in arguments.corrections.split(",")
        for change in knobs
    ]


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Cells written so far."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]


def main() -> None:
    """Play the grid."""
    arguments = parse()
    if arguments.child is not None:
        run_child(arguments.child)
        return
    source = Registry(arguments.models_dir)
    model = arguments.model or source.champion()
    grid = cells(arguments, model)
    rows = read_rows(arguments.out) if arguments.resume else []
    have = {Cell(**{name: row[name] for name in Cell.__annotations__}).key() for row in rows}
    grid = [cell for cell in grid if cell.key() not in have]
    if not arguments.resume:
        arguments.out.unlink(missing_ok=True)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        models = Path(temporary, "models")
        shutil.copytree(source.path(model), models / model)
        (models / "default").write_text(model + "\n", encoding="utf-8")
        registry = Registry(models)
        settings = Settings(_env_file=None, models_dir=models)  # type: ignore[call-arg]
        recogniser = Recogniser(registry, settings)
        champion = Classifier.load(registry, model, threads=1)
        judge = Judge(champion, arguments.base, arguments.votes)
        stream = read_photographs(arguments.stream, recogniser, champion.manifest.labels)
        test = None
        if arguments.test is not None:
            test = read_photographs(arguments.test, recogniser, champion.manifest.labels)
        for seed in sorted({cell.seed for cell in grid}):
            rng = np.random.default_rng((seed, 5))
            faces = at_most(stream, rng)
            seen, unseen = (faces, test) if test is not None else split_by_person(faces, rng)
            kept = Path(temporary, f"seed-{seed}")
            shutil.copytree(models, kept / "models")
            truth = visit(kept / "data", kept / "models", seen)
            for cell in (cell for cell in grid if cell.seed == seed):
                row = play(cell, kept, truth, unseen, judge, arguments.threads)
                rows.append(row)
                with arguments.out.open("a", encoding="utf-8") as stream_out:
                    stream_out.write(json.dumps(row) + "\n")
                said = f"{cell.order} {cell.corrections} seed {seed} {cell.knobs}: "
                gains = [row[w]["unseen_gain"] for w in ("challenger", "served") if row[w]]
                said += f"{row['outcome']}, unseen {', '.join(f'{100 * g:+.1f}' for g in gains)}"
                print(said, file=sys.stderr, flush=True)
    if arguments.plot is not None:
        plot(rows, arguments.plot)
    print(json.dumps(rows) if arguments.json else table(rows))


if __name__ == "__main__":
    main()
