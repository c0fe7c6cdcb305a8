"""Several versions on the same pictures: figures with intervals, and a paired test."""

from __future__ import annotations

import json
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest

from fer.errors import DataError
from fer.learning.assessment import in_model_order
from fer.learning.datasets import Crops, Dataset, FaceArrays, Votes, load_faces
from fer.learning.evaluation import evaluate, wilson_interval
from fer.learning.layouts import Picture
from fer.registry import LITERT_FILE, Registry
from fer.vision.classifier import Classifier

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

#: Figures of a confusion matrix, in the order of `macro_figures`.
MACRO = ("macro_precision", "macro_recall", "macro_f1")


@dataclass(frozen=True)
class Contestant:
    """One version, and how it did.

    Attributes:
        version, title, architecture, parameters: as its manifest says.
        size_bytes: of the LiteRT file that serves.
        milliseconds: median time for one face, on one thread.
        training_seconds: time that its epochs took, None where that was not kept.
        history: its epochs, empty where they were not kept.
        figures: as `evaluate` gives them, with `macro_precision`, `macro_recall` and intervals.
        answers: the label that it gave each picture, (n,), by position.
        settings: knobs of its training.
    """

    version: str
    title: str
    architecture: str
    parameters: int | None
    size_bytes: int
    milliseconds: float
    training_seconds: float | None
    history: list[dict[str, Any]]
    figures: dict[str, Any]
    answers: Ints
    settings: dict[str, Any]


@dataclass(frozen=True)
class Duel:
    """One version against the best, picture by picture.

    Attributes:
        only_best, only_this: pictures that only one of the two names rightly.
        difference: accuracy of this one less that of the best.
        interval: 95 % interval of the difference.
        p_value: of McNemar's exact test, two-sided; `corrected` is Holm's.
    """

    version: str
    only_best: int
    only_this: int
    difference: float
    interval: tuple[float, float]
    p_value: float
    corrected: float


@dataclass(frozen=True)
class Comparison:
    """Versions on the same pictures.

    Attributes:
        data, split: where the pictures are from.
        labels: in the order of all answers and confusion matrices.
        contestants: best accuracy first.
        duels: of each but the best.
    """

    data: str
    split: str
    labels: tuple[str, ...]
    machine: str
    contestants: tuple[Contestant, ...]
    duels: tuple[Duel, ...]

    def as_dict(self) -> dict[str, Any]:
        """The whole comparison for JSON, without the single answers."""
        models = []
        for contestant in self.contestants:
            entry = {
                k: v for k, v in contestant.__dict__.items() if k not in ("figures", "answers")
            }
            models.append(entry | contestant.figures)
        return {
            "data": self.data,
            "split": self.split,
            "n": len(self.contestants[0].answers),
            "labels": list(self.labels),
            "machine": self.machine,
            "best": self.contestants[0].version,
            "models": models,
            "against_best": [asdict(duel) for duel in self.duels],
        }


