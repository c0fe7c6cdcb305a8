"""Backups and restores that are refused or taken back; on SQLite, where one database will do."""

from __future__ import annotations

import hashlib
import json
import shutil
import stat
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import sqlalchemy as sa

from fer.collection.archive import ArchiveReader
from fer.collection.backup import backup
from fer.collection.database import Database
from fer.collection.deletion import deletions_from_json, deletions_to_json
from fer.collection.restoring import restore
from fer.collection.samples import SampleStore
from fer.collection.storage import FolderStorage
from fer.config import Settings
from fer.errors import BackupError, DatabaseVersionError, StorageError
from fer.registry import Registry
from tests.collection.backup_support import files, opened, two_versions
from tests.collection.conftest import postgres_url
from tests.collection.support import Clock, Unpacked, keep, new_sample
from tests.support import make_version


@dataclass
class Made:
    """A collection of three faces, and its backup."""

    store: SampleStore
    registry: Registry
    file: Path


@pytest.fixture(scope="module")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("made")
    settings = Settings(_env_file=None, data_dir=folder / "data", audit_share=0.0)
    database = Database(settings.effective_database_url)
    database.migrate()
    store = SampleStore(database, FolderStorage(settings.data_dir), settings, Clock())
    for _ in range(3):
        keep(store)
    registry = two_versions(folder / "models")
    backup(store, registry, folder / "b.zip")
    return Made(store, registry, folder / "b.zip")


@pytest.fixture
def made(made_once: Made, tmp_path: Path) -> Made:
    """The backup as a file of the test's own; the collection belongs to all: only look at it."""
    return Made(made_once.store, made_once.registry, Path(shutil.copy(made_once.file, tmp_path)))


@pytest.fixture
def empty(tmp_path: Path) -> Settings:
    folder = tmp_path / "empty"
    return Settings(_env_file=None, data_dir=folder / "data", models_dir=folder / "models")


def rewritten(source: Path, change: Callable[[dict[str, bytes], dict[str, object]], None]) -> Path:
    """The backup with other members; `change` gets the members and the manifest."""
    with zipfile.ZipFile(source) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    manifest = json.loads(members.pop("manifest.json"))
    change(members, manifest)
    target = source.with_name("changed.zip")
    with zipfile.ZipFile(target, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
        archive.writestr("manifest.json", json.dumps(manifest))
    return target


def nothing_in(settings: Settings) -> bool:
    """Whether no picture, no model and no row is there."""
    database = Database(settings.effective_database_url)
    with database.engine.connect() as connection:
        tables = sa.inspect(connection).get_table_names()
    database.close()
    return not (tables or files(settings.data_dir) or files(settings.models_dir))


def first(members: dict[str, bytes], prefix: str) -> str:
    return next(name for name in members if name.startswith(prefix))


def agreed(members: dict[str, bytes], manifest: dict[str, object], name: str, data: bytes) -> None:
    """Put a member in with the hash that the manifest then promises."""
    members[name] = data
    listed: dict[str, object] = manifest["files"]  # type: ignore[assignment]
    listed[name] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}


