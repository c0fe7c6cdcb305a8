"""Both databases, and a store that keeps small synthetic pictures in a folder of its own."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from fer.collection.database import Database
from fer.collection.samples import SampleStore
from fer.collection.storage import FolderStorage
from fer.config import Settings
from tests.collection.support import Clock


def postgres_url() -> str:
    """The server for tests, or a skip that says why; a failure where one is required."""
    url = os.environ.get("FER_TEST_POSTGRES_URL", "")
    required = os.environ.get("FER_REQUIRE_POSTGRES") == "1"
    if not url:
        if required:
            pytest.fail("FER_REQUIRE_POSTGRES=1, but FER_TEST_POSTGRES_URL is not set")
        pytest.skip("FER_TEST_POSTGRES_URL is not set: not tested on PostgreSQL")
    try:
        psycopg.connect(url, connect_timeout=5).close()
    except psycopg.OperationalError as error:
        if required:
            pytest.fail(f"PostgreSQL cannot be reached: {error}")
        pytest.skip(f"PostgreSQL cannot be reached: {error}")
    return url


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """URL of an empty database: a file, then a schema of its own on the server."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'data' / 'fer.db'}"
        return
    server = postgres_url()
    schema = f"t_{uuid.uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {schema}")
    separator = "&" if "?" in server else "?"
    yield f"{server}{separator}options=-csearch_path%3D{schema}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"DROP SCHEMA {schema} CASCADE")


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A migrated database."""
    database = Database(database_url)
    database.migrate()
    yield database
    database.close()


@pytest.fixture
def clock() -> Clock:
    """A clock that stands still until a test moves it."""
    return Clock()


@pytest.fixture
def make_store(
    database: Database, database_url: str, tmp_path: Path, clock: Clock
) -> Callable[..., SampleStore]:
    """Makes a store over the test's database, with settings as given."""

    def make(**settings: object) -> SampleStore:
        given = Settings(
            _env_file=None,
            data_dir=tmp_path / "data",
            database_url=database_url,
            **{"audit_share": 0.0, **settings},
        )
        return SampleStore(database, FolderStorage(given.data_dir), given, clock)

    return make


@pytest.fixture
def store(make_store: Callable[..., SampleStore]) -> SampleStore:
    """A store without an audit slice."""
    return make_store()
