"""How long an operator waits for the next twenty faces, whatever the size of the collection.

    python benchmarks/review_queue.py --rows 1000000 [--database URL] [--json]

Makes a collection without pictures (a temporary SQLite file, or an empty database at URL), then
hands out the next twenty in every order, again and again, deciding some in between, and prints
the 50th, 95th and 99th percentile in milliseconds. With --reuse a database made earlier is used.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa

from fer.collection.database import Database
from fer.collection.grid import GridFilter, grid_page
from fer.collection.review import Order, ReviewQueue
from fer.collection.tables import Base, Operator, Sample
from fer.config import Settings

LABELS = ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")
#: Share of the predicted classes, as the page sees them: far from balanced.
SHARES = (0.12, 0.02, 0.08, 0.35, 0.25, 0.12, 0.06)
OPERATORS = ("ana", "ben", "cid", "dora")
CHUNK = 5000


def rows(start: int, count: int, total: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    """`count` rows as a year of visitors would leave them: 60 % pending, 20 % in the audit."""
    made = []
    begin = datetime(2025, 1, 1, tzinfo=UTC)
    for number in range(start, start + count):
        created = begin + timedelta(days=365) * (number / total)
        label = LABELS[rng.choice(len(LABELS), p=SHARES)]
        confidence = float(rng.uniform(0.25, 1.0))
        audit = bool(rng.random() < 0.2)
        decided = bool(rng.random() < 0.4)
        second = decided and bool(rng.random() < 0.1)
        final = label if rng.random() < 0.7 else LABELS[rng.integers(len(LABELS))]
        visitor = LABELS[rng.integers(len(LABELS))] if rng.random() < 0.2 else None
        waiting = ("second" if second else None) if decided else ("audit" if audit else "main")
        rest = (1 - confidence) / (len(LABELS) - 1)
        made.append(
            {
                "id": f"{int(created.timestamp() * 1000):012x}{rng.bytes(10).hex()}",
                "created_at": created,
                "request_id": None,
                "group_id": f"{number // 3:032x}",
                "receipt_hash": rng.bytes(32).hex(),
                "source": "page",
                "notice_version": "1",
                "audit": audit,
                "random_key": int(rng.integers(2**62)),
                "path": f"{label}/{number}.jpg",
                "bytes": 20_000,
                "sha256": rng.bytes(32).hex(),
                "phash": rng.bytes(32).hex(),
                "width": 300,
                "height": 300,
                "face_box": [50.0, 50.0, 200.0, 200.0],
                "roll": 1.5,
                "detector_score": 0.9,
                "face_px": 200,
                "sharpness": 100.0,
                "model_version": "20250101T000000Z-benchmark",
                "predicted_label": label,
                "confidence": confidence,
                "margin": confidence - rest,
                "probabilities": {n: confidence if n == label else rest for n in LABELS},
                "visitor_label": visitor,
                "visitor_disagreed": visitor not in (None, label),
                "status": ("confirmed" if final == label else "relabelled")
                if decided
                else "pending",
                "final_label": final if decided else None,
                "decided_at": created + timedelta(hours=1) if decided else None,
                "decided_by": OPERATORS[rng.integers(len(OPERATORS))] if decided else None,
                "row_version": 2 if decided else 1,
                "expires_at": created + timedelta(days=800),
                "queue": waiting,
                "uncertainty": 1 - confidence,
                "rarity": 1 - SHARES[LABELS.index(label)],
                "label_error": float(rng.random()) if decided and rng.random() < 0.02 else None,
                "label_error_checked": False,
                "opinion": "wanted" if second else "none",
            }
        )
    return made


def fill(database: Database, total: int) -> None:
    """Make the rows and the operators."""
    rng = np.random.default_rng(7)
    with database.session(write=True) as session:
        for name in OPERATORS:
            session.add(
                Operator(
                    name=name,
                    password_hash="-",
                    role="reviewer",
                    created_at=datetime.now(UTC),
                    session_epoch=1,
                    handed_out=0,
                )
            )
    # Without their indexes a million rows are in within minutes; they are made at the end.
    indexes = sorted(Base.metadata.tables["samples"].indexes, key=lambda index: str(index.name))
    with database.engine.begin() as connection:
        for index in indexes:
            index.drop(connection)
    for start in range(0, total, CHUNK):
        with database.session(write=True) as session:
            made = rows(start, min(CHUNK, total - start), total, rng)
            session.execute(sa.insert(Sample), made)
        if sys.stderr.isatty():
            print(f"\r{start + CHUNK:,} rows", end="", file=sys.stderr)
    with database.engine.begin() as connection:
        for index in indexes:
            index.create(connection)
    with database.engine.connect() as connection:
        # What autovacuum, or `PRAGMA optimize`, does in a running collection.
        connection.exec_driver_sql("ANALYZE")
        connection.commit()


def percentiles(seconds: list[float]) -> dict[str, float]:
    """50th, 95th and 99th percentile and maximum, in milliseconds."""
    values = np.array(seconds) * 1000
    p50, p95, p99 = np.percentile(values, [50, 95, 99])
    named = {"p50": p50, "p95": p95, "p99": p99, "max": values.max()}
    return {name: round(float(value), 2) for name, value in named.items()}


def measure(database: Database, repeats: int) -> dict[str, dict[str, float]]:
    """Percentiles of "next twenty" by order, of a decision, and of a page of the grid."""
    settings = Settings(_env_file=None, second_opinion=0.1)
    now = [datetime(2026, 2, 1, tzinfo=UTC)]
    queue = ReviewQueue(database, settings, lambda: now[0])
    pick = random.Random(7)
    result: dict[str, dict[str, float]] = {}
    deciding = []
    for order in Order:
        times = []
        for turn in range(repeats):
            operator = OPERATORS[turn % len(OPERATORS)]
            begin = time.perf_counter()
            views = queue.next(operator, order, 20)
            times.append(time.perf_counter() - begin)
            now[0] += timedelta(seconds=5)
            for view in pick.sample(views, min(2, len(views))):
                begin = time.perf_counter()
                queue.decide(
                    view.id, operator, "relabel", label="sad", row_version=view.row_version
                )
                deciding.append(time.perf_counter() - begin)
        result[f"next_twenty_{order}"] = percentiles(times)
    result["decide"] = percentiles(deciding)
    times = []
    for label in LABELS:
        begin = time.perf_counter()
        grid_page(database, GridFilter(status="pending", predicted_label=label))
        times.append(time.perf_counter() - begin)
    result["grid_page"] = percentiles(times)
    return result


def main() -> None:
    """Make, measure, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--database", help="SQLAlchemy URL of an empty database")
    parser.add_argument("--reuse", action="store_true", help="the database has its rows already")
    parser.add_argument("--repeats", type=int, default=100)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        database = Database(given.database or f"sqlite:///{Path(folder) / 'fer.db'}")
        database.migrate()
        begin = time.perf_counter()
        if not given.reuse:
            fill(database, given.rows)
        filled = time.perf_counter() - begin
        report = {
            "rows": given.rows,
            "database": database.url.get_backend_name(),
            "fill_seconds": round(filled, 1),
            "milliseconds": measure(database, given.repeats),
        }
        database.close()
    if given.json:
        print(json.dumps(report))
        return
    print(f"{report['rows']:,} rows, {report['database']}")
    for name, values in report["milliseconds"].items():
        print(f"{name:26}" + "  ".join(f"{key} {value:8.2f}" for key, value in values.items()))


if __name__ == "__main__":
    main()
