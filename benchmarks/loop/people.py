"""Photographs of people through the detector, and who of them is a visitor."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt
from rich.progress import track

from fer.collection.newsample import NewSample
from fer.errors import PictureError
from fer.learning.datasets import open_dataset
from fer.vision.faces import crop_face, kept_picture
from fer.vision.images import encode_jpeg
from fer.vision.recogniser import Recogniser

#: Most pictures of one person, as one visitor would leave.
PER_PERSON = 10

#: Part of the people who are visitors where there is no `--test`; the others are never seen.
VISITORS = 0.6


@dataclass(frozen=True)
class Face:
    """A photograph after detection, or one in which no face was found (`sample` is None)."""

    label: str
    person: str
    sample: NewSample | None
    crop: npt.NDArray[np.uint8] | None


def person_of(name: str) -> str:
    """`happy/Jane_Doe_0003.jpg` shows `Jane_Doe`."""
    return re.sub(r"_\d+$", "", PurePosixPath(name).stem)


def read_photographs(
    data: Path, recogniser: Recogniser, labels: Sequence[str], most: int | None = None
) -> list[Face]:
    """Detect and classify every picture of a data set whose label the model knows.

    Args:
        most: so many of them at random, not all.
    """
    dataset = open_dataset(data)
    manifest = recogniser.registry.manifest(recogniser.champion())
    known = [p for p in dataset.pictures if p.label.casefold() in {n.casefold() for n in labels}]
    if most is not None:
        rows = np.random.default_rng(0).permutation(len(known))[:most]
        known = [known[row] for row in rows]
    faces = []
    for picture, content in track(
        dataset.read_all(known), "Detecting", total=len(known), transient=True
    ):
        person = person_of(picture.name)
        try:
            reading = recogniser.recognise(content)
        except PictureError:
            faces.append(Face(picture.label, person, None, None))
            continue
        first = reading.readings[0]
        image, box = kept_picture(reading.image, first.box)
        sample = NewSample(
            jpeg=encode_jpeg(image),
            width=image.shape[1],
            height=image.shape[0],
            face_box=box,
            probabilities=first.prediction.by_label(),
            model_version=reading.model_version,
            predicted_label=first.prediction.label,
            face_px=first.quality.face_px,
            sharpness=first.quality.sharpness,
        )
        crop = crop_face(reading.image, first.box, manifest.framing, manifest.crop_size)
        faces.append(Face(picture.label, person, sample, crop))
    return faces


def at_most(faces: Sequence[Face], rng: np.random.Generator) -> list[Face]:
    """No more than `PER_PERSON` pictures of anybody, chosen at random."""
    counts: Counter[str] = Counter()
    kept = []
    for index in rng.permutation(len(faces)):
        face = faces[index]
        counts[face.person] += 1
        if counts[face.person] <= PER_PERSON:
            kept.append(face)
    return kept


def split_by_person(
    faces: Sequence[Face], rng: np.random.Generator
) -> tuple[list[Face], list[Face]]:
    """Visitors, and people who are never seen."""
    people = sorted({face.person for face in faces})
    visitors = set(rng.permutation(people)[: round(VISITORS * len(people))].tolist())
    seen = [face for face in faces if face.person in visitors]
    return seen, [face for face in faces if face.person not in visitors]
