"""Pictures in folders: whole or not at all, and never outside."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fer.collection.samples import SampleStore
from fer.collection.storage import FolderStorage
from fer.errors import StorageError
from tests.collection.support import jpeg, keep, new_sample


def test_what_is_written_is_read_listed_and_deleted(tmp_path: Path) -> None:
    storage = FolderStorage(tmp_path)
    storage.write("happy/a1.jpg", b"one")
    storage.write("very sad/a2.jpg", b"two")
    assert storage.read("happy/a1.jpg") == b"one"
    assert sorted(storage.list()) == ["happy/a1.jpg", "very sad/a2.jpg"]
    assert storage.delete("happy/a1.jpg")
    assert not storage.delete("happy/a1.jpg")
    with pytest.raises(FileNotFoundError):
        storage.read("happy/a1.jpg")
    assert (tmp_path / "very sad" / "a2.jpg").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "path",
    [
        "../a.jpg", "happy/../../a.jpg", "happy/../a.jpg", "/etc/passwd", "a.jpg", "happy/",
        "happy/b/a.jpg", "./a.jpg", "happy/.a.jpg", "..\\a.jpg", "happy/a\x00.jpg", "",
        "happy/a.jpg\n", "con/a.jpg", ".backups/fer.db",
    ],
)  # fmt: skip
def test_no_path_leads_outside(tmp_path: Path, path: str) -> None:
    (tmp_path / "a.jpg").write_bytes(b"not to be touched")
    storage = FolderStorage(tmp_path / "data")
    (tmp_path / "data" / "happy").mkdir()
    for act in (storage.read, storage.delete, lambda p: storage.write(p, b"x")):
        with pytest.raises(StorageError) as refused:
            act(path)
        assert refused.value.details["reason"] == "path"
    assert (tmp_path / "a.jpg").read_bytes() == b"not to be touched"


def test_a_link_in_the_folders_place_is_not_followed(tmp_path: Path) -> None:
    storage = FolderStorage(tmp_path / "data")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "a.jpg").write_bytes(b"x")
    (tmp_path / "data" / "happy").symlink_to(outside)
    (tmp_path / "data" / "sad").mkdir()
    (tmp_path / "data" / "sad" / "a.jpg").symlink_to(outside / "a.jpg")
    for path in ("happy/a.jpg", "sad/a.jpg"):
        with pytest.raises(StorageError):
            storage.read(path)
    with pytest.raises(StorageError):
        storage.write("happy/b.jpg", b"x")
    assert "happy/a.jpg" not in set(storage.list())


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 3 MB in memory; skips where mounting is not allowed."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("mounting a tmpfs is not allowed here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_refuses_leaves_nothing_half_written_and_recovers(
    store: SampleStore, small_disk: Path
) -> None:
    store.storage = FolderStorage(small_disk / "pictures")
    kept = [keep(store)]
    ballast = small_disk / "ballast"
    with pytest.raises(OSError), ballast.open("wb") as stream:
        while True:
            stream.write(bytes(65536))
            stream.flush()
    with pytest.raises(StorageError) as refused:
        store.keep([new_sample(picture=jpeg(side=256)) for _ in range(3)], group_id="g")
    assert refused.value.details["reason"] == "disk_full"
    assert {path.split("/")[1] for path in store.storage.list()} == {f"{kept[0]}.jpg"}
    assert store.verify().clean
    ballast.unlink()
    keep(store)
    assert store.verify().clean


def test_a_full_disk_under_the_database_refuses_and_takes_the_picture_back(
    make_store: Callable[..., SampleStore], small_disk: Path, tmp_path: Path
) -> None:
    from fer.collection.database import Database

    database = Database(f"sqlite:///{small_disk / 'fer.db'}")
    database.migrate()
    outer = make_store()
    store = SampleStore(database, FolderStorage(tmp_path / "data"), outer.settings)
    kept = keep(store)
    with pytest.raises(OSError), (small_disk / "ballast").open("wb") as stream:
        while True:
            stream.write(bytes(4096))
            stream.flush()
    with pytest.raises(StorageError) as refused:
        for _ in range(200):
            kept = keep(store)
    assert refused.value.details["reason"] == "disk_full"
    (small_disk / "ballast").unlink()
    assert store.get(kept).status == "pending"
    keep(store)
    assert store.verify().clean
    database.close()


def test_a_read_only_folder_refuses_and_recovers(store: SampleStore, small_disk: Path) -> None:
    store.storage = FolderStorage(small_disk / "pictures")
    keep(store)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(StorageError) as refused:
        keep(store)
    assert refused.value.details["reason"] == "read_only"
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    keep(store)
    assert store.verify().clean
