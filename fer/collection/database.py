"""The database: engine, sessions, migrations. SQLite in WAL mode, or PostgreSQL by URL."""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from filelock import FileLock, Timeout
from sqlalchemy import event
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session

from fer.collection import postgres
from fer.collection.tables import Fact, LabelEvent, Operator, PendingDeletion, Sample, TrainingRun
from fer.errors import ConfigError, DatabaseVersionError, StorageError

__all__ = [
    "Database",
    "Fact",
    "LabelEvent",
    "Operator",
    "PendingDeletion",
    "Sample",
    "TrainingRun",
]

_LOG = logging.getLogger(__name__)

MIGRATIONS = Path(__file__).parent / "migrations"

#: How long a writer waits for another one, in seconds, before it says that it could not.
BUSY_SECONDS = 15

#: Copies of a database from before its migrations; older ones go, they hold faces' hashes.
BACKUPS_KEPT = 3

# Any number will do, as long as all versions of this program take the same.
_MIGRATION_LOCK = 0x6665725F6D69


def _normalised(url: str) -> sa.URL:
    # Hosting services hand out `postgres://`, which names no driver that is installed here.
    for prefix in ("postgres://", "postgresql://"):
        if url.startswith(prefix):
            url = "postgresql+psycopg://" + url[len(prefix) :]
    try:
        parsed = sa.make_url(url)
    except ArgumentError as error:
        raise ConfigError("FER_DATABASE_URL is no database URL.") from error
    if parsed.get_backend_name() not in {"sqlite", "postgresql"}:
        raise ConfigError(
            f"FER_DATABASE_URL names {parsed.get_backend_name()}; sqlite and postgresql are known."
        )
    return parsed


