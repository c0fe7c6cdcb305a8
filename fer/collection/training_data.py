"""What retraining reads from the collection and notes there: reviewed samples, and its runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from fer.collection.database import Database
from fer.collection.runs import TRAINED
from fer.collection.tables import DECISIONS, LABELLED, Kind, LabelEvent, Sample, TrainingRun
from fer.collection.views import face_box_of
from fer.vision.faces import FaceBox

#: Events after which a sample's label may be another one than before.
_CHANGES = (*DECISIONS, Kind.UNDO, Kind.RESTORE)


@dataclass(frozen=True)
class Reviewed:
    """A sample with an operator's label.

    Attributes:
        label: the label that counts.
        second_label: what another operator said who saw it too, or None.
        group: one visitor's session, exact copies included.
        import_id: the import that brought it, or None.
        phash: 256 bits as 64 hexadecimal digits.
        face_box: in the kept picture's pixels.
        new: decided since the last run that trained.
    """

    id: str
    label: str
    second_label: str | None
    group: str
    import_id: str | None
    audit: bool
    path: str
    sha256: str
    phash: str
    face_box: FaceBox
    decided_at: datetime | None
    new: bool


@dataclass(frozen=True)
class Reviews:
    """All that operators decided, as it stood at one moment.

    Attributes:
        samples: those with a label, oldest first.
        last_event_id: newest label event that is in them.
        since: newest label event that an earlier run trained on; 0 before the first.
    """

    samples: tuple[Reviewed, ...]
    last_event_id: int
    since: int


def read_reviews(database: Database) -> Reviews:
    """Read what operators decided.

    Rejected, unsure and other-expression samples carry no label and are left out.

    Raises:
        StorageError: the database refused.
    """
    with database.session() as session:
        # The newest event comes first: one that arrives meanwhile is new to the next run too.
        last = session.scalar(sa.select(sa.func.max(LabelEvent.id))) or 0
        since = _trained_until(session)
        changed = set(_changed_since(session, since))
        rows = session.scalars(
            sa.select(Sample)
            .where(Sample.status.in_(LABELLED), Sample.final_label.is_not(None))
            .where(Sample.deleted_at.is_(None), Sample.path.is_not(None))
            .order_by(Sample.id)
        )
        samples = tuple(_reviewed(row, row.id in changed) for row in rows)
    return Reviews(samples, last, since)


def still_there(database: Database, sample_id: str) -> bool:
    """Whether a sample has not been forgotten meanwhile."""
    with database.session() as session:
        row = session.get(Sample, sample_id)
        return row is not None and row.deleted_at is None


def update_run(database: Database, run_id: int, **values: Any) -> None:
    """Change columns of a run: its progress while it lasts, its outcome at its end."""
    with database.session(write=True) as session:
        session.execute(sa.update(TrainingRun).where(TrainingRun.id == run_id).values(**values))


def open_runs(database: Database) -> list[tuple[int, str | None]]:
    """Number and challenger of each run without an outcome."""
    with database.session() as session:
        found = session.execute(
            sa.select(TrainingRun.id, TrainingRun.challenger)
            .where(TrainingRun.outcome.is_(None))
            .order_by(TrainingRun.id)
        )
        return [(row.id, row.challenger) for row in found]


def count_labels(samples: Iterable[Reviewed]) -> Counter[str]:
    """How many samples carry each label."""
    return Counter(sample.label for sample in samples)


def _trained_until(session: Session) -> int:
    newest = sa.select(sa.func.max(TrainingRun.last_event_id)).where(
        TrainingRun.outcome.in_(TRAINED)
    )
    return session.scalar(newest) or 0


def _changed_since(session: Session, event_id: int) -> Iterable[str]:
    return session.scalars(
        sa.select(LabelEvent.sample_id)
        .distinct()
        .where(LabelEvent.id > event_id, LabelEvent.second.is_(False))
        .where(LabelEvent.kind.in_(_CHANGES))
    )


def _reviewed(row: Sample, new: bool) -> Reviewed:
    box = face_box_of(row)
    if box is None:
        raise ValueError(f"sample {row.id} has a picture and no face box")
    return Reviewed(
        id=row.id,
        label=str(row.final_label),
        second_label=row.second_label,
        group=row.group_id or row.id,
        import_id=row.request_id if row.source == "import" else None,
        audit=row.audit,
        path=str(row.path),
        sha256=str(row.sha256),
        phash=str(row.phash),
        face_box=box,
        decided_at=row.decided_at,
        new=new,
    )
