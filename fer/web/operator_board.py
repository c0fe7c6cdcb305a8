"""API of the board: what `fer.collection.statistics` counts, as the page draws it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from fastapi import APIRouter

from fer.collection.drift import BEFORE_DAYS, FEWEST_SESSIONS, RECENT_DAYS, Drift, DriftWatch
from fer.collection.operator_sessions import SignedIn
from fer.collection.runs import runs
from fer.collection.samples import SampleStore, utc_now
from fer.collection.statistics import Board, Confusion, board
from fer.collection.tables import Status
from fer.errors import ModelError
from fer.web.operator_queue import Who
from fer.web.operator_views import Models

#: Days that the board goes back.
DAYS = 30

#: New decisions without which a run is skipped (`fer.learning.job.Options.min_new`).
FEWEST = 50

#: Share of `FER_MAX_COLLECTED_MB` from which the board warns.
NEARLY_FULL = 0.9

#: A kept face seldom has more bytes: with less room than this, saving stops for most.
_ONE_FACE = 100_000


def board_routes(
    store: SampleStore, models: Models, warnings: Callable[[], list[str]]
) -> APIRouter:
    """The route `/review/api/board`."""
    router = APIRouter(prefix="/review/api", include_in_schema=False)
    watch = DriftWatch(store.database, store.settings.retention_days, store.clock)

    @router.get("/board")
    def show(who: Who) -> dict[str, Any]:
        now = utc_now()
        found = board(store.database, now, DAYS)
        size = store.size_bytes()
        return {
            **board_json(found, who, models, now),
            "size_mb": size / 1e6,
            "limit_mb": store.settings.max_collected_mb,
            "fill": fill(size, store.settings.max_collected_mb),
            "warnings": warnings(),
            "drift": drift_json(watch()),
            "retraining": _retraining(store, found.new_decisions),
        }

    return router


def board_json(found: Board, who: SignedIn, models: Models, now: datetime) -> dict[str, Any]:
    """The board; reviewers see everybody's pace and only their own name."""
    champion = models.champion()["version"]
    versions = dict.fromkeys([*found.accuracy, *found.confusion])
    versions.pop("", None)
    ordered = sorted(versions, key=lambda version: (version == champion, version), reverse=True)
    totals = {str(status): found.status.get(status, 0) for status in Status}
    there = sum(count for status, count in found.status.items() if status != Status.DELETED)
    return {
        "totals": {**totals, "collected": there},
        "by_day": _days(found, now),
        "models": [_model(found, models, version, champion) for version in ordered],
        "operators": [
            {
                "name": name if who.is_admin or name == who.name else None,
                "me": name == who.name,
                "labels": count,
                "per_minute": found.pace.get(name),
            }
            for name, count in sorted(found.decisions.items(), key=lambda item: -item[1])
        ],
        "kappa": {
            "kappa": found.kappa,
            "n": found.pairs,
            "agreement": 1 - found.differences / found.pairs if found.pairs else None,
        },
    }


def fill(size: int, limit_mb: float) -> str | None:
    """`full` where no further face fits, `nearly` from 90 % of the limit on, else None."""
    limit = limit_mb * 1_000_000
    if size + _ONE_FACE > limit:
        return "full"
    return "nearly" if size >= NEARLY_FULL * limit else None


def drift_json(found: Drift) -> dict[str, Any]:
    """The drift as the page words it; without the English sentence."""
    answer = found.to_json()
    answer.pop("sentence")
    return {
        **answer,
        "recent_days": RECENT_DAYS,
        "before_days": BEFORE_DAYS,
        "needed": FEWEST_SESSIONS,
    }


def _days(found: Board, now: datetime) -> list[dict[str, Any]]:
    kinds = [str(status) for status in Status if status not in (Status.PENDING, Status.DELETED)]
    first = min(found.by_day, default=now.date())
    # A collection that began this week fills the plot too, if with empty days before it.
    length = min(DAYS, max(14, (now.date() - first).days + 1))
    days = [now.date() - timedelta(days=back) for back in reversed(range(length))]
    return [
        {
            "day": day.isoformat(),
            **{name: found.by_day.get(day, {}).get(name, 0) for name in ["collected", *kinds]},
        }
        for day in days
    ]


def _model(found: Board, models: Models, version: str, champion: str | None) -> dict[str, Any]:
    answer: dict[str, Any] = {"version": version, "champion": version == champion}
    share = found.accuracy.get(version)
    if share is not None and share.value is not None:
        answer["accuracy"] = {
            "accuracy": share.value,
            "low": share.low,
            "high": share.high,
            "n": share.n,
        }
    confusion = found.confusion.get(version)
    if confusion is not None:
        answer |= confusion_json(confusion, models)
    return answer


def confusion_json(confusion: Confusion, models: Models) -> dict[str, Any]:
    """Rows are the model's labels in its order, columns those and then what else was given."""
    try:
        own = models.labels(confusion.model)
    except ModelError:
        own = None
    rows = list(own) if own is not None else [
        label for label, counts in zip(confusion.labels, confusion.counts, strict=True)
        if sum(counts)
    ]  # fmt: skip
    columns = [*rows, *(label for label in confusion.labels if label not in rows)]
    place = {label: index for index, label in enumerate(confusion.labels)}

    def count(row: str, column: str) -> int:
        if row not in place or column not in place:
            return 0
        return confusion.counts[place[row]][place[column]]

    matrix = [[count(row, column) for column in columns] for row in rows]
    return {
        "labels": rows,
        "columns": columns,
        "matrix": matrix,
        "per_class": [
            {
                "label": label,
                "precision": confusion.precision.get(label),
                "recall": confusion.recall.get(label),
                "n": sum(row[index] for row in matrix),
            }
            for index, label in enumerate(rows)
        ],
    }


def _retraining(store: SampleStore, have: int) -> dict[str, Any]:
    last = next(iter(runs(store.database, limit=1)), None)
    missing = more_needed(last.metrics) if last is not None else None
    return {
        "have": have,
        "needed": max(missing or 0, FEWEST),
        "last": last.started_at.isoformat() if last is not None else None,
    }


def more_needed(metrics: object) -> int | None:
    """How many more decisions the last run's verdict asked for; None where it asked for none."""
    if isinstance(metrics, dict):
        own = metrics.get("more_needed")
        if isinstance(own, int) and own > 0:
            return own
        metrics = list(metrics.values())
    if isinstance(metrics, list):
        return next((n for n in map(more_needed, metrics) if n is not None), None)
    return None
