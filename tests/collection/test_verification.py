"""What `verify` finds and mends, and what kill -9 leaves."""

from __future__ import annotations

import itertools
import multiprocessing
import pickle
import random
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
import sqlalchemy as sa

from fer.collection.database import Database
from fer.collection.samples import SampleStore
from fer.collection.storage import FolderStorage
from fer.collection.tables import Fact, LabelEvent, Sample
from fer.config import Settings
from fer.errors import UnknownReceiptError
from tests.collection.support import keep, new_sample


def test_a_whole_collection_is_clean(store: SampleStore) -> None:
    for _ in range(3):
        keep(store)
    report = store.verify()
    assert report.clean
    assert report.checked == 3


def test_everything_that_can_go_wrong_is_found_and_mended(
    store: SampleStore, tmp_path: Path
) -> None:
    root = tmp_path / "data"
    good, missing, changed = (keep(store) for _ in range(3))
    deleted = keep(store)
    store.delete([deleted])
    (root / "happy" / f"{missing}.jpg").unlink()
    (root / "happy" / f"{changed}.jpg").write_bytes(b"something else")
    (root / "happy" / f"{'0' * 32}.jpg").write_bytes(b"nobody's face")
    (root / "sad").mkdir()
    (root / "sad" / ".tmp-abc").write_bytes(b"half a face")
    (root / "sad" / f"{good}.jpg").write_bytes(b"a known id in the wrong folder")
    with store.database.session(write=True) as session:
        session.execute(sa.update(Sample).where(Sample.id == deleted).values(sha256="ab"))
        session.execute(sa.update(Fact).where(Fact.name == "bytes").values(number=5))

    report = store.verify()
    assert report.missing == [missing]
    assert report.changed == [changed]
    assert report.orphaned == [f"happy/{'0' * 32}.jpg", f"sad/{good}.jpg"]
    assert report.leftovers == ["sad/.tmp-abc"]
    assert report.not_blank == [deleted]
    assert report.wrong_size
    assert not report.clean
    assert not report.mendable, "a changed picture needs a person"

    assert not store.verify().repaired, "nothing is mended unasked"
    store.verify(repair=True)
    after = store.verify()
    assert after.changed == [changed]
    store.delete([changed])
    assert store.verify().clean
    assert store.get(good).status == "pending"
    assert store.get(missing).status == "deleted"
    with store.database.session() as session:
        assert session.scalar(sa.select(Fact.number)) == store.get(good).bytes


def test_an_event_without_a_sample_is_found(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'fer.db'}")
    database.migrate()
    settings = Settings(_env_file=None, data_dir=tmp_path)
    store = SampleStore(database, FolderStorage(tmp_path), settings)
    receipt = store.keep([new_sample()], group_id="g")
    store.suggest(receipt.code, "sad")
    # Only a hand, or a database without foreign keys, can do this.
    with database.engine.connect() as connection:
        connection.exec_driver_sql("ROLLBACK")
        connection.exec_driver_sql("PRAGMA foreign_keys=OFF")
        connection.exec_driver_sql("BEGIN")
        connection.execute(sa.delete(Sample))
        connection.commit()
        number = connection.scalar(sa.select(LabelEvent.id))
    report = store.verify()
    assert report.events_without_sample == [number]
    assert not report.mendable
    database.close()


def test_what_is_being_kept_is_no_orphan(store: SampleStore) -> None:
    found = []

    def look(session: object, rows: object) -> None:
        # The picture is there and its row is not committed: a verify that starts now must wait.
        found.append(sorted(store.storage.list()))

    store.keep([new_sample()], group_id="g", within=look)
    assert len(found[0]) == 1
    with store.storage.alone():
        pass  # Free again, or this would hang.
    assert store.verify().clean


# kill -9


def work(url: str, folder: Path, say: Connection) -> None:
    """Keep, suggest and forget from two threads until killed, and say each answer."""
    database = Database(url)
    settings = Settings(_env_file=None, data_dir=folder)
    store = SampleStore(database, FolderStorage(folder), settings)
    fresh = [new_sample() for _ in range(8)]
    one_at_a_time = threading.Lock()

    def tell(*words: str) -> None:
        with one_at_a_time:
            say.send(words)

    def loop(number: int) -> None:
        for turn in itertools.count(1):
            pair = [fresh[(turn + number) % 8], fresh[turn % 8]]
            receipt = store.keep(pair, group_id="g")
            tell("kept", receipt.code, *receipt.sample_ids)
            if turn % 3 == 0:
                store.suggest(receipt.code, "sad", receipt.sample_ids[0])
            if turn % 4 == 0:
                tell("asked", receipt.code)
                store.forget(receipt.code)
                tell("forgot", receipt.code)

    for number in range(2):
        threading.Thread(target=loop, args=(number,)).start()


def killed_worker(
    url: str, folder: Path, answers: int, then_seconds: float
) -> list[tuple[str, ...]]:
    """What a worker said before it was killed, a moment after so many answers."""
    # Forked, because importing everything anew takes a hundred times as long as the work.
    forking = multiprocessing.get_context("fork")
    hear, say = forking.Pipe(duplex=False)
    process = forking.Process(target=work, args=(url, folder, say))
    process.start()
    say.close()
    said: list[tuple[str, ...]] = []
    while len(said) < answers:
        said.append(hear.recv())
    # The moment of the kill is what the test is about; nothing is waited for.
    time.sleep(then_seconds)
    process.kill()
    process.join()
    try:
        while True:
            said.append(hear.recv())
    except (EOFError, OSError, pickle.UnpicklingError):
        # An answer that was cut off never went out.
        return said


def check_after_kills(url: str, folder: Path, kills: int) -> None:
    settings = Settings(_env_file=None, data_dir=folder)
    moments = random.Random(20250615)
    kept = 0
    for _ in range(kills):
        said = killed_worker(url, folder, moments.randrange(6), moments.uniform(0, 0.05))
        database = Database(url)
        database.migrate()
        store = SampleStore(database, FolderStorage(folder), settings)
        found = store.verify(repair=True)
        assert found.mendable, found
        if database.is_sqlite:
            # PostgreSQL may still commit what a dead client asked for, after the file was taken
            # for an orphan. That was never acknowledged: the checks below see to it.
            assert not found.missing, "a row without its picture"
        assert store.verify().clean or not database.is_sqlite
        asked = {line[1] for line in said if line[0] == "asked"}
        for line in said:
            if line[0] == "kept" and line[1] not in asked:
                assert {view.id for view in store.of_receipt(line[1])} == set(line[2:])
                assert all(store.picture(sample_id) for sample_id in line[2:])
                kept += 1
            elif line[0] == "forgot":
                with pytest.raises(UnknownReceiptError):
                    store.of_receipt(line[1])
        database.close()
    assert kept > 0, "no worker ever kept anything: this test showed nothing"


def test_kill_9_loses_nothing_acknowledged(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    # SQLite must not be carried through a fork: no connection may be open here.
    database.close()
    check_after_kills(database_url, tmp_path / "data", kills=20)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_kill_9_loses_nothing_acknowledged_280_times(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    database.close()
    check_after_kills(database_url, tmp_path / "data", kills=280)
