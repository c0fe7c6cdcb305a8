"""Which step of the fine-tuning earns its place? Each is taken away alone.

The quick form of `learning_loop.py`: the same photographs, detector and split by person, but the
least certain faces stand for the queue, one fine-tuning is measured without cross-fit and gate, and
the base is the version's own hold-out.

    python benchmarks/learning_ablation.py --seeds 3
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.loop.cells import ABLATIONS, read_rows  # noqa: E402
from benchmarks.loop.people import Face, at_most, read_photographs, split_by_person  # noqa: E402
from benchmarks.loop.report import error  # noqa: E402
from fer.config import Settings  # noqa: E402
from fer.learning.finetuning import Tuned, Tuner, averaged  # noqa: E402
from fer.learning.gate import folds_by_group  # noqa: E402
from fer.learning.knobs import FineTuning  # noqa: E402
from fer.learning.material import Champion, open_champion  # noqa: E402
from fer.learning.newfaces import NewFaces  # noqa: E402
from fer.learning.replay import activations  # noqa: E402
from fer.learning.retraining import FOLDS  # noqa: E402
from fer.registry import Registry  # noqa: E402
from fer.vision.recogniser import Recogniser  # noqa: E402

SHARED = ROOT.parent / "shared" / "data"

#: Faces that are learned from: four hundred decisions less the audit slice.
LEARNED = 320

FOLD_AVERAGE = "no average with the folds"


def crops_of(faces: list[Face], labels: tuple[str, ...]) -> tuple[npt.NDArray[Any], ...]:
    """Crops (n, s, s, 3), label positions (n,) and people (n,) of the faces that were found."""
    found = [face for face in faces if face.crop is not None]
    truth = np.array([labels.index(face.label) for face in found], np.int64)
    people = np.unique([face.person for face in found], return_inverse=True)[1]
    return np.stack([face.crop for face in found if face.crop is not None]), truth, people


def right(logits: npt.NDArray[np.float32], truth: npt.NDArray[np.int64]) -> float:
    """Balanced accuracy over the labels present."""
    hit = logits.argmax(axis=1) == truth
    return float(np.mean([hit[truth == label].mean() for label in np.unique(truth)]))


def learned(tuner: Tuner, new: NewFaces, folds: bool) -> Tuned:
    """One fine-tuning, or the mean of it and of those of a cross-fit, as in service."""
    tuned = tuner.fit(new)
    if not folds:
        return tuned
    fold = folds_by_group(new.groups, FOLDS, seed=tuner.knobs.seed)
    others = [tuner.fit(new.take(fold != k), seed=k + 1).weights for k in range(FOLDS)]
    return replace(tuned, weights=averaged([tuned.weights, *others]))


def measure(champion: Champion, faces: list[Face], seed: int, name: str) -> dict[str, Any]:
    """One ablation on one split of the people: points won on unseen ones, and on the base."""
    labels = champion.manifest.labels
    changed = {k: v for k, v in ABLATIONS.get(name, {}).items() if k != "average_folds"}
    tuner = Tuner(champion.model, champion.replay, FineTuning(**changed))
    rng = np.random.default_rng((seed, 5))
    seen, unseen = split_by_person(at_most(faces, rng), rng)
    crops, truth, people = crops_of(seen, labels)
    sure = tuner.logits(activations(tuner.frozen, crops))
    probabilities = np.exp(sure - sure.max(axis=1, keepdims=True))
    doubt = (probabilities / probabilities.sum(axis=1, keepdims=True)).max(axis=1)
    rows = np.argsort(doubt)[:LEARNED]
    targets = np.eye(len(labels), dtype=np.float32)[truth[rows]]
    new = tuner.new_faces(crops[rows], targets, truth[rows], people[rows].astype(np.int64))
    tuned = learned(tuner, new, folds=name == "with the folds")
    test, test_truth, _ = crops_of(unseen, labels)
    inputs, base = activations(tuner.frozen, test), champion.replay
    hold = np.arange(len(base.holdout_accepted))

    def both(weights: Any) -> tuple[float, float]:
        answers = tuner.logits(base.holdout_activations, weights).argmax(axis=1)
        kept = float(base.holdout_accepted[hold, answers].mean())
        return right(tuner.logits(inputs, weights), test_truth), kept

    before, after = both(None), both(tuned.weights)
    row = {"name": name, "seed": seed, "mix": tuned.mix}
    return row | {"unseen_gain": after[0] - before[0], "base_gain": after[1] - before[1]}


def main() -> None:
    """Measure, row by row, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--stream", type=Path, default=SHARED / "press_photos.zip")
    parser.add_argument("--models-dir", type=Path, default=ROOT / "models")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "learning_ablation.jsonl")
    arguments = parser.parse_args()
    registry = Registry(arguments.models_dir)
    champion = open_champion(registry)
    settings = Settings(_env_file=None, models_dir=arguments.models_dir)
    recogniser = Recogniser(registry, settings)
    faces = read_photographs(arguments.stream, recogniser, champion.manifest.labels)
    rows = read_rows(arguments.out)
    names = [name for name in ABLATIONS if name != FOLD_AVERAGE]
    names.append("with the folds")
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    for seed in range(arguments.seeds):
        for name in names:
            if any((row["name"], row["seed"]) == (name, seed) for row in rows):
                continue
            rows.append(measure(champion, faces, seed, name))
            with arguments.out.open("a", encoding="utf-8") as out:
                out.write(json.dumps(rows[-1]) + "\n")
    print("| fine-tuning | unseen people | base | mix |\n|---|---|---|---|")
    for name in names:
        group = [row for row in rows if row["name"] == name]
        unseen = [100 * row["unseen_gain"] for row in group]
        base, mix = (100 * np.mean([row[k] for row in group]) for k in ("base_gain", "mix"))
        spread = f" ± {error(unseen):.1f}" if len(group) > 1 else ""
        print(f"| {name} | {np.mean(unseen):+.1f}{spread} | {base:+.1f} | {mix:.0f} % |")


if __name__ == "__main__":
    main()
