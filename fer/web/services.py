"""The parts that the pages work with, built once and handed to them."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from fer.collection.database import Database
from fer.collection.samples import SampleStore
from fer.collection.storage import FolderStorage, ImageStorage
from fer.config import Settings
from fer.errors import CollectionError, ModelError
from fer.registry import Registry
from fer.vision.recogniser import Recogniser
from fer.web.background import Background, Chore
from fer.web.desk import Desk
from fer.web.scoring_child import EVERY, ScoringChild
from fer.web.uploads import UploadFolder

_LOG = logging.getLogger(__name__)

#: Seconds between two looks at the champion pointer.
REFRESH_EVERY = 2.0

_DAY = 24 * 3600.0


@dataclass
class Services:
    """What the pages share.

    Attributes:
        settings, registry, recogniser, database, storage, store, desk, uploads, scoring: the parts.
        chores: what `start` does again and again; pages may add theirs before it.
    """

    settings: Settings
    registry: Registry
    recogniser: Recogniser
    database: Database
    storage: ImageStorage
    store: SampleStore
    desk: Desk
    uploads: UploadFolder
    scoring: ScoringChild
    chores: list[Chore] = field(default_factory=list)
    _background: Background | None = None

    def start(self) -> None:
        """Load the champion, let expire what is due, and begin the chores."""
        try:
            self.recogniser.refresh()
        except ModelError as error:
            _LOG.error("%s", error.message)
        try:
            self.store.expire()
        except CollectionError as error:
            _LOG.error("expiry: %s", error.message)
        self._background = Background(self.chores)
        self._background.start()

    def stop(self) -> None:
        """End the chores and close the parts."""
        if self._background is not None:
            self._background.stop()
        self.scoring.stop()
        self.recogniser.close()
        self.database.close()
        self.uploads.close()

    def warnings(self) -> list[str]:
        """What an administrator should know, as sentences."""
        return [self.recogniser.warning] if self.recogniser.warning else []


def build_services(settings: Settings, uploads: UploadFolder) -> Services:
    """Build the parts and bring the database up to date.

    Raises:
        StorageError: the data folder or the database cannot be used.
        DatabaseVersionError: the database was made by a newer version.
    """
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    registry = Registry(settings.models_dir)
    recogniser = Recogniser(registry, settings)
    database = Database(settings.effective_database_url, settings.data_dir / ".backups")
    database.migrate()
    storage = FolderStorage(settings.data_dir)
    store = SampleStore(database, storage, settings)
    desk = Desk(settings, recogniser, store)
    scoring = ScoringChild(settings)
    services = Services(
        settings, registry, recogniser, database, storage, store, desk, uploads, scoring
    )
    services.chores += [
        Chore("model", REFRESH_EVERY, recogniser.refresh),
        Chore("uploads", 30.0, uploads.sweep),
        Chore("expiry", _DAY, store.expire),
        Chore("scores", EVERY, scoring.start),
    ]
    return services
