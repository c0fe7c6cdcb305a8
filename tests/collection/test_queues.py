"""The orders' speed does not depend on the table's size: each is one walk along one index."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from fer.collection.database import Database
from fer.collection.review import Order, ReviewQueue
from fer.collection.tables import Operator
from fer.config import Settings
from tests.collection.support import Clock

INDEX = {
    Order.UNCERTAIN: "ix_samples_queue_uncertainty",
    Order.RAREST: "ix_samples_queue_rarity",
    Order.DISAGREED: "ix_samples_queue_disagreed",
    Order.NEWEST: "ix_samples_queue_id",
    Order.LABEL_ERROR: "ix_samples_label_error",
    Order.DIFFERENCES: "ix_samples_queue_id",
}


@pytest.mark.parametrize("order", list(Order))
def test_no_order_sorts_or_scans(tmp_path: Path, clock: Clock, order: Order) -> None:
    database = Database(f"sqlite:///{tmp_path / 'fer.db'}")
    database.migrate()
    with database.session(write=True) as session:
        session.add(Operator(name="ana", password_hash="-", role="reviewer", created_at=clock.now))
    asked: list[tuple[str, Any]] = []

    def note(_c: object, _u: object, statement: str, values: Any, _x: object, _m: object) -> None:
        if statement.startswith("SELECT samples."):
            asked.append((statement, values))

    sa.event.listen(database.engine, "before_cursor_execute", note)
    ReviewQueue(database, Settings(_env_file=None), clock).next("ana", order, 20)
    sa.event.remove(database.engine, "before_cursor_execute", note)
    assert asked
    plans = []
    with database.engine.connect() as connection:
        for statement, values in asked:
            rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)
            plans.append("\n".join(str(row[-1]) for row in rows))
    assert not [plan for plan in plans if "TEMP B-TREE" in plan]
    assert all("USING INDEX" in plan for plan in plans), plans
    assert any(INDEX[order] in plan for plan in plans), plans
    database.close()
