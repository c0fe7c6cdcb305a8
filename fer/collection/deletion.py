"""Forgetting: the row is blanked in one transaction, then the picture goes.

A transaction cannot hold a file. So the blanking notes the file in `pending_deletions`, and the
note goes when the file has: a crash in between leaves a note that the next start follows.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session

from fer.collection.database import Database
from fer.collection.storage import ImageStorage
from fer.collection.tables import Fact, LabelEvent, Opinion, PendingDeletion, Sample, Status

#: Columns of a sample that a deletion empties; the others tell nothing about a person.
BLANKED = (
    "request_id",
    "group_id",
    "receipt_hash",
    "notice_version",
    "path",
    "bytes",
    "sha256",
    "phash",
    "width",
    "height",
    "face_box",
    "roll",
    "detector_score",
    "face_px",
    "sharpness",
    "predicted_label",
    "confidence",
    "margin",
    "probabilities",
    "visitor_label",
    "expires_at",
    "lease_by",
    "lease_until",
    "queue",
    "uncertainty",
    "rarity",
    "label_error",
    "second_by",
    "second_kind",
    "second_label",
)

#: Name of the `facts` row that sums the bytes of all kept pictures.
BYTES = "bytes"


def blank(session: Session, samples: Sequence[Sample], now: datetime) -> list[str]:
    """Blank rows that the session holds; returns the paths of the files that must go now."""
    paths = []
    freed = 0
    for sample in samples:
        if sample.path is not None:
            paths.append(sample.path)
            session.add(PendingDeletion(path=sample.path, sample_id=sample.id, at=now))
            freed += sample.bytes or 0
        for column in BLANKED:
            setattr(sample, column, None)
        sample.visitor_disagreed = False
        sample.opinion = Opinion.NONE
        sample.status = Status.DELETED
        sample.deleted_at = now
        sample.row_version += 1
    ids = [sample.id for sample in samples]
    # Free text about a face is about a person; the events themselves stay.
    session.execute(
        sa.update(LabelEvent)
        .where(LabelEvent.sample_id.in_(ids), LabelEvent.note.is_not(None))
        .values(note=None)
    )
    session.flush()
    add_bytes(session, -freed)
    return paths


def add_bytes(session: Session, change: int) -> None:
    """Keep the sum of the pictures' sizes; last in a transaction, for all writers share it."""
    if change:
        session.execute(
            sa.update(Fact).where(Fact.name == BYTES).values(number=Fact.number + change)
        )


def finish_deletions(
    database: Database, storage: ImageStorage, paths: Sequence[str] | None = None
) -> int:
    """Remove files whose rows are blanked already; how many notes were settled.

    Args:
        paths: only these; None for every one that is noted.

    Raises:
        StorageError: the disk or the database refused; the notes stay for the next time.
    """
    if paths is None:
        with database.session() as session:
            paths = list(session.scalars(sa.select(PendingDeletion.path)))
    for path in paths:
        storage.delete(path)
    for start in range(0, len(paths), 500):
        with database.session(write=True) as session:
            session.execute(
                sa.delete(PendingDeletion).where(
                    PendingDeletion.path.in_(paths[start : start + 500])
                )
            )
    return len(paths)
