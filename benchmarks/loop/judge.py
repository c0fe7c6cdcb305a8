"""Accuracy on people who were never seen, and on the base."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.loop.people import Face
from fer.learning.datasets import (
    Dataset,
    load_faces,
    open_dataset,
    read_votes,
)
from fer.learning.layouts import Picture
from fer.learning.paired import balanced_weights, gains_of, interval
from fer.vision.classifier import Classifier


class Judge:
    """Measures files on people who were never seen, and on the base."""

    def __init__(self, champion: Classifier, base: Path | None, votes: Path | None) -> None:
        self.champion = champion
        self.labels = champion.labels
        self.base_crops = np.empty((0, 1, 1, 3), np.uint8)
        if base is not None:
            dataset = open_dataset(base)
            split = "test" if "test" in dataset.splits() else "validation"
            chosen = [p for p in dataset.split(split) if p.label in self.labels]
            self._read_base(dataset, chosen, votes)

    def _read_base(self, dataset: Dataset, chosen: Sequence[Picture], votes: Path | None) -> None:
        faces = load_faces(dataset, chosen, self.champion.manifest.crop_size)
        own = [self.labels.index(dataset.labels[label]) for label in faces.labels]
        self.base_right = np.eye(len(self.labels), dtype=bool)[own]
        self.base_crops = faces.crops
        if votes is not None:
            accepted = read_votes(votes).accepted(faces.names, self.labels)
            counted = accepted.any(axis=1)
            self.base_right, self.base_crops = accepted[counted], faces.crops[counted]
        self.champion_base = self._base(self.champion)

    def _base(self, classifier: Classifier) -> npt.NDArray[np.bool_]:
        answers = classifier.probabilities(self.base_crops).argmax(axis=1)
        return np.asarray(self.base_right[np.arange(len(answers)), answers])

    def measure(self, classifier: Classifier, unseen: Sequence[Face]) -> dict[str, Any]:
        """Balanced accuracy on unseen people, accuracy on the base, and both against before."""
        truth = np.array([self.labels.index(face.label) for face in unseen], np.int64)
        people = np.unique([face.person for face in unseen], return_inverse=True)[1]
        after, before = self._right(classifier, unseen), self._right(self.champion, unseen)
        weights = balanced_weights(truth, len(self.labels), 1)
        gains = gains_of(weights, before, after)
        figures: dict[str, Any] = {
            "unseen": float(weights @ after),
            "unseen_gain": float(gains.sum()),
            "unseen_interval": interval(gains, people.astype(np.int64)),
            "unseen_n": len(unseen),
        }
        if len(self.base_crops):
            right = self._base(classifier)
            n = len(right)
            change = gains_of(np.full(n, 1 / n), self.champion_base, right)
            figures |= {
                "base": float(right.mean()),
                "base_gain": float(change.sum()),
                "base_interval": interval(change, np.arange(n)),
                "base_n": n,
            }
        return figures

    def _right(self, classifier: Classifier, faces: Sequence[Face]) -> npt.NDArray[np.bool_]:
        found = [i for i, face in enumerate(faces) if face.crop is not None]
        right = np.zeros(len(faces), bool)
        crops = np.stack([face.crop for face in faces if face.crop is not None])
        answers = classifier.probabilities(crops).argmax(axis=1)
        # A face that is not found is an error.
        right[found] = [
            answer == self.labels.index(faces[i].label)
            for i, answer in zip(found, answers, strict=True)
        ]
        return right
