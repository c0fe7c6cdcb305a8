"""Backups: what comes back is what was there, and who was forgotten stays forgotten."""

from __future__ import annotations

import hashlib
import shutil
import stat
import uuid
import zipfile
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from argon2 import PasswordHasher

from fer.collection.backup import backup
from fer.collection.database import Database
from fer.collection.deletion import deleted_samples, deletions_from_json, deletions_to_json
from fer.collection.operator_sessions import OperatorSessions
from fer.collection.operators import Operators
from fer.collection.restoring import restore
from fer.collection.review import ReviewQueue
from fer.collection.samples import SampleStore
from fer.collection.storage import FolderStorage
from fer.collection.tables import Base, OperatorSession, Sample
from fer.config import Settings
from fer.errors import UnknownReceiptError
from fer.registry import Registry
from tests.collection.backup_support import files, opened, two_versions
from tests.collection.conftest import postgres_url
from tests.collection.support import Clock, keep, new_sample


@pytest.fixture
def elsewhere(database_url: str, tmp_path: Path) -> Iterator[Settings]:
    """Settings of another machine: empty folders, and an empty database of the same kind."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()

    def settings(url: str) -> Settings:
        return Settings(
            _env_file=None,
            data_dir=folder / "data",
            models_dir=folder / "models",
            database_url=url,
            audit_share=0.0,
        )

    if database_url.startswith("sqlite"):
        yield settings(f"sqlite:///{folder / 'data' / 'fer.db'}")
        return
    if shutil.which("pg_dump") is None:
        pytest.skip("pg_dump is not installed")
    server = postgres_url()
    schema = database_url.rpartition("%3D")[2]
    name = f"r_{uuid.uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    other = sa.make_url(server).set(database=name).render_as_string(hide_password=False)
    with psycopg.connect(other, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {schema}")
    yield settings(f"{other}?options=-csearch_path%3D{schema}")
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return two_versions(tmp_path / "models")


def collect(store: SampleStore) -> dict[str, str]:
    """Something of everything; receipts by name."""
    receipts = {}
    for name, label in (("a", "happy"), ("b", "sad"), ("c", "angry"), ("gone", "happy")):
        receipts[name] = store.keep([new_sample(label), new_sample("neutral")], group_id=name).code
    store.suggest(receipts["a"], "sad", store.of_receipt(receipts["a"])[0].id)
    Operators(store.database, hasher=PasswordHasher(1, 8, 1)).add("ada", "a long password")
    face = ReviewQueue(store.database, store.settings, store.clock).next("ada", "newest", 1)[0]
    ReviewQueue(store.database, store.settings, store.clock).decide(
        face.id, "ada", "relabel", row_version=face.row_version, label="sad", sitting="s"
    )
    store.forget(receipts.pop("gone"))
    return receipts


def rows(database: Database) -> dict[str, list[tuple[object, ...]]]:
    """Every row of every table but the operators' sessions."""
    with database.engine.connect() as connection:
        return {
            table.name: sorted(
                (tuple(row) for row in connection.execute(sa.select(table))), key=repr
            )
            for table in Base.metadata.sorted_tables
            if table.name != OperatorSession.__tablename__
        }


def test_every_byte_comes_back(
    store: SampleStore, registry: Registry, elsewhere: Settings, tmp_path: Path, clock: Clock
) -> None:
    receipts = collect(store)
    out = tmp_path / "backup.zip"
    made = backup(store, registry, out)
    assert (made.pictures, len(made.models), made.missing, made.forgotten) == (6, 2, [], 0)
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.glob(".tmp*")] == []

    report = restore(out, elsewhere, clock=clock)
    assert report.verified.clean and report.verified.checked == 6
    assert (report.pictures, report.forgotten, report.expired) == (6, 0, 0)
    other = opened(elsewhere, clock)
    assert rows(other.database) == rows(store.database)
    assert files(elsewhere.data_dir) == files(store.settings.data_dir)
    assert len(files(elsewhere.data_dir)) == 6
    assert files(elsewhere.models_dir) == files(registry.folder)
    assert Registry(elsewhere.models_dir).champion() == registry.champion()
    # It goes on where it stopped: receipts hold, numbers of events are not used again.
    before = max(event.id for event in other.events(other.of_receipt(receipts["a"])[0].id))
    other.suggest(receipts["a"], "angry", other.of_receipt(receipts["a"])[0].id)
    after = max(event.id for event in other.events(other.of_receipt(receipts["a"])[0].id))
    assert after > before
    assert other.forget(receipts["b"]) == 2
    other.database.close()


