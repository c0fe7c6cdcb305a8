"""The `fer` command itself, `fer settings` and `fer models`."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

import fer
import fer.cli
from fer.config import Settings
from fer.errors import ModelError, UnknownModelError
from fer.registry import Registry
from tests.support import make_version


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the machine that runs the tests, no .env, a models folder of our own."""
    for name in Settings.model_fields:
        monkeypatch.delenv(f"FER_{name.upper()}", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FER_MODELS_DIR", str(tmp_path / "models"))


def fer_command(*arguments: str) -> Result:
    result = CliRunner().invoke(fer.cli.app, arguments)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result


def from_json(*arguments: str) -> Any:
    return json.loads(fer_command(*arguments, "--json").stdout)


def settings() -> dict[str, dict[str, Any]]:
    return {entry["name"]: entry for entry in from_json("settings")}


# The command as a whole


def test_version() -> None:
    assert fer_command("--version").stdout == f"fer {fer.__version__}\n"


def test_help_imports_nothing_heavy() -> None:
    """An answer to --help must not wait for TensorFlow or open a database."""
    heavy = "tensorflow keras mediapipe gradio sqlalchemy ai_edge_litert cv2 sklearn matplotlib"
    program = (
        "import sys, fer.cli; from typer.testing import CliRunner\n"
        "answer = CliRunner().invoke(fer.cli.app, ['--help'])\n"
        "assert answer.exit_code == 0, answer.output\n"
        f"print([name for name in {heavy.split()!r} if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    assert run.stdout.decode().strip() == "[]"


def test_every_module_of_commands_brings_commands() -> None:
    folder = Path(fer.cli.__file__).parent / "commands"
    modules = [path.stem for path in folder.glob("*.py") if not path.stem.startswith("_")]
    assert {"models", "settings"} <= set(modules)
    for name in modules:
        module = sys.modules[f"fer.commands.{name}"]
        assert hasattr(module, "app") or hasattr(module, "register"), name


def test_an_expected_error_is_one_sentence_and_code_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["fer", "models", "show", "20250101T000000Z-nobody"])
    with pytest.raises(SystemExit) as stop:
        fer.cli.main()
    said = capsys.readouterr()
    assert stop.value.code == 1
    assert said.out == ""
    assert said.err == "fer: There is no model '20250101T000000Z-nobody'.\n"


def test_an_unexpected_error_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = typer.Typer()

    @broken.command()
    def fail() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(fer.cli, "app", broken)
    monkeypatch.setattr(sys, "argv", ["fer"])
    with pytest.raises(ZeroDivisionError):
        fer.cli.main()


# fer settings


def test_settings_lists_all_of_them_with_their_defaults() -> None:
    listed = settings()
    assert set(listed) == {f"FER_{name.upper()}" for name in Settings.model_fields}
    assert listed["FER_PORT"] == {
        "name": "FER_PORT",
        "value": 7860,
        "default": 7860,
        "description": "Port the page is served on.",
    }
    assert listed["FER_DATA_DIR"]["value"] == "collected_data"
    assert all(entry["description"] for entry in listed.values())


@pytest.mark.parametrize(
    ("host", "collect", "effective", "why"),
    [
        ("127.0.0.1", None, "opt-out", "loopback"),
        ("localhost", None, "opt-out", "loopback"),
        ("::1", None, "opt-out", "loopback"),
        ("0.0.0.0", None, "opt-in", "other machines"),
        ("192.0.2.7", None, "opt-in", "other machines"),
        ("faces.example", None, "opt-in", "other machines"),
        ("0.0.0.0", "opt-out", "opt-out", "FER_COLLECT says so"),
        ("127.0.0.1", "off", "off", "FER_COLLECT says so"),
    ],
)
def test_settings_says_what_is_collected_and_why(
    monkeypatch: pytest.MonkeyPatch, host: str, collect: str | None, effective: str, why: str
) -> None:
    monkeypatch.setenv("FER_HOST", host)
    if collect:
        monkeypatch.setenv("FER_COLLECT", collect)
    entry = settings()["FER_COLLECT"]
    assert entry["value"] == collect
    assert entry["effective"] == effective
    assert why in entry["reason"]
    assert f"In effect: {effective}" in fer_command("settings").stdout


def test_settings_reads_the_env_file(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("FER_PORT=8123\n")
    assert settings()["FER_PORT"]["value"] == 8123
    assert "FER_PORT=8123   (default: 7860)" in fer_command("settings").stdout


def test_settings_shows_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FER_DATABASE_URL", "postgresql+psycopg://fer:s3cret-word@db.example/fer")
    entry = settings()["FER_DATABASE_URL"]
    assert entry["value"] == "postgresql+psycopg://fer:***@db.example/fer"
    for output in (fer_command("settings").stdout, fer_command("settings", "--json").stdout):
        assert "s3cret" not in output


def test_a_setting_that_cannot_be_used_is_named_without_its_value(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FER_PORT", "70000")
    monkeypatch.setattr(sys, "argv", ["fer", "settings"])
    with pytest.raises(SystemExit) as stop:
        fer.cli.main()
    assert stop.value.code == 1
    said = capsys.readouterr().err
    assert said.startswith("fer: FER_PORT cannot be used:")
    assert "70000" not in said


# fer models


@pytest.fixture
def models(tmp_path: Path) -> Path:
    return tmp_path / "models"


def test_models_of_an_empty_folder(models: Path) -> None:
    assert from_json("models", "list") == []
    assert "no model version" in fer_command("models", "list").stdout


def test_models_list_tells_each_version(models: Path) -> None:
    first = make_version(models, ("happy", "sad"), default=True, metrics={"accuracy": 0.75})
    second = make_version(models, ("happy", "sad"), number=1, parent=first, samples_used=("a", "b"))
    entries = from_json("models", "list")
    assert [entry["version"] for entry in entries] == [first, second]
    assert [entry["champion"] for entry in entries] == [True, False]
    assert [entry["default"] for entry in entries] == [True, False]
    assert [entry["parent"] for entry in entries] == [None, first]
    assert [entry["samples_used"] for entry in entries] == [0, 2]
    assert entries[0]["labels"] == ["happy", "sad"]
    assert entries[0]["metrics"] == {"accuracy": 0.75}
    text = fer_command("models", "list").stdout
    assert f"{first}  [champion, default]\n" in text
    assert "accuracy 0.750" in text


def test_models_list_survives_a_manifest_that_cannot_be_read(models: Path) -> None:
    whole = make_version(models, default=True)
    broken = make_version(models, number=1)
    (models / broken / "manifest.json").write_text("{")
    entries = {entry["version"]: entry for entry in from_json("models", "list")}
    assert entries[whole]["problem"] is None
    assert "not a valid manifest" in entries[broken]["problem"]


def test_models_show(models: Path) -> None:
    version = make_version(models, ("happy", "sad"), default=True, not_for="judging anyone")
    document = from_json("models", "show", version)
    assert document["labels"] == ["happy", "sad"]
    assert document["champion"] and document["default"]
    text = fer_command("models", "show", version).stdout
    assert "happy, sad" in text
    assert "judging anyone" in text


def test_models_promote_and_rollback(models: Path) -> None:
    first = make_version(models, default=True)
    second = make_version(models, number=1)
    assert second in fer_command("models", "promote", second).stdout
    assert Registry(models).champion() == second
    assert first in fer_command("models", "rollback").stdout
    assert Registry(models).champion() == first


def test_models_promote_across_label_sets_asks_for_the_option(models: Path) -> None:
    first = make_version(models, ("happy", "sad"), default=True)
    other = make_version(models, ("joy", "grief"), number=1)
    with pytest.raises(ModelError, match="--change-labels"):
        fer_command("models", "promote", other)
    assert Registry(models).champion() == first
    fer_command("models", "promote", other, "--change-labels")
    assert Registry(models).champion() == other


def test_models_remove(models: Path) -> None:
    first = make_version(models, default=True)
    second = make_version(models, number=1)
    with pytest.raises(ModelError, match="in service"):
        fer_command("models", "remove", first)
    fer_command("models", "remove", second)
    assert Registry(models).versions() == [first]
    with pytest.raises(UnknownModelError):
        fer_command("models", "remove", second)
