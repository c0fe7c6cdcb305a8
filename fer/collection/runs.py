"""Training runs as the collection sees them: which ran, and what the next one has to go on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from fer.collection.database import Database
from fer.collection.samples import Clock, utc_now
from fer.collection.tables import LABELLED, ActorKind, Kind, LabelEvent, Sample, TrainingRun

#: Outcomes of runs that trained, whatever came of it.
TRAINED = ("promoted", "kept")


def start_run(database: Database, champion: str | None, clock: Clock = utc_now) -> int:
    """Record that a run begins; its number. It remembers up to which label event it looks."""
    with database.session(write=True) as session:
        run = TrainingRun(
            started_at=clock(),
            champion=champion,
            last_event_id=session.scalar(sa.select(sa.func.max(LabelEvent.id))) or 0,
        )
        session.add(run)
        session.flush()
        return run.id


def end_run(
    database: Database,
    run_id: int,
    outcome: str,
    reason: str,
    *,
    challenger: str | None = None,
    metrics: dict[str, Any] | None = None,
    sample_ids: Sequence[str] = (),
    clock: Clock = utc_now,
) -> None:
    """Record how a run ended: `promoted`, `kept`, `skipped` or `failed`."""
    with database.session(write=True) as session:
        run = session.get_one(TrainingRun, run_id, with_for_update=True)
        run.ended_at = clock()
        run.outcome = outcome
        run.reason = reason
        run.challenger = challenger
        run.metrics = metrics
        run.sample_ids = list(sample_ids)


def runs(database: Database, limit: int = 100) -> list[TrainingRun]:
    """The latest runs, newest first, detached from any session."""
    with database.session() as session:
        query = sa.select(TrainingRun).order_by(TrainingRun.id.desc()).limit(limit)
        return list(session.scalars(query))


def new_decisions(session: Session) -> int:
    """Samples that can be trained on and were decided since the last run that trained."""
    last = session.scalar(
        sa.select(sa.func.max(TrainingRun.last_event_id)).where(TrainingRun.outcome.in_(TRAINED))
    )
    # By the events' numbers, which no clock can set back.
    decided_since = (
        sa.select(LabelEvent.sample_id)
        .where(
            LabelEvent.id > (last or 0),
            LabelEvent.actor_kind != ActorKind.VISITOR,
            LabelEvent.kind != Kind.SUGGEST,
            LabelEvent.second.is_(False),
        )
        .distinct()
    )
    return (
        session.scalar(
            sa.select(sa.func.count()).where(
                Sample.id.in_(decided_since),
                Sample.status.in_(LABELLED),
                Sample.audit.is_(False),
            )
        )
        or 0
    )
