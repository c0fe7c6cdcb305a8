"""New faces as a fine-tuning sees them: turned into activations once, varied copies included.

Shapes throughout: activations float16 (n, ...), as the frozen part of a network gives them; targets
float32 (n, k), rows that sum to 1; labels int64 (n,), positions in the label set.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

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
        named: labels that operators named, also on faces that were left out here since their
            label has too few; any order.
    """

    activations: Halves
    targets: Floats
    labels: Ints
    groups: Ints
    named: Ints

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: npt.NDArray[np.int64] | npt.NDArray[np.bool_]) -> NewFaces:
        """The faces of some rows."""
        return replace(
            self,
            activations=self.activations[rows],
            targets=self.targets[rows],
            labels=self.labels[rows],
            groups=self.groups[rows],
        )

    def wanted(self, own: npt.NDArray[np.float64], trust: float, smoothing: float) -> Floats:
        """Targets (n, k) to learn: operators' opinions, softened by the champion's own answers.

        A label that operators named, though on no face here, stays as likely for each face as the
        champion finds it. The queue shows first what the champion is least sure of, so a label that
        it reads well is rare among reviewed faces, and need not be so among visitors: called
        absent, it would be unlearned.

        Args:
            own: the champion's answers as probabilities, (n, k).
            trust: weight of the opinions, 0…1.
            smoothing: probability that an opinion spreads over all labels.
        """
        k = self.targets.shape[1]
        smooth = (1 - smoothing) * self.targets + smoothing / k
        soft = trust * smooth + (1 - trust) * own
        held = np.zeros(k, bool)
        held[self.named] = True
        held[self.labels] = False
        kept = own * held
        rest = soft * ~held
        rest *= (1 - kept.sum(axis=1, keepdims=True)) / rest.sum(axis=1, keepdims=True)
        return np.asarray(kept + rest, np.float32)


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
