"""`fer train` before it trains: its knobs, the label check, names, run folders."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from pathlib import Path

import click
import pytest
import typer.main
from typer.testing import CliRunner

import fer.cli
from fer.commands._training import with_knobs
from fer.commands.learning import train
from fer.errors import DataError, ModelError, TrainingError
from fer.learning.recipe import Recipe, knobs, read_recipe
from fer.learning.runfolder import Request, list_runs, read_run, start_run, version_name
from tests.support import make_version


@pytest.fixture
def here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_pictures: Callable[..., None]
) -> Path:
    """A working folder with pictures of three labels and a champion that knows two others."""
    make_pictures(tmp_path / "data", 2)
    make_version(tmp_path / "models", ("joy", "grief"), default=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FER_MODELS_DIR", str(tmp_path / "models"))
    return tmp_path


def options(name: str) -> dict[str, click.Parameter]:
    """The options of a command by the way they are written."""
    command = typer.main.get_command(fer.cli.app).commands[name]  # type: ignore[attr-defined]
    return {flag: option for option in command.params for flag in option.opts}


def run(*arguments: str) -> None:
    result = CliRunner().invoke(fer.cli.app, arguments)
    if result.exception is not None:
        raise result.exception


def test_every_knob_is_an_option_with_its_default_and_meaning() -> None:
    for command in ("train", "compare"):
        found = options(command)
        for name, _, default, meaning in knobs():
            flag = f"--{name.replace('_', '-')}"
            if command == "compare" and name == "architecture":
                assert "--arch" in found and flag not in found
                continue
            text = getattr(found[flag], "help", "")
            assert meaning in text
            assert f"[default: {default}]" in text


def test_the_command_can_be_built_again() -> None:
    before = inspect.signature(train)
    for _ in range(2):
        with_knobs(train)
        fer.cli.build()
    assert inspect.signature(train) == before
    assert any(p.kind is p.VAR_KEYWORD for p in before.parameters.values())


def test_other_labels_are_refused_before_the_training(here: Path) -> None:
    with pytest.raises(ModelError, match=r"happy, sad, Wide awake.*joy, grief.*--change-labels"):
        run("train", "data", "--arch", "cnn", "--promote")
    assert not (here / "runs").exists(), "nothing was begun"


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        (["train"], DataError, "which data"),
        (["train", "data", "--arch", "alexnet"], TrainingError, "choose one of mobilenet_v2"),
        (["train", "data", "--share", "0"], TrainingError, "share must lie above 0"),
        (["train", "data", "--test-share", "1.5"], TrainingError, "test_share must lie in"),
        (["train", "data", "--tune", "-1"], TrainingError, "must not be negative"),
        (["train", "data", "--name", "!!"], TrainingError, "cannot name a version"),
        (["compare", "data"], DataError, "what to compare"),
        (["compare", "data", "--arch", "alexnet"], TrainingError, "choose one of"),
        (["compare", "data", "--model", "nobody"], ModelError, "no model 'nobody'"),
        (["explore", "nowhere"], DataError, "does not exist"),
        (["explore", "data", "--name", "/"], DataError, "cannot name a report"),
    ],
)
def test_what_cannot_be_done_is_said_at_once(
    here: Path, arguments: list[str], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        run(*arguments)
    assert not (here / "runs").exists()


def test_a_config_file_is_written_back_whole(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text('architecture = "cnn"\nlearning_rate = 1\nerase = 0.5\n')
    recipe = Recipe(**read_recipe(tmp_path / "own.toml"))
    folder = start_run(Request(data="x", name="own", classes="a,b=c+d"), recipe, tmp_path / "runs")
    request, again = read_run(folder)
    assert again == recipe
    assert again.learning_rate == 1.0
    assert request.classes == "a,b=c+d"
    # The file that was written back is one that --config takes.
    assert Recipe(**read_recipe(folder / "recipe.toml")) == recipe


def test_names_become_names_of_versions() -> None:
    assert version_name("My Faces (2025)!") == "my-faces-2025"
    assert len(version_name("x" * 200)) == 60


def test_runs_are_listed_whatever_they_have_come_to(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    recipe = Recipe(architecture="vgg16")
    for name in ("begun", "stopped", "finished"):
        (start_run(Request(data="faces.zip", name=name), recipe, runs)).rename(runs / name)
    history = [{"score": 0.5, "seconds": 3.0}, {"score": 0.75, "seconds": 4.0}, {"score": 0.7}]
    for name in ("stopped", "finished"):
        (runs / name / "history.json").write_text(json.dumps(history))
    (runs / "finished" / "metrics.json").write_text('{"accuracy": 0.8}')
    (runs / "finished" / "result.json").write_text('{"version": "v"}')
    (runs / "broken").mkdir()
    (runs / "broken" / "run.json").write_text("{")
    (runs / "something else").mkdir()
    found = {run.name: run for run in list_runs(runs)}
    assert {name: run.state for name, run in found.items()} == {
        "begun": "begun",
        "stopped": "stopped",
        "finished": "finished",
        "broken": "begun",
    }
    assert found["begun"].best is None
    assert (found["stopped"].epochs, found["stopped"].best) == (3, 0.75)
    assert found["finished"].seconds == 7.0
    assert (found["finished"].version, found["finished"].accuracy) == ("v", 0.8)
    assert found["finished"].architecture == "vgg16"
    assert list_runs(tmp_path / "nowhere") == []