def test_operators_must_sign_in_again(
    store: SampleStore, registry: Registry, elsewhere: Settings, tmp_path: Path, clock: Clock
) -> None:
    collect(store)
    sessions = OperatorSessions(store.database)
    token = sessions.open("ada")
    assert sessions.find(token) is not None
    backup(store, registry, tmp_path / "b.zip")
    restore(tmp_path / "b.zip", elsewhere, clock=clock)
    other = opened(elsewhere, clock)
    assert OperatorSessions(other.database).find(token) is None
    other.database.close()


class Meanwhile:
    """A storage during whose first read something happens."""

    def __init__(self, inner: FolderStorage, happens: Callable[[], object]) -> None:
        self._inner, self._happens = inner, happens
        self._done = False

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)

    def read(self, path: str) -> bytes:
        if not self._done:
            self._done = True
            self._happens()
        return self._inner.read(path)


def test_what_happens_meanwhile_leaves_no_row_without_its_file(
    store: SampleStore, registry: Registry, elsewhere: Settings, tmp_path: Path, clock: Clock
) -> None:
    receipts = collect(store)
    inner = store.storage

    def visitors() -> None:
        store.keep([new_sample("happy")], group_id="late")
        store.forget(receipts["c"])

    watched = SampleStore(store.database, Meanwhile(inner, visitors), store.settings, clock)  # type: ignore[arg-type]
    made = backup(watched, registry, tmp_path / "b.zip")
    assert (made.forgotten, made.missing) == (2, [])
    report = restore(tmp_path / "b.zip", elsewhere, clock=clock)
    assert report.verified.clean
    assert report.forgotten == 2
    other = opened(elsewhere, clock)
    with pytest.raises(UnknownReceiptError):
        other.of_receipt(receipts["c"])
    assert len(other.of_receipt(receipts["a"])) == 2
    other.database.close()


def test_the_forgotten_stay_forgotten(
    store: SampleStore, registry: Registry, elsewhere: Settings, tmp_path: Path, clock: Clock
) -> None:
    receipts = collect(store)
    gone = store.of_receipt(receipts["a"])
    backup(store, registry, tmp_path / "b.zip")
    clock.forward(hours=3)
    store.forget(receipts["a"])
    late = keep(store)
    store.delete([late])
    listed = deletions_to_json(deleted_samples(store.database), clock())
    pictures = {hashlib.sha256(b"").hexdigest()}
    with zipfile.ZipFile(tmp_path / "b.zip") as archive:
        pictures |= {
            hashlib.sha256(archive.read(f"pictures/{view.path}")).hexdigest() for view in gone
        }
    clock.forward(hours=1)
    report = restore(tmp_path / "b.zip", elsewhere, deletions_from_json(listed), clock)
    assert report.forgotten == 2 and report.verified.clean
    other = opened(elsewhere, clock)
    with pytest.raises(UnknownReceiptError):
        other.of_receipt(receipts["a"])
    for view in gone:
        found = other.get(view.id)
        assert (found.status, found.path, found.probabilities) == ("deleted", None, None)
        with other.database.session() as session:
            # When it was forgotten, not when it was restored.
            assert session.get_one(Sample, view.id).deleted_at == clock.now - timedelta(hours=1)
    assert not pictures & set(files(elsewhere.data_dir).values())
    other.database.close()


def test_what_expired_since_is_not_kept(
    store: SampleStore, registry: Registry, elsewhere: Settings, tmp_path: Path, clock: Clock
) -> None:
    keep(store)
    clock.forward(days=20)
    stays = keep(store)
    backup(store, registry, tmp_path / "b.zip")
    clock.forward(days=11)
    report = restore(tmp_path / "b.zip", elsewhere, clock=clock)
    assert report.expired == 1
    assert [Path(name).stem for name in files(elsewhere.data_dir)] == [stays]


def test_a_lost_picture_is_told_and_the_rest_is_saved(
    store: SampleStore, registry: Registry, elsewhere: Settings, tmp_path: Path, clock: Clock
) -> None:
    lost, stays = keep(store), keep(store)
    (store.settings.data_dir / str(store.get(lost).path)).unlink()
    made = backup(store, registry, tmp_path / "b.zip")
    assert made.missing == [lost]
    report = restore(tmp_path / "b.zip", elsewhere, clock=clock)
    assert report.verified.missing == [lost]
    assert [Path(name).stem for name in files(elsewhere.data_dir)] == [stays]
