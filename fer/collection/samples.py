"""Keeping samples: a picture and its row, a visitor's opinion, deletion by receipt, expiry."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session

from fer.collection.database import Database
from fer.collection.deletion import BYTES, add_bytes, blank, finish_deletions
from fer.collection.identifiers import (
    GroupKey,
    new_receipt,
    new_sample_id,
    receipt_hash,
    share_of,
)
from fer.collection.newsample import NewSample, Receipt, new_row
from fer.collection.scores import rarity_of
from fer.collection.states import Retention, State, waiting_in
from fer.collection.storage import ImageStorage
from fer.collection.tables import ActorKind, Fact, Kind, LabelEvent, Sample
from fer.collection.verification import VerifyReport, verify
from fer.collection.views import EventView, SampleView
from fer.config import Settings
from fer.errors import StorageError, UnknownReceiptError, UnknownSampleError
from fer.labels import OTHER, LabelSet

#: Rows blanked in one transaction, so that expiry never holds others up for long.
_CHUNK = 200

__all__ = ["NewSample", "Receipt", "SampleStore", "apply_suggestion", "retention_of"]

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """The time now, in UTC."""
    return datetime.now(UTC)


class SampleStore:
    """Keeps samples. Safe from several threads and several processes.

    Args:
        database: migrated already.
        storage: where the pictures lie.
        settings: data folder, retention, audit share and size limit count.
        clock: the time now, in UTC.
    """

    def __init__(
        self,
        database: Database,
        storage: ImageStorage,
        settings: Settings,
        clock: Clock = utc_now,
    ) -> None:
        self.database = database
        self.storage = storage
        self.settings = settings
        self.clock = clock
        self.retention = retention_of(settings)
        self._groups = GroupKey(settings.data_dir.absolute())

    def group_id(self, session_cookie: str) -> str:
        """Name of a visitor's session, from which the session cannot be told.

        Raises:
            StorageError: the key file cannot be read or written.
        """
        return self._groups.group_id(session_cookie, self.clock())

    def keep(
        self,
        samples: Sequence[NewSample],
        *,
        group_id: str,
        within: Callable[[Session, list[Sample]], None] | None = None,
    ) -> Receipt:
        """Keep all of `samples`, or none.

        The pictures are on the disk before the rows are, so that a row always has its picture;
        what a crash leaves in between, `verify` finds.

        Args:
            group_id: what `group_id` gave for the visitor's session.
            within: called with the new rows in the same transaction.

        Raises:
            StorageError: disk or database refused, or the collection is full; nothing is kept.
        """
        if not samples:
            raise ValueError("there is nothing to keep")
        now = self.clock()
        code = new_receipt()
        # Within one millisecond ids are random: sorted, they keep the order of the faces.
        ids = sorted(new_sample_id(now) for _ in samples)
        rows = [
            new_row(sample, sample_id, group_id, receipt_hash(code), now, self.retention)
            for sample, sample_id in zip(samples, ids, strict=True)
        ]
        size = sum(len(sample.jpeg) for sample in samples)
        self._check_room(size)
        paths = [str(row.path) for row in rows]
        with self.storage.writing():
            try:
                for path, sample in zip(paths, samples, strict=True):
                    self.storage.write(path, sample.jpeg)
                with self.database.session(write=True) as session:
                    self._insert(session, rows)
                    if within is not None:
                        within(session, rows)
                    session.flush()
                    add_bytes(session, size)
            except BaseException as error:
                if not self._kept_after_all(error, ids, paths):
                    raise
        return Receipt(code, ids)

    def suggest(self, receipt: str, label: str, sample_id: str | None = None) -> None:
        """Note a visitor's opinion about a kept face: a label of that model's, or `other`.

        Raises:
            UnknownReceiptError: nothing is kept under that receipt.
            UnknownSampleError: `sample_id` is not of this receipt, or is needed and missing.
            LabelError: the label is none of the model's that read the face.
            StorageError: the database refused.
        """
        with self.database.session(write=True) as session:
            rows = self._of_receipt(session, receipt)
            if sample_id is None and len(rows) > 1:
                raise UnknownSampleError("This receipt has several faces: say which one is meant.")
            chosen = [row for row in rows if sample_id in (None, row.id)]
            if not chosen:
                raise UnknownSampleError("This receipt has no such face.", sample_id=sample_id)
            apply_suggestion(session, chosen[0], label, self.clock())

    def forget(self, receipt: str) -> int:
        """Delete what is kept under a receipt: files gone, rows blanked; returns how many.

        Raises:
            UnknownReceiptError: nothing is kept under that receipt.
            StorageError: the database refused, and nothing changed; or the disk did, and the
                rows are blanked while the files go as soon as it allows.
        """
        with self.database.session(write=True) as session:
            rows = self._of_receipt(session, receipt)
            paths = blank(session, rows, self.clock())
        finish_deletions(self.database, self.storage, paths)
        return len(rows)

    def delete(self, sample_ids: Sequence[str]) -> int:
        """Delete samples by id, as `forget` does; returns how many were not deleted yet.

        Raises:
            StorageError: as for `forget`.
        """
        count = 0
        for start in range(0, len(sample_ids), _CHUNK):
            with self.database.session(write=True) as session:
                rows = session.scalars(
                    sa.select(Sample)
                    .where(Sample.id.in_(sample_ids[start : start + _CHUNK]))
                    .where(Sample.deleted_at.is_(None))
                    .order_by(Sample.id)
                    .with_for_update()
                ).all()
                paths = blank(session, rows, self.clock())
            finish_deletions(self.database, self.storage, paths)
            count += len(rows)
        return count

    def expire(self, now: datetime | None = None, dry_run: bool = False) -> int:
        """Delete samples whose time is over, and finish interrupted deletions; returns how many.

        Copies of the database from before old upgrades go too: they hold such samples' rows.

        Raises:
            StorageError: as for `forget`.
        """
        moment = now or self.clock()
        over = sa.and_(Sample.expires_at.is_not(None), Sample.expires_at <= moment)
        if dry_run:
            with self.database.session() as session:
                return session.scalar(sa.select(sa.func.count()).where(over)) or 0
        finish_deletions(self.database, self.storage)
        count = 0
        while True:
            with self.database.session(write=True) as session:
                rows = session.scalars(
                    sa.select(Sample).where(over).limit(_CHUNK).with_for_update(skip_locked=True)
                ).all()
                paths = blank(session, rows, moment)
            finish_deletions(self.database, self.storage, paths)
            count += len(rows)
            if len(rows) < _CHUNK:
                break
        self.database.drop_copies(moment - timedelta(days=self.settings.retention_days))
        return count

    def verify(self, repair: bool = False) -> VerifyReport:
        """Compare every row with its file, and mend what can be mended; see `verification`."""
        return verify(self.database, self.storage, self.clock(), repair=repair)

    def get(self, sample_id: str) -> SampleView:
        """One sample.

        Raises:
            UnknownSampleError: no such id.
        """
        with self.database.session() as session:
            row = session.get(Sample, sample_id)
            if row is None:
                raise UnknownSampleError(f"There is no sample {sample_id!r}.", sample_id=sample_id)
            return SampleView.of(row)

    def of_receipt(self, receipt: str) -> list[SampleView]:
        """What is kept under a receipt.

        Raises:
            UnknownReceiptError: nothing is.
        """
        with self.database.session() as session:
            return [SampleView.of(row) for row in self._of_receipt(session, receipt, lock=False)]

    def events(self, sample_id: str) -> list[EventView]:
        """All label events of a sample, oldest first."""
        with self.database.session() as session:
            rows = session.scalars(
                sa.select(LabelEvent)
                .where(LabelEvent.sample_id == sample_id)
                .order_by(LabelEvent.id)
            )
            return [EventView.of(row) for row in rows]

    def picture(self, sample_id: str) -> bytes:
        """The kept picture's JPEG.

        Raises:
            UnknownSampleError: no such sample, or it was deleted.
            StorageError: the disk refused.
        """
        path = self.get(sample_id).path
        if path is not None:
            try:
                return self.storage.read(path)
            except FileNotFoundError:
                pass
        raise UnknownSampleError(f"Sample {sample_id} has no picture.", sample_id=sample_id)

    def size_bytes(self) -> int:
        """Size of the kept pictures and of SQLite's files, without walking the folder."""
        with self.database.session() as session:
            total = session.scalar(sa.select(Fact.number).where(Fact.name == BYTES)) or 0
        path = self.database.path
        if path is not None:
            for suffix in ("", "-wal"):
                file = path.with_name(path.name + suffix)
                total += file.stat().st_size if file.exists() else 0
        return total

    # How keeping works

    def _check_room(self, size: int) -> None:
        limit = self.settings.max_collected_mb
        if self.size_bytes() + size > limit * 1_000_000:
            raise StorageError(
                f"The collection is full ({limit:,.0f} MB): the picture was not kept.",
                reason="full",
                limit_mb=limit,
            )

    def _insert(self, session: Session, rows: list[Sample]) -> None:
        if not self.database.is_sqlite:
            # Two keepers of the same bytes must see each other; SQLite has one writer anyway.
            for number in sorted(int(str(row.sha256)[:15], 16) for row in rows):
                session.execute(sa.select(sa.func.pg_advisory_xact_lock(number)))
        shares = session.scalar(sa.select(Fact.value).where(Fact.name == "class_shares"))
        for row in rows:
            copy = session.execute(
                sa.select(Sample.group_id, Sample.audit)
                .where(Sample.sha256 == row.sha256, Sample.group_id.is_not(None))
                .order_by(Sample.id)
                .limit(1)
            ).first()
            if copy is not None:
                row.group_id, row.audit = copy
            else:
                # Whoever changes FER_AUDIT_SHARE must not part a group that exists already.
                known = session.scalar(
                    sa.select(Sample.audit).where(Sample.group_id == row.group_id).limit(1)
                )
                own = share_of("audit", str(row.group_id)) < self.settings.audit_share
                row.audit = own if known is None else known
            row.queue = waiting_in(row)
            row.rarity = rarity_of(str(row.predicted_label), shares or {})
            session.add(row)
            session.flush()

    def _kept_after_all(self, error: BaseException, ids: list[str], paths: list[str]) -> bool:
        """Clean up after a failed `keep`; True when the rows were committed all the same."""
        if isinstance(error, StorageError) and error.details.get("unknown"):
            # The connection broke during the commit. Whether it went through, only asking tells;
            # while nobody answers, the files stay: `verify` removes them if no row has them.
            try:
                with self.database.session() as session:
                    found = session.scalars(sa.select(Sample.id).where(Sample.id.in_(ids))).all()
            except StorageError:
                return False
            if len(found) == len(ids):
                return True
        for path in paths:
            try:
                self.storage.delete(path)
            except StorageError:
                continue
        return False

    @staticmethod
    def _of_receipt(session: Session, receipt: str, *, lock: bool = True) -> Sequence[Sample]:
        query = (
            sa.select(Sample)
            .where(Sample.receipt_hash == receipt_hash(receipt))
            .order_by(Sample.id)
        )
        rows = session.scalars(query.with_for_update() if lock else query).all()
        if not rows:
            raise UnknownReceiptError(
                "Nothing is kept under this receipt; it may have been deleted already."
            )
        return rows


