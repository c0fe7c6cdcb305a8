"""The gate: is the challenger better, and worse nowhere that matters?

Each function judges one thing and gives a `Line`: whether it passed, the sentence that the verdict
shows, and the figures behind it. They are pure functions on arrays, so that `benchmarks/
gate_simulation.py` and the tests can ask how often the gate errs.

Shapes throughout: `labels` int64 (n,), positions in the label set; `champion` and `challenger`
bool (n,), whether each was right; `groups` int64 (n,), sessions; probabilities float (n, k).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest, norm

from fer.labels import LabelSet
from fer.learning.evaluation import sign_test
from fer.learning.paired import (
    Bools,
    Ints,
    Numbers,
    balanced_weights,
    faces_for_power,
    gains_of,
    interval,
    sign_flip_p,
    standard_error,
)

#: The gain that planning asks for when the measured one is smaller: what is worth a new version.
WORTHWHILE = 0.05

#: Reviewed faces and sessions below which there is no test at all.
FEWEST_FACES, FEWEST_GROUPS = 20, 6

#: Labels with fewer reviewed faces share one weight: with one each, the luck of a handful of faces
#: would drown what all the others say.
OWN_WEIGHT = 20

#: A label's recall is judged from so many faces on, and may drop so far.
RECALL_FACES, RECALL_DROP = 30, 0.05

#: From this probability on the champion is sure; a label is known well from this precision of sure
#: answers on the base hold-out; and so many sure answers on reviewed faces are needed to judge.
SURE, SURE_PRECISION, SURE_FACES = 0.6, 0.85, 10

#: Largest difference between LiteRT and Keras in any probability, and fewest crops compared.
AGREEMENT, AGREEMENT_CROPS = 1e-3, 64

#: Largest ratio of median latencies, and how many calls of each are timed.
LATENCY, LATENCY_CALLS = 1.25, 200

Floats = npt.NDArray[np.float32] | npt.NDArray[np.float64]


@dataclass(frozen=True)
class Line:
    """One line of the verdict.

    Attributes:
        name: `collected`, `audit`, `base`, `contradiction`, `recall`, `agreement` or `latency`.
        passed: None where there was nothing to judge; that refuses nothing.
        sentence: for people.
        figures: plain values for the record.
    """

    name: str
    passed: bool | None
    sentence: str
    figures: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for `json.dumps`."""
        line = {"name": self.name, "passed": self.passed, "sentence": self.sentence}
        return {**line, **self.figures}


def collected_line(
    labels: Ints,
    champion: Bools,
    challenger: Bools,
    groups: Ints,
    *,
    classes: int,
    alpha: float,
) -> Line:
    """Reviewed faces that neither had learned from: the challenger must be better.

    Balanced accuracy, since operators see rare labels more often than visitors show them, and a
    sign-flip test over sessions, since one session's faces resemble each other.

    Args:
        challenger: cross-fitted, each face answered by a fine-tuning that did not see it.
        classes: number of the model's labels.
    """
    weights = balanced_weights(labels, classes, OWN_WEIGHT)
    gains = gains_of(weights, champion, challenger)
    n, sessions = len(labels), len(np.unique(groups))
    before, after = float(weights @ champion), float(weights @ challenger)
    figures: dict[str, Any] = {"champion": before, "challenger": after, "n": n, "p_value": None}
    figures["sessions"] = sessions
    if n < FEWEST_FACES or sessions < FEWEST_GROUPS:
        more = max(FEWEST_FACES - n, FEWEST_GROUPS - sessions)
        sentence = (
            f"Too few reviewed faces that the champion has not learned from: {n} of {sessions} "
            f"visitors; at least {more} more are needed."
        )
        return Line("collected", False, sentence, figures | {"more_needed": more})
    p = sign_flip_p(gains, groups)
    gain, error = float(gains.sum()), standard_error(gains, groups)
    low, high = interval(gains, groups)
    figures |= {"p_value": p, "gain": gain, "interval": [low, high]}
    passed = p < alpha and gain > 0
    sentence = (
        f"On {n} reviewed faces of {sessions} visitors it had not seen, it is right in "
        f"{after:.1%} (balanced), the champion in {before:.1%}; p = {p:.3f}, "
    )
    if passed:
        return Line("collected", True, sentence + f"below {alpha:g}.", figures)
    planned = gain if gain > 0.01 else WORTHWHILE
    # Where nothing differed there is no spread to plan by: one differing session stands in.
    error = max(error, float(weights.max()))
    more = max(0, faces_for_power(n, error, planned, alpha) - n)
    asked = f"About {more:,} more decisions would show" if more else "So many would have shown"
    sentence += f"not below {alpha:g}. {asked} a gain of {planned:.1%} four times in five."
    return Line("collected", False, sentence, figures | {"more_needed": more})


