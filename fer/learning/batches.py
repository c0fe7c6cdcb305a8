"""What a training step is given: batches of faces with soft targets and weights, drawn and mixed.

NumPy and Keras' data sets only, the same on every backend.
"""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from fer.learning.datasets import Crops
from fer.learning.recipe import Recipe

Floats = npt.NDArray[np.float32]


def soft_targets(
    labels: npt.NDArray[np.int64], classes: int, recipe: Recipe, votes: Floats | None = None
) -> Floats:
    """Targets (n, classes) that sum to 1: smoothed labels mixed with votes where there are any.

    Args:
        labels: positions in the label set, (n,).
        votes: probabilities (n, classes), a row of zeros for a picture without votes.
    """
    one_hot = np.eye(classes, dtype=np.float32)[labels]
    smooth = one_hot * (1 - recipe.label_smoothing) + recipe.label_smoothing / classes
    if votes is None:
        return np.asarray(smooth, np.float32)
    weight = np.where(votes.sum(axis=1, keepdims=True) > 0, recipe.vote_weight, 0.0)
    return np.asarray((1 - weight) * smooth + weight * votes, np.float32)


#: Power of a class's share that its weight, or its chance to be drawn, is divided by.
POWERS = {"none": 0.0, "sqrt": 0.5, "balanced": 1.0}


def class_weights(targets: Floats, mode: str) -> Floats:
    """Weight of each class, (classes,), averaging 1 over the faces: `none`, `sqrt`, `balanced`."""
    share = targets.mean(axis=0)
    power = POWERS[mode]
    weights = np.where(share > 0, np.maximum(share, 1e-6) ** -power, 0.0)
    return np.asarray(weights / (weights * share).sum(), np.float32)


class FaceBatches(keras.utils.PyDataset):
    """Shuffled batches of crops, targets and weights, drawn and mixed as the recipe says.

    The order of an epoch depends on the seed and the epoch alone, so that a resumed training sees
    what an unbroken one would have seen.
    """

    def __init__(self, crops: Crops, targets: Floats, weights: Floats, recipe: Recipe) -> None:
        # With one, TensorFlow tunes how far to read ahead, and `fit` may wait at its end until the
        # thread that does so wakes: 16 idle seconds were seen after an epoch of 26.
        super().__init__(workers=2)
        self.crops, self.targets, self.recipe = crops, targets, recipe
        self.face_weights = targets @ weights
        chances = targets @ class_weights(targets, recipe.sampling)
        self._chances = chances.astype(np.float64) / chances.sum(dtype=np.float64)
        self.begin(1)

    def __len__(self) -> int:
        return math.ceil(len(self.crops) / self.recipe.batch_size)

    def __getitem__(self, index: int) -> tuple[npt.NDArray[Any], Floats, Floats]:
        size = self.recipe.batch_size
        rows = self.order[index * size : (index + 1) * size]
        x, y, w = self.crops[rows], self.targets[rows], self.face_weights[rows]
        if len(rows) > 1 and (self.recipe.mixup or self.recipe.cutmix):
            rng = np.random.default_rng((self.recipe.seed, self.epoch, index))
            x, other, share = self._mixed(x, rng) if self.recipe.mixup else self._cut(x, rng)
            y = share[:, None] * y + (1 - share[:, None]) * y[other]
            w = share * w + (1 - share) * w[other]
        # One type whether mixed or not: another one would build a second training graph.
        return x.astype(np.float32), y, w

    def _mixed(self, x: Any, rng: np.random.Generator) -> tuple[Any, Any, Any]:
        """Each face over another (mixup, Zhang et al. 2018), which one, and the share it keeps."""
        share = rng.beta(self.recipe.mixup, self.recipe.mixup, size=len(x))
        share = np.maximum(share, 1 - share).astype(np.float32)
        other = rng.permutation(len(x))
        s = share[:, None, None, None]
        return s * x.astype(np.float32) + (1 - s) * x[other].astype(np.float32), other, share

    def _cut(self, x: Any, rng: np.random.Generator) -> tuple[Any, Any, Any]:
        """A rectangle of each face from another (CutMix, Yun et al. 2019); the same three."""
        side, other = x.shape[1], rng.permutation(len(x))
        length = side * np.sqrt(rng.beta(self.recipe.cutmix, self.recipe.cutmix, size=len(x)))
        centres = rng.uniform(0, side, size=(2, len(x)))
        first = np.clip(np.round(centres - length / 2), 0, side)[:, :, None]
        last = np.clip(np.round(centres + length / 2), 0, side)[:, :, None]
        line = np.arange(side)
        inside = (line >= first) & (line < last)
        patch = inside[0][:, :, None] & inside[1][:, None, :]
        share = 1 - patch.mean(axis=(1, 2), dtype=np.float32)
        return np.where(patch[..., None], x[other], x), other, share

    def begin(self, epoch: int) -> None:
        """Draw the order of an epoch, counted from 1 within its stage."""
        self.epoch = epoch
        rng = np.random.default_rng((self.recipe.seed, epoch))
        n = len(self.crops)
        if self.recipe.sampling == "none":
            self.order = rng.permutation(n)
        else:
            self.order = rng.choice(n, size=n, p=self._chances)
