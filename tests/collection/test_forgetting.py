"""What a receipt deletes is gone everywhere, and stays out of every later training."""

from __future__ import annotations

import os
import zipfile
from datetime import timedelta
from pathlib import Path

from argon2 import PasswordHasher

from fer.collection.drift import drift
from fer.collection.export import export_zip
from fer.collection.grid import GridFilter, grid_page
from fer.collection.operators import Operators
from fer.collection.review import ReviewQueue
from fer.collection.samples import SampleStore
from fer.collection.training_data import read_reviews
from tests.collection.support import Clock, keep, new_sample


def add_ada(store: SampleStore) -> None:
    Operators(store.database, hasher=PasswordHasher(1, 8, 1)).add("ada", "a long password")


def decide_all(store: SampleStore) -> None:
    add_ada(store)
    queue = ReviewQueue(store.database, store.settings, store.clock)
    for face in queue.next("ada", "newest", 20):
        queue.decide(face.id, "ada", "relabel", row_version=face.row_version, label="sad")


def test_a_forgotten_face_is_in_no_later_training_and_no_export(
    store: SampleStore, tmp_path: Path
) -> None:
    receipt = store.keep([new_sample("happy")], group_id="g")
    stays = keep(store, "angry", group="h")
    decide_all(store)
    assert {sample.id for sample in read_reviews(store.database).samples} == {
        stays,
        *receipt.sample_ids,
    }
    store.forget(receipt.code)
    assert [sample.id for sample in read_reviews(store.database).samples] == [stays]
    export_zip(store, tmp_path / "out.zip")
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        assert not any(receipt.sample_ids[0] in name for name in archive.namelist())
        assert receipt.sample_ids[0].encode() not in archive.read("samples.csv")


def test_a_forgotten_face_is_in_no_queue_and_no_figure(store: SampleStore, clock: Clock) -> None:
    receipt = store.keep([new_sample("happy")], group_id="g")
    store.forget(receipt.code)
    add_ada(store)
    queue = ReviewQueue(store.database, store.settings, store.clock)
    assert queue.next("ada", "newest", 5) == []
    assert grid_page(store.database, GridFilter(), None, 10).cells == []
    assert drift(store.database, clock.now + timedelta(hours=1)).recent.faces == 0


def test_nothing_of_a_forgotten_row_is_left_in_the_database_file(
    store: SampleStore, tmp_path: Path
) -> None:
    """`secure_delete` overwrites what was there; a deleted page may otherwise be read for months.

    On SQLite; PostgreSQL's old row versions go with the next vacuum.
    """
    if store.database.path is None:
        return
    receipt = store.keep([new_sample("happy", notice_version="MARK-OF-A-ROW")], group_id="MARK-G")
    digest = store.of_receipt(receipt.code)[0].sha256
    assert digest is not None
    path = store.database.path

    def held() -> bytes:
        return b"".join(part.read_bytes() for part in sorted(path.parent.glob("fer.db*")))

    assert digest.encode() in held() and b"MARK-G" in held()
    store.forget(receipt.code)
    with store.database.engine.connect() as connection:
        connection.exec_driver_sql("COMMIT")
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    assert digest.encode() not in held()
    assert b"MARK-G" not in held() and b"MARK-OF-A-ROW" not in held()


def test_expiry_takes_old_copies_of_the_database_with_it(store: SampleStore, clock: Clock) -> None:
    """A copy from before an upgrade holds rows of faces that were forgotten since."""
    folder = store.database.backups or store.settings.data_dir / ".backups"
    store.database.backups = folder
    folder.mkdir(parents=True)
    for name, days in (("fer-1-0001.db", 31), ("fer-2-0001.dump", 31), ("fer-3-0001.db", 29)):
        copy = folder / name
        copy.write_bytes(b"rows")
        moment = (clock.now - timedelta(days=days)).timestamp()
        os.utime(copy, (moment, moment))
    store.expire(dry_run=True)
    assert len(list(folder.iterdir())) == 3
    store.expire()
    assert [path.name for path in folder.iterdir()] == ["fer-3-0001.db"]


def test_every_row_says_which_notice_was_shown(store: SampleStore) -> None:
    receipt = store.keep([new_sample(notice_version="2-opt-in-14-90")], group_id="g")
    assert store.of_receipt(receipt.code)[0].notice_version == "2-opt-in-14-90"
