"""What the tests of backups share."""

from __future__ import annotations

import hashlib
from pathlib import Path

from fer.collection.database import Database
from fer.collection.samples import SampleStore
from fer.collection.storage import FolderStorage
from fer.config import Settings
from fer.registry import Registry
from tests.collection.support import Clock
from tests.support import make_version


def two_versions(folder: Path) -> Registry:
    """Two versions, the younger one promoted."""
    make_version(folder, default=True, extra_files={"card.md": b"# one"})
    second = make_version(folder, number=1, extra_files={"replay.npz": bytes(range(256)) * 50})
    registry = Registry(folder)
    registry.promote(second)
    return registry


def files(folder: Path) -> dict[str, str]:
    """SHA-256 of every file that is no lock and no database."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith(".lock") and ".db" not in path.name
    }


def opened(settings: Settings, clock: Clock) -> SampleStore:
    database = Database(settings.effective_database_url)
    return SampleStore(database, FolderStorage(settings.data_dir), settings, clock)
