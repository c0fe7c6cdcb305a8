"""How good answers are: metrics, calibration and paired comparison, as pure functions.

Shapes throughout: `truth` int (n,), positions in the label set; `probabilities` float (n, k), rows
that sum to 1; `accepted` bool (n, k), the labels that count as right for each face.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.stats import binomtest
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from fer.labels import LabelSet

Floats = npt.NDArray[np.float32] | npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


def softmax(logits: Floats, temperature: float = 1.0) -> npt.NDArray[np.float64]:
    """Probabilities (n, k) of logits (n, k)."""
    scaled = logits.astype(np.float64) / temperature
    powers = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def expected_calibration_error(confidence: Floats, correct: Bools, bins: int = 15) -> float:
    """Mean distance of confidence from accuracy over equal bins of confidence, 0…1.

    Args:
        confidence: probability of each face's top label, (n,).
        correct: whether it is right, (n,).

    Guo et al., "On Calibration of Modern Neural Networks", 2017. 0 for no faces.
    """
    if not len(confidence):
        return 0.0
    bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
    total = 0.0
    for index in range(bins):
        chosen = bin_of == index
        if chosen.any():
            total += chosen.sum() * abs(confidence[chosen].mean() - correct[chosen].mean())
    return float(total / len(confidence))


def fit_temperature(logits: Floats, accepted: Bools) -> float:
    """Temperature under which the accepted labels of a validation set are likeliest, 0.25…8.

    Faces without an accepted label are left out; a tie counts by its summed probability.
    """
    rows = accepted.any(axis=1)
    if not rows.any():
        return 1.0

    def loss(log_temperature: float) -> float:
        probabilities = softmax(logits[rows], float(np.exp(log_temperature)))
        right = np.where(accepted[rows], probabilities, 0.0).sum(axis=1)
        return float(-np.log(np.maximum(right, 1e-12)).mean())

    found = minimize_scalar(loss, bounds=(np.log(0.25), np.log(8.0)), method="bounded")
    return float(np.exp(found.x))


def evaluate(
    labels: LabelSet,
    truth: Ints,
    probabilities: Floats,
    *,
    missed: Ints | None = None,
    accepted: Bools | None = None,
    missed_accepted: Bools | None = None,
) -> dict[str, Any]:
    """The figures of `fer evaluate`.

    Args:
        missed: true labels (m,) of pictures in which no face was found: errors, all of them.
        accepted: most-voted labels by FER+; adds `ferplus_accuracy` over faces with at least one,
            and `ece` is then measured against them, since two label sets cannot both be met.
        missed_accepted: the same for the missed pictures, (m, k).

    Returns:
        `n`, `accuracy`, `balanced_accuracy` (mean recall over the labels present), `macro_f1`
        (likewise), `ece`, `faces_missed`, `per_class`, `confusion` (rows are the truth, columns
        the answers, missed faces in none), `labels`, and with votes `ferplus_accuracy` and
        `ferplus_n`.
    """
    missed = np.empty(0, np.int64) if missed is None else missed
    k = len(labels)
    answers = probabilities.argmax(axis=1) if len(probabilities) else np.empty(0, np.int64)
    # A missed face is an answer that is none of the labels: it costs recall, and no precision.
    everything = np.concatenate([truth, missed]).astype(np.int64)
    answered = np.concatenate([answers, np.full(len(missed), k)]).astype(np.int64)
    n = len(everything)
    precision, recall, f1, support = precision_recall_fscore_support(
        everything, answered, labels=range(k), zero_division=0.0
    )
    present = support > 0
    correct = answered == everything
    confidence = probabilities.max(axis=1) if len(probabilities) else np.empty(0)
    figures: dict[str, Any] = {
        "n": n,
        "accuracy": float(correct.mean()) if n else 0.0,
        "balanced_accuracy": float(recall[present].mean()) if n else 0.0,
        "macro_f1": float(f1[present].mean()) if n else 0.0,
        "ece": expected_calibration_error(confidence, correct[: len(answers)]),
        "faces_missed": len(missed),
        "per_class": {
            label: {
                "precision": float(precision[i]),
                "recall": float(recall[i]),
                "f1": float(f1[i]),
                "n": int(support[i]),
            }
            for i, label in enumerate(labels)
        },
        "confusion": confusion_matrix(truth, answers, labels=range(k)).tolist()
        if len(truth)
        else np.zeros((k, k), int).tolist(),
        "labels": list(labels),
    }
    if accepted is not None:
        counted = accepted.any(axis=1)
        right = accepted[np.arange(len(answers)), answers]
        lost = 0 if missed_accepted is None else int(missed_accepted.any(axis=1).sum())
        total = int(counted.sum()) + lost
        figures["ferplus_accuracy"] = float(right[counted].sum() / total) if total else 0.0
        figures["ferplus_n"] = total
        figures["ece"] = expected_calibration_error(confidence[counted], right[counted])
    return figures


def wilson_interval(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's interval of a share; (0, 1) for n = 0."""
    if n == 0:
        return 0.0, 1.0
    interval = binomtest(successes, n).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


