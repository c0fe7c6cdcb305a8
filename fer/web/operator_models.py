"""API for admins: which version serves, the runs so far, a run now."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends
from pydantic import Field

from fer.collection.database import Database
from fer.collection.runs import runs
from fer.collection.tables import TrainingRun
from fer.errors import ModelError
from fer.registry import Registry
from fer.web.operator_grid import admin
from fer.web.operator_job import RetrainingJob
from fer.web.operator_queue import Body


class PromoteBody(Body):
    """The version that shall serve."""

    version: str = Field(max_length=80)


def model_routes(registry: Registry, database: Database, job: RetrainingJob) -> APIRouter:
    """The routes, for admins only."""
    router = APIRouter(prefix="/review/api", include_in_schema=False, dependencies=[Depends(admin)])

    @router.get("/models")
    def models() -> dict[str, Any]:
        champion = _champion(registry)
        history = registry.history()
        return {
            "champion": champion,
            "previous": history[-2] if len(history) > 1 else None,
            "can_roll_back": len(history) > 1,
            "versions": [
                _version(registry, version, champion) for version in reversed(registry.versions())
            ],
            "job": job.state(),
            "runs": [_run(run) for run in runs(database, limit=30)],
        }

    @router.post("/models/promote")
    def promote(body: PromoteBody) -> dict[str, Any]:
        registry.promote(body.version)
        return {"champion": registry.champion()}

    @router.post("/models/rollback")
    def rollback(body: Body) -> dict[str, Any]:
        return {"champion": registry.rollback()}

    @router.post("/retrain", status_code=202)
    def retrain(body: Body) -> dict[str, Any]:
        job.start()
        return job.state()

    return router


def _champion(registry: Registry) -> str | None:
    try:
        return registry.champion()
    except ModelError:
        return None


def _version(registry: Registry, version: str, champion: str | None) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "version": version,
        "champion": version == champion,
        "is_default": version == registry.default(),
        "labels": None,
        "accuracy": None,
        "created_at": None,
        "problem": None,
    }
    try:
        manifest = registry.manifest(version)
    except ModelError as error:
        return {**answer, "problem": error.message}
    figures = manifest.metrics.get("test", manifest.metrics)
    accuracy = figures.get("accuracy") if isinstance(figures, dict) else None
    return {
        **answer,
        "labels": list(manifest.labels),
        "accuracy": accuracy if isinstance(accuracy, int | float) else None,
        "created_at": manifest.created_at.isoformat(),
    }


def _run(run: TrainingRun) -> dict[str, Any]:
    return {
        "id": run.id,
        "started_at": run.started_at.isoformat(),
        "ended_at": run.ended_at.isoformat() if run.ended_at else None,
        "outcome": run.outcome,
        "reason": run.reason,
        "champion": run.champion,
        "challenger": run.challenger,
        **_curves(run.metrics),
    }


def _curves(metrics: object) -> dict[str, list[Any]]:
    """Loss after each round, of the challenger and of each fold; empty where none was trained."""
    found = metrics if isinstance(metrics, dict) else {}
    return {name: list(found.get(name) or []) for name in ("curve", "fold_curves")}
