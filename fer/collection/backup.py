"""Backups: database, pictures, models and pointers in one file, made beside a running server.

The database is taken first, as it is at one moment, and then the pictures that its rows name:
a picture is on the disk before its row is, so that each of these rows had its file at that
moment. The other way round, what was kept meanwhile would have rows without files. What is
forgotten meanwhile is missing from the pictures and stands in the list of deletions, which is
taken last and which `restore` applies.

What a backup leaves out: the key of session groups, which is destroyed every month, and settings.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field
from pathlib import Path

import sqlalchemy as sa
from filelock import Timeout

from fer import __version__
from fer.collection import postgres
from fer.collection.archive import (
    DELETIONS,
    MODELS,
    PICTURES,
    POINTERS,
    POSTGRES,
    SQLITE,
    ArchiveManifest,
    ArchiveWriter,
    new_archive,
)
from fer.collection.database import Database, copy_sqlite
from fer.collection.deletion import deleted_samples, deletions_to_json
from fer.collection.samples import SampleStore
from fer.collection.tables import Sample
from fer.errors import BackupError, StorageError
from fer.registry import Registry


@dataclass
class BackupReport:
    """What went into a backup.

    Attributes:
        pictures: how many.
        models: the versions.
        forgotten: samples that were deleted while the backup was made.
        missing: samples whose picture is lost; `fer samples verify` tells more.
        bytes: size of the file.
    """

    pictures: int = 0
    models: list[str] = field(default_factory=list)
    forgotten: int = 0
    missing: list[str] = field(default_factory=list)
    bytes: int = 0


def backup(store: SampleStore, registry: Registry, out: Path) -> BackupReport:
    """Write a backup to `out`. A server may go on keeping, deciding and forgetting.

    Raises:
        BackupError: `out` cannot be written, or PostgreSQL's `pg_dump` is missing or failed.
        StorageError: the database cannot be read.
    """
    report = BackupReport()
    revision = store.database.revision()
    if revision is None:
        raise BackupError("There is nothing to back up: the database has no tables.")
    with new_archive(out) as (archive, folder):
        schema, paths = _add_database(store.database, archive, folder)
        lost: dict[str, str] = {}
        for sample_id, path in paths.items():
            try:
                archive.add(PICTURES + path, store.storage.read(path))
                report.pictures += 1
            except (FileNotFoundError, StorageError):
                lost[sample_id] = path
        _add_models(registry, archive, report)
        deleted = deleted_samples(store.database)
        archive.add(DELETIONS, deletions_to_json(deleted, store.clock()))
        report.forgotten = sum(sample_id in deleted for sample_id in paths)
        report.missing = sorted(set(lost) - set(deleted))
        archive.finish(
            ArchiveManifest(
                program=__version__,
                made_at=store.clock(),
                database="sqlite" if store.database.is_sqlite else "postgresql",
                schema_name=schema,
                revision=revision,
                missing=report.missing,
                files=archive.files,
            )
        )
    report.bytes = out.stat().st_size
    return report


def _add_database(
    database: Database, archive: ArchiveWriter, folder: Path
) -> tuple[str | None, dict[str, str]]:
    """Add the database; PostgreSQL's schema, and id and path of each picture that it names."""
    query = sa.select(Sample.id, Sample.path).where(
        Sample.deleted_at.is_(None), Sample.path.is_not(None)
    )
    if database.path is not None:
        copy = folder / "fer.db"
        try:
            copy_sqlite(database.path, copy)
            with sqlite3.connect(copy) as connection:
                # One file alone, without a log beside it.
                connection.execute("PRAGMA journal_mode=DELETE")
            connection.close()
        except sqlite3.Error as error:
            raise BackupError(f"The database cannot be copied: {error}.") from error
        archive.add_file(SQLITE, copy)
        engine = sa.create_engine(f"sqlite:///{copy}")
        try:
            with engine.connect() as reading:
                return None, {name: str(path) for name, path in reading.execute(query)}
        finally:
            engine.dispose()
    dumped = folder / "fer.dump"
    engine = database.engine.execution_options(isolation_level="REPEATABLE READ")
    with engine.connect() as reading:
        # Dump and query see the same moment.
        schema = postgres.schema_of(reading)
        snapshot = str(reading.scalar(sa.text("SELECT pg_export_snapshot()")))
        postgres.dump(database.url, schema, dumped, snapshot)
        paths = {name: str(path) for name, path in reading.execute(query)}
    archive.add_file(POSTGRES, dumped)
    return schema, paths


def _add_models(registry: Registry, archive: ArchiveWriter, report: BackupReport) -> None:
    lock = registry.locked()
    try:
        lock.acquire()
    except Timeout as error:
        raise BackupError("Somebody has been changing the models for a long time.") from error
    except OSError:
        # A read-only folder: nobody changes it.
        pass
    try:
        for version in registry.versions():
            folder = registry.path(version)
            for path in sorted(folder.iterdir()):
                if path.is_file() and not path.name.startswith("."):
                    archive.add_file(f"{MODELS}{version}/{path.name}", path)
            report.models.append(version)
        for name in POINTERS:
            pointer = registry.folder / name.removeprefix(MODELS)
            if pointer.is_file():
                archive.add_file(name, pointer)
    finally:
        lock.release()
