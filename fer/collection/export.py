"""Reviewed samples as an ImageFolder zip, and what is held about one visitor."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from fer.collection.samples import SampleStore
from fer.collection.storage import storage_error
from fer.collection.tables import LABELLED, ActorKind, LabelEvent, Sample, TrainingRun

#: First characters by which a spreadsheet takes a cell for a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")

#: Fixed, so that two exports of the same samples are the same bytes.
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)

_PAGE = 500

#: Columns that name an operator, and what stands there instead where a visitor reads it.
_NAMES = frozenset({"decided_by", "second_by", "lease_by"})
_SOMEBODY = "operator"

CSV_NAME = "samples.csv"
CSV_COLUMNS = ("file", *(column.key for column in Sample.__table__.columns))


@dataclass
class ExportReport:
    """What an export holds: pictures by label, and ids whose picture was missing."""

    pictures: dict[str, int] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)


def export_zip(store: SampleStore, out: Path) -> ExportReport:
    """Write confirmed and relabelled samples as `<final label>/<id>.jpg`.

    With them go `samples.csv`, all columns of their rows, and `metadata.json`, a description in
    the Croissant format. `fer train` reads the zip as it is. Samples of the audit slice are in
    it and marked in the column `audit`.

    Raises:
        StorageError: the disk or the database refused; `out` is as it was.
    """
    report = ExportReport()
    table = io.StringIO(newline="")
    writer = csv.writer(table)
    writer.writerow(CSV_COLUMNS)
    with _new_zip(out) as archive:
        for row in _labelled(store):
            name = f"{row.final_label}/{row.id}.jpg"
            try:
                picture = store.storage.read(str(row.path))
            except FileNotFoundError:
                # Forgotten since the row was read, or lost: `fer samples verify` tells which.
                report.missing.append(row.id)
                continue
            _add(archive, name, picture, zipfile.ZIP_STORED)
            values = (getattr(row, column) for column in CSV_COLUMNS[1:])
            writer.writerow([_cell(value) for value in (name, *values)])
            label = str(row.final_label)
            report.pictures[label] = report.pictures.get(label, 0) + 1
        rows = table.getvalue().encode()
        _add(archive, CSV_NAME, rows, zipfile.ZIP_DEFLATED)
        described = json.dumps(_croissant(rows, report, store.clock()), indent=2).encode()
        _add(archive, "metadata.json", described, zipfile.ZIP_DEFLATED)
    return report


def export_receipt(store: SampleStore, receipt: str, out: Path) -> int:
    """Write everything that is held under a receipt: pictures, rows, events; how many faces.

    Raises:
        UnknownReceiptError: nothing is kept under it.
        StorageError: the disk or the database refused; `out` is as it was.
    """
    views = store.of_receipt(receipt)
    held = _held(store, [view.id for view in views])
    with _new_zip(out) as archive:
        for view in views:
            _add(archive, f"{view.id}.jpg", store.picture(view.id), zipfile.ZIP_STORED)
        text = json.dumps({"samples": held}, indent=2, ensure_ascii=False)
        _add(archive, "held.json", text.encode(), zipfile.ZIP_DEFLATED)
    return len(views)


def _held(store: SampleStore, ids: list[str]) -> list[dict[str, Any]]:
    """Every column of the rows and of their events, and the trainings that used the faces.

    Operators are persons too: what they did is there, who they are is not.
    """
    with store.database.session() as session:
        samples = session.scalars(sa.select(Sample).where(Sample.id.in_(ids)).order_by(Sample.id))
        held = {row.id: {**_columns(row), "events": [], "trainings": []} for row in samples}
        events = session.scalars(
            sa.select(LabelEvent).where(LabelEvent.sample_id.in_(ids)).order_by(LabelEvent.id)
        )
        for event in events:
            held[event.sample_id]["events"].append(_columns(event))
        runs = session.execute(
            sa.select(TrainingRun.started_at, TrainingRun.challenger, TrainingRun.sample_ids)
            .where(TrainingRun.sample_ids.is_not(None))
            .order_by(TrainingRun.id)
        )
        for started_at, challenger, used in runs:
            for sample_id in set(ids) & set(used or ()):
                entry = {"started_at": started_at.isoformat(), "model": challenger}
                held[sample_id]["trainings"].append(entry)
    return list(held.values())


def _columns(row: Sample | LabelEvent) -> dict[str, Any]:
    values = {column.key: getattr(row, column.key) for column in row.__table__.columns}
    if isinstance(row, LabelEvent):
        # The sitting groups an operator's work, not the visitor's.
        values.pop("sitting")
        values["state"] = _without_names(values["state"])
        if row.actor_kind != ActorKind.VISITOR:
            values["actor"] = _SOMEBODY
    return {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in _without_names(values).items()
    }


def _without_names(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: _SOMEBODY if name in _NAMES and value is not None else value
        for name, value in values.items()
    }


def safe_cell(text: str) -> str:
    """`text` as a spreadsheet shows it and never computes it; numbers stay as they are."""
    if not text.startswith(_FORMULA):
        return text
    try:
        float(text)
    except ValueError:
        return "'" + text
    return text


def _labelled(store: SampleStore) -> Iterator[Sample]:
    last = ""
    while True:
        with store.database.session() as session:
            rows = session.scalars(
                sa.select(Sample)
                .where(Sample.status.in_(LABELLED), Sample.final_label.is_not(None))
                .where(Sample.id > last)
                .order_by(Sample.id)
                .limit(_PAGE)
            ).all()
        if not rows:
            return
        yield from rows
        last = rows[-1].id


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, dict | list):
        return safe_cell(json.dumps(value, ensure_ascii=False))
    return safe_cell(str(value))


@contextmanager
def _new_zip(out: Path) -> Iterator[zipfile.ZipFile]:
    """A zip that appears at `out` whole or not at all."""
    part = ""
    try:
        descriptor, part = tempfile.mkstemp(prefix=".tmp-", suffix=".zip", dir=out.parent)
        with os.fdopen(descriptor, "wb") as stream:
            with zipfile.ZipFile(stream, "w") as archive:
                yield archive
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(part, out)
        part = ""
    except OSError as error:
        raise storage_error(error, "exported") from error
    finally:
        if part:
            Path(part).unlink(missing_ok=True)


def _add(archive: zipfile.ZipFile, name: str, data: bytes, how: int) -> None:
    entry = zipfile.ZipInfo(name, _ZIP_TIME)
    entry.compress_type = how
    entry.external_attr = 0o600 << 16
    archive.writestr(entry, data)


def _croissant(rows: bytes, report: ExportReport, now: datetime) -> dict[str, Any]:
    """A description that tools for data sets read; see mlcommons.org/croissant."""
    fields = [
        {
            "@type": "cr:Field",
            "@id": f"samples/{column}",
            "name": f"samples/{column}",
            "dataType": "sc:Text",
            "source": {"fileObject": {"@id": CSV_NAME}, "extract": {"column": column}},
        }
        for column in CSV_COLUMNS
    ]
    return {
        "@context": {
            "@language": "en",
            "@vocab": "https://schema.org/",
            "sc": "https://schema.org/",
            "cr": "http://mlcommons.org/croissant/",
            "dct": "http://purl.org/dc/terms/",
            "conformsTo": "dct:conformsTo",
            "recordSet": "cr:recordSet",
            "field": "cr:field",
            "source": "cr:source",
            "fileObject": "cr:fileObject",
            "fileSet": "cr:fileSet",
            "extract": "cr:extract",
            "column": "cr:column",
            "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
            "includes": "cr:includes",
        },
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": "reviewed-facial-expressions",
        "description": (
            "Faces that visitors left, with the expression that an operator decided on: a folder "
            f"for each final label, {sum(report.pictures.values())} pictures. These are personal "
            "data: keep them no longer than the notice told."
        ),
        "datePublished": now.date().isoformat(),
        "distribution": [
            {
                "@type": "cr:FileObject",
                "@id": CSV_NAME,
                "name": CSV_NAME,
                "contentUrl": CSV_NAME,
                "encodingFormat": "text/csv",
                "sha256": hashlib.sha256(rows).hexdigest(),
            },
            {
                "@type": "cr:FileSet",
                "@id": "pictures",
                "name": "pictures",
                "encodingFormat": "image/jpeg",
                "includes": "*/*.jpg",
            },
        ],
        "recordSet": [
            {"@type": "cr:RecordSet", "@id": "samples", "name": "samples", "field": fields}
        ],
    }
