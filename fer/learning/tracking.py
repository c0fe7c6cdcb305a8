"""Trainings in MLflow, where `MLFLOW_TRACKING_URI` says so; the run folder stays the truth.

Parameters, the curves as they grow, figures and plots are logged; pictures of faces never are.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fer.errors import TrainingError

#: Files of a run folder that hold no pixel of a face.
_ARTIFACTS = (
    "recipe.toml",
    "history.json",
    "metrics.json",
    "tuning.json",
    "curves.png",
    "confusion.png",
    "per_class.png",
    "reliability.png",
)

#: Names the run that a run folder belongs to, so that a resumed training goes on with it.
_LINK = "mlflow.json"


class Tracker:
    """Where a training is logged; the base logs nowhere."""

    def begin(self, parameters: Mapping[str, Any]) -> None:
        """What the training was asked for."""

    def epoch(self, row: Mapping[str, Any]) -> None:
        """A row of the history; its `step` counts the epochs of all stages."""

    def end(self, version: str, metrics: Mapping[str, Any]) -> None:
        """The version that came of it, and its figures."""


def open_tracker(folder: Path, say: Callable[[str], None]) -> Tracker:
    """MLflow where `MLFLOW_TRACKING_URI` is set, else nowhere.

    Raises:
        TrainingError: it is set, and MLflow is not installed.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    if not uri:
        return Tracker()
    try:
        import mlflow
    except ImportError as error:
        raise TrainingError(
            "MLFLOW_TRACKING_URI is set, but MLflow is not installed: "
            "pip install 'fer[mlflow]', or unset it."
        ) from error
    return _MlflowTracker(mlflow, uri, folder, say)


class _MlflowTracker(Tracker):
    """Logs to MLflow; a server that fails is told of once and left alone from then on."""

    def __init__(self, mlflow: Any, uri: str, folder: Path, say: Callable[[str], None]) -> None:
        self._client = mlflow.MlflowClient(tracking_uri=uri)
        self._failure: type[Exception] = mlflow.exceptions.MlflowException
        self._folder, self._say = folder, say
        self._run: str | None = None
        self._failed = False

    def begin(self, parameters: Mapping[str, Any]) -> None:
        def log() -> None:
            self._run = self._linked_run() or self._new_run()
            for name, value in parameters.items():
                self._client.log_param(self._run, name, value)

        self._attempt(log)

    def epoch(self, row: Mapping[str, Any]) -> None:
        def log() -> None:
            step = int(row["step"])
            for name, value in row.items():
                if name not in ("step", "epoch") and isinstance(value, int | float):
                    self._client.log_metric(self._run, name, float(value), step=step)

        self._attempt(log)

    def end(self, version: str, metrics: Mapping[str, Any]) -> None:
        def log() -> None:
            self._client.set_tag(self._run, "fer.version", version)
            for prefix, figures in (("final.", metrics), ("test.", metrics.get("test") or {})):
                for name, value in figures.items():
                    if isinstance(value, int | float):
                        self._client.log_metric(self._run, f"{prefix}{name}", float(value))
            for name in _ARTIFACTS:
                if (self._folder / name).is_file():
                    self._client.log_artifact(self._run, str(self._folder / name))
            self._client.set_terminated(self._run)

        self._attempt(log)

    def _new_run(self) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or "fer"
        found = self._client.get_experiment_by_name(name)
        experiment = found.experiment_id if found else self._client.create_experiment(name)
        run = self._client.create_run(experiment, run_name=self._folder.name)
        identifier = str(run.info.run_id)
        (self._folder / _LINK).write_text(json.dumps({"run_id": identifier}), encoding="utf-8")
        return identifier

    def _linked_run(self) -> str | None:
        try:
            return str(json.loads((self._folder / _LINK).read_text(encoding="utf-8"))["run_id"])
        except (OSError, ValueError, KeyError):
            return None

    def _attempt(self, log: Callable[[], None]) -> None:
        if self._failed:
            return
        try:
            log()
        except (self._failure, OSError) as error:
            # Hours of training are worth more than their log.
            self._failed = True
            self._say(f"MLflow cannot be reached and is left alone: {error}")
