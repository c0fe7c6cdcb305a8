"""Data sets as people have them: ImageFolder folders and zips, FER+ votes, and arrays of crops.

Which layouts are understood stands in `fer.learning.layouts`.
"""

from __future__ import annotations

import csv
import hashlib
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from fer.errors import DataError, PictureError
from fer.files import sha256_of
from fer.labels import LabelSet
from fer.learning.layouts import (
    SPLITS,
    TEST,
    TRAIN,
    VALIDATION,
    Picture,
    choose_classes,
    label_files,
    list_files,
)
from fer.vision.images import ImageLimits, decode

#: Columns of FER+ that are no expression (contempt is one, but not one of FER2013's).
FERPLUS_NAMES = {
    "neutral": "neutral",
    "happiness": "happy",
    "surprise": "surprise",
    "sadness": "sad",
    "anger": "angry",
    "disgust": "disgust",
    "fear": "fear",
    "contempt": "contempt",
    "unknown": "unknown",
    "NF": "NF",
}

#: A data set's pictures are trusted less than none: one that claims more than this is skipped.
READ_LIMITS = ImageLimits(max_bytes=50_000_000, max_pixels=80_000_000, min_side=8)

Crops = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Dataset:
    """What lies in one folder or zip: labelled pictures, and how to read their bytes.

    `skipped` lists files that were passed over, each with its reason.
    """

    path: Path
    pictures: tuple[Picture, ...]
    labels: LabelSet
    skipped: tuple[tuple[str, str], ...] = ()

    def __len__(self) -> int:
        return len(self.pictures)

    def splits(self) -> list[str]:
        """Names of the splits present, in the order train, validation, test."""
        present = {picture.split for picture in self.pictures}
        return [name for name in (TRAIN, VALIDATION, TEST) if name in present]

    def split(self, name: str | None) -> tuple[Picture, ...]:
        """Pictures of one split (any of its usual names), or all of them for None.

        Raises:
            DataError: there is no such split.
        """
        if name is None:
            return self.pictures
        wanted = SPLITS.get(name.casefold())
        chosen = tuple(picture for picture in self.pictures if picture.split == wanted)
        if wanted is None or not chosen:
            have = ", ".join(self.splits()) or "none"
            raise DataError(f"{self.path} has no split {name!r}; it has: {have}.")
        return chosen

    def sha256(self) -> str:
        """Digest of a zip's bytes, or of a folder's file names and sizes."""
        if self.path.is_file():
            return sha256_of(self.path)
        digest = hashlib.sha256()
        for picture in self.pictures:
            size = (self.path / picture.name).stat().st_size
            digest.update(f"{picture.name}\0{size}\n".encode())
        return digest.hexdigest()

    def read_all(self, pictures: Iterable[Picture]) -> Iterable[tuple[Picture, bytes]]:
        """Yield each picture with its bytes; one that cannot be read comes with b""."""
        if self.path.is_file():
            with zipfile.ZipFile(self.path) as archive:
                for picture in pictures:
                    try:
                        yield picture, _read_member(archive, picture.name)
                    except (OSError, zipfile.BadZipFile, RuntimeError, EOFError):
                        yield picture, b""
        else:
            for picture in pictures:
                try:
                    yield picture, (self.path / picture.name).read_bytes()
                except OSError:
                    yield picture, b""


def _read_member(archive: zipfile.ZipFile, name: str) -> bytes:
    # The size in the header may lie; reading one byte past the limit tells.
    with archive.open(name) as stream:
        return stream.read(READ_LIMITS.max_bytes + 1)


def open_dataset(path: Path, classes: str | None = None) -> Dataset:
    """Find the labelled pictures of a folder or a zip, without decoding any.

    Args:
        path: the folder, or the zip, as it was unpacked or downloaded.
        classes: which labels to take, by comma, in the order of the model's outputs; a merged
            one as `happy=joy+happy`. All of them, in alphabetical order, when None.

    Raises:
        DataError: nothing there that can be read as a data set, or a class that it lacks.
    """
    names, skipped = list_files(path)
    pictures = label_files(names, skipped)
    if not pictures:
        raise DataError(
            f"{path} holds no labelled pictures: put them in one folder for each label, "
            "such as happy/1.jpg, or in train/happy/1.jpg and validation/happy/2.jpg."
        )
    pictures, labels = choose_classes(path, pictures, classes)
    return Dataset(path, tuple(sorted(pictures, key=lambda p: p.name)), labels, tuple(skipped))


