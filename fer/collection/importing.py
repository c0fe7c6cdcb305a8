"""Labelled pictures from a folder or a zip, read by the champion and kept as samples."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import lzma
import secrets
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Protocol

import sqlalchemy as sa
from PIL import Image
from sqlalchemy.orm import Session

from fer.collection.decisions import Context, Decision, decide
from fer.collection.export import CSV_NAME
from fer.collection.newsample import NewSample
from fer.collection.samples import SampleStore, apply_suggestion
from fer.collection.tables import ActorKind, Operator, Sample
from fer.errors import DataError, LabelError, OperatorError, PictureError
from fer.labels import check_label
from fer.vision.faces import FaceBox, kept_picture
from fer.vision.images import ImageLimits, decode, encode_jpeg
from fer.vision.recogniser import Reading, Recogniser, read_faces

_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".heif"}
)

#: Longest table that is read beside the pictures, in bytes.
_MAX_TABLE = 500_000_000

#: What a damaged, encrypted or strangely packed member raises.
_UNREADABLE = (
    OSError,
    EOFError,
    RuntimeError,
    NotImplementedError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
)

#: Longest side of a kept picture, in pixels.
_KEPT_SIDE = 512


class FaceReader(Protocol):
    """Reads the face of a picture for the import."""

    def read(self, data: bytes, box: FaceBox | None) -> NewSample:
        """The largest face as a sample; with `box`, the face there, detection left out.

        Raises:
            PictureError: the picture is refused, or no face was found.
        """


class RecogniserReader:
    """Reads by the champion."""

    def __init__(self, recogniser: Recogniser) -> None:
        self._recogniser = recogniser
        self._limits = ImageLimits.from_settings(recogniser.settings)

    def read(self, data: bytes, box: FaceBox | None) -> NewSample:
        """See `FaceReader.read`."""
        if box is None:
            found = self._recogniser.recognise(data)
            kept, moved = kept_picture(found.image, found.readings[0].box, _KEPT_SIDE)
            jpeg = encode_jpeg(kept)
            return _sample(jpeg, kept.shape, moved, found.readings[0], found.model_version)
        image = decode(data, self._limits)
        classifier = self._recogniser.classifier()
        (reading,) = read_faces(image, [box], classifier)
        # A kept picture of our own comes back bit by bit; anything else is encoded anew, so that
        # no metadata gets in.
        jpeg = data if _is_plain_jpeg(data) else encode_jpeg(image)
        return _sample(jpeg, image.shape, box, reading, classifier.version)


@dataclass
class ImportReport:
    """What an import did.

    Attributes:
        imported: samples kept.
        known: names of pictures that the collection holds already, bit by bit.
        refused: name and reason of each that could not be taken.
    """

    imported: int = 0
    known: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)


def import_pictures(
    store: SampleStore, source: Path, reader: FaceReader, *, as_decisions: str | None = None
) -> ImportReport:
    """Take labelled pictures in; a picture's label is the name of the folder that it lies in.

    The label becomes a suggestion, or, with `as_decisions`, that operator's decision. A picture
    that an export of ours describes in its `samples.csv` keeps its face box, so that it need not
    be found again. Stops early only where disk or database refuse; what was taken in stays.

    Raises:
        DataError: `source` is neither a folder nor a zip that can be read.
        OperatorError: there is no operator `as_decisions`.
        StorageError: the disk or the database refused.
    """
    if as_decisions is not None:
        with store.database.session() as session:
            if session.get(Operator, as_decisions) is None:
                raise OperatorError(f"There is no operator {as_decisions!r}.", name=as_decisions)
    report = ImportReport()
    name_of_import = f"import-{secrets.token_hex(8)}"
    limit = int(store.settings.max_image_mb * 1_000_000)
    with _opened(source) as files:
        boxes = files.boxes()
        for name in files.names():
            label = PurePosixPath(name).parent.name
            try:
                check_label(label)
                data = files.read(name, limit)
                new = reader.read(data, boxes.get(hashlib.sha256(data).hexdigest()))
                if _held(store, new.jpeg):
                    report.known.append(name)
                    continue
                _keep(store, new, label, name_of_import, as_decisions)
            except (PictureError, LabelError, DataError) as error:
                report.refused[name] = error.message
            else:
                report.imported += 1
    return report


def _keep(
    store: SampleStore, new: NewSample, label: str, name_of_import: str, operator: str | None
) -> None:
    def label_it(session: Session, rows: list[Sample]) -> None:
        (row,) = rows
        # Nobody holds this receipt: it was never shown.
        row.receipt_hash = None
        row.request_id = name_of_import
        if operator is None:
            actor = ActorKind.IMPORT
            apply_suggestion(session, row, label, store.clock(), str(actor), actor)
            return
        context = Context(
            operator, store.clock(), store.retention, order="import", actor_kind=ActorKind.IMPORT
        )
        row.queue = None  # The label is in view: no blind answer, not even in the audit slice.
        decide(session, row, Decision("relabel", label, labels=(label,)), context)

    # A group of its own: pictures of one import are of as many people as they may be.
    store.keep([new], group_id=secrets.token_hex(16), within=label_it)


def _held(store: SampleStore, jpeg: bytes) -> bool:
    digest = hashlib.sha256(jpeg).hexdigest()
    with store.database.session() as session:
        return session.scalar(sa.select(Sample.id).where(Sample.sha256 == digest)) is not None


def _sample(
    jpeg: bytes, shape: tuple[int, ...], box: FaceBox, reading: Reading, model: str
) -> NewSample:
    return NewSample(
        jpeg=jpeg,
        width=shape[1],
        height=shape[0],
        face_box=box,
        probabilities=reading.prediction.by_label(),
        model_version=model,
        predicted_label=reading.prediction.label,
        face_px=reading.quality.face_px,
        sharpness=reading.quality.sharpness,
        source="import",
    )


def _is_plain_jpeg(data: bytes) -> bool:
    with Image.open(io.BytesIO(data)) as picture:
        extras = set(picture.info) - {"jfif", "jfif_version", "jfif_unit", "jfif_density"}
        return picture.format == "JPEG" and max(picture.size) <= _KEPT_SIDE and not extras


# Folder and zip


class _Files(Protocol):
    def __enter__(self) -> _Files: ...

    def __exit__(self, *error: object) -> None: ...

    def names(self) -> Iterator[str]: ...

    def read(self, name: str, limit: int) -> bytes: ...

    def boxes(self) -> Mapping[str, FaceBox]: ...


def _opened(source: Path) -> _Files:
    if source.is_dir():
        return _Folder(source)
    try:
        return _Zip(zipfile.ZipFile(source))
    except (OSError, zipfile.BadZipFile) as error:
        raise DataError(f"{source} is neither a folder nor a zip that can be read.") from error


def _wanted(name: str) -> bool:
    path = PurePosixPath(name)
    hidden = any(part.startswith((".", "__MACOSX")) for part in path.parts)
    return not hidden and path.suffix.lower() in _SUFFIXES


class _Folder:
    def __init__(self, root: Path) -> None:
        self._root = root

    def __enter__(self) -> _Folder:
        return self

    def __exit__(self, *error: object) -> None:
        return None

    def names(self) -> Iterator[str]:
        for path in sorted(self._root.rglob("*")):
            name = path.relative_to(self._root).as_posix()
            # A link may lead anywhere: what it leads to was not put here.
            if path.is_file() and not path.is_symlink() and _wanted(name):
                # A folder of one label may be given as it is.
                yield name if "/" in name else f"{self._root.name}/{name}"

    def read(self, name: str, limit: int) -> bytes:
        path = self._root / name
        if not path.exists():
            path = self._root / PurePosixPath(name).name
        try:
            with path.open("rb") as stream:
                data = stream.read(limit + 1)
        except OSError as error:
            raise DataError(f"cannot be read: {error.strerror or error}.") from error
        return _within(data, limit)

    def boxes(self) -> Mapping[str, FaceBox]:
        path = self._root / CSV_NAME
        return _boxes(self.read(CSV_NAME, _MAX_TABLE)) if path.is_file() else {}


class _Zip:
    """Members are read into memory one by one: no name in the archive ever becomes a path."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive

    def __enter__(self) -> _Zip:
        return self

    def __exit__(self, *error: object) -> None:
        self._archive.close()

    def names(self) -> Iterator[str]:
        members = (entry.filename for entry in self._archive.infolist() if not entry.is_dir())
        yield from sorted({name for name in members if _wanted(name)})

    def read(self, name: str, limit: int) -> bytes:
        try:
            # The declared size may lie: what counts is how much comes out.
            with self._archive.open(name) as stream:
                data = stream.read(limit + 1)
        except _UNREADABLE as error:
            raise DataError(f"cannot be read from the zip: {error}.") from error
        return _within(data, limit)

    def boxes(self) -> Mapping[str, FaceBox]:
        if CSV_NAME not in self._archive.namelist():
            return {}
        return _boxes(self.read(CSV_NAME, _MAX_TABLE))


def _within(data: bytes, limit: int) -> bytes:
    if len(data) > limit:
        raise DataError(f"is larger than {limit / 1_000_000:g} MB.")
    return data


def _boxes(table: bytes) -> dict[str, FaceBox]:
    """Face boxes by the picture's SHA-256, from an export's table; rows that make no sense are
    passed over, for a picture without a box is looked at anew."""
    boxes: dict[str, FaceBox] = {}
    for row in csv.DictReader(io.StringIO(table.decode("utf-8", "replace"), newline="")):
        try:
            left, top, width, height = (float(n) for n in json.loads(row.get("face_box") or ""))
            roll, score = float(row.get("roll") or 0), float(row.get("detector_score") or 0)
            boxes[row["sha256"]] = FaceBox(left, top, width, height, roll, score)
        except (ValueError, TypeError, KeyError):
            continue
    return boxes
