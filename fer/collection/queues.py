"""Which faces come next: each order is one walk along one index, whatever the table's size."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from fer.collection.tables import Operator, Sample, Waiting

#: Every fifth face comes from the audit slice, every tenth is a second opinion.
_AUDIT_EVERY = 5
_SECOND_EVERY = 10
_SECOND_AT = 3


#: How long a face stays in somebody's hands without a sign of life.
LEASE = timedelta(minutes=2)


class Order(StrEnum):
    """Which face comes next."""

    UNCERTAIN = "uncertain"
    RAREST = "rarest"
    DISAGREED = "disagreed"
    LABEL_ERROR = "label_error"
    NEWEST = "newest"
    DIFFERENCES = "differences"


#: What each order of the main queue goes by; the newest of equals comes first.
_KEYS: dict[str, tuple[sa.ColumnElement[Any], ...]] = {
    Order.UNCERTAIN.value: (Sample.uncertainty.desc(),),
    Order.RAREST.value: (Sample.rarity.desc(), Sample.uncertainty.desc()),
    Order.DISAGREED.value: (Sample.visitor_disagreed.desc(), Sample.uncertainty.desc()),
    Order.NEWEST.value: (),
}


def next_rows(
    session: Session, account: Operator, order: str, count: int, now: datetime
) -> list[Sample]:
    """Up to `count` rows that nobody holds, in the order to show them, locked.

    Args:
        account: the operator's locked row, whose `handed_out` is carried on.
        now: leases that ended before do not count.
    """
    if order == Order.DIFFERENCES:
        query = _free_rows(now).where(Sample.queue == Waiting.DIFFERENCES)
        return _limited(session, query.order_by(Sample.id), count)
    slots = [_slot(account.handed_out + position) for position in range(1, count + 1)]
    wanted = Counter(slots)
    second = _second(session, account.name, wanted[Waiting.SECOND], now)
    audit = _audit(session, wanted[Waiting.AUDIT], now)
    main = _main(session, order, count - len(second) - len(audit), now)
    # Where one of the three has no more, the others fill up.
    missing = count - len(second) - len(audit) - len(main)
    if missing > 0:
        second += _second(session, account.name, missing, now, second)
        missing = count - len(second) - len(audit) - len(main)
    if missing > 0:
        audit += _audit(session, missing, now, audit)
    piles = {Waiting.AUDIT: audit, Waiting.SECOND: second, Waiting.MAIN: main}
    rows = []
    for slot in slots:
        pile = piles[slot] or main or second or audit
        if pile:
            rows.append(pile.pop(0))
    account.handed_out += len(rows)
    return rows


def _slot(number: int) -> Waiting:
    if number % _AUDIT_EVERY == 0:
        return Waiting.AUDIT
    return Waiting.SECOND if number % _SECOND_EVERY == _SECOND_AT else Waiting.MAIN


def _main(session: Session, order: str, count: int, now: datetime) -> list[Sample]:
    query = _free_rows(now)
    if order == Order.LABEL_ERROR:
        query = query.where(Sample.label_error.is_not(None)).order_by(
            Sample.label_error.desc(), Sample.id.desc()
        )
    else:
        query = query.where(Sample.queue == Waiting.MAIN).order_by(*_KEYS[order], Sample.id.desc())
    return _limited(session, query, count)


def _audit(session: Session, count: int, now: datetime, but: Sequence[Sample] = ()) -> list[Sample]:
    query = _free_rows(now, but).where(Sample.queue == Waiting.AUDIT)
    return _limited(session, query.order_by(Sample.random_key, Sample.id), count)


def _second(
    session: Session, operator: str, count: int, now: datetime, but: Sequence[Sample] = ()
) -> list[Sample]:
    """Faces that somebody else decided: two ranges of one index instead of an inequality."""
    rows: list[Sample] = []
    for others in (Sample.decided_by < operator, Sample.decided_by > operator):
        query = _free_rows(now, but).where(Sample.queue == Waiting.SECOND, others)
        query = query.order_by(Sample.decided_by, Sample.id)
        rows += _limited(session, query, count - len(rows))
    return rows


def _free_rows(now: datetime, but: Sequence[Sample] = ()) -> sa.Select[Sample]:
    free = sa.or_(
        Sample.lease_until.is_(None),
        Sample.lease_until < now,
        # Longer than any lease: the clock was set back, and would keep the face from everybody.
        Sample.lease_until > now + LEASE,
    )
    query = sa.select(Sample).where(free)
    return query.where(Sample.id.not_in([row.id for row in but])) if but else query


def _limited(session: Session, query: sa.Select[Sample], count: int) -> list[Sample]:
    if count <= 0:
        return []
    # PostgreSQL passes over rows that another operator is being handed at this moment.
    return list(session.scalars(query.limit(count).with_for_update(skip_locked=True)))
