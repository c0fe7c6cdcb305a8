"""Forgetting: the row is blanked in one transaction, then the picture goes.

A transaction cannot hold a file. So the blanking notes the file in `pending_deletions`, and the
note goes when the file has: a crash in between leaves a note that the next start follows.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session

from fer.collection.database import Database
from fer.collection.storage import ImageStorage
from fer.collection.tables import Fact, LabelEvent, Opinion, PendingDeletion, Sample, Status
from fer.errors import BackupError

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

_SAMPLE_ID = re.compile(r"[0-9a-f]{32}")

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


def deleted_samples(database: Database) -> dict[str, datetime]:
    """Every sample that was deleted, with the time; the ids alone tell nothing about anybody."""
    with database.session() as session:
        rows = session.execute(
            sa.select(Sample.id, Sample.deleted_at)
            .where(Sample.deleted_at.is_not(None))
            .order_by(Sample.id)
        )
        return {sample_id: at for sample_id, at in rows if at is not None}


def deletions_to_json(deleted: Mapping[str, datetime], now: datetime) -> bytes:
    """The list of deletions as a file; `deletions_from_json` reads it."""
    document = {
        "fer_deletions": 1,
        "made_at": now.isoformat(),
        "deleted": {sample_id: at.isoformat() for sample_id, at in deleted.items()},
    }
    return json.dumps(document, indent=1).encode()


def deletions_from_json(data: bytes) -> dict[str, datetime]:
    """The list that `deletions_to_json` wrote.

    Raises:
        BackupError: it is none.
    """
    wrong = BackupError("This is no list of deletions; `fer samples deletions` writes one.")
    try:
        document = json.loads(data)
        if document["fer_deletions"] != 1:
            raise BackupError("The list of deletions was made by a newer version of this program.")
        entries = document["deleted"].items()
        found = {str(name): datetime.fromisoformat(at).astimezone(UTC) for name, at in entries}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise wrong from error
    if not all(_SAMPLE_ID.fullmatch(sample_id) for sample_id in found):
        raise wrong
    return found


def delete_again(database: Database, deleted: Mapping[str, datetime]) -> int:
    """Blank rows that a list of deletions names and that are not blank; how many were not.

    Ids of samples that the database does not know are passed over: they were kept later.
    """
    count = 0
    for part in _parts(sorted(deleted)):
        with database.session(write=True) as session:
            rows = session.scalars(
                sa.select(Sample).where(Sample.id.in_(part), Sample.deleted_at.is_(None))
            ).all()
            for row in rows:
                blank(session, [row], deleted[row.id])
            count += len(rows)
    return count


def _parts(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(ids), 500):
        yield ids[start : start + 500]
