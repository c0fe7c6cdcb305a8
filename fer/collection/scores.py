"""Which sample is worth an operator's next look: pure functions of probabilities and labels.

In all of them `probabilities` is a float array (n, k) whose rows lie in 0…1 and sum to 1, and
`labels` an integer array (n,) of column numbers. Higher scores come first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


def _checked(probabilities: Array) -> Floats:
    array = np.asarray(probabilities, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] < 2:
        raise ValueError(f"probabilities need a shape (n, k) with k ≥ 2, got {array.shape}")
    if array.size and (
        not np.isfinite(array).all()
        or array.min() < 0
        or np.abs(array.sum(axis=1) - 1).max() > 1e-3
    ):
        raise ValueError("probabilities lie in 0…1 and each row sums to 1")
    return array


def least_confidence(probabilities: Array) -> Floats:
    """1 - the best probability: float64 (n,), from 0 (certain) to 1 - 1/k."""
    best: Floats = _checked(probabilities).max(axis=1, initial=0.0)
    return 1.0 - best


def margin(probabilities: Array) -> Floats:
    """How far the best probability is ahead of the second best: float64 (n,), 0…1, 0 unsure."""
    ordered = np.sort(_checked(probabilities), axis=1)
    difference: Floats = ordered[:, -1] - ordered[:, -2]
    return difference


def entropy(probabilities: Array) -> Floats:
    """Shannon entropy divided by log k: float64 (n,), from 0 (certain) to 1 (uniform)."""
    array = _checked(probabilities)
    logs = np.log(np.where(array > 0, array, 1.0))
    value: Floats = -(array * logs).sum(axis=1) / np.log(array.shape[1])
    return value


def self_confidence(probabilities: Array, labels: Integers) -> Floats:
    """Probability of the given label: float64 (n,), 0…1; low where the label is suspect."""
    array = _checked(probabilities)
    picked: Floats = array[np.arange(len(array)), np.asarray(labels)]
    return picked


def class_shares(labels: Integers, k: int) -> Floats:
    """Share of each class among `labels`: float64 (k,), summing to 1, or zeros without any."""
    counts = np.bincount(np.asarray(labels, dtype=np.int64), minlength=k).astype(np.float64)
    total = counts.sum()
    return counts / total if total else counts


def rarity(labels: Integers, shares: Floats) -> Floats:
    """1 - share of each sample's class: float64 (n,), 0…1, high for classes seldom seen."""
    return 1.0 - np.asarray(shares, dtype=np.float64)[np.asarray(labels)]


def rarity_of(label: str, shares: Mapping[str, float]) -> float:
    """`rarity` of one sample by the last refresh's shares; a class not seen before is rarest."""
    return 1.0 - float(shares.get(label, 0.0))
