"""Migrations, sessions, and faults of the database."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import threading
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from fer.collection.database import Database
from fer.collection.samples import SampleStore
from fer.collection.tables import Base, Operator
from fer.errors import ConfigError, DatabaseVersionError, StorageError
from tests.collection.support import keep


def differences(database: Database) -> list[object]:
    with database.engine.connect() as connection:
        return list(compare_metadata(MigrationContext.configure(connection), Base.metadata))


def operator(name: str, at: datetime) -> Operator:
    return Operator(name=name, password_hash="-", role="admin", created_at=at)


def test_the_migrations_give_exactly_the_models(database: Database) -> None:
    assert differences(database) == []


def test_migrations_go_down_and_up_again(database: Database) -> None:
    config = database.alembic_config()
    command.downgrade(config, "base")
    with database.engine.connect() as connection:
        left = set(sa.inspect(connection).get_table_names())
    assert left == {"alembic_version"}
    database.migrate()
    assert differences(database) == []


def test_two_processes_may_migrate_at_once(database_url: str) -> None:
    errors: list[BaseException] = []
    start = threading.Barrier(4)

    def migrate() -> None:
        # A Database of its own holds locks and connections of its own, as a process does.
        own = Database(database_url)
        start.wait()
        try:
            own.migrate()
        except BaseException as error:
            errors.append(error)
        finally:
            own.close()

    threads = [threading.Thread(target=migrate) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    database = Database(database_url)
    assert database.revision() is not None
    assert differences(database) == []
    database.close()


def test_a_database_from_a_newer_program_is_refused(database: Database) -> None:
    with database.engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(DatabaseVersionError, match="9999"):
        database.migrate()
    assert database.revision() == "9999"


def test_times_come_back_as_they_went_in(database: Database) -> None:
    at = datetime(2025, 3, 30, 1, 30, 0, 123456, tzinfo=timezone(timedelta(hours=7)))
    with database.session(write=True) as session:
        session.add(operator("ana", at))
    with database.session() as session:
        held = session.get_one(Operator, "ana").created_at
    assert held == at
    assert held.utcoffset() == timedelta(0)
    with pytest.raises(sa.exc.StatementError), database.session(write=True) as session:
        session.add(operator("ben", datetime(2025, 1, 1)))


def test_an_error_rolls_everything_back(database: Database) -> None:
    with pytest.raises(RuntimeError), database.session(write=True) as session:
        session.add(operator("ana", datetime.now(UTC)))
        session.flush()
        raise RuntimeError
    with database.session() as session:
        assert session.get(Operator, "ana") is None


@pytest.mark.parametrize("url", ["nonsense", "mysql://u@h/d", "sqlite://", "sqlite:///:memory:"])
def test_urls_that_cannot_be_used_are_refused(url: str) -> None:
    with pytest.raises(ConfigError):
        Database(url)


def test_both_spellings_of_postgres_mean_psycopg() -> None:
    for prefix in ("postgres", "postgresql"):
        assert Database(f"{prefix}://u:p@h/d").engine.dialect.driver == "psycopg"


# SQLite's file


def sqlite_database(folder: Path) -> Database:
    database = Database(f"sqlite:///{folder / 'fer.db'}")
    database.migrate()
    return database


def test_sqlite_is_set_up_so_that_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    database = sqlite_database(tmp_path)
    with database.engine.connect() as connection:
        pragmas = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "secure_delete")
        }
    assert pragmas == {
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "secure_delete": 1,
    }
    assert (tmp_path / "fer.db").stat().st_mode & 0o077 == 0
    database.close()


def make_older(database: Database, folder: Path) -> None:
    """Let a database be that of an older program: its revision is known, and not the newest.

    A revision of our own stands in for the next one, so that tests hold whatever there are.
    """
    versions = folder / "scripts"
    shutil.copytree(Path(database.alembic_config().get_main_option("script_location")), versions)
    (versions / "versions" / "9000_next.py").write_text(
        f"revision = '9000'\ndown_revision = {database.revision()!r}\n"
        "branch_labels = None\ndepends_on = None\n"
        "def upgrade(): pass\ndef downgrade(): pass\n"
    )
    config = database.alembic_config()
    config.set_main_option("script_location", str(versions))
    database.alembic_config = lambda: config  # type: ignore[method-assign]


def test_a_sqlite_file_is_backed_up_before_it_is_migrated(tmp_path: Path) -> None:
    database = sqlite_database(tmp_path)
    with database.session(write=True) as session:
        session.add(operator("ana", datetime.now(UTC)))
    assert not (tmp_path / ".backups").exists(), "an empty file needs no copy"
    make_older(database, tmp_path)
    database.migrate()
    assert database.revision() == "9000"
    (copy,) = (tmp_path / ".backups").glob("*.db")
    assert copy.stat().st_mode & 0o077 == 0
    with sqlite3.connect(copy) as connection:
        assert connection.execute("SELECT name FROM operators").fetchall() == [("ana",)]
    database.close()


@pytest.mark.postgres
@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
def test_a_postgresql_database_is_dumped_before_it_is_migrated(
    database: Database,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    if shutil.which("pg_dump") is None:
        pytest.skip("pg_dump is not installed")
    with database.session(write=True) as session:
        session.add(operator("ana", datetime.now(UTC)))
    database.backups = tmp_path / ".backups"
    known = database.revision()
    make_older(database, tmp_path)
    with monkeypatch.context() as patch:
        patch.setenv("PATH", str(tmp_path))
        database.migrate()
    assert "without a backup: pg_dump is not installed" in caplog.text
    assert list(database.backups.iterdir()) == []
    with database.engine.begin() as connection:
        connection.execute(
            sa.text("UPDATE alembic_version SET version_num = :known"), {"known": known}
        )
    database.migrate()
    (copy,) = database.backups.iterdir()
    assert copy.suffix == ".dump" and copy.stat().st_mode & 0o077 == 0
    done = subprocess.run(
        ["pg_restore", "--file=-", str(copy)], capture_output=True, text=True, check=True
    )
    assert "ana" in done.stdout


def test_a_failed_migration_leaves_the_tables_as_they_were(tmp_path: Path) -> None:
    database = sqlite_database(tmp_path)
    before = database.revision()
    versions = tmp_path / "scripts"
    shutil.copytree(Path(database.alembic_config().get_main_option("script_location")), versions)
    (versions / "versions" / "9000_next.py").write_text(
        f"from alembic import op\nrevision = '9000'\ndown_revision = {before!r}\n"
        "branch_labels = None\ndepends_on = None\n"
        "def upgrade():\n    op.execute('CREATE TABLE half (a INTEGER)')\n    raise RuntimeError\n"
        "def downgrade(): pass\n"
    )
    config = database.alembic_config()
    config.set_main_option("script_location", str(versions))
    database.alembic_config = lambda: config  # type: ignore[method-assign]
    with pytest.raises(RuntimeError):
        database.migrate()
    assert database.revision() == before
    assert differences(database) == []
    database.close()


def test_a_locked_database_says_so_and_recovers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fer.collection.database.BUSY_SECONDS", 0.05)
    database = sqlite_database(tmp_path)
    other = sqlite3.connect(tmp_path / "fer.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StorageError) as refused, database.session(write=True):
        pass
    assert refused.value.details["reason"] == "database_locked"
    other.execute("ROLLBACK")
    other.close()
    with database.session(write=True) as session:
        session.add(operator("ana", datetime.now(UTC)))
    database.close()


def test_a_removed_folder_refuses_and_its_return_is_noticed(
    store: SampleStore, tmp_path: Path
) -> None:
    kept = keep(store)
    folder, aside = tmp_path / "data", tmp_path / "aside"
    folder.rename(aside)
    with pytest.raises(StorageError) as refused:
        keep(store)
    assert refused.value.details["reason"] == "removed"
    assert not folder.exists(), "no new folder in the place of a lost one"
    aside.rename(folder)
    keep(store)
    assert store.get(kept).status == "pending"
    assert store.verify().clean


def test_a_new_sqlite_file_in_place_of_a_lost_one_is_migrated(tmp_path: Path) -> None:
    database = sqlite_database(tmp_path / "data")
    shutil.rmtree(tmp_path / "data")
    with pytest.raises(StorageError), database.session():
        pass
    (tmp_path / "data").mkdir()
    with database.session(write=True) as session:
        session.add(operator("ana", datetime.now(UTC)))
    with sqlite3.connect(tmp_path / "data" / "fer.db") as connection:
        assert connection.execute("SELECT name FROM operators").fetchall() == [("ana",)]
    database.close()
