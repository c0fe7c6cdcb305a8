"""New faces as a fine-tuning sees them: turned into activations once, varied copies included.

Shapes throughout: activations float16 (n, ...), as the frozen part of a network gives them; targets
float32 (n, k), rows that sum to 1; labels int64 (n,), positions in the label set.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np
import numpy.typing as npt

from fer.learning.augmentation import Augmentation, RandomFace
from fer.learning.replay import Halves, activations

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Report = Callable[[int, int], None]


@dataclass(frozen=True)
class NewFaces:
    """New faces below the freeze point.

    Attributes:
        activations: (n, 1 + copies, ...), the face itself first.
        targets: opinions on each face as probabilities.
        labels: the label that counts.
        groups: which visitor's session each belongs to, any integers.
    """

    activations: Halves
    targets: Floats
    labels: Ints
    groups: Ints

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: npt.NDArray[np.int64] | npt.NDArray[np.bool_]) -> NewFaces:
        """The faces of some rows."""
        return NewFaces(
            self.activations[rows], self.targets[rows], self.labels[rows], self.groups[rows]
        )


def varied_activations(
    frozen: keras.Model,
    crops: npt.NDArray[np.uint8],
    copies: int,
    augmentation: Augmentation,
    seed: int,
    report: Report = lambda done, total: None,
) -> Halves:
    """Each crop (n, s, s, 3) and `copies` varied ones through the frozen part: (n, 1 + copies, …).

    Args:
        report: called with passes done and passes in all.
    """
    passes = [activations(frozen, crops)]
    report(1, copies + 1)
    vary = RandomFace(augmentation, crops.shape[1], grey=False, seed=seed)
    for done in range(copies):
        # Cast back, so that a copy is what a camera could have sent.
        varied = [
            np.asarray(vary(crops[start : start + 256], training=True)).round().astype(np.uint8)
            for start in range(0, len(crops), 256)
        ]
        passes.append(activations(frozen, np.concatenate(varied)))
        report(done + 2, copies + 1)
    return np.stack(passes, axis=1)


def held_back_groups(
    new: NewFaces, share: float, rng: np.random.Generator
) -> npt.NDArray[np.bool_]:
    """Rows (n,) of about `share` of the faces, whole groups, never the last face of a label.

    One group at least, where that is not half of all faces: with nothing new held back, nothing
    would speak for learning.
    """
    held = np.zeros(len(new), bool)
    for group in rng.permutation(np.unique(new.groups)):
        rows = new.groups == group
        if held.sum() + rows.sum() > (share if held.any() else 0.5) * len(new):
            continue
        left = np.bincount(new.labels[~held & ~rows], minlength=new.targets.shape[1])
        if (left[np.unique(new.labels[rows])] > 0).all():
            held |= rows
    return held
