"""Trainings in a real local MLflow, its runs in SQLite."""

from __future__ import annotations

import sys
from pathlib import Path

import mlflow
import pytest

from fer.errors import TrainingError
from fer.learning.tracking import Tracker, open_tracker

ROWS = [
    {"step": 1, "stage": "head", "epoch": 1, "loss": 1.5, "accuracy": 0.4},
    {"step": 2, "stage": "fine-tune", "epoch": 1, "loss": 1.0, "accuracy": 0.5},
    {"step": 3, "stage": "fine-tune", "epoch": 2, "loss": 0.5, "accuracy": 0.75},
]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> mlflow.MlflowClient:
    """MLflow in SQLite; artifacts go below the working folder."""
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    monkeypatch.chdir(tmp_path)
    return mlflow.MlflowClient(tracking_uri=uri)


def test_a_run_shows_its_curves_figures_and_plots(
    store: mlflow.MlflowClient, tmp_path: Path
) -> None:
    folder = tmp_path / "20250101T000000Z-faces"
    folder.mkdir()
    for name in ("recipe.toml", "curves.png", "best.weights.h5", "samples.png"):
        (folder / name).write_bytes(b"x")
    tracker = open_tracker(folder, print)
    tracker.begin({"architecture": "cnn", "learning_rate": 0.001})
    for row in ROWS[:2]:
        tracker.epoch(row)
    # Stopped here, and resumed: the same run goes on.
    tracker = open_tracker(folder, print)
    tracker.begin({"architecture": "cnn", "learning_rate": 0.001})
    tracker.epoch(ROWS[2])
    tracker.end("20250101T010000Z-faces", {"accuracy": 0.75, "test": {"accuracy": 0.7}, "on": "x"})

    experiment = store.get_experiment_by_name("fer")
    assert experiment is not None
    (run,) = store.search_runs([experiment.experiment_id])
    assert run.info.run_name == folder.name
    assert run.info.status == "FINISHED"
    assert run.data.params == {"architecture": "cnn", "learning_rate": "0.001"}
    assert run.data.tags["fer.version"] == "20250101T010000Z-faces"
    for name in ("loss", "accuracy"):
        curve = [(m.step, m.value) for m in store.get_metric_history(run.info.run_id, name)]
        assert curve == [(row["step"], row[name]) for row in ROWS]
    assert run.data.metrics["final.accuracy"] == 0.75
    assert run.data.metrics["test.accuracy"] == 0.7
    # Nothing that could show a face, and no weights.
    kept = {artifact.path for artifact in store.list_artifacts(run.info.run_id)}
    assert kept == {"recipe.toml", "curves.png"}


def test_without_the_variable_nothing_is_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert type(open_tracker(tmp_path, print)) is Tracker


def test_a_store_that_fails_is_told_of_once_and_ends_no_training(
    store: mlflow.MlflowClient, tmp_path: Path
) -> None:
    said: list[str] = []
    tracker = open_tracker(tmp_path, said.append)
    tracker.begin({"a": 1})
    assert said == []
    # Another value of a parameter is what MLflow refuses.
    tracker.begin({"a": 2})
    tracker.epoch(ROWS[0])
    tracker.end("v", {})
    (line,) = said
    assert "left alone" in line


def test_without_mlflow_the_training_does_not_begin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite://")
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(TrainingError, match=r"fer\[mlflow\]"):
        open_tracker(tmp_path, print)
