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
from fer.learning.datasets import (
    Crops,
    Dataset,
    FaceArrays,
    Votes,
    centre_square,
    load_faces,
    open_dataset,
)
from fer.learning.evaluation import (
    bootstrap_calibration,
    bootstrap_figures,
    evaluate,
    reliability,
    wilson_interval,
)
from fer.learning.slices import Answers, Facts, Groups, by_groups, facts_of, slices
from fer.manifest import Framing
from fer.registry import LITERT_FILE, Registry
from fer.vision.classifier import Classifier
from fer.vision.crops import FaceBox, crop_face
from fer.vision.faces import FaceDetector


@dataclass(frozen=True)
class Assessment:
    """What a version answered on a data set.

    Attributes:
        figures: as `fer.learning.evaluation.evaluate` gives them, with intervals, `reliability`,
            `slices` and, where asked for, `groups`.
        faces: the crops that were answered, with labels in the model's order.
        probabilities: float32 (n, k), calibrated.
        accepted: labels that count as right, (n, k): the most voted, or the data's own where there
            are no votes, or none for this face.
    """

    figures: dict[str, Any]
    faces: FaceArrays
    probabilities: npt.NDArray[np.float32]
    accepted: npt.NDArray[np.bool_]

    @property
    def correct(self) -> npt.NDArray[np.bool_]:
        """Whether each face's top label counts as right, (n,)."""
        answers = self.probabilities.argmax(axis=1)
        return np.asarray(self.accepted[np.arange(len(answers)), answers])


def crop_by_detection(
    detector: FaceDetector, framing: Framing, size: int, seen: list[FaceBox] | None = None
) -> Callable[[Crops], Crops | None]:
    """A function from a picture to its largest face's crop, None where no face is found.

    Args:
        seen: takes the box of each face that was cropped.
    """

    def crop(image: Crops) -> Crops | None:
        boxes = detector.detect(image)
        if not boxes:
            return None
        if seen is not None:
            seen.append(boxes[0])
        return crop_face(image, boxes[0], framing, size)

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
    groups: Groups | None = None,
    litert: str = LITERT_FILE,
    progress: Callable[[int, int], None] | None = None,
) -> Assessment:
    """Run a version over a data set.

    Args:
        split: only this split; all of the data for None.
        votes: FER+ votes, for `ferplus_accuracy`.
        detect: find the faces in the pictures, rather than take each picture as a face's crop.
        classes: labels to take from the data, as in `open_dataset`.
        groups: groups of pictures to give figures for.
        litert: the version's file to run.
        progress: called with (pictures done, pictures in all).

    Raises:
        UnknownModelError, ManifestError, DamagedModelError: the version cannot be used.
        DataError: the data cannot be read, or has labels that the model lacks.
    """
    file = registry.verified_file(version, litert)
    classifier = Classifier(registry.manifest(version), file, threads=1)
    manifest = classifier.manifest
    dataset = in_model_order(open_dataset(data, classes), manifest.label_set)
    pictures = dataset.split(split)

    def report(done: int) -> None:
        if progress is not None:
            progress(done, len(pictures))

    size = manifest.crop_size
    boxes: list[FaceBox] = []
    sides: list[float] = []

    def whole(image: Crops) -> Crops:
        sides.append(float(min(image.shape[:2])))
        return centre_square(image, size)

    if detect:
        with FaceDetector() as detector:
            crop = crop_by_detection(detector, manifest.framing, size, boxes)
            faces = load_faces(dataset, pictures, size, crop=crop, progress=report)
    else:
        faces = load_faces(dataset, pictures, size, crop=whole, progress=report)
    if not len(faces) and not faces.missed:
        raise DataError(f"None of the pictures of {data} can be read.")
    facts = facts_of(
        faces.crops,
        [box.longer_side for box in boxes] if detect else sides,
        [box.roll for box in boxes] if detect else None,
    )
    return judged(
        manifest.label_set, faces, classifier.probabilities(faces.crops), facts, votes, groups
    )


def judged(
    labels: LabelSet,
    faces: FaceArrays,
    probabilities: npt.NDArray[np.float32],
    facts: Facts,
    votes: Votes | None = None,
    groups: Groups | None = None,
) -> Assessment:
    """The figures of answers to faces.

    Args:
        probabilities: of each face, (n, k).
        facts: how each face looks.
    """
    k = len(labels)
    missed_names = [name for name, _ in faces.missed]
    missed = np.array([label for _, label in faces.missed], np.int64)
    voted = None if votes is None else votes.accepted(faces.names, labels)
    missed_voted = None if votes is None else votes.accepted(missed_names, labels)
    figures = evaluate(
        labels,
        faces.labels,
        probabilities,
        missed=missed,
        accepted=voted,
        missed_accepted=missed_voted,
    )
    own = np.eye(k, dtype=bool)[faces.labels]
    accepted = own if voted is None else np.where(voted.any(axis=1, keepdims=True), voted, own)
    answered = probabilities.argmax(axis=1).astype(np.int64)
    found = Answers(faces.labels, answered, k, voted)
    everything = Answers(
        np.concatenate([faces.labels, missed]),
        np.concatenate([answered, np.full(len(missed), k)]),
        k,
        None if voted is None or missed_voted is None else np.concatenate([voted, missed_voted]),
    )
    for name, figure in bootstrap_figures(everything.truth, everything.answers, k).items():
        figures[f"{name}_interval"] = figure.interval
    if voted is not None:
        hits = round(figures["ferplus_accuracy"] * figures["ferplus_n"])
        figures["ferplus_accuracy_interval"] = wilson_interval(hits, figures["ferplus_n"])
    # Calibration is measured where `evaluate` measures it.
    counted = np.ones(len(faces), bool) if voted is None else voted.any(axis=1)
    confidence = probabilities.max(axis=1)[counted]
    correct = accepted[np.arange(len(answered)), answered][counted]
    figures["ece_interval"] = bootstrap_calibration(confidence, correct)
    figures["reliability"] = reliability(confidence, correct)
    figures["slices"] = slices(found, facts)
    if groups is not None:
        figures["groups"] = by_groups(everything, [*faces.names, *missed_names], groups)
    figures["unreadable"] = len(faces.unreadable)
    return Assessment(figures, faces, probabilities, accepted)


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