def audit_line(champion: Bools, challenger: Bools, groups: Ints, *, alpha: float) -> Line:
    """The audit slice: the challenger must not be significantly worse where nothing was learned.

    Plain accuracy, as it is in service: the slice is what visitors showed.
    """
    n = len(champion)
    if not n:
        return Line("audit", None, "The audit slice has no decisions yet.", {"n": 0})
    gains = gains_of(np.full(n, 1 / n), champion, challenger)
    p_worse = sign_flip_p(-gains, groups)
    before, after = float(champion.mean()), float(challenger.mean())
    low, high = interval(gains, groups) if len(np.unique(groups)) > 1 else (-1.0, 1.0)
    figures: dict[str, Any] = {"champion": before, "challenger": after, "n": n}
    figures |= {"p_worse": p_worse}
    figures |= {"p_value": sign_flip_p(gains, groups), "interval": [low, high]}
    passed = p_worse >= alpha
    how = "not significantly worse" if passed else "significantly worse"
    sentence = (
        f"On {n} audited faces, which nothing trains on, it is right in {after:.1%}, the champion "
        f"in {before:.1%}: {how} (p = {p_worse:.3f})."
    )
    return Line("audit", passed, sentence, figures)


def base_line(champion: Bools, challenger: Bools, *, tolerance: float) -> Line:
    """The base hold-out: how much of what it knew is forgotten."""
    n = len(champion)
    if not n:
        return Line("base", False, "There is no base hold-out to measure forgetting on.", {"n": 0})
    gains = gains_of(np.full(n, 1 / n), champion, challenger)
    faces = np.arange(n)
    low, high = interval(gains, faces) if n > 1 else (-1.0, 1.0)
    before, after = float(champion.mean()), float(challenger.mean())
    figures: dict[str, Any] = {"champion": before, "challenger": after, "n": n}
    figures |= {"interval": [low, high]}
    better, worse = int((gains > 0).sum()), int((gains < 0).sum())
    figures |= {"p_value": sign_test(better, worse), "tolerance": tolerance}
    lost = before - after
    passed = lost <= tolerance + 1e-12
    how = "within" if passed else "more than"
    change = f"loses {lost:.1%}" if lost > 0 else f"gains {abs(lost):.1%}"
    sentence = (
        f"On {n} faces of the base hold-out it {change} ({after:.1%} after {before:.1%}), "
        f"{how} the tolerated {tolerance:.1%}."
    )
    return Line("base", passed, sentence, figures)


def contradiction_line(
    labels: LabelSet,
    base_probabilities: Floats,
    base_accepted: Bools,
    probabilities: Floats,
    truth: Ints,
) -> Line:
    """Decisions must not turn upside down what the base hold-out says that the champion knows.

    Replay keeps a challenger from forgetting, so swapped labels may leave the base hold-out as it
    was. But where the champion is sure, and by the hold-out right, operators agree; when most of
    them call such faces by one and the same other label, the labels are suspect, not the faces.

    Args:
        base_probabilities, probabilities: the champion's, (n, k), on hold-out and reviewed faces.
        base_accepted: bool (n, k), labels that count as right there.
        truth: what operators decided, (m,).
    """
    found, sentences = {}, []
    base_answers, answers = base_probabilities.argmax(axis=1), probabilities.argmax(axis=1)
    base_sure = base_probabilities.max(axis=1) >= SURE
    sure = probabilities.max(axis=1) >= SURE
    for index, name in enumerate(labels):
        known = base_sure & (base_answers == index)
        asked = sure & (answers == index)
        n = int(asked.sum())
        if known.sum() < RECALL_FACES or n < SURE_FACES:
            continue
        precision = float(base_accepted[known, index].mean())
        counts = np.bincount(truth[asked], minlength=len(labels))
        counts[index] = 0
        other = int(counts.argmax())
        share = float(counts[other] / n)
        low = float(binomtest(int(counts[other]), n).proportion_ci(0.9, method="wilson").low)
        found[name] = {"n": n, "precision": precision, "called": labels[other], "share": share}
        if precision >= SURE_PRECISION and low > 0.5:
            sentences.append(
                f"Where the champion is sure of {name} it is right in {precision:.0%} of the base "
                f"hold-out, but of {n} such faces operators called {share:.0%} {labels[other]}: "
                "these labels look swapped."
            )
    if not found:
        sentence = "Too few faces that the champion is sure of to look for swapped labels."
        return Line("contradiction", None, sentence)
    sentence = (
        " ".join(sentences) or "No label that the champion knows well is turned into another."
    )
    return Line("contradiction", not sentences, sentence, {"per_label": found})


