"""The folder for uploads: what it gives out, what it removes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fer.errors import ConfigError
from fer.web.uploads import UploadFolder
from tests.web.serving import environment


@pytest.fixture
def folder(tmp_path: Path) -> UploadFolder:
    return UploadFolder(tmp_path / "base")


def upload(folder: UploadFolder, name: str = "a.jpg", data: bytes = b"data") -> Path:
    path = folder.path / "0123" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    return path


def test_a_file_is_given_once_and_gone(folder: UploadFolder) -> None:
    path = upload(folder)
    assert folder.take(str(path)) == b"data"
    assert not path.parent.exists()
    assert folder.take(str(path)) is None


def test_another_file_in_the_same_folder_stays(folder: UploadFolder) -> None:
    one, two = upload(folder, "1"), upload(folder, "2")
    assert folder.take(str(one)) == b"data"
    assert two.exists()


def test_nothing_outside_is_given(folder: UploadFolder, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"private")
    link = folder.path / "link"
    link.symlink_to(outside)
    inside = upload(folder)
    for path in (
        outside,
        link,
        folder.path / ".lock",
        folder.path,
        inside.parent / ".." / ".." / ".." / "outside",
        "",
        "\0",
        "no such file",
    ):
        assert folder.take(str(path)) is None
    assert outside.read_bytes() == b"private"
    assert (folder.path / ".lock").exists()


def test_the_folder_is_private(folder: UploadFolder) -> None:
    for path in (folder.base, folder.path):
        assert path.stat().st_mode & 0o077 == 0


def test_a_base_that_others_could_write_to_is_closed_to_them(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir(mode=0o755)
    folder = UploadFolder(tmp_path / "base")
    assert folder.base.stat().st_mode & 0o077 == 0


def test_a_base_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "base").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError):
        UploadFolder(tmp_path / "base")


def test_the_janitor_removes_what_is_old(folder: UploadFolder) -> None:
    old, new = upload(folder, "old"), folder.path / "new"
    new.write_bytes(b"new")
    hour_ago = time.time() - 3600
    os.utime(old, (hour_ago, hour_ago))
    os.utime(old.parent, (hour_ago, hour_ago))
    assert folder.sweep() == 1
    assert not old.parent.exists() or not list(old.parent.iterdir())
    assert new.exists() and (folder.path / ".lock").exists()
    assert folder.sweep(now=time.time() + 3600) == 1
    assert not new.exists() and (folder.path / ".lock").exists()


def test_a_dead_process_leaves_nothing_and_a_living_one_keeps_its_own(tmp_path: Path) -> None:
    living = UploadFolder(tmp_path / "base")
    kept = upload(living)
    program = (
        "import os, sys; from pathlib import Path; from fer.web.uploads import UploadFolder; "
        "folder = UploadFolder(Path(sys.argv[1])); "
        "(folder.path / 'face.jpg').write_bytes(b'x'); print(folder.path, flush=True); "
        "os.kill(os.getpid(), 9)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "base")],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    abandoned = Path(done.stdout.strip())
    assert (abandoned / "face.jpg").exists()
    UploadFolder(tmp_path / "base")
    assert not abandoned.exists()
    assert kept.exists()


def test_closing_removes_the_folder(folder: UploadFolder) -> None:
    upload(folder)
    folder.close()
    assert not folder.path.exists()
