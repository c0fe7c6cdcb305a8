"""Comparing rows with files, and mending what a crash, a disk or a hand left behind."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, fields
from datetime import datetime
from pathlib import PurePosixPath

import sqlalchemy as sa

from fer.collection.database import Database
from fer.collection.deletion import BLANKED, BYTES, blank, finish_deletions
from fer.collection.storage import TEMPORARY_PREFIX, ImageStorage
from fer.collection.tables import Fact, LabelEvent, PendingDeletion, Sample
from fer.errors import StorageError

_PAGE = 500


@dataclass
class VerifyReport:
    """What was found; lists hold sample ids, paths or event numbers.

    Attributes:
        checked: rows whose file was hashed.
        missing: rows whose file is gone. Mended by blanking the row: the face is lost.
        changed: rows whose file has another SHA-256. Not mended: a person must look.
        unreadable: rows whose file the disk does not give. Not mended.
        orphaned: files that no row names. Mended by deleting them: nobody could ever ask for
            their deletion.
        leftovers: temporary files of interrupted writes. Mended by deleting them.
        pending: files whose rows are blanked already. Mended by deleting them.
        events_without_sample: label events whose sample does not exist. Not mended.
        not_blank: deleted rows that still hold something. Mended by blanking them.
        wrong_size: whether the sum of sizes was off. Mended by summing again.
        repaired: whether what can be mended was.
    """

    checked: int = 0
    missing: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    orphaned: list[str] = field(default_factory=list)
    leftovers: list[str] = field(default_factory=list)
    pending: list[str] = field(default_factory=list)
    events_without_sample: list[int] = field(default_factory=list)
    not_blank: list[str] = field(default_factory=list)
    wrong_size: bool = False
    repaired: bool = False

    @property
    def mendable(self) -> bool:
        """Whether everything that was found can be mended (true when nothing was)."""
        return not (self.changed or self.unreadable or self.events_without_sample)

    @property
    def clean(self) -> bool:
        """Whether nothing was found."""
        return not any(
            getattr(self, entry.name)
            for entry in fields(self)
            if entry.name not in {"checked", "repaired"}
        )


def verify(
    database: Database, storage: ImageStorage, now: datetime, *, repair: bool = False
) -> VerifyReport:
    """Re-hash every file and compare with its row.

    May run beside a server: what is being kept at that moment is not taken for an orphan.

    Raises:
        StorageError: the folder or the database cannot be read, or a repair was refused.
    """
    report = VerifyReport()
    _check_pending(database, storage, report, repair)
    _check_rows(database, storage, report)
    _check_files(database, storage, report, repair)
    _check_blank_rows(database, report)
    _check_events(database, report)
    if repair:
        _blank_rows(database, storage, [*report.missing, *report.not_blank], now)
        report.repaired = True
    _check_size(database, report, repair)
    return report


def _check_pending(
    database: Database, storage: ImageStorage, report: VerifyReport, repair: bool
) -> None:
    with database.session() as session:
        report.pending = list(session.scalars(sa.select(PendingDeletion.path)))
    if repair:
        finish_deletions(database, storage, report.pending)


def _check_rows(database: Database, storage: ImageStorage, report: VerifyReport) -> None:
    last = ""
    while True:
        with database.session() as session:
            rows = session.execute(
                sa.select(Sample.id, Sample.path, Sample.sha256)
                .where(Sample.id > last, Sample.deleted_at.is_(None))
                .order_by(Sample.id)
                .limit(_PAGE)
            ).all()
        if not rows:
            return
        for sample_id, path, sha256 in rows:
            try:
                found = hashlib.sha256(storage.read(path or "")).hexdigest()
            except FileNotFoundError:
                if _still_there(database, sample_id):
                    report.missing.append(sample_id)
                continue
            except StorageError:
                report.unreadable.append(sample_id)
                continue
            report.checked += 1
            if found != sha256:
                report.changed.append(sample_id)
        last = rows[-1][0]


def _still_there(database: Database, sample_id: str) -> bool:
    """Whether the row still wants a file: it may have been forgotten since it was read."""
    with database.session() as session:
        return bool(
            session.scalar(
                sa.select(sa.func.count()).where(
                    Sample.id == sample_id, Sample.deleted_at.is_(None)
                )
            )
        )


def _check_files(
    database: Database, storage: ImageStorage, report: VerifyReport, repair: bool
) -> None:
    page: list[str] = []
    suspects: list[str] = []
    for path in storage.list():
        page.append(path)
        if len(page) == _PAGE:
            suspects += _unnamed(database, page)
            page = []
    suspects += _unnamed(database, page)
    if not suspects:
        return
    # Whoever keeps a picture holds this lock from before the file until after the row, and a
    # dead process holds none: what has no row now never gets one.
    with storage.alone():
        present = set(storage.list())
        for path in sorted(_unnamed(database, [path for path in suspects if path in present])):
            temporary = PurePosixPath(path).name.startswith(TEMPORARY_PREFIX)
            (report.leftovers if temporary else report.orphaned).append(path)
            if repair:
                storage.delete_leftover(path)


def _unnamed(database: Database, paths: list[str]) -> list[str]:
    """Those of `paths` that neither a row nor a pending deletion names."""
    if not paths:
        return []
    with database.session() as session:
        named: set[str | None] = set()
        for start in range(0, len(paths), _PAGE):
            part = paths[start : start + _PAGE]
            ids = [PurePosixPath(path).stem for path in part]
            # By id, which is indexed; the path column is not.
            named |= set(session.scalars(sa.select(Sample.path).where(Sample.id.in_(ids))))
            named |= set(
                session.scalars(
                    sa.select(PendingDeletion.path).where(PendingDeletion.path.in_(part))
                )
            )
    return [path for path in paths if path not in named]


def _check_blank_rows(database: Database, report: VerifyReport) -> None:
    held = sa.or_(*(sa.cast(getattr(Sample, name), sa.Text).is_not(None) for name in BLANKED))
    notes = sa.exists().where(LabelEvent.sample_id == Sample.id, LabelEvent.note.is_not(None))
    with database.session() as session:
        report.not_blank = list(
            session.scalars(
                sa.select(Sample.id).where(
                    Sample.status == "deleted",
                    sa.or_(held, notes, Sample.deleted_at.is_(None)),
                )
            )
        )


def _check_events(database: Database, report: VerifyReport) -> None:
    with database.session() as session:
        report.events_without_sample = list(
            session.scalars(
                sa.select(LabelEvent.id)
                .outerjoin(Sample, Sample.id == LabelEvent.sample_id)
                .where(Sample.id.is_(None))
            )
        )


def _blank_rows(database: Database, storage: ImageStorage, ids: list[str], now: datetime) -> None:
    for start in range(0, len(ids), _PAGE):
        with database.session(write=True) as session:
            rows = session.scalars(
                sa.select(Sample)
                .where(Sample.id.in_(ids[start : start + _PAGE]))
                .order_by(Sample.id)
                .with_for_update()
            ).all()
            paths = blank(session, rows, now)
        finish_deletions(database, storage, paths)


def _check_size(database: Database, report: VerifyReport, repair: bool) -> None:
    with database.session(write=repair) as session:
        fact = session.get(Fact, BYTES, with_for_update=repair)
        total = session.scalar(sa.select(sa.func.coalesce(sa.func.sum(Sample.bytes), 0))) or 0
        if fact is not None and fact.number != total:
            report.wrong_size = True
            if repair:
                fact.number = int(total)
