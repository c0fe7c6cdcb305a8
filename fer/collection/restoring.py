"""Restoring a backup: into an empty collection, and without those who were forgotten since."""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import sqlalchemy as sa

from fer.collection import postgres
from fer.collection.archive import (
    DELETIONS,
    MODELS,
    PICTURES,
    POINTERS,
    POSTGRES,
    SQLITE,
    ArchiveReader,
)
from fer.collection.database import Database, copy_sqlite
from fer.collection.deletion import delete_again, deletions_from_json, finish_deletions
from fer.collection.samples import Clock, SampleStore, utc_now
from fer.collection.storage import FolderStorage
from fer.collection.tables import LabelEvent, Operator, OperatorSession, Sample, TrainingRun
from fer.collection.verification import VerifyReport
from fer.config import Settings
from fer.errors import BackupError, DatabaseVersionError
from fer.files import fsync_folder, write_atomically
from fer.registry import MANIFEST as MODEL_MANIFEST
from fer.registry import Registry


@dataclass
class RestoreReport:
    """What came out of a backup.

    Attributes:
        pictures: how many were written.
        models: versions that were written; those that were there already are not counted.
        forgotten: samples deleted since the backup was made, which stay deleted.
        expired: samples whose retention ended since.
        verified: every row compared with its file afterwards.
    """

    pictures: int
    models: list[str]
    forgotten: int
    expired: int
    verified: VerifyReport


def restore(
    source: Path,
    settings: Settings,
    later_deletions: Mapping[str, datetime] | None = None,
    clock: Clock = utc_now,
) -> RestoreReport:
    """Put a backup back, into an empty data folder and an empty database.

    Everything is checked before the first byte is written. Of samples that the backup's list of
    deletions or `later_deletions` names, no picture is written, and their rows are blanked; so
    are those whose retention is over. Operators have to sign in again. What fails halfway is
    taken back.

    Raises:
        BackupError: the backup is damaged or of another kind of database, the disk has no room,
            something is there already, or `pg_restore` is missing or failed.
        DatabaseVersionError: the backup is from a newer version of this program.
        StorageError: disk or database refused.
    """
    with ArchiveReader(source) as archive:
        archive.verify()
        manifest = archive.manifest
        deleted = {**deletions_from_json(archive.read(DELETIONS)), **(later_deletions or {})}
        storage = FolderStorage(settings.data_dir)
        database = Database(settings.effective_database_url, settings.data_dir / ".backups")
        try:
            _check_kind(archive, database)
            _check_empty(database, storage)
            registry = Registry(settings.models_dir)
            versions = _check_models(archive, registry)
            archive.check_room(settings.data_dir)
            with storage.alone(), _taken_back(storage, registry) as (pictures, models):
                _restore_pictures(archive, storage, deleted, pictures)
                _restore_models(archive, registry, versions, models)
                if manifest.database == "sqlite":
                    forgotten = _restore_sqlite(archive, database, deleted)
                else:
                    forgotten = _restore_postgres(archive, database, deleted)
            _restore_pointers(archive, registry)
            finish_deletions(database, storage)
            store = SampleStore(database, storage, settings, clock)
            expired = store.expire()
            report = store.verify()
        finally:
            database.close()
    return RestoreReport(len(pictures), models, forgotten, expired, report)


def _check_kind(archive: ArchiveReader, database: Database) -> None:
    manifest = archive.manifest
    own = "sqlite" if database.is_sqlite else "postgresql"
    if manifest.database != own:
        raise BackupError(
            f"The backup holds a {manifest.database} database and FER_DATABASE_URL names {own}."
        )
    held = SQLITE if database.is_sqlite else POSTGRES
    if held not in manifest.files or DELETIONS not in manifest.files:
        raise BackupError(f"The backup {archive.path} is not whole: it lacks {held}.")
    if not database.knows(manifest.revision):
        raise DatabaseVersionError(
            "The backup was made by a newer version of this program "
            f"(revision {manifest.revision}); upgrade the program first.",
            revision=manifest.revision,
        )
    if not database.is_sqlite:
        with database.engine.connect() as connection:
            schema = postgres.schema_of(connection)
        if schema != manifest.schema_name:
            raise BackupError(
                f"The backup's tables lie in the schema {manifest.schema_name}, those of "
                f"FER_DATABASE_URL in {schema}."
            )


