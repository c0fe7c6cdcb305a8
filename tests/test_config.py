"""Settings: defaults, environment, refusals."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from fer.config import Settings, is_loopback, load_settings
from fer.errors import ConfigError


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No `.env`, and no variable of the machine that runs the tests."""
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(f"FER_{name.upper()}", raising=False)


def test_the_defaults_that_the_project_promises() -> None:
    made = Settings()
    assert (made.host, made.port) == ("127.0.0.1", 7860)
    assert (made.data_dir, made.models_dir) == (Path("collected_data"), Path("models"))
    assert (made.max_image_mb, made.max_image_megapixels, made.min_image_px) == (10, 40, 32)
    assert made.abstain == 0.40
    assert (made.retention_days, made.retention_reviewed_days) == (30, 365)


def test_every_setting_is_described() -> None:
    assert all(field.description for field in Settings.model_fields.values())


def test_the_environment_and_env_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("FER_PORT=8000\nFER_HOST=0.0.0.0\nOTHER=1\n")
    monkeypatch.setenv("FER_PORT", "9000")
    monkeypatch.setenv("FER_ABSTAIN", "")
    made = load_settings()
    assert (made.host, made.port, made.abstain) == ("0.0.0.0", 9000, 0.40)


@pytest.mark.parametrize(
    ("host", "loopback"),
    (
        ("127.0.0.1", True), ("127.1.2.3", True), ("localhost", True), ("LOCALHOST", True),
        ("::1", True), ("[::1]", True), ("0.0.0.0", False), ("::", False), ("10.0.0.1", False),
        ("example.org", False), ("", False), ("localhost.example.org", False),
    ),
)  # fmt: skip
def test_loopback(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


@pytest.mark.parametrize(
    ("host", "collect", "effective"),
    (
        ("127.0.0.1", None, "opt-out"),
        ("0.0.0.0", None, "opt-in"),
        ("0.0.0.0", "opt-out", "opt-out"),
        ("127.0.0.1", "opt-in", "opt-in"),
        ("127.0.0.1", "off", "off"),
    ),
)
def test_saving_is_asked_for_where_strangers_come(
    host: str, collect: str | None, effective: str
) -> None:
    assert Settings(host=host, collect=collect).effective_collect == effective


def test_the_database_lies_in_the_data_folder_unless_told(tmp_path: Path) -> None:
    assert Settings(data_dir=tmp_path).effective_database_url == f"sqlite:///{tmp_path}/fer.db"
    url = "postgresql+psycopg://u@h/db"
    assert Settings(database_url=url).effective_database_url == url


@pytest.mark.parametrize(
    ("variable", "value"),
    (
        ("FER_PORT", "70000"),
        ("FER_PORT", "http"),
        ("FER_COLLECT", "always"),
        ("FER_ABSTAIN", "1.5"),
        ("FER_MAX_IMAGE_MB", "0"),
        ("FER_MAX_IMAGE_MEGAPIXELS", "-1"),
        ("FER_THREADS", "0"),
        ("FER_RETENTION_DAYS", "0"),
        ("FER_ROOT_PATH", "fer"),
    ),
)
def test_a_value_that_cannot_be_used_names_its_variable(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError, match=variable):
        load_settings()


def test_a_refusal_does_not_repeat_the_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FER_PORT", "my-secret")
    with pytest.raises(ConfigError) as caught:
        load_settings()
    assert "my-secret" not in caught.value.message


def test_a_sub_path_loses_its_last_slash() -> None:
    assert Settings(root_path="/fer/").root_path == "/fer"
    assert Settings(root_path="/").root_path == ""


def test_settings_do_not_change_under_way() -> None:
    with pytest.raises(ValidationError):
        Settings().port = 1  # type: ignore[misc]