class Database:
    """One database. Safe from several threads; cheap until the first session.

    Args:
        url: SQLAlchemy URL; `postgres://` and `postgresql://` mean psycopg 3.
        backups: where copies from before a migration go; without it beside SQLite's file, and
            nowhere for PostgreSQL.

    Raises:
        ConfigError: the URL cannot be used.
        StorageError: SQLite's folder cannot be made.
    """

    def __init__(self, url: str, backups: Path | None = None) -> None:
        self.url = _normalised(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self.path: Path | None = None
        self._inode: int | None = None
        self._device: int | None = None
        self._reopening = threading.Lock()
        if self.is_sqlite:
            if self.url.database in (None, "", ":memory:"):
                raise ConfigError("FER_DATABASE_URL must name a file: what is kept must last.")
            self.path = Path(str(self.url.database)).absolute()
            self._make_file()
            backups = backups or self.path.parent / ".backups"
        self.backups = backups
        self.engine = self._make_engine()

    # Sessions

    @contextmanager
    def session(self, *, write: bool = False) -> Iterator[Session]:
        """A session in one transaction, committed at the end and rolled back on any error.

        Args:
            write: take SQLite's write lock from the start (`BEGIN IMMEDIATE`), so that what is
                read cannot change before it is written. Needed for whatever writes.

        Raises:
            StorageError: the database refused or cannot be reached; nothing was written, unless
                `details["unknown"]` is true: then the answer to the commit was lost.
        """
        self._check_file()
        committing = False
        engine = self.engine.execution_options(fer_write=True) if write else self.engine
        try:
            with Session(engine, expire_on_commit=False) as session:
                if write:
                    session.connection()  # The lock is taken here, not at the first statement.
                yield session
                committing = True
                session.commit()
        except (DBAPIError, PoolTimeoutError) as error:
            if isinstance(error, DBAPIError) and not _is_refusal(error):
                raise
            raise _storage_error(error, unknown=committing and not self.is_sqlite) from error

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    # Migrations

    def migrate(self, *, back_up: bool = True) -> None:
        """Bring the tables to this program's version; safe when several processes do it at once.

        A database that holds something is copied to `backups` first: SQLite by its own online
        backup, PostgreSQL by `pg_dump` where that is installed.

        Raises:
            DatabaseVersionError: the database was made by a newer version of this program.
            StorageError: the database refused or cannot be reached.
        """
        self._check_file(reopen=False)
        try:
            with self._migration_lock(), self.engine.connect() as connection:
                script = ScriptDirectory.from_config(self.alembic_config())
                current = self._revision(connection)
                connection.rollback()
                if current is not None and not _knows(script, current):
                    raise DatabaseVersionError(
                        "The database was made by a newer version of this program "
                        f"(revision {current}); upgrade the program or restore a backup.",
                        revision=current,
                    )
                if current == script.get_current_head():
                    return
                if current is not None and back_up:
                    self._back_up(current)
                config = self.alembic_config()
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
        except Timeout as error:
            raise StorageError(
                "Another process has been migrating the database for a long time.",
                reason="database",
            ) from error
        except (DBAPIError, PoolTimeoutError) as error:
            raise _storage_error(error) from error
        except (OSError, sqlite3.Error) as error:
            why = getattr(error, "strerror", None) or error
            raise StorageError(
                f"The database cannot be migrated: {why}.", reason="database"
            ) from error

    def revision(self) -> str | None:
        """The revision that the tables are at, or None when there are none."""
        with self.engine.connect() as connection:
            return self._revision(connection)

    def knows(self, revision: str) -> bool:
        """Whether this program has a revision, of this database or of a backup."""
        return _knows(ScriptDirectory.from_config(self.alembic_config()), revision)

    def alembic_config(self) -> Config:
        """Alembic's configuration, which works from any working directory."""
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
        config.attributes["engine"] = self.engine
        return config

    @staticmethod
    def _revision(connection: sa.Connection) -> str | None:
        return MigrationContext.configure(connection).get_current_revision()

    @contextmanager
    def _migration_lock(self) -> Iterator[None]:
        if self.path is not None:
            with FileLock(self.path.with_name(self.path.name + ".migrate.lock"), timeout=300):
                yield
            return
        with self.engine.connect() as connection:
            connection.execute(sa.select(sa.func.pg_advisory_lock(_MIGRATION_LOCK)))
            try:
                yield
            finally:
                # Given back by hand: the connection goes to the pool, not to its end.
                connection.execute(sa.select(sa.func.pg_advisory_unlock(_MIGRATION_LOCK)))
                connection.commit()

    def drop_copies(self, before: datetime) -> int:
        """Delete copies from before migrations that are older than `before`; how many.

        They hold rows of samples that were forgotten or expired since.
        """
        count = 0
        for copy in self._copies():
            try:
                if copy.stat().st_mtime < before.timestamp():
                    copy.unlink()
                    count += 1
            except OSError as error:
                raise StorageError(
                    f"The old copy {copy} cannot be deleted: {error.strerror or error}.",
                    reason="database",
                ) from error
        return count

    def _copies(self) -> list[Path]:
        if self.backups is None or not self.backups.is_dir():
            return []
        return sorted(path for path in self.backups.iterdir() if path.suffix in {".db", ".dump"})

    def _back_up(self, revision: str) -> None:
        if self.backups is None:
            _LOG.warning("The database is upgraded without a backup: no folder is set for one.")
            return
        self.backups.mkdir(mode=0o700, parents=True, exist_ok=True)
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%fZ")
        stem = "fer" if self.path is None else self.path.stem
        suffix = ".db" if self.is_sqlite else ".dump"
        target = self.backups / f"{stem}-{stamp}-{revision}{suffix}"
        part = target.with_suffix(".part")
        try:
            if self.path is not None:
                copy_sqlite(self.path, part)
            else:
                with self.engine.connect() as connection:
                    schema = postgres.schema_of(connection)
                postgres.dump(self.url, schema, part)
        except postgres.MissingToolError as error:
            part.unlink(missing_ok=True)
            _LOG.warning("The database is upgraded without a backup: %s", error.message)
            return
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        os.replace(part, target)
        for old in self._copies()[:-BACKUPS_KEPT]:
            old.unlink()

    # SQLite's file

    def _make_file(self) -> None:
        if self.path is None:
            return
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Made here so that nobody else on the machine can read it, nor its WAL.
            self.path.touch(mode=0o600, exist_ok=True)
            self._inode = self.path.stat().st_ino
            self._device = self.path.parent.stat().st_dev
        except OSError as error:
            raise StorageError(
                f"The database {self.path} cannot be made: {error.strerror or error}.",
                reason="database",
            ) from error

    def _check_file(self, *, reopen: bool = True) -> None:
        """Never write into a file that was deleted or replaced under the open connections."""
        if self.path is None:
            return
        try:
            inode = self.path.stat().st_ino
        except OSError:
            inode = None
        if inode == self._inode:
            return
        if not self.path.parent.is_dir():
            raise StorageError("The folder of the database is gone.", reason="removed")
        if self.path.parent.stat().st_dev != self._device:
            # A new database here would be hidden as soon as the disk is back.
            raise StorageError("The disk of the database is gone.", reason="removed")
        with self._reopening:
            try:
                known = self.path.stat().st_ino == self._inode
            except OSError:
                known = False
            if known:
                return
            self.engine.dispose()
            self._make_file()
            if reopen:
                self.migrate()

    def _make_engine(self) -> sa.Engine:
        if not self.is_sqlite:
            return sa.create_engine(
                self.url,
                pool_pre_ping=True,
                pool_size=5,
                max_overflow=15,
                pool_timeout=BUSY_SECONDS,
            )
        engine = sa.create_engine(
            self.url,
            pool_size=5,
            max_overflow=35,
            pool_timeout=BUSY_SECONDS,
            connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False},
        )
        event.listen(engine, "connect", _set_up_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine


def copy_sqlite(source: Path, target: Path) -> None:
    """Copy a SQLite database that others may be writing, as it is at one moment.

    Args:
        target: a file of its own, readable by its owner alone if it is new; what it holds is
            replaced in one transaction, under the eyes of those who have it open.
    """
    target.touch(mode=0o600)
    reading, writing = sqlite3.connect(source), sqlite3.connect(target, timeout=BUSY_SECONDS)
    try:
        reading.backup(writing)
    finally:
        reading.close()
        writing.close()


def _knows(script: ScriptDirectory, revision: str) -> bool:
    return any(entry.revision == revision for entry in script.walk_revisions())


def _set_up_sqlite(connection: Any, _record: object) -> None:
    # The driver must not open transactions by itself: `_begin_sqlite` says which kind.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    # FULL: a commit that was acknowledged survives a power cut, not only a killed process.
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    # What is forgotten is overwritten, not only unlinked, inside the file.
    cursor.execute("PRAGMA secure_delete=ON")
    cursor.execute("PRAGMA cache_size=-32768")
    cursor.close()


def _begin_sqlite(connection: sa.Connection) -> None:
    write = connection.get_execution_options().get("fer_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def _is_refusal(error: DBAPIError) -> bool:
    """Whether the database could not do it, in contrast to a statement that makes no sense."""
    return isinstance(error, sa.exc.OperationalError | sa.exc.InternalError) or bool(
        error.connection_invalidated
    )


def _storage_error(error: SQLAlchemyError, unknown: bool = False) -> StorageError:
    text = str(getattr(error, "orig", None) or error).splitlines()[0]
    if "locked" in text:
        reason, sentence = "database_locked", "The database is busy; try again."
    elif "full" in text or "No space" in text:
        reason, sentence = "disk_full", "The disk is full: nothing can be written."
    elif "readonly" in text or "read-only" in text:
        reason, sentence = "read_only", "The database is read-only: nothing can be written."
    else:
        reason, sentence = "database", f"The database cannot be used: {text}."
    return StorageError(sentence, reason=reason, unknown=unknown)