def bootstrap_interval(
    truth: Ints, answers: Ints, *, balanced: bool = False, draws: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """95 % percentile interval of accuracy, or of mean recall, over resampled faces."""
    rng = np.random.default_rng(seed)
    correct = truth == answers
    values = []
    for _ in range(draws):
        rows = rng.integers(0, len(truth), len(truth))
        if balanced:
            drawn = truth[rows]
            values.append(np.mean([correct[rows][drawn == c].mean() for c in np.unique(drawn)]))
        else:
            values.append(correct[rows].mean())
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


@dataclass(frozen=True)
class Figure:
    """A figure and its 95 % interval."""

    value: float
    interval: tuple[float, float]


def bootstrap_figures(
    truth: Ints, answers: Ints, k: int, *, draws: int = 1000, seed: int = 0
) -> dict[str, Figure]:
    """Accuracy, balanced accuracy and macro F1 with percentile intervals over resampled faces.

    Faces with the same truth and answer cannot be told apart by these figures, so that drawing
    faces with replacement is drawing the cells of their confusion matrix from a multinomial.

    Args:
        answers: positions of labels, or `k` for a face that was missed.
        k: number of labels.

    Returns:
        `accuracy`, `balanced_accuracy` and `macro_f1`, the last two over the labels present in
        each draw.
    """
    cells = np.bincount(truth * (k + 1) + answers, minlength=k * (k + 1))
    n = int(cells.sum())
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(n, cells / n, size=draws)
    # The first row is what was measured.
    tables = np.concatenate([cells[None], drawn]).reshape(-1, k, k + 1).astype(float)
    right = np.diagonal(tables[:, :, :k], axis1=1, axis2=2)
    support, answered = tables.sum(axis=2), tables[:, :, :k].sum(axis=1)
    present = support > 0
    recall = np.divide(right, support, out=np.zeros_like(right), where=present)
    both = support + answered
    f1 = np.divide(2 * right, both, out=np.zeros_like(right), where=both > 0)
    labels = present.sum(axis=1)
    values = {
        "accuracy": right.sum(axis=1) / n,
        "balanced_accuracy": recall.sum(axis=1) / labels,
        "macro_f1": np.where(present, f1, 0).sum(axis=1) / labels,
    }
    return {name: Figure(float(v[0]), _percentiles(v[1:])) for name, v in values.items()}


def bootstrap_calibration(
    confidence: Floats, correct: Bools, *, draws: int = 500, seed: int = 0
) -> tuple[float, float]:
    """95 % percentile interval of the expected calibration error over resampled faces."""
    if not len(confidence):
        return 0.0, 0.0
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(draws):
        rows = rng.integers(0, len(confidence), len(confidence))
        values.append(expected_calibration_error(confidence[rows], correct[rows]))
    return _percentiles(np.array(values))


def reliability(confidence: Floats, correct: Bools, bins: int = 10) -> list[dict[str, Any]]:
    """Mean confidence and accuracy in equal bins of confidence, those without a face left out."""
    bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
    rows = []
    for index in range(bins):
        chosen = bin_of == index
        if chosen.any():
            hits, n = int(correct[chosen].sum()), int(chosen.sum())
            rows.append(
                {
                    "from": index / bins,
                    "to": (index + 1) / bins,
                    "n": n,
                    "confidence": float(confidence[chosen].mean()),
                    "accuracy": hits / n,
                    "accuracy_interval": wilson_interval(hits, n),
                }
            )
    return rows


def _percentiles(values: npt.NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def sign_test(better: int, worse: int) -> float:
    """One-sided p-value that a challenger wins more paired cases than it loses (McNemar, exact)."""
    if better + worse == 0:
        return 1.0
    return float(binomtest(better, better + worse, 0.5, alternative="greater").pvalue)