def thinned(dataset: Dataset, share: float, seed: int = 0) -> Dataset:
    """A random part of each label's pictures in each split, at least two where there are two.

    Args:
        share: part that stays, above 0 and up to 1.
    """
    if share >= 1:
        return dataset
    rng = np.random.default_rng(seed)
    groups: dict[tuple[str, str], list[Picture]] = defaultdict(list)
    for picture in dataset.pictures:
        groups[(picture.split or "", picture.label)].append(picture)
    kept: list[Picture] = []
    for key in sorted(groups):
        count = max(2, round(share * len(groups[key])))
        chosen = rng.permutation(len(groups[key]))[:count]
        kept += [groups[key][index] for index in chosen]
    return replace(dataset, pictures=tuple(sorted(kept, key=lambda p: p.name)))


def assign_splits(
    dataset: Dataset,
    *,
    validation_share: float = 0.2,
    test_share: float = 0.4,
    seed: int = 0,
) -> Dataset:
    """Give every picture a split, keeping the splits that the data set came with.

    Args:
        validation_share: part of each label's training pictures that becomes validation where
            there is none; at least one picture of each label stays in both.
        test_share: part of each label's validation pictures that becomes the test split where
            there is none; 0 makes none.

    Raises:
        DataError: a label has fewer than two pictures for training and validation.
    """
    pictures = [replace(p, split=p.split or TRAIN) for p in dataset.pictures]
    rng = np.random.default_rng(seed)
    if not any(p.split == VALIDATION for p in pictures):
        pictures = _cut(pictures, TRAIN, VALIDATION, validation_share, rng)
    if test_share and not any(p.split == TEST for p in pictures):
        pictures = _cut(pictures, VALIDATION, TEST, test_share, rng)
    for split in (TRAIN, VALIDATION):
        missing = set(dataset.labels) - {p.label for p in pictures if p.split == split}
        if missing:
            raise DataError(
                f"{dataset.path}: no {split} pictures of {', '.join(sorted(missing))}; "
                "a label needs at least two pictures."
            )
    return replace(dataset, pictures=tuple(pictures))


def _cut(
    pictures: list[Picture], source: str, target: str, share: float, rng: np.random.Generator
) -> list[Picture]:
    moved: set[int] = set()
    by_label: dict[str, list[int]] = defaultdict(list)
    for index, picture in enumerate(pictures):
        if picture.split == source:
            by_label[picture.label].append(index)
    for label in sorted(by_label):
        indices = by_label[label]
        # A label with one picture keeps it where it is: an empty source is worse than a gap.
        count = min(len(indices) - 1, max(1, round(share * len(indices))))
        if count > 0:
            moved.update(rng.choice(indices, size=count, replace=False).tolist())
    return [replace(p, split=target) if i in moved else p for i, p in enumerate(pictures)]


@dataclass(frozen=True)
class FaceArrays:
    """Decoded crops with their labels.

    Attributes:
        crops: uint8 (n, size, size, 3), RGB.
        labels: int64 (n,), positions in the label set.
        names: path of each picture inside its data set.
        unreadable: (name, reason) of each picture that was left out.
        missed: names of pictures in which the detector found no face, with their label index.
    """

    crops: Crops
    labels: npt.NDArray[np.int64]
    names: tuple[str, ...]
    unreadable: tuple[tuple[str, str], ...] = ()
    missed: tuple[tuple[str, int], ...] = field(default=())

    def __len__(self) -> int:
        return len(self.names)

    def take(self, rows: Sequence[int]) -> FaceArrays:
        """The faces in these rows, in this order."""
        chosen = np.array(rows, np.int64)
        names = tuple(self.names[row] for row in rows)
        return FaceArrays(self.crops[chosen], self.labels[chosen], names)


