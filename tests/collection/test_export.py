"""Export and import: the same labels come back, and nothing hostile gets in or out."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from argon2 import PasswordHasher
from hypothesis import given
from hypothesis import strategies as st

from fer.collection.database import Database
from fer.collection.export import CSV_COLUMNS, export_receipt, export_zip, safe_cell
from fer.collection.importing import import_pictures
from fer.collection.newsample import NewSample
from fer.collection.operators import Operators
from fer.collection.review import ReviewQueue
from fer.collection.runs import end_run, start_run
from fer.collection.samples import SampleStore
from fer.collection.storage import FolderStorage
from fer.collection.tables import LabelEvent, Sample
from fer.config import Settings
from fer.errors import DataError, NoFaceError, NotAPictureError, OperatorError, StorageError
from fer.vision.faces import FaceBox
from tests.collection.support import Unpacked, jpeg, keep, new_sample


class Reader:
    """Stands in for detector and model: it finds a face only where it is told the box."""

    def __init__(self, finds: bool) -> None:
        self.finds = finds
        self.boxes: list[FaceBox | None] = []

    def read(self, data: bytes, box: FaceBox | None) -> NewSample:
        if not data.startswith(b"\xff\xd8"):
            raise NotAPictureError("This is no picture.")
        if box is None and not self.finds:
            raise NoFaceError("No face was found in the picture.")
        self.boxes.append(box)
        return new_sample("neutral", 0.6, data, source="import", notice_version=None)


@pytest.fixture
def other_store(tmp_path: Path) -> SampleStore:
    """An empty collection elsewhere, with the operator ana."""
    database = Database(f"sqlite:///{tmp_path / 'other' / 'fer.db'}")
    database.migrate()
    hasher = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    Operators(database, hasher=hasher).add("ana", "a good password")
    settings = Settings(_env_file=None, data_dir=tmp_path / "other")
    return SampleStore(database, FolderStorage(tmp_path / "other"), settings)


def reviewed(store: SampleStore) -> dict[str, str]:
    """Samples in every state; the final labels of those that carry one, by SHA-256."""
    queue = ReviewQueue(store.database, store.settings, store.clock)
    for kind, label in [
        ("confirm", None), ("relabel", "sad"), ("relabel", "angry"), ("relabel", "Very bored"),
        ("reject", None), ("unsure", None), ("other", None),
    ]:  # fmt: skip
        labels = ["Very bored"] if label == "Very bored" else None
        queue.decide(keep(store), "ana", kind, label=label, labels=labels, row_version=1)
    keep(store)
    return final_labels(store)


def final_labels(store: SampleStore) -> dict[str, str]:
    from fer.collection.grid import GridFilter, grid_page

    cells = grid_page(store.database, GridFilter(), limit=500).cells
    views = [view for cell in cells for view in cell.copies]
    return {
        str(view.sha256): str(view.final_label)
        for view in views
        if view.status in ("confirmed", "relabelled")
    }


def test_an_export_is_an_image_folder_with_a_table_and_a_description(
    store: SampleStore, tmp_path: Path
) -> None:
    labels = reviewed(store)
    report = export_zip(store, tmp_path / "out.zip")
    assert report.pictures == {"happy": 1, "sad": 1, "angry": 1, "Very bored": 1}
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        pictures = [name for name in archive.namelist() if name.endswith(".jpg")]
        rows = list(csv.DictReader(io.StringIO(archive.read("samples.csv").decode())))
        described = json.loads(archive.read("metadata.json"))
        for row in rows:
            sample = store.get(row["id"])
            assert row["file"] == f"{sample.final_label}/{sample.id}.jpg"
            assert archive.read(row["file"]) == store.picture(sample.id)
            assert float(row["roll"]) == -3.25
            assert json.loads(row["probabilities"]) == dict(sample.probabilities or {})
    assert sorted(row["file"] for row in rows) == sorted(pictures)
    assert {row["sha256"]: row["final_label"] for row in rows} == labels
    assert tuple(rows[0]) == CSV_COLUMNS
    assert described["conformsTo"] == "http://mlcommons.org/croissant/1.0"
    assert {d["@id"] for d in described["distribution"]} == {"samples.csv", "pictures"}


def test_export_then_import_gives_the_same_final_labels(
    store: SampleStore, other_store: SampleStore, tmp_path: Path
) -> None:
    labels = reviewed(store)
    export_zip(store, tmp_path / "out.zip")
    reader = Reader(finds=False)
    report = import_pictures(other_store, tmp_path / "out.zip", reader, as_decisions="ana")
    assert (report.imported, report.refused) == (4, {})
    assert final_labels(other_store) == labels
    assert {(box.left, box.roll) for box in reader.boxes if box} == {(10.5, -3.25)}
    again = import_pictures(other_store, tmp_path / "out.zip", reader, as_decisions="ana")
    assert (again.imported, len(again.known)) == (0, 4)
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        archive.extractall(tmp_path / "folder")
    other_store.delete([view["id"] for view in all_rows(other_store)])
    folder = import_pictures(other_store, tmp_path / "folder", reader, as_decisions="ana")
    assert (folder.imported, folder.refused) == (4, {})
    assert final_labels(other_store) == labels
    assert other_store.verify().clean


def all_rows(store: SampleStore) -> list[dict[str, str]]:
    from fer.collection.grid import GridFilter, grid_page

    cells = grid_page(store.database, GridFilter(), limit=500).cells
    return [{"id": view.id} for cell in cells for view in cell.copies]


def test_a_folders_label_is_a_suggestion_unless_somebody_answers_for_it(
    store: SampleStore, tmp_path: Path
) -> None:
    (tmp_path / "in" / "train" / "sad").mkdir(parents=True)
    (tmp_path / "in" / "train" / "sad" / "a.jpg").write_bytes(jpeg())
    report = import_pictures(store, tmp_path / "in", Reader(finds=True))
    assert report.imported == 1
    (row,) = all_rows(store)
    sample = store.get(row["id"])
    assert (sample.status, sample.visitor_label, sample.visitor_disagreed) == (
        "pending", "sad", True,
    )  # fmt: skip
    assert sample.source == "import"
    (event,) = store.events(sample.id)
    assert (event.actor_kind, event.kind, event.to_label) == ("import", "suggest", "sad")
    with pytest.raises(OperatorError):
        import_pictures(store, tmp_path / "in", Reader(finds=True), as_decisions="nobody")


def test_hostile_archives_are_refused_file_by_file(
    make_store: Callable[..., SampleStore], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store(max_image_mb=0.1)
    hostile = tmp_path / "in.zip"
    bomb = b"\xff\xd8" + bytes(50_000_000)
    with zipfile.ZipFile(hostile, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../../../sad/slip.jpg", jpeg())
        archive.writestr("/sad/absolute.jpg", jpeg())
        archive.writestr("sad/bomb.jpg", bomb)
        archive.writestr("sad/text.jpg", b"not a picture")
        archive.writestr("no such label/a.jpg", jpeg())
        archive.writestr("=cmd()/a.jpg", jpeg())
        archive.writestr("top.jpg", jpeg())
        archive.writestr("__MACOSX/sad/._a.jpg", b"junk")
        archive.writestr("sad/", b"")
    before = {path for path in tmp_path.rglob("*") if "data" not in path.parts}
    unpacked = Unpacked(monkeypatch)
    report = import_pictures(store, hostile, Reader(finds=True))
    assert unpacked.bytes < 1_000_000
    assert {path for path in tmp_path.rglob("*") if "data" not in path.parts} == before
    assert set(report.refused) == {
        "sad/bomb.jpg", "sad/text.jpg", "no such label/a.jpg", "=cmd()/a.jpg", "top.jpg",
    }  # fmt: skip
    assert report.imported == 1, "an absolute path is only a name; one that climbs is passed over"
    assert store.verify().clean
    (tmp_path / "nothing.zip").write_bytes(b"PK")
    for source in (tmp_path / "nothing.zip", tmp_path / "absent"):
        with pytest.raises(DataError):
            import_pictures(store, source, Reader(finds=True))


def test_a_name_that_is_no_label_is_no_decision_either(store: SampleStore, tmp_path: Path) -> None:
    """A suggestion must be one of the model's labels; a decision may be new, so its name counts."""
    Operators(store.database, hasher=PasswordHasher(1, 8, 1)).add("ada", "a long password")
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        for folder in ("=cmd()", "a:b", "con", "new one"):
            archive.writestr(f"{folder}/a.jpg", jpeg())
    report = import_pictures(store, tmp_path / "in.zip", Reader(finds=True), as_decisions="ada")
    assert set(report.refused) == {"=cmd()/a.jpg", "a:b/a.jpg", "con/a.jpg"}
    assert report.imported == 1