def recall_line(labels: LabelSet, truth: Ints, champion: Bools, challenger: Bools) -> Line:
    """Each label's recall over base hold-out and audit slice together.

    A label refuses when its recall drops by more than `RECALL_DROP` and the one-sided 95 % bound
    of the drop lies above zero. Labels with fewer than `RECALL_FACES` faces are listed only.
    """
    per_label: dict[str, Any] = {}
    broken, listed = [], []
    for index, name in enumerate(labels):
        rows = truth == index
        n = int(rows.sum())
        entry: dict[str, Any] = {"n": n, "judged": n >= RECALL_FACES}
        if n:
            drops = gains_of(np.ones(n), challenger[rows], champion[rows])
            drop = float(drops.mean())
            bound = drop_bound(drops)
            entry |= {"champion": float(champion[rows].mean())}
            entry |= {"challenger": float(challenger[rows].mean()), "drop_at_least": bound}
            if entry["judged"] and drop > RECALL_DROP and bound > 0:
                broken.append(f"{name} ({entry['champion']:.1%} to {entry['challenger']:.1%})")
        if not entry["judged"]:
            listed.append(f"{name} ({n})")
        per_label[name] = entry
    if broken:
        sentence = f"Recall drops by more than {RECALL_DROP:.0%}: {', '.join(broken)}."
    else:
        sentence = f"No label's recall drops by more than {RECALL_DROP:.0%} beyond chance."
    if listed:
        sentence += f" Too few faces to judge: {', '.join(listed)}."
    return Line("recall", not broken, sentence, {"per_label": per_label})


def drop_bound(drops: Numbers, confidence: float = 0.95) -> float:
    """One-sided lower bound of a mean drop; `drops` (n,) are 1, 0 or -1 for each face."""
    n = len(drops)
    if n < 2:
        return -1.0
    # One face more that did not change keeps the bound honest where all faces agree.
    spread = max(float(drops.std(ddof=1)), 1 / n)
    return float(drops.mean() - norm.ppf(confidence) * spread / np.sqrt(n))


def agreement_line(keras: Floats, litert: Floats) -> Line:
    """The file that will serve must answer as the graph that was judged: probabilities (n, k)."""
    n = len(keras)
    apart = float(np.abs(keras - litert).max()) if n else 0.0
    ranked = np.sort(np.asarray(keras, np.float64), axis=1) if n else np.zeros((0, 2))
    clear = np.diff(ranked[:, -2:], axis=1)[:, 0] > AGREEMENT
    other = int((clear & (keras.argmax(axis=1) != litert.argmax(axis=1))).sum()) if n else 0
    passed = n >= AGREEMENT_CROPS and apart <= AGREEMENT and other == 0
    sentence = (
        f"LiteRT and Keras differ by at most {apart:.1e} on {n} crops, and in the top label of "
        f"{other}."
    )
    figures: dict[str, Any] = {"n": n, "largest_difference": apart, "other_label": other}
    return Line("agreement", passed, sentence, figures)


def latency_line(champion: Sequence[float], challenger: Sequence[float]) -> Line:
    """Seconds of interleaved calls: the challenger must not answer slower."""
    before, after = float(np.median(champion)), float(np.median(challenger))
    ratio = after / before if before > 0 else 1.0
    sentence = (
        f"A crop takes {after * 1000:.1f} ms, the champion's {before * 1000:.1f} ms "
        f"(median of {len(challenger)} calls)."
    )
    figures = {"champion_ms": before * 1000, "challenger_ms": after * 1000, "ratio": ratio}
    return Line("latency", ratio <= LATENCY, sentence, figures)


def folds_by_group(groups: Ints, folds: int, seed: int = 0) -> Ints:
    """Which fold each face (n,) is in: whole groups, so that the folds are about equally large.

    There are as many folds as groups where those are fewer.
    """
    names, index, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    folds = max(1, min(folds, len(names)))
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(names))
    order = order[np.argsort(-sizes[order], kind="stable")]
    filled = np.zeros(folds, np.int64)
    fold_of = np.zeros(len(names), np.int64)
    for group in order:
        fold_of[group] = int(filled.argmin())
        filled[fold_of[group]] += sizes[group]
    return np.asarray(fold_of[index], np.int64)


def refusal(lines: Sequence[Line]) -> str:
    """Sentences of the lines that were crossed; empty when the challenger may be promoted."""
    return " ".join(line.sentence for line in lines if line.passed is False)


__all__ = [
    "AGREEMENT_CROPS",
    "LATENCY_CALLS",
    "Line",
    "agreement_line",
    "audit_line",
    "base_line",
    "collected_line",
    "contradiction_line",
    "folds_by_group",
    "latency_line",
    "recall_line",
    "refusal",
]
