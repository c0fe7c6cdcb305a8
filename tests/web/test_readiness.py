"""What the running server says while its champion or its database cannot be used."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from gradio_client.exceptions import AppError
from typer.testing import CliRunner

import fer.cli
from fer.collection.opening import open_store
from fer.config import Settings
from fer.errors import DatabaseVersionError
from fer.registry import LITERT_FILE, MANIFEST, Registry
from tests.support import make_version
from tests.web.serving import ROOT, environment, start

pytestmark = pytest.mark.timeout(600)


def ready(url: str) -> dict[str, Any]:
    answer: dict[str, Any] = httpx.get(url + "/readyz", timeout=120).json()
    return answer


def wait_until(url: str, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """What `/readyz` says once it holds; the pointer is looked at every two seconds."""
    deadline = time.monotonic() + 240
    while True:
        said = ready(url)
        if holds(said):
            return said
        assert time.monotonic() < deadline, said
        time.sleep(0.1)


def cut_off(version: Path) -> None:
    os.truncate(version / LITERT_FILE, 100)


def one_bit(version: Path) -> None:
    data = bytearray((version / LITERT_FILE).read_bytes())
    data[len(data) // 2] ^= 1
    (version / LITERT_FILE).write_bytes(data)


def swapped(version: Path) -> None:
    """A whole file, of another version: only the hash tells."""
    other = min(path for path in version.parent.iterdir() if path.is_dir())
    (version / LITERT_FILE).write_bytes((other / LITERT_FILE).read_bytes())


def missing(version: Path) -> None:
    (version / LITERT_FILE).unlink()


def newer(version: Path) -> None:
    document = json.loads((version / MANIFEST).read_text())
    (version / MANIFEST).write_text(json.dumps({**document, "format": 99, "soul": True}))


def no_manifest(version: Path) -> None:
    (version / MANIFEST).unlink()


FAULTS = (cut_off, one_bit, swapped, missing, newer, no_manifest)


@contextmanager
def spoilt(version: Path, fault: Callable[[Path], None]) -> Iterator[None]:
    """A version with a fault; afterwards it is whole again."""
    held = {path: path.read_bytes() for path in version.iterdir()}
    fault(version)
    yield
    for path, data in held.items():
        path.write_bytes(data)


@pytest.mark.long
def test_a_champion_that_cannot_serve_gives_way_and_readyz_says_so(
    tmp_path: Path, face_jpeg: bytes
) -> None:
    models = tmp_path / "models"
    old = make_version(models, favourite="sad", default=True)
    champion = make_version(models, favourite="happy", number=1)
    Registry(models).promote(champion)
    with spoilt(models / champion, cut_off):
        server = start(tmp_path)
        said = ready(server.url)
        assert said["ready"] and said["model"] == old
        assert champion in " ".join(said["warnings"])
        assert f"{old} serves instead" in " ".join(said["warnings"])
        assert server.classify(face_jpeg, False)["faces"][0]["label"] == "sad"
    wait_until(server.url, lambda said: said["model"] == champion and said["warnings"] == [])
    # What a running server has loaded serves on, whatever becomes of the file. A promotion that
    # cannot be followed leaves the old one serving.
    pointer = (models / "champion").read_text()
    for fault in FAULTS:
        Registry(models).rollback()
        wait_until(server.url, lambda said: said["model"] == old and said["warnings"] == [])
        with spoilt(models / champion, fault):
            (models / "champion").write_text(pointer)
            said = wait_until(server.url, lambda said: bool(said["warnings"]))
            assert said["ready"] and said["model"] == old, fault
            assert champion in " ".join(said["warnings"]), fault
            if fault is newer:
                assert "newer version of this program" in " ".join(said["warnings"])
        wait_until(server.url, lambda said: said["model"] == champion and said["warnings"] == [])
    assert server.classify(face_jpeg, False)["faces"][0]["label"] == "happy"
    assert "Traceback" not in server.log
    server.stop()


@pytest.mark.long
def test_without_any_model_the_page_explains(tmp_path: Path, face_jpeg: bytes) -> None:
    models = tmp_path / "models"
    models.mkdir()
    server = start(tmp_path)
    answer = httpx.get(server.url + "/readyz", timeout=120)
    assert answer.status_code == 503
    assert "fer train" in answer.json()["warnings"][0]
    assert httpx.get(server.url + "/healthz", timeout=120).status_code == 200
    # The page is there; whoever sends a picture reads what is missing, and the tab about the
    # model says the same (`tests/web/test_model_page.py`).
    assert httpx.get(server.url + "/", timeout=120).status_code == 200
    with pytest.raises(AppError, match="No model can serve right now"):
        server.classify(face_jpeg, False)
    # As soon as one is there, it serves, without a restart.
    version = make_version(models, favourite="happy", default=True)
    wait_until(server.url, lambda said: said["ready"] and said["model"] == version)
    assert server.classify(face_jpeg, False)["faces"][0]["label"] == "happy"
    server.stop()


def newer_database(folder: Path) -> Settings:
    settings = Settings(
        _env_file=None, data_dir=folder / "data", models_dir=folder / "models", audit_share=0
    )
    open_store(settings).database.close()
    with sqlite3.connect(folder / "data" / "fer.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999_from_tomorrow'")
    return settings


def test_a_newer_programs_database_is_refused_by_every_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    newer_database(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FER_DATA_DIR", str(tmp_path / "data"))
    for words in (
        ["samples", "stats"], ["samples", "purge"], ["samples", "verify", "--repair"],
        ["operators", "list"], ["backup", "out.zip"], ["samples", "deletions", "out.json"],
    ):  # fmt: skip
        result = CliRunner().invoke(fer.cli.app, words)
        assert isinstance(result.exception, DatabaseVersionError), words
        assert "newer version" in result.exception.message
    assert not list(tmp_path.glob("out.*"))


@pytest.mark.long
@pytest.mark.parametrize("program", ["app.py", "retrain.py"])
def test_a_newer_programs_database_is_refused_with_a_sentence(program: str, tmp_path: Path) -> None:
    newer_database(tmp_path)
    make_version(tmp_path / "models", default=True)
    done = subprocess.run(
        [sys.executable, str(ROOT / program)],
        cwd=tmp_path,
        env=environment(
            FER_PORT="0",
            FER_DATA_DIR=str(tmp_path / "data"),
            FER_MODELS_DIR=str(tmp_path / "models"),
        ),
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 1
    assert "was made by a newer version of this program" in said
    assert "Traceback" not in said
