"""`fer samples` and `fer operators` in a terminal, and operators' passwords."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from argon2 import PasswordHasher
from typer.testing import CliRunner

from fer.cli import app
from fer.collection.database import Database
from fer.collection.opening import open_store
from fer.collection.operators import Operators
from fer.collection.tables import Sample
from fer.config import load_settings
from fer.errors import BackupError, OperatorError, UnknownSampleError
from tests.collection.support import Clock, keep


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Settings that point at an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FER_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("FER_AUDIT_SHARE", "0")
    monkeypatch.delenv("FER_DATABASE_URL", raising=False)
    return tmp_path


def fer(*words: str, typed: str | None = None, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(words), input=typed)
    assert result.exit_code == code, (result.output, result.exception)
    return result.stdout


def test_operators_are_added_listed_changed_and_removed(here: Path) -> None:
    assert "operators add" in fer("operators", "list")
    fer("operators", "add", "ana", "--password-stdin", "--role", "admin", typed="pass word 1\n")
    fer("operators", "add", "ben", typed="a good password\na good password\n")
    listed = json.loads(fer("operators", "list", "--json"))
    assert [(entry["name"], entry["role"]) for entry in listed] == [
        ("ana", "admin"), ("ben", "reviewer"),
    ]  # fmt: skip
    accounts = Operators(open_store(load_settings()).database)
    assert accounts.authenticate("ana", "pass word 1")
    fer("operators", "passwd", "ana", "--password-stdin", typed="another one\n")
    assert accounts.authenticate("ana", "pass word 1") is None
    assert accounts.authenticate("ana", "another one")
    fer("operators", "remove", "ana")
    assert accounts.get("ana") is None
    result = CliRunner().invoke(app, ["operators", "remove", "ana"])
    assert isinstance(result.exception, OperatorError)


def test_samples_are_listed_shown_checked_and_purged(here: Path) -> None:
    store = open_store(load_settings())
    sample_id = keep(store)
    listed = json.loads(fer("samples", "list", "--json"))
    assert [sample["id"] for sample in listed["samples"]] == [sample_id]
    assert sample_id in fer("samples", "list", "--status", "pending")
    assert fer("samples", "list", "--status", "rejected") == "No samples.\n"
    shown = json.loads(fer("samples", "show", sample_id, "--json"))
    assert (shown["predicted_label"], shown["events"]) == ("happy", [])
    assert sample_id in fer("samples", "show", sample_id)
    stats = json.loads(fer("samples", "stats", "--json"))
    assert stats["status"] == {"pending": 1}
    assert "pending" in fer("samples", "stats")
    assert json.loads(fer("samples", "purge", "--dry-run", "--json"))["expired"] == 0
    fer("samples", "verify")
    (here / "data" / "happy" / "stray.jpg").write_bytes(b"x")
    assert json.loads(fer("samples", "verify", "--json", code=1))["orphaned"] == ["happy/stray.jpg"]
    fer("samples", "verify", "--repair")
    assert json.loads(fer("samples", "verify", "--json"))["clean"]
    exported = json.loads(fer("samples", "export", str(here / "out.zip"), "--json"))
    assert exported == {"pictures": {}, "missing": []}
    result = CliRunner().invoke(app, ["samples", "show", "0" * 32])
    assert isinstance(result.exception, UnknownSampleError)


def test_purge_deletes_what_is_over_and_a_dry_run_only_counts(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(load_settings())
    old, young = keep(store), keep(store)
    with store.database.session(write=True) as session:
        session.get_one(Sample, old).expires_at = datetime.now(UTC) - timedelta(seconds=1)
        session.get_one(Sample, young).expires_at = datetime.now(UTC) + timedelta(hours=1)
    assert "1 samples would be deleted" in fer("samples", "purge", "--dry-run")
    assert store.get(old).status == "pending"
    assert json.loads(fer("samples", "purge", "--json"))["expired"] == 1
    assert (store.get(old).status, store.get(young).status) == ("deleted", "pending")
    assert [path.stem for path in (here / "data").rglob("*.jpg")] == [young]


def test_passwords_are_hashed_and_compared_by_argon2(database: Database, clock: Clock) -> None:
    cheap = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    accounts = Operators(database, clock, cheap)
    accounts.add("ana", "a good password", "admin")
    assert not accounts.authenticate("ana", "a bad password")
    assert not accounts.authenticate("Ana", "a good password")
    assert not accounts.authenticate("nobody", "nobody has this password")
    assert not accounts.authenticate("ana", "a good password" + " " * 500)
    first = accounts.authenticate("ana", "a good password")
    assert first is not None
    assert (first.role, first.session_epoch) == ("admin", 1)
    stronger = Operators(
        database, clock, PasswordHasher(time_cost=2, memory_cost=16, parallelism=1)
    )
    assert stronger.authenticate("ana", "a good password"), "rehashed at the new cost"
    assert stronger.authenticate("ana", "a good password")
    accounts.set_password("ana", "another password")
    second = accounts.authenticate("ana", "another password")
    assert second is not None
    assert second.session_epoch == 2, "sessions of the old password are over"


@pytest.mark.parametrize(
    ("name", "password", "role"),
    [
        ("", "a good password", "reviewer"), ("a/b", "a good password", "reviewer"),
        ("visitor", "a good password", "reviewer"), ("ANA", "a good password", "reviewer"),
        ("ben", "short", "reviewer"), ("ben", "x" * 257, "reviewer"),
        ("ben", "a good password", "owner"), ("=cmd", "a good password", "reviewer"),
    ],
)  # fmt: skip
def test_names_passwords_and_roles_that_are_refused(
    database: Database, name: str, password: str, role: str
) -> None:
    accounts = Operators(database, hasher=PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
    accounts.add("ana", "a good password")
    with pytest.raises(OperatorError):
        accounts.add(name, password, role)
    assert [operator.name for operator in accounts.list()] == ["ana"]


def test_a_backup_is_made_and_restored_and_the_forgotten_stay_forgotten(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FER_MODELS_DIR", str(here / "models"))
    store = open_store(load_settings())
    stays, goes = keep(store), keep(store)
    made = json.loads(fer("backup", "all.zip", "--json"))
    assert made["pictures"] == 2 and made["missing"] == []
    store.delete([goes])
    assert "1 deleted" in fer("samples", "deletions", "gone.json")
    # The list tells which samples, and nothing about them.
    assert set(json.loads((here / "gone.json").read_text())["deleted"]) == {goes}

    monkeypatch.setenv("FER_DATA_DIR", str(here / "again"))
    monkeypatch.setenv("FER_MODELS_DIR", str(here / "models-again"))
    shown = fer("restore", "all.zip", "--deletions", "gone.json")
    assert "1 pictures" in shown and "1 faces that were forgotten since" in shown
    again = open_store(load_settings())
    assert again.get(stays).status == "pending"
    assert again.get(goes).status == "deleted"
    assert [path.stem for path in (here / "again").rglob("*.jpg")] == [stays]
    result = CliRunner().invoke(app, ["restore", "all.zip"])
    assert isinstance(result.exception, BackupError)
    result = CliRunner().invoke(app, ["restore", "all.zip", "--deletions", "nowhere.json"])
    assert isinstance(result.exception, BackupError)


def test_a_backup_that_lacks_pictures_ends_with_one(here: Path) -> None:
    store = open_store(load_settings())
    keep(store)
    next((here / "data").rglob("*.jpg")).unlink()
    assert "1 pictures were lost" in fer("backup", "all.zip", code=1)
