"""Database and store as the settings name them, for commands and composition roots."""

from __future__ import annotations

from fer.collection.database import Database
from fer.collection.samples import SampleStore
from fer.collection.storage import FolderStorage
from fer.config import Settings


def open_store(settings: Settings) -> SampleStore:
    """The sample store, its folder made and its database migrated.

    Raises:
        ConfigError: the database URL cannot be used.
        DatabaseVersionError: the database was made by a newer version of this program.
        StorageError: the folder or the database cannot be used.
    """
    storage = FolderStorage(settings.data_dir)
    database = Database(settings.effective_database_url, settings.data_dir / ".backups")
    database.migrate()
    return SampleStore(database, storage, settings)