def retention_of(settings: Settings) -> Retention:
    """How long samples are kept, from the settings."""
    return Retention(
        undecided=timedelta(days=settings.retention_days),
        decided=timedelta(days=settings.retention_reviewed_days),
    )


def apply_suggestion(
    session: Session,
    row: Sample,
    label: str,
    now: datetime,
    actor: str = "visitor",
    actor_kind: ActorKind = ActorKind.VISITOR,
) -> None:
    """Note an opinion about a row that the session holds; the row version stays.

    An operator's decision stays valid when a visitor changes an opinion meanwhile: the operator
    looks at the face, and in the audit slice does not see the opinion at all.

    Raises:
        LabelError: the label is none of the model's that read the face, nor `other`.
    """
    labels = LabelSet(row.probabilities or ())
    chosen = OTHER if label.casefold() == OTHER and label not in labels else labels.spelling(label)
    session.add(
        LabelEvent(
            sample_id=row.id,
            at=now,
            actor=actor,
            actor_kind=actor_kind,
            kind=Kind.SUGGEST,
            from_label=row.visitor_label or row.predicted_label,
            to_label=chosen,
            row_version=row.row_version,
            state=State.of(row).to_json(),
        )
    )
    row.visitor_label = chosen
    row.visitor_disagreed = chosen != row.predicted_label
