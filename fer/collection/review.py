"""The review queue: which face is next, for whom, and what its operator decided.

Knows nothing of any page. Every method is one transaction. Faces are leased while they are in
somebody's hands, those fetched ahead included, so that two operators never get the same one;
a lease only keeps others away, a decision counts by the row's version.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import sqlalchemy as sa
from sqlalchemy.orm import Session

from fer.collection.database import Database
from fer.collection.decisions import (
    Context,
    Decision,
    check_unchanged,
    decide,
    go_back,
    is_blind,
    lock_rows,
    new_batch,
    state_before,
)
from fer.collection.queues import LEASE, Order, next_rows
from fer.collection.samples import Clock, retention_of, utc_now
from fer.collection.states import State
from fer.collection.tables import DECISIONS, ActorKind, Kind, LabelEvent, Operator, Sample
from fer.collection.views import EventView, SampleView
from fer.config import Settings
from fer.errors import CollectionError, FerError, OperatorError, UnknownSampleError

__all__ = ["LEASE", "Order", "Outcome", "ReviewQueue", "Undone"]

#: Most faces handed out at once, and most that one decision takes.
MAX_AHEAD = 50
MAX_BATCH = 1000


@dataclass(frozen=True)
class Outcome:
    """What became of one row of a decision over several.

    Attributes:
        event: the event, or None where it was refused.
        error: why it was refused, or None.
    """

    sample_id: str
    event: EventView | None
    error: FerError | None = None


@dataclass(frozen=True)
class Undone:
    """What an undo took back.

    Attributes:
        samples: as they are now, leased to the operator again; empty at the sitting's start.
        events: the events that the undo wrote.
        skipped: ids passed over, because others changed them since or they were deleted.
    """

    samples: list[SampleView]
    events: list[EventView]
    skipped: list[str]


class ReviewQueue:
    """Hands out faces and takes decisions. Safe from several threads and processes.

    Args:
        database: migrated already.
        settings: second-opinion share and retention count.
        clock: the time now, in UTC.
    """

    def __init__(self, database: Database, settings: Settings, clock: Clock = utc_now) -> None:
        self.database = database
        self.settings = settings
        self.clock = clock
        self.retention = retention_of(settings)

    # Handing out

    def next(self, operator: str, order: str = Order.UNCERTAIN, count: int = 1) -> list[SampleView]:
        """Lease the next faces to an operator, in the order to show them.

        Every fifth is a random one of the audit slice and every tenth a second opinion, both
        blind, as long as there are any; they also come where the chosen order has no more.
        The order `differences` hands out nothing else.

        Args:
            order: one of `Order`.
            count: 1 to `MAX_AHEAD`; fewer come where there are no more.

        Raises:
            OperatorError: there is no such operator, or no such order.
        """
        if order not in set(Order):
            raise OperatorError(f"{order!r} is no order: {', '.join(Order)}.")
        count = max(1, min(count, MAX_AHEAD))
        with self.database.session(write=True) as session:
            account = session.get(Operator, operator, with_for_update=True)
            if account is None:
                raise OperatorError(f"There is no operator {operator!r}.", name=operator)
            rows = next_rows(session, account, order, count, self.clock())
            until = self.clock() + LEASE
            for row in rows:
                row.lease_by, row.lease_until = operator, until
            session.flush()
            return [SampleView.of(row, blind=is_blind(row, operator)) for row in rows]

    def renew(self, operator: str, sample_ids: Iterable[str]) -> list[str]:
        """Extend leases; the ids that the operator still holds, also after a lease ran out."""
        now = self.clock()
        with self.database.session(write=True) as session:
            rows = lock_rows(session, sample_ids)
            held = [row for row in rows.values() if row.lease_by == operator]
            for row in held:
                row.lease_until = now + LEASE
            return [row.id for row in held]

    def free(self, operator: str, sample_ids: Iterable[str]) -> int:
        """Give leases back, as on leaving the page; how many there were."""
        with self.database.session(write=True) as session:
            rows = lock_rows(session, sample_ids)
            held = [row for row in rows.values() if row.lease_by == operator]
            for row in held:
                row.lease_by = row.lease_until = None
            return len(held)

    # Deciding

    def decide(
        self,
        sample_id: str,
        operator: str,
        kind: str,
        *,
        row_version: int,
        label: str | None = None,
        text: str | None = None,
        labels: Sequence[str] | None = None,
        order: str | None = None,
        sitting: str | None = None,
    ) -> EventView:
        """Take one decision.

        It counts whether or not the operator still holds the lease, if nobody else decided.

        Args:
            kind: confirm, relabel (with `label`), other (with `text`), reject, unsure.
            row_version: of the view that the operator decided on.
            labels: labels of the sitting, where they differ from the model's that read the face.
            order, sitting: noted with the event; undo goes back within one sitting.

        Raises:
            DecisionConflictError: the sample changed meanwhile; `details` say how.
            UnknownSampleError: no such sample.
            LabelError: the decision makes no sense for it.
        """
        decision = Decision(kind, label, text, tuple(labels) if labels is not None else None)
        with self.database.session(write=True) as session:
            row = lock_rows(session, [sample_id]).get(sample_id)
            row = check_unchanged(row, sample_id, row_version)
            event = decide(session, row, decision, self._context(operator, order, sitting))
            return EventView.of(event)

    def decide_many(
        self,
        items: Sequence[tuple[str, int]],
        operator: str,
        kind: str,
        *,
        label: str | None = None,
        text: str | None = None,
        labels: Sequence[str] | None = None,
        order: str | None = "grid",
        sitting: str | None = None,
    ) -> list[Outcome]:
        """Take one decision for several samples in one transaction.

        A row that cannot take it is reported and does not hold the others up. One undo takes
        back all.

        Args:
            items: (sample id, row version) of each, up to `MAX_BATCH`.

        Raises:
            LabelError: the decision makes no sense for any sample.
            CollectionError: too many at once.
        """
        if len(items) > MAX_BATCH:
            raise CollectionError(f"Select up to {MAX_BATCH} faces at once.", limit=MAX_BATCH)
        decision = Decision(kind, label, text, tuple(labels) if labels is not None else None)
        context = replace(self._context(operator, order, sitting), batch=new_batch())
        outcomes = []
        with self.database.session(write=True) as session:
            rows = lock_rows(session, [sample_id for sample_id, _ in items])
            for sample_id, version in dict(items).items():
                try:
                    row = check_unchanged(rows.get(sample_id), sample_id, version)
                    event = decide(session, row, decision, context)
                except FerError as error:
                    outcomes.append(Outcome(sample_id, None, error))
                else:
                    outcomes.append(Outcome(sample_id, EventView.of(event)))
        return outcomes

    def undo(self, operator: str, sitting: str) -> Undone:
        """Take back the operator's last decision of this sitting that still stands.

        Called again and again it goes back to the sitting's start. What others changed since,
        or visitors deleted, is passed over and named.
        """
        skipped: list[str] = []
        context = self._context(operator, "undo", sitting)
        with self.database.session(write=True) as session:
            for batch in self._undoable(session, operator, sitting):
                rows = lock_rows(session, [event.sample_id for event in batch])
                done = []
                for event in batch:
                    row = rows[event.sample_id]
                    if row.deleted_at is not None or row.row_version != event.row_version:
                        skipped.append(row.id)
                        continue
                    state = state_before(session, event)
                    done.append(go_back(session, row, state, context, Kind.UNDO, event.id))
                    row.lease_by, row.lease_until = operator, self.clock() + LEASE
                if done:
                    session.flush()
                    views = [
                        SampleView.of(
                            rows[e.sample_id], blind=is_blind(rows[e.sample_id], operator)
                        )
                        for e in done
                    ]
                    return Undone(views, [EventView.of(event) for event in done], skipped)
        return Undone([], [], skipped)

    def restore(self, sample_id: str, event_id: int | None, operator: str) -> EventView:
        """Put a sample back into the state after one of its events, by a new event.

        Args:
            event_id: the event, or None for the state in which the sample was kept.

        Raises:
            UnknownSampleError: no such sample, no such event of it, or it was deleted.
        """
        context = replace(self._context(operator, "history", None), actor_kind=ActorKind.RESTORE)
        with self.database.session(write=True) as session:
            row = lock_rows(session, [sample_id]).get(sample_id)
            if row is None or row.deleted_at is not None:
                raise UnknownSampleError(
                    f"There is no sample {sample_id!r} any more.", sample_id=sample_id
                )
            state = State()
            if event_id is not None:
                event = session.get(LabelEvent, event_id)
                if event is None or event.sample_id != sample_id:
                    raise UnknownSampleError(f"Sample {sample_id} has no event {event_id}.")
                state = State.from_json(event.state)
            written = go_back(session, row, state, context, Kind.RESTORE, event_id)
            return EventView.of(written)

    def history(self, sample_id: str) -> list[EventView]:
        """All label events of a sample, oldest first.

        Raises:
            UnknownSampleError: no such sample.
        """
        with self.database.session() as session:
            if session.get(Sample, sample_id) is None:
                raise UnknownSampleError(f"There is no sample {sample_id!r}.", sample_id=sample_id)
            rows = session.scalars(
                sa.select(LabelEvent)
                .where(LabelEvent.sample_id == sample_id)
                .order_by(LabelEvent.id)
            )
            return [EventView.of(row) for row in rows]

    # How it works

    @staticmethod
    def _undoable(session: Session, operator: str, sitting: str) -> Iterable[list[LabelEvent]]:
        """The operator's standing decisions of a sitting, newest first, batches together."""
        taken_back = sa.orm.aliased(LabelEvent)
        last: int | None = None
        while True:
            query = (
                sa.select(LabelEvent)
                .where(
                    LabelEvent.sitting == sitting,
                    LabelEvent.actor == operator,
                    LabelEvent.kind.in_(list(DECISIONS)),
                    ~sa.exists().where(
                        taken_back.undoes == LabelEvent.id, taken_back.kind == Kind.UNDO
                    ),
                )
                .order_by(LabelEvent.id.desc())
                .limit(1)
            )
            event = session.scalar(query.where(LabelEvent.id < last) if last else query)
            if event is None:
                return
            batch = [event]
            if event.batch is not None:
                batch = list(
                    session.scalars(query.where(LabelEvent.batch == event.batch).limit(MAX_BATCH))
                )
            last = min(entry.id for entry in batch)
            yield batch

    def _context(self, operator: str, order: str | None, sitting: str | None) -> Context:
        return Context(
            operator=operator,
            now=self.clock(),
            retention=self.retention,
            order=order,
            sitting=sitting,
            second_share=self.settings.second_opinion,
        )
