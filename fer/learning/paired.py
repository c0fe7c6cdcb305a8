"""Paired comparison of two models on faces that come in groups, as pure functions.

Shapes throughout: `gains` float64 (n,), what each face adds to the difference between challenger
and champion; `groups` int64 (n,), which visitor's session each face belongs to. Faces of one
session show one person in one light, so they do not count as independent: every function here
adds them up first, and treats the sessions as what was drawn.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

Numbers = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

#: Up to so many groups with a difference, all sign patterns are counted rather than drawn.
_EXACT_GROUPS = 14

#: Patterns handled at once, so that memory does not grow with their number.
_CHUNK = 2048


def balanced_weights(labels: Ints, classes: int, fewest: int) -> Numbers:
    """Weight of each face (n,), summing to 1, that turns accuracy into balanced accuracy.

    Each label has the same weight in all. Labels with fewer than `fewest` faces share one weight
    between them: one face must not count as much as a hundred of another label.
    """
    if not len(labels):
        return np.empty(0)
    counts = np.bincount(labels, minlength=classes)
    stratum = np.where(counts[labels] >= fewest, labels, classes)
    sizes = np.bincount(stratum, minlength=classes + 1)
    return np.asarray(1.0 / (sizes[stratum] * np.count_nonzero(sizes)))


def gains_of(weights: Numbers, champion: Bools, challenger: Bools) -> Numbers:
    """What each face adds to the difference: its weight, where only one of both is right."""
    return weights * (challenger.astype(np.float64) - champion.astype(np.float64))


def by_group(gains: Numbers, groups: Ints) -> Numbers:
    """Sum of each group, (number of groups,)."""
    _, index = np.unique(groups, return_inverse=True)
    return np.asarray(np.bincount(index, weights=gains)) if len(gains) else np.empty(0)


def sign_flip_p(gains: Numbers, groups: Ints, draws: int = 9_999, seed: int = 0) -> float:
    """One-sided p-value that the challenger gains: a sign-flip permutation test over groups.

    If both were equally good, each group's difference could as well have the other sign. With few
    groups all patterns are counted, so the p-value is exact; otherwise `draws` of them are drawn,
    the observed one included, which keeps the test valid. 1 when nothing differs.
    """
    sums = by_group(gains, groups)
    sums = sums[np.abs(sums) > 1e-12]
    if not len(sums):
        return 1.0
    observed = sums.sum() - 1e-12
    if len(sums) <= _EXACT_GROUPS:
        patterns = np.arange(2 ** len(sums))[:, None] >> np.arange(len(sums)) & 1
        return float(((1 - 2.0 * patterns) @ sums >= observed).mean())
    rng = np.random.default_rng(seed)
    reached = 1
    for start in range(0, draws, _CHUNK):
        count = min(_CHUNK, draws - start)
        bits = np.frombuffer(rng.bytes(count * (-(-len(sums) // 8))), np.uint8).reshape(count, -1)
        kept = np.unpackbits(bits, axis=1, count=len(sums)).astype(np.float64) @ sums
        reached += int((2 * kept - sums.sum() >= observed).sum())
    return reached / (draws + 1)


def standard_error(gains: Numbers, groups: Ints) -> float:
    """Standard error of the summed difference, robust to dependence within groups.

    Infinite for fewer than two groups: one visitor tells nothing about others.
    """
    sums = by_group(gains, groups)
    if len(sums) < 2:
        return math.inf
    spread = ((sums - sums.mean()) ** 2).sum() * len(sums) / (len(sums) - 1)
    return float(np.sqrt(spread))


def interval(gains: Numbers, groups: Ints, confidence: float = 0.95) -> tuple[float, float]:
    """Two-sided interval of the difference."""
    reach = float(norm.ppf(0.5 + confidence / 2)) * standard_error(gains, groups)
    total = float(gains.sum())
    return total - reach, total + reach


def faces_for_power(n: int, error: float, gain: float, alpha: float, power: float = 0.8) -> int:
    """Faces that would show a true `gain` at level `alpha` with this `power`.

    Args:
        n: faces that gave the standard error `error`, which falls with the root of their number.
    """
    wanted = float(norm.ppf(1 - alpha) + norm.ppf(power)) * error / gain
    return math.ceil(n * wanted**2)