DAMAGES: dict[str, Callable[[dict[str, bytes], dict[str, object]], None]] = {
    "picture": lambda m, _: m.update({first(m, "pictures/"): b"x" * 500}),
    "one bit of the database": lambda m, _: m.update(
        {"database/fer.db": m["database/fer.db"][:-1] + bytes([m["database/fer.db"][-1] ^ 1])}
    ),
    "model": lambda m, _: m.update({first(m, "models/2025"): b"other weights"}),
    "lost member": lambda m, _: m.pop(first(m, "pictures/")),
    "lost database": lambda m, x: (
        m.pop("database/fer.db"), x["files"].pop("database/fer.db")  # type: ignore[attr-defined]
    ),
    "lost deletions": lambda m, x: (
        m.pop("deletions.json"), x["files"].pop("deletions.json")  # type: ignore[attr-defined]
    ),
    "member that nobody promised": lambda m, _: m.update({"pictures/happy/extra.jpg": b"x"}),
    "zip-slip": lambda m, x: agreed(m, x, "pictures/../../evil.jpg", b"x"),
    "zip-slip in a model": lambda m, x: agreed(m, x, "models/../evil.json", b"x"),
    "absolute name": lambda m, x: agreed(m, x, "/tmp/evil.jpg", b"x"),
    "backslashes": lambda m, x: agreed(m, x, "pictures/..\\..\\evil.jpg", b"x"),
    "hidden folder": lambda m, x: agreed(m, x, "pictures/.backups/evil.jpg", b"x"),
    "hidden model": lambda m, x: agreed(m, x, "models/.lock/manifest.json", b"x"),
    "no list of deletions": lambda m, x: agreed(m, x, "deletions.json", b"[]"),
    "hash of another kind": lambda _, x: x["files"].update(  # type: ignore[attr-defined]
        {"deletions.json": {"sha256": "../../etc", "bytes": 1}}
    ),
    "negative size": lambda _, x: x["files"]["deletions.json"].update(bytes=-1),  # type: ignore[index]
    "unknown database": lambda _, x: x.update(database="oracle"),
    "no files": lambda _, x: x.pop("files"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_backup_is_refused_before_anything_is_written(
    damage: str, made: Made, empty: Settings, tmp_path: Path
) -> None:
    with pytest.raises(BackupError):
        restore(rewritten(made.file, DAMAGES[damage]), empty)
    assert nothing_in(empty)
    assert not list(tmp_path.rglob("evil*"))


def test_an_unchanged_rewritten_backup_is_accepted(
    made: Made, empty: Settings, tmp_path: Path, clock: Clock
) -> None:
    """So that the damages above are what is refused."""
    changed = rewritten(made.file, lambda _m, _x: None)
    assert restore(changed, empty, clock=clock).verified.clean


def test_cut_off_backups_and_other_files_are_refused(
    made: Made, empty: Settings, tmp_path: Path
) -> None:
    out = made.file
    whole = out.read_bytes()
    cuts = [0, 1, 1000, len(whole) // 2, len(whole) - 1]
    for data in [*(whole[:cut] for cut in cuts), b"GIF89a" + bytes(99), b"PK\x05\x06" + bytes(18)]:
        out.write_bytes(data)
        with pytest.raises(BackupError):
            restore(out, empty)
    with pytest.raises(BackupError):
        restore(tmp_path / "nowhere.zip", empty)
    assert not empty.data_dir.exists()


def test_a_link_in_a_backup_is_refused(made: Made, empty: Settings, tmp_path: Path) -> None:
    out = made.file
    data = out.read_bytes()
    name = first(dict.fromkeys(zipfile.ZipFile(out).namelist(), b""), "pictures/").encode()
    # The attributes of a member stand 8 bytes before its name's end of the central directory.
    at = data.rindex(name) - 8
    attributes = struct.pack("<L", (stat.S_IFLNK | 0o777) << 16)
    out.write_bytes(data[:at] + attributes + data[at + 4 :])
    with pytest.raises(BackupError, match="leads elsewhere"):
        restore(out, empty)


def test_a_bomb_is_refused_for_its_size(
    made: Made,
    empty: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    usage = shutil.disk_usage(tmp_path)
    with ArchiveReader(made.file) as archive:
        room = usage._replace(free=archive.needs() - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: room)
    with pytest.raises(BackupError, match="has room for"):
        restore(made.file, empty)
    assert nothing_in(empty)


def test_a_member_larger_than_promised_is_not_read_to_its_end(
    made: Made, empty: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def grow(members: dict[str, bytes], manifest: dict[str, object]) -> None:
        members[first(members, "pictures/")] = bytes(30_000_000)

    bomb = rewritten(made.file, grow)
    unpacked = Unpacked(monkeypatch)
    with pytest.raises(BackupError, match="damaged"):
        restore(bomb, empty)
    assert unpacked.bytes < 10_000_000


def test_a_newer_versions_backup_is_refused_with_a_sentence(
    made: Made, empty: Settings, tmp_path: Path
) -> None:
    newer = rewritten(made.file, lambda _, x: x.update(revision="9999_from_tomorrow"))
    with pytest.raises(DatabaseVersionError, match="newer version"):
        restore(newer, empty)
    newer = rewritten(made.file, lambda _, x: x.update(format=2, program="9.0"))
    with pytest.raises(BackupError, match=r"newer version of this program \(9.0\)"):
        restore(newer, empty)
    assert nothing_in(empty)


def test_nothing_is_overwritten(made: Made, empty: Settings, tmp_path: Path, clock: Clock) -> None:
    out = made.file
    with pytest.raises(BackupError, match="not empty"):
        restore(out, made.store.settings)
    assert made.store.verify().clean

    stray = empty.data_dir / "happy" / "mine.jpg"
    stray.parent.mkdir(parents=True)
    stray.write_bytes(b"mine")
    with pytest.raises(BackupError, match="not empty"):
        restore(out, empty)
    assert stray.read_bytes() == b"mine"
    stray.unlink()

    version = make_version(empty.models_dir, favourite="sad", default=True)
    with pytest.raises(BackupError, match="Another model"):
        restore(out, empty)
    shutil.rmtree(empty.models_dir / version)
    # The shipped version lies in a fresh checkout already; it is left alone.
    shutil.copytree(made.registry.folder / version, empty.models_dir / version)
    report = restore(out, empty, clock=clock)
    assert len(report.models) == 1
    assert Registry(empty.models_dir).champion() == made.registry.champion()


def test_a_restore_that_fails_is_taken_back_and_can_be_repeated(
    made: Made,
    empty: Settings,
    tmp_path: Path,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for _ in range(3):
        out = made.file

    def full(*_: object) -> None:
        raise StorageError("The disk is full: nothing can be written.", reason="disk_full")

    with monkeypatch.context() as patch:
        patch.setattr("fer.collection.restoring._prepare", full)
        with pytest.raises(StorageError):
            restore(out, empty)
    assert nothing_in(empty)
    assert restore(out, empty, clock=clock).verified.clean


def test_a_server_that_waits_with_an_empty_database_sees_the_restored_one(
    made: Made, empty: Settings, tmp_path: Path, clock: Clock
) -> None:
    sample = Path(next(made.store.storage.list())).stem
    running = opened(empty, clock)
    running.database.migrate()
    assert running.size_bytes() > 0
    with running.database.session():
        # A connection stays open, as a server's do.
        restore(made.file, empty, clock=clock)
    assert running.get(sample).id == sample
    receipt = running.keep([new_sample()], group_id="g")
    assert running.verify().clean
    assert running.forget(receipt.code) == 1


def test_a_backup_that_fails_leaves_the_older_one(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = made.file
    older = out.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fer.collection.backup.deletions_to_json", full)
    with pytest.raises(BackupError, match="No space left"):
        backup(made.store, made.registry, out)
    assert out.read_bytes() == older
    assert [path.name for path in tmp_path.glob(".tmp*")] == []
    with pytest.raises(BackupError):
        backup(made.store, made.registry, tmp_path / "nowhere" / "b.zip")


@pytest.mark.postgres
def test_without_pg_dump_a_sentence_says_what_to_install(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = postgres_url()
    database = Database(url)
    monkeypatch.setattr(Database, "revision", lambda _: "0001")
    store = SampleStore(database, FolderStorage(tmp_path), Settings(_env_file=None), clock)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BackupError, match="pg_dump is not installed"):
        backup(store, two_versions(tmp_path / "models"), tmp_path / "b.zip")
    assert not (tmp_path / "b.zip").exists()
    database.close()


def test_lists_of_deletions_are_checked() -> None:
    good = deletions_to_json({"a" * 32: Clock().now}, Clock().now)
    assert deletions_from_json(good) == {"a" * 32: Clock().now}
    for wrong in (
        b"", b"{}", b"[]", b"null", b'{"fer_deletions": 2, "deleted": {}}', good[:-3],
        good.replace(b"a" * 32, b"../../etc"), good.replace(b"2025-06", b"yesterday"),
        b'{"fer_deletions": 1, "deleted": [1]}', b"\xff\xfe",
    ):  # fmt: skip
        with pytest.raises(BackupError):
            deletions_from_json(wrong)
