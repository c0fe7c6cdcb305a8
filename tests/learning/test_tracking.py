"""Trainings in a real local MLflow, its runs in SQLite."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest

from fer.errors import TrainingError
from fer.learning.recipe import Recipe, read_recipe
from fer.learning.runfolder import Request, start_run
from fer.learning.runs import run_training
from fer.learning.tracking import Tracker, open_tracker
from fer.registry import Registry

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


def test_a_tuned_training_is_logged_as_it_goes(
    store: mlflow.MlflowClient, tmp_path: Path, make_pictures: Callable[..., None]
) -> None:
    make_pictures(tmp_path / "data", 6)
    (tmp_path / "models").mkdir()
    recipe = Recipe(architecture="cnn", image_size=16, epochs=3, batch_size=8, average=0.5)
    request = Request(data="data", name="bands", weights=None, tune=2, tune_epochs=1)
    folder = start_run(request, recipe, tmp_path / "runs")
    manifest = run_training(folder, Registry(tmp_path / "models"), lambda line: None)

    # The best of the two trials is what was trained, and what the run folder says now.
    trials = json.loads((folder / "tuning.json").read_text())
    assert len(trials) == 2
    written = read_recipe(folder / "recipe.toml")
    for name in ("learning_rate", "dropout", "unfreeze"):
        assert written[name] == trials[0][name] == manifest.settings[name]
    assert written["epochs"] == 3

    experiment = store.get_experiment_by_name("fer")
    assert experiment is not None
    (run,) = store.search_runs([experiment.experiment_id])
    assert run.data.tags["fer.version"] == manifest.version
    assert float(run.data.params["learning_rate"]) == written["learning_rate"]
    history = json.loads((folder / "history.json").read_text())
    assert len(history) == 3
    for name in ("loss", "val_loss", "accuracy", "learning_rate"):
        curve = store.get_metric_history(run.info.run_id, name)
        assert [m.step for m in curve] == [1, 2, 3]
        assert [m.value for m in curve] == pytest.approx([row[name] for row in history])
    kept = {artifact.path for artifact in store.list_artifacts(run.info.run_id)}
    assert {"recipe.toml", "tuning.json", "curves.png", "confusion.png"} <= kept