def test_links_in_a_folder_are_not_followed(store: SampleStore, tmp_path: Path) -> None:
    (tmp_path / "secret.jpg").write_bytes(jpeg())
    (tmp_path / "in" / "sad").mkdir(parents=True)
    (tmp_path / "in" / "sad" / "a.jpg").symlink_to(tmp_path / "secret.jpg")
    assert import_pictures(store, tmp_path / "in", Reader(finds=True)).imported == 0


def test_a_visitor_gets_everything_that_is_held_about_them(
    store: SampleStore, tmp_path: Path
) -> None:
    receipt = store.keep([new_sample("happy"), new_sample("sad")], group_id="g")
    keep(store)
    store.suggest(receipt.code, "angry", receipt.sample_ids[0])
    Operators(store.database, hasher=PasswordHasher(1, 8, 1)).add("ada", "a long password")
    queue = ReviewQueue(store.database, store.settings, store.clock)
    for face in queue.next("ada", "newest", 3):
        queue.decide(face.id, "ada", "relabel", row_version=face.row_version, label="sad")
    run = start_run(store.database, None)
    end_run(store.database, run, "kept", "-", challenger="m", sample_ids=[receipt.sample_ids[1]])
    assert export_receipt(store, receipt.code, tmp_path / "mine.zip") == 2
    with zipfile.ZipFile(tmp_path / "mine.zip") as archive:
        held = json.loads(archive.read("held.json"))["samples"]
        for sample in held:
            kept = archive.read(f"{sample['id']}.jpg")
            assert hashlib.sha256(kept).hexdigest() == sample["sha256"]
        assert len(archive.namelist()) == 3
        text = archive.read("held.json").decode()
    assert [sample["id"] for sample in held] == receipt.sample_ids
    # No column is left out, whatever is added to the tables later.
    columns = {column.key for column in Sample.__table__.columns}
    assert set(held[0]) == columns | {"events", "trainings"}
    events = {column.key for column in LabelEvent.__table__.columns}
    assert set(held[0]["events"][0]) == events - {"sitting"}
    assert [event["to_label"] for event in held[0]["events"]] == ["angry", "sad"]
    assert set(held[0]["probabilities"]) == {"angry", "happy", "sad", "neutral"}
    assert [len(sample["trainings"]) for sample in held] == [0, 1]
    # Operators are not named to visitors.
    assert held[0]["decided_by"] == "operator"
    assert '"ada"' not in text


def test_a_failed_export_leaves_the_old_file(store: SampleStore, tmp_path: Path) -> None:
    reviewed(store)
    (tmp_path / "out").mkdir()
    with pytest.raises(StorageError):
        export_zip(store, tmp_path / "absent" / "out.zip")
    with pytest.raises(StorageError):
        export_zip(store, tmp_path / "out")
    assert [path for path in tmp_path.iterdir() if path.name.startswith(".tmp")] == []


@given(st.text(max_size=30))
def test_no_cell_is_a_formula(text: str) -> None:
    cell = safe_cell(text)
    assert cell.removeprefix("'") == text.removeprefix("'") or cell == text
    if cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n")):
        float(cell)  # Only a number may begin so.


@pytest.mark.parametrize(
    "text", ["=1+1", "+A1", "-A1", "@SUM(A1)", "\t=1", "\r=1", "=cmd|' /C'!A0"]
)
def test_known_formulas_become_text(text: str) -> None:
    assert safe_cell(text) == "'" + text