def _check_empty(database: Database, storage: FolderStorage) -> None:
    """Nothing is ever overwritten: two collections cannot be told apart afterwards."""
    with database.engine.connect() as connection:
        tables = set(sa.inspect(connection).get_table_names())
        for model in (Sample, LabelEvent, TrainingRun, Operator):
            name = model.__tablename__
            if name in tables and connection.scalar(sa.select(sa.func.count()).select_from(model)):
                raise BackupError(
                    f"The database is not empty ({name}): a backup is restored into an empty one."
                )
    found = next(storage.list(), None)
    if found is not None:
        raise BackupError(
            f"The folder {storage.root} is not empty ({found}): a backup is restored into an "
            "empty one; move the old one away."
        )


def _check_models(archive: ArchiveReader, registry: Registry) -> list[str]:
    """Versions of the archive that are not there yet; those that are must be the same."""
    found: dict[str, dict[str, str]] = {}
    for name, member in archive.manifest.files.items():
        if name.startswith(MODELS) and name not in POINTERS:
            _, version, file = name.split("/")
            found.setdefault(version, {})[file] = member.sha256
    for version in sorted(set(found) & set(registry.versions())):
        own = (registry.path(version) / MODEL_MANIFEST).read_bytes()
        # A version's manifest holds the hashes of its files.
        if hashlib.sha256(own).hexdigest() != found[version].get(MODEL_MANIFEST):
            raise BackupError(f"Another model {version} is in {registry.folder} already.")
    return sorted(set(found) - set(registry.versions()))


@contextmanager
def _taken_back(
    storage: FolderStorage, registry: Registry
) -> Iterator[tuple[list[str], list[str]]]:
    """Lists of pictures and versions that were written; on any error they are removed again."""
    pictures: list[str] = []
    models: list[str] = []
    try:
        yield pictures, models
    except BaseException:
        for path in pictures:
            storage.delete(path)
        for version in models:
            shutil.rmtree(registry.folder / version, ignore_errors=True)
        raise


def _restore_pictures(
    archive: ArchiveReader,
    storage: FolderStorage,
    deleted: Mapping[str, datetime],
    written: list[str],
) -> None:
    for name in archive.manifest.files:
        path = name.removeprefix(PICTURES)
        if path != name and Path(path).stem not in deleted:
            written.append(path)
            storage.write(path, archive.read(name))


def _restore_models(
    archive: ArchiveReader, registry: Registry, versions: list[str], written: list[str]
) -> None:
    registry.folder.mkdir(parents=True, exist_ok=True)
    for version in versions:
        written.append(version)
        folder = registry.folder / version
        folder.mkdir()
        prefix = f"{MODELS}{version}/"
        names = [name for name in archive.manifest.files if name.startswith(prefix)]
        # The manifest makes it a version, so it comes last.
        for name in sorted(names, key=lambda name: name == prefix + MODEL_MANIFEST):
            archive.extract(name, folder / name.removeprefix(prefix))
        fsync_folder(folder)
    fsync_folder(registry.folder)


def _restore_pointers(archive: ArchiveReader, registry: Registry) -> None:
    for name in POINTERS:
        target = registry.folder / name.removeprefix(MODELS)
        if name in archive.manifest.files and not target.exists():
            write_atomically(target, archive.read(name))


def _restore_sqlite(
    archive: ArchiveReader, database: Database, deleted: Mapping[str, datetime]
) -> int:
    """Prepare the database beside its place, then put it there in one transaction."""
    if database.path is None:
        raise BackupError("FER_DATABASE_URL names no SQLite file.")
    with tempfile.TemporaryDirectory(prefix=".restore-", dir=database.path.parent) as folder:
        staged = Path(folder) / "fer.db"
        archive.extract(SQLITE, staged)
        prepared = Database(f"sqlite:///{staged}")
        try:
            forgotten = _prepare(prepared, deleted)
        finally:
            prepared.close()
        database.close()
        try:
            copy_sqlite(staged, database.path)
        except sqlite3.Error as error:
            raise BackupError(f"The database cannot be restored: {error}.") from error
    return forgotten


def _restore_postgres(
    archive: ArchiveReader, database: Database, deleted: Mapping[str, datetime]
) -> int:
    with tempfile.TemporaryDirectory(prefix=".restore-", dir=archive.path.parent) as folder:
        dumped = Path(folder) / "fer.dump"
        archive.extract(POSTGRES, dumped)
        database.close()
        postgres.restore(database.url, dumped)
    return _prepare(database, deleted)


def _prepare(database: Database, deleted: Mapping[str, datetime]) -> int:
    """Bring a restored database up to date, and forget what has to be; how many."""
    database.migrate(back_up=False)
    forgotten = delete_again(database, deleted)
    with database.session(write=True) as session:
        session.execute(sa.delete(OperatorSession))
    return forgotten