def compare(
    registry: Registry,
    versions: Sequence[str],
    dataset: Dataset,
    pictures: Sequence[Picture],
    split: str,
    votes: Votes | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Comparison:
    """Evaluate versions on the same pictures, by the files that serve.

    Args:
        dataset: its labels are the order of the comparison's, where a version has no others.
        pictures: of `dataset`.
        progress: called with (pictures done, pictures in all).

    Raises:
        DataError: a version has other labels, or nothing can be read.
        UnknownModelError, ManifestError, DamagedModelError: a version cannot be used.
    """
    manifests = [registry.manifest(version) for version in versions]
    labels = manifests[0].label_set
    for manifest in manifests[1:]:
        if not manifest.label_set.same_as(labels):
            raise DataError(
                f"{manifest.version} has the labels {', '.join(manifest.labels)}, but "
                f"{manifests[0].version} has {', '.join(labels)}: they cannot be compared."
            )
    dataset = in_model_order(dataset, labels)
    total = len(pictures) * len(versions)
    contestants: list[Contestant] = []
    truth: Ints | None = None
    for turn, version in enumerate(versions):
        classifier = Classifier.load(registry, version, threads=1)
        before = turn * len(pictures)
        faces = load_faces(
            dataset,
            pictures,
            classifier.manifest.crop_size,
            progress=lambda done, before=before: progress(before + done, total),  # type: ignore[misc]
        )
        if not len(faces):
            raise DataError(f"None of the pictures of {dataset.path} can be read.")
        truth = faces.labels
        order = [classifier.labels.index(name) for name in labels]
        probabilities = classifier.probabilities(faces.crops)[:, order]
        accepted = None if votes is None else votes.accepted(faces.names, labels)
        figures = evaluate(labels, faces.labels, probabilities, accepted=accepted)
        answers = probabilities.argmax(axis=1).astype(np.int64)
        figures |= _with_intervals(figures)
        contestants.append(_contestant(registry, classifier, figures, answers, faces))
    assert truth is not None  # noqa: S101 - there is at least one version
    contestants.sort(key=lambda c: -c.figures["accuracy"])
    return Comparison(
        data=dataset.path.name,
        split=split,
        labels=labels.names,
        machine=f"{platform.machine()}, Python {platform.python_version()}",
        contestants=tuple(contestants),
        duels=tuple(duels(truth, contestants)),
    )


def _contestant(
    registry: Registry,
    classifier: Classifier,
    figures: dict[str, Any],
    answers: Ints,
    faces: FaceArrays,
) -> Contestant:
    manifest, folder = classifier.manifest, registry.path(classifier.version)
    history: list[dict[str, Any]] = []
    try:
        kept = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        history = kept.get("history") or []
    except (OSError, ValueError, AttributeError):
        pass  # a retrained or foreign version keeps no history
    seconds = sum(float(row.get("seconds", 0)) for row in history)
    return Contestant(
        version=manifest.version,
        title=manifest.title or manifest.name,
        architecture=manifest.architecture,
        parameters=manifest.parameters,
        size_bytes=(folder / LITERT_FILE).stat().st_size,
        milliseconds=round(milliseconds_per_face(classifier, faces.crops), 2),
        training_seconds=round(seconds, 1) if history else None,
        history=history,
        figures=figures,
        answers=answers,
        settings=dict(manifest.settings),
    )


def milliseconds_per_face(classifier: Classifier, crops: Crops, rounds: int = 30) -> float:
    """Median time for one face, one at a time, after a few that warm up."""
    times = []
    for number in range(rounds + 5):
        one = crops[number % len(crops)][None]
        started = time.perf_counter()
        classifier.probabilities(one)
        times.append(1000 * (time.perf_counter() - started))
    return statistics.median(times[5:])


def macro_figures(confusion: npt.NDArray[Any]) -> Floats:
    """Macro precision, recall and F1 over the labels present.

    Args:
        confusion: counts (..., k, k), rows the truth; any number of matrices at once.

    Returns:
        float (..., 3), in 0…1.
    """
    right = np.diagonal(confusion, axis1=-2, axis2=-1)
    of_truth, of_answers = confusion.sum(axis=-1), confusion.sum(axis=-2)
    zero = np.zeros_like(right, float)
    precision = np.divide(right, of_answers, out=zero.copy(), where=of_answers > 0)
    recall = np.divide(right, of_truth, out=zero.copy(), where=of_truth > 0)
    both = of_truth + of_answers
    f1 = np.divide(2 * right, both, out=zero.copy(), where=both > 0)
    present = of_truth > 0
    count = np.maximum(present.sum(axis=-1), 1)
    means = [np.where(present, each, 0).sum(axis=-1) / count for each in (precision, recall, f1)]
    return np.asarray(np.stack(means, axis=-1), np.float64)


def _with_intervals(figures: dict[str, Any], draws: int = 2000, seed: int = 0) -> dict[str, Any]:
    """Macro figures, and 95 % intervals of them and of accuracy."""
    confusion = np.asarray(figures["confusion"], np.float64)
    n, k = int(confusion.sum()), len(confusion)
    values = dict(zip(MACRO, macro_figures(confusion).tolist(), strict=True))
    # Drawing pictures with replacement is drawing the cells they fall into.
    drawn = np.random.default_rng(seed).multinomial(n, confusion.ravel() / n, size=draws)
    low, high = np.percentile(macro_figures(drawn.reshape(draws, k, k)), [2.5, 97.5], axis=0)
    intervals = {f"{m}_interval": (float(low[i]), float(high[i])) for i, m in enumerate(MACRO)}
    right = int(np.trace(confusion))
    return {**values, **intervals, "accuracy_interval": wilson_interval(right, n)}


def duels(truth: Ints, contestants: Sequence[Contestant]) -> list[Duel]:
    """Each contestant but the first against the first, p-values corrected after Holm.

    Args:
        truth: true label of each picture, (n,).
    """
    best = contestants[0].answers == truth
    n = len(truth)
    raw: list[tuple[int, int, float]] = []
    for contestant in contestants[1:]:
        own = contestant.answers == truth
        only_best, only_this = int((best & ~own).sum()), int((own & ~best).sum())
        decided = only_best + only_this
        p = binomtest(only_this, decided, 0.5).pvalue if decided else 1.0
        raw.append((only_best, only_this, float(p)))
    corrected = holm([p for _, _, p in raw])
    found = []
    for contestant, (only_best, only_this, p), after in zip(
        contestants[1:], raw, corrected, strict=True
    ):
        shares = np.array([only_best, only_this, n - only_best - only_this]) / n
        drawn = np.random.default_rng(0).multinomial(n, shares, size=2000)
        low, high = np.percentile((drawn[:, 1] - drawn[:, 0]) / n, [2.5, 97.5])
        difference = (only_this - only_best) / n
        found.append(
            Duel(
                contestant.version,
                only_best,
                only_this,
                difference,
                (float(low), float(high)),
                p,
                after,
            )
        )
    return found


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's correction for several tests: p-values in the order given, at most 1."""
    corrected = [1.0] * len(p_values)
    highest = 0.0
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, p_values[index] * (len(p_values) - rank)))
        corrected[index] = highest
    return corrected


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write a report's JSON."""
    text = json.dumps(value, indent=1, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")
