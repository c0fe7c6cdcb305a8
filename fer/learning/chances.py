"""How often each face is drawn in a fine-tuning, and how much the champion's doubt changes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fer.learning.replay import Halves, Replay

Ints = npt.NDArray[np.int64]


def with_doubt(value: float, right: float) -> float:
    """A knob that is `value` where the champion is always right, and 1 where it never is.

    Args:
        right: share of the new faces about which the champion is right, 0…1.
    """
    return 1 - (1 - value) * right


def label_chances(labels: Ints, balance: float) -> npt.NDArray[np.float64]:
    """How often each new face (n,) is drawn; see `FineTuning.class_balance`. They sum to 1."""
    counts = np.bincount(labels).astype(np.float64)
    chance = np.maximum(counts, 1)[labels] ** -balance
    return np.asarray(chance / chance.sum())


def mixtures(
    stored: Halves, chance: npt.NDArray[np.float64], count: int, rng: np.random.Generator
) -> Halves:
    """Activations (count, ...) between two stored ones (n, ...), drawn by `chance` (n,).

    What the champion says to them can be asked, so that it is followed between the stored faces
    too, and not only at them.
    """
    one, other = (rng.choice(len(stored), count, p=chance) for _ in range(2))
    share = rng.uniform(0.5, 1, (count, *(1,) * (stored.ndim - 1))).astype(np.float32)
    return np.asarray(share * stored[one] + (1 - share) * stored[other], np.float16)


def replay_chances(replay: Replay, balance: float) -> npt.NDArray[np.float64]:
    """How often each replayed face (n,) is drawn; see `FineTuning.replay_balance`."""
    k = replay.targets.shape[1]
    labels = replay.targets.argmax(axis=1)
    common = np.bincount(replay.holdout_targets.argmax(axis=1), minlength=k) + 1.0
    stored = np.maximum(np.bincount(labels, minlength=k), 1)
    return np.asarray((common ** (1 - balance) / stored)[labels])
