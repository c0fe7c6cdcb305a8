"""PostgreSQL restarted or killed in mid-use: nothing that was acknowledged is lost."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import sqlalchemy as sa

from fer.collection.database import Database
from fer.collection.samples import SampleStore
from fer.collection.storage import FolderStorage
from fer.collection.tables import LabelEvent, Sample
from fer.config import Settings
from fer.errors import FerError, StorageError
from tests.collection.conftest import database_url
from tests.collection.support import new_sample
from tests.web.serving import ROOT, environment

__all__ = ["database_url"]

pytestmark = [pytest.mark.long, pytest.mark.postgres, pytest.mark.timeout(300)]


@dataclass
class Cluster:
    """A server of the test's own.

    Attributes:
        programs: folder of PostgreSQL's programs.
        folder: of the cluster.
        port: on the loopback address.
    """

    programs: Path
    folder: Path
    port: int

    @property
    def url(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [*_as_postgres(), str(self.programs / program), "-D", str(self.folder), *arguments],
            check=True,
            capture_output=True,
            cwd="/",
        )

    def start(self) -> None:
        options = (
            f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
        )
        log = self.folder.parent / "log"
        self.run("pg_ctl", "-w", "-o", options, "-l", str(log), "start")

    def stop(self, how: str) -> None:
        self.run("pg_ctl", "-w", "-m", how, "stop")


def _as_postgres() -> Sequence[str]:
    # PostgreSQL refuses to run as root.
    return ("runuser", "-u", "postgres", "--") if os.getuid() == 0 else ()


@pytest.fixture
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster that runs; a skip where PostgreSQL's server programs are not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found or (os.getuid() == 0 and shutil.which("runuser") is None):
        if os.environ.get("FER_REQUIRE_POSTGRES") == "1":
            pytest.fail("FER_REQUIRE_POSTGRES=1, but PostgreSQL's initdb is not installed")
        pytest.skip("PostgreSQL's server is not installed here: no restart is tested")
    # Not below pytest's own folder, into which another user cannot look.
    made = subprocess.run(
        [*_as_postgres(), "mktemp", "-d"], check=True, capture_output=True, text=True, cwd="/"
    )
    base = Path(made.stdout.strip())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    cluster = Cluster(found[-1].parent, base / "data", port)
    try:
        cluster.run("initdb", "-A", "trust", "-U", "postgres", "-N", "-E", "UTF8", "--no-locale")
        cluster.start()
        yield cluster
    finally:
        with contextlib.suppress(subprocess.CalledProcessError):  # stopped by the test already
            cluster.stop("immediate")
        shutil.rmtree(base, ignore_errors=True)


def test_a_restart_in_mid_use_loses_nothing_that_was_acknowledged(
    cluster: Cluster, tmp_path: Path
) -> None:
    database = Database(cluster.url)
    database.migrate()
    settings = Settings(_env_file=None, data_dir=tmp_path, database_url=cluster.url)
    store = SampleStore(database, FolderStorage(tmp_path), settings)
    done = threading.Event()
    kept: list[str] = []
    opinions: list[str] = []
    refusals: list[FerError] = []
    others: list[BaseException] = []

    def visit(number: int) -> None:
        while not done.is_set():
            try:
                receipt = store.keep([new_sample()], group_id=f"g{number}")
                kept.extend(receipt.sample_ids)
                store.suggest(receipt.code, "sad")
                opinions.extend(receipt.sample_ids)
            except StorageError as error:
                refusals.append(error)
                done.wait(0.05)
            except BaseException as error:
                others.append(error)
                return

    visitors = [threading.Thread(target=visit, args=(n,)) for n in range(4)]
    for visitor in visitors:
        visitor.start()
    for how in ("fast", "immediate", "fast"):
        # Until work was done since the last restart, and then in the middle of it.
        goal = len(opinions) + 20
        assert _until(lambda goal=goal: len(opinions) >= goal or bool(others)), refusals[-3:]
        cluster.stop(how)
        seen = len(refusals)
        assert _until(lambda seen=seen: len(refusals) > seen)
        cluster.start()
    goal = len(opinions) + 20
    assert _until(lambda: len(opinions) >= goal)
    done.set()
    for visitor in visitors:
        visitor.join()

    assert others == []
    assert all(error.message.endswith(".") for error in refusals)
    with database.session() as session:
        rows = set(session.scalars(sa.select(Sample.id)))
        events = set(session.scalars(sa.select(LabelEvent.sample_id)))
    assert set(kept) <= rows
    assert set(opinions) <= events
    assert len(opinions) >= 80
    report = store.verify(repair=True)
    assert report.missing == [] and report.changed == []
    assert store.verify().clean
    database.close()


def _until(condition: object, seconds: float = 60) -> bool:
    """Wait for what other threads do; False when it does not come about."""
    pause = threading.Event()
    for _ in range(int(seconds / 0.02)):
        if condition():  # type: ignore[operator]
            return True
        pause.wait(0.02)
    return False


def test_migrations_run_by_several_processes_at_once_happen_once(database_url: str) -> None:
    """As two servers that start together; each prints the revision that it found at the end."""
    program = (
        "import sys\nfrom fer.collection.database import Database\n"
        "print('ready', flush=True)\nsys.stdin.readline()\n"
        "database = Database(sys.argv[1])\ndatabase.migrate()\nprint(database.revision())\n"
    )
    running = [
        subprocess.Popen(
            [sys.executable, "-c", program, database_url],
            cwd=ROOT,
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for process in running:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in running:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    said = [process.communicate(timeout=120) for process in running]
    database = Database(database_url)
    assert [(out.strip(), error) for out, error in said] == [(database.revision(), "")] * 3
    with database.engine.connect() as connection:
        versions = connection.execute(sa.text("SELECT version_num FROM alembic_version")).all()
        facts = connection.execute(sa.text("SELECT count(*) FROM facts WHERE name = 'bytes'"))
        assert len(versions) == 1
        assert facts.scalar() == 1
    database.close()
