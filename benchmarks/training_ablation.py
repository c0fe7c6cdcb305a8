"""What is each part of a training recipe worth? Each is changed alone, on a quarter of the faces.

One short training a row: FER2013 with the FER+ votes, 64 px, from ImageNet weights. Measured are
the best epoch's accuracies on the validation split, the votes' and the labels', and balanced
accuracy on the press photographs, whose faces are found first; a missed face is an error.

    python benchmarks/training_ablation.py --weights WEIGHTS --seeds 1
    python benchmarks/training_ablation.py --weights WEIGHTS --seeds 3 --only "as it is,mixup"

It goes on where it was stopped: rows that are in the file are not trained again.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.loop.cells import read_rows  # noqa: E402
from benchmarks.loop.people import Face, read_photographs  # noqa: E402
from benchmarks.loop.report import error  # noqa: E402
from benchmarks.training_variants import VARIANTS, answers, train  # noqa: E402
from fer.config import Settings  # noqa: E402
from fer.learning.evaluation import evaluate  # noqa: E402
from fer.learning.recipe import Recipe  # noqa: E402
from fer.learning.runfolder import Request  # noqa: E402
from fer.learning.runs import Splits, load_splits  # noqa: E402
from fer.learning.training import Trainer  # noqa: E402
from fer.registry import Registry  # noqa: E402
from fer.vision.recogniser import Recogniser  # noqa: E402

SHARED = ROOT.parent / "shared" / "data"

#: Part of the training faces that a row is trained on.
SHARE = 0.25

#: The recipe that each row changes in one way.
BASE: dict[str, Any] = {
    "image_size": 64,
    "crop_size": 48,
    "grey": "yes",
    "epochs": 8,
    "head_epochs": 1,
    "learning_rate": 1.2e-3,
    "weight_decay": 0.03,
    "class_weights": "none",
    "blur": 0.3,
    "erase": 0.1,
    # As many epochs of memory as 0.998 has on all faces.
    "average": 0.992,
}

#: Knobs that differ, by the name of the row.
ROWS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "the labels alone": {"vote_weight": 0.0},
    "the votes alone": {"vote_weight": 1.0},
    "four fifths votes": {"vote_weight": 0.8},
    "no label smoothing": {"label_smoothing": 0.0},
    "mixup": {"mixup": 0.2},
    "CutMix": {"cutmix": 1.0},
    "no erasing": {"erase": 0.0},
    "more erasing": {"erase": 0.5},
    "no changes of light": {"brightness": 0.0, "contrast": 0.0, "blur": 0.0, "noise": 0.0},
    "no changes of framing": {"rotation": 0.0, "shift": 0.0, "zoom": 0.0, "stretch": 0.0},
    "no running average": {"average": 0.0},
    "a constant rate averaged four times as long": {"schedule": "plateau", "average": 0.998},
    "weights of rare labels": {"class_weights": "sqrt"},
    "rare labels drawn more often": {"sampling": "sqrt"},
    "96 px in the last two epochs": {"image_size": 96, "early_size": 64, "early_epochs": 6},
    "a first stride of 1 at 48 px": {"image_size": 48},
    "twice the epochs": {"epochs": 16},
}

#: What no knob says.
NOTHING = "no ImageNet weights"

#: All rows, in the table's order.
NAMES = tuple(dict.fromkeys([*ROWS, *VARIANTS, NOTHING]))


def quarter(splits: Splits, seed: int) -> Splits:
    """The same data with `SHARE` of each label's training faces."""
    rng = np.random.default_rng((seed, 9))
    labels = splits.train.labels
    rows = []
    for label in np.unique(labels):
        own = rng.permutation(np.flatnonzero(labels == label))
        rows.append(own[: max(1, round(SHARE * len(own)))])
    return replace(splits, train=splits.train.take(np.sort(np.concatenate(rows)).tolist()))


def measure(splits: Splits, faces: list[Face], trainer: Trainer) -> dict[str, float]:
    """The best epoch's figures."""
    labels = splits.dataset.labels
    crops = np.stack([face.crop for face in faces if face.crop is not None])
    truth = np.array([labels.names.index(face.label) for face in faces], np.int64)
    found = np.array([face.crop is not None for face in faces])
    press = evaluate(labels, truth[found], answers(trainer, crops), missed=truth[~found])
    best = (trainer.progress.history or [])[trainer.progress.best_epoch - 1]
    figures = {name: float(best[name]) for name in ("ferplus_accuracy", "accuracy")}
    return figures | {"press": press["balanced_accuracy"]}


def table(rows: list[dict[str, Any]]) -> str:
    """A Markdown table; means with standard errors where there are several seeds."""
    lines = ["| recipe | seeds | FER+ | FER2013 | press |", "|---|---|---|---|---|"]
    for name in NAMES:
        group = [row for row in rows if row["name"] == name]
        if not group:
            continue
        cells = []
        for what in ("ferplus_accuracy", "accuracy", "press"):
            values = [row[what] for row in group]
            spread = f" ± {error(values):.3f}" if len(values) > 1 else ""
            cells.append(f"{np.mean(values):.3f}{spread}")
        lines.append(f"| {name} | {len(group)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Train row by row, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, default=SHARED / "fer2013.zip")
    parser.add_argument("--votes", type=Path, default=SHARED / "ferplus.csv")
    parser.add_argument("--press", type=Path, default=SHARED / "press_photos.zip")
    parser.add_argument("--weights", default="imagenet")
    parser.add_argument("--models-dir", type=Path, default=ROOT / "models")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--only", default="", help="rows by name, with commas")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "training_ablation.jsonl")
    arguments = parser.parse_args()
    rows = read_rows(arguments.out)
    request = Request(str(arguments.data), "ablation", votes=str(arguments.votes), test_share=0.0)
    splits, _ = load_splits(request, Recipe(**BASE), print)
    registry = Registry(arguments.models_dir)
    settings = Settings(_env_file=None, models_dir=arguments.models_dir)
    faces = read_photographs(
        arguments.press, Recogniser(registry, settings), splits.dataset.labels.names
    )
    chosen = arguments.only.split(",") if arguments.only else list(NAMES)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
        for name in chosen:
            if any((row["name"], row["seed"]) == (name, seed) for row in rows):
                continue
            recipe = Recipe(**BASE | ROWS.get(name, {}) | {"seed": seed})
            weights = None if name == NOTHING else arguments.weights
            part = quarter(splits, seed)
            figures = measure(part, faces, VARIANTS.get(name, train)(part, recipe, weights))
            rows.append({"name": name, "seed": seed} | figures)
            with arguments.out.open("a", encoding="utf-8") as out:
                out.write(json.dumps(rows[-1]) + "\n")
            print(rows[-1], flush=True)
    print(table(rows))


if __name__ == "__main__":
    main()