def load_faces(
    dataset: Dataset,
    pictures: Sequence[Picture],
    size: int,
    *,
    crop: Callable[[Crops], Crops | None] | None = None,
    progress: Callable[[int], None] | None = None,
) -> FaceArrays:
    """Decode pictures of faces to square crops.

    Args:
        size: side of the crops in pixels.
        crop: finds the face in a decoded picture and returns its crop, or None where it finds
            none; without it the picture is the face, and its largest centred square is taken.
        progress: called with the number of pictures done.

    A picture that cannot be decoded is listed in `unreadable`, never fatal.
    """
    crops, labels, names = [], [], []
    unreadable, missed = [], []
    for done, (picture, data) in enumerate(dataset.read_all(pictures), start=1):
        if progress is not None:
            progress(done)
        try:
            image = decode(data, READ_LIMITS)
        except PictureError as error:
            unreadable.append((picture.name, error.message))
            continue
        index = dataset.labels.index(picture.label)
        face = centre_square(image, size) if crop is None else crop(image)
        if face is None:
            missed.append((picture.name, index))
            continue
        crops.append(face)
        labels.append(index)
        names.append(picture.name)
    stacked = np.stack(crops) if crops else np.empty((0, size, size, 3), np.uint8)
    return FaceArrays(
        stacked, np.array(labels, np.int64), tuple(names), tuple(unreadable), tuple(missed)
    )


def centre_square(image: Crops, size: int) -> Crops:
    """Largest centred square of a picture, resized to (size, size, 3)."""
    from PIL import Image

    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = image[top : top + side, left : left + side]
    if side == size:
        return np.ascontiguousarray(square)
    filter_ = Image.Resampling.BOX if side > size else Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(square).resize((size, size), filter_))


def shortest_sides(dataset: Dataset, limit: int = 200) -> npt.NDArray[np.int64]:
    """Shortest side, in pixels, of up to `limit` pictures spread over the data set."""
    step = max(1, len(dataset) // limit)
    sides = []
    for _, data in dataset.read_all(dataset.pictures[::step]):
        try:
            sides.append(min(decode(data, READ_LIMITS).shape[:2]))
        except PictureError:
            continue
    return np.array(sides, np.int64)


@dataclass(frozen=True)
class Votes:
    """FER+ votes: how many of ten annotators saw which expression.

    Attributes:
        columns: names as FER2013 spells them (`happiness` becomes `happy`).
        counts: float32 (k,) for each file, by its name without folders.
    """

    columns: tuple[str, ...]
    counts: dict[str, npt.NDArray[np.float32]]

    def table(self, names: Sequence[str]) -> npt.NDArray[np.float32]:
        """Votes (n, k) for `names`, rows of zeros where there are none."""
        empty = np.zeros(len(self.columns), np.float32)
        rows = [self.counts.get(PurePosixPath(name).name, empty) for name in names]
        return np.stack(rows) if rows else np.empty((0, len(self.columns)), np.float32)

    def distribution(self, names: Sequence[str], labels: LabelSet) -> npt.NDArray[np.float32]:
        """Votes as probabilities over a model's labels, (n, len(labels)).

        Votes for anything else are left out; a row is zero where nothing is left.
        """
        table = self.table(names)
        columns = [self.columns.index(name) if name in self.columns else -1 for name in labels]
        chosen = np.where(np.array(columns) >= 0, table[:, columns], 0.0)
        total = chosen.sum(axis=1, keepdims=True)
        shares = np.divide(chosen, total, out=np.zeros_like(chosen), where=total > 0)
        return shares.astype(np.float32)

    def accepted(self, names: Sequence[str], labels: LabelSet) -> npt.NDArray[np.bool_]:
        """Which labels are most voted, (n, len(labels)); a tie marks several.

        All columns compete, so a picture that most annotators called unknown has a row of False
        and is not counted.
        """
        table = self.table(names)
        most = (table == table.max(axis=1, keepdims=True)) & (table > 0)
        accepted = np.zeros((len(names), len(labels)), bool)
        for position, label in enumerate(labels):
            if label in self.columns:
                accepted[:, position] = most[:, self.columns.index(label)]
        return accepted


def read_votes(path: Path) -> Votes:
    """Read FER+ votes: a CSV with a `file` column and one column for each expression.

    Raises:
        DataError: it cannot be read, or a vote is no number.
    """
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            reader = csv.DictReader(stream)
            columns = [name for name in reader.fieldnames or () if name != "file"]
            if "file" not in (reader.fieldnames or ()) or not columns:
                raise DataError(f"{path} has no columns `file` and expressions.")
            counts = {
                PurePosixPath(row["file"]).name: np.array(
                    [float(row[name] or 0) for name in columns], np.float32
                )
                for row in reader
            }
    except (OSError, UnicodeDecodeError, ValueError, TypeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as votes: {error}.") from error
    return Votes(tuple(FERPLUS_NAMES.get(name, name) for name in columns), counts)
