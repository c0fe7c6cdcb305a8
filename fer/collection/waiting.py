"""How many samples wait in each queue."""

from __future__ import annotations

import sqlalchemy as sa

from fer.collection.database import Database
from fer.collection.queues import Order
from fer.collection.tables import Sample, Waiting


def waiting(database: Database) -> dict[str, int]:
    """Counts by queue, and under `label_error` the suspected label errors.

    Raises:
        StorageError: the database cannot be reached.
    """
    by_queue = (
        sa.select(Sample.queue, sa.func.count())
        .where(Sample.queue.in_(list(Waiting)))
        .group_by(Sample.queue)
    )
    suspected = sa.select(sa.func.count()).where(Sample.label_error.is_not(None))
    with database.session() as session:
        counts = {str(name): count for name, count in session.execute(by_queue)}
        counts["label_error"] = session.scalar(suspected) or 0
    return counts


def left_in(order: str, counts: dict[str, int]) -> int:
    """How many faces an order still has to hand out, those of others included."""
    if order == Order.DIFFERENCES:
        return counts.get(Waiting.DIFFERENCES, 0)
    main = counts.get("label_error" if order == Order.LABEL_ERROR else Waiting.MAIN, 0)
    return main + counts.get(Waiting.AUDIT, 0) + counts.get(Waiting.SECOND, 0)
