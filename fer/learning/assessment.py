"""Evaluate a registered version on a data set, by the LiteRT file that serves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fer.errors import DataError
from fer.labels import LabelSet
from fer.learning.datasets import Crops, Dataset, FaceArrays, Votes, load_faces, open_dataset
from fer.learning.evaluation import evaluate
from fer.manifest import Framing
from fer.registry import Registry
from fer.vision.classifier import Classifier
from fer.vision.faces import FaceDetector, crop_face


@dataclass(frozen=True)
class Assessment:
    """What a version answered on a data set.

    Attributes:
        figures: as `fer.learning.evaluation.evaluate` gives them.
        faces: the crops that were answered, with labels in the model's order.
        probabilities: float32 (n, k), calibrated.
    """

    figures: dict[str, Any]
    faces: FaceArrays
    probabilities: npt.NDArray[np.float32]


def crop_by_detection(
    detector: FaceDetector, framing: Framing, size: int
) -> Callable[[Crops], Crops | None]:
    """A function from a picture to its largest face's crop, None where no face is found."""

    def crop(image: Crops) -> Crops | None:
        boxes = detector.detect(image)
        return crop_face(image, boxes[0], framing, size) if boxes else None

    return crop


def assess(
    registry: Registry,
    version: str,
    data: Path,
    *,
    split: str | None = None,
    votes: Votes | None = None,
    detect: bool = False,
    classes: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Assessment:
    """Run a version over a data set.

    Args:
        split: only this split; all of the data for None.
        votes: FER+ votes, for `ferplus_accuracy`.
        detect: find the faces in the pictures, rather than take each picture as a face's crop.
        classes: labels to take from the data, as in `open_dataset`.
        progress: called with (pictures done, pictures in all).

    Raises:
        UnknownModelError, ManifestError, DamagedModelError: the version cannot be used.
        DataError: the data cannot be read, or has labels that the model lacks.
    """
    classifier = Classifier.load(registry, version, threads=1)
    manifest = classifier.manifest
    dataset = in_model_order(open_dataset(data, classes), manifest.label_set)
    pictures = dataset.split(split)

    def report(done: int) -> None:
        if progress is not None:
            progress(done, len(pictures))

    size = manifest.crop_size
    if detect:
        with FaceDetector() as detector:
            crop = crop_by_detection(detector, manifest.framing, size)
            faces = load_faces(dataset, pictures, size, crop=crop, progress=report)
    else:
        faces = load_faces(dataset, pictures, size, progress=report)
    if not len(faces) and not faces.missed:
        raise DataError(f"None of the pictures of {data} can be read.")
    probabilities = classifier.probabilities(faces.crops)
    labels = manifest.label_set
    missed_names = [name for name, _ in faces.missed]
    figures = evaluate(
        labels,
        faces.labels,
        probabilities,
        missed=np.array([label for _, label in faces.missed], np.int64),
        accepted=None if votes is None else votes.accepted(faces.names, labels),
        missed_accepted=None if votes is None else votes.accepted(missed_names, labels),
    )
    figures["unreadable"] = len(faces.unreadable)
    return Assessment(figures, faces, probabilities)


def in_model_order(dataset: Dataset, labels: LabelSet) -> Dataset:
    """The data set with the model's labels, spelled and ordered as the model has them.

    Raises:
        DataError: the data has a label that the model lacks.
    """
    unknown = [name for name in dataset.labels if name not in labels]
    if unknown:
        known = [name for name in dataset.labels if name in labels]
        hint = f"; --classes {','.join(known)} takes the others" if len(known) > 1 else ""
        raise DataError(
            f"{dataset.path} has labels that the model lacks: {', '.join(unknown)}{hint}."
        )
    return Dataset(dataset.path, dataset.pictures, labels, dataset.skipped)
