"""Keeping, suggesting, forgetting, expiring."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from fer.collection.deletion import BLANKED
from fer.collection.identifiers import receipt_hash, share_of
from fer.collection.samples import SampleStore
from fer.collection.tables import Fact, LabelEvent, PendingDeletion, Sample
from fer.errors import LabelError, StorageError, UnknownReceiptError, UnknownSampleError
from tests.collection.support import MODEL, Clock, jpeg, keep, new_sample


def pictures(store: SampleStore) -> list[str]:
    return sorted(store.storage.list())


def test_a_kept_face_is_a_file_and_a_row(store: SampleStore, tmp_path: Path, clock: Clock) -> None:
    picture = jpeg()
    receipt = store.keep([new_sample("happy", 0.7, picture)], group_id="g")
    (sample_id,) = receipt.sample_ids
    view = store.get(sample_id)

    assert (tmp_path / "data" / "happy" / f"{sample_id}.jpg").read_bytes() == picture
    assert view.path == f"happy/{sample_id}.jpg"
    assert view.sha256 == hashlib.sha256(picture).hexdigest()
    assert re.fullmatch(r"[0-9a-f]{64}", view.phash or "")
    assert (view.predicted_label, view.model_version) == ("happy", MODEL)
    assert view.confidence == pytest.approx(0.7)
    assert view.margin == pytest.approx(0.6)
    assert view.uncertainty == pytest.approx(0.3)
    assert sum((view.probabilities or {}).values()) == pytest.approx(1)
    assert list(view.probabilities or {}) == ["angry", "happy", "sad", "neutral"]
    assert view.face_box is not None
    assert (view.face_box.left, view.face_box.height, view.face_box.roll) == (10.5, 44.0, -3.25)
    assert view.created_at == clock.now
    assert view.expires_at == clock.now + timedelta(days=30)
    assert (view.status, view.final_label, view.queue) == ("pending", None, "main")
    assert (view.notice_version, view.request_id, view.source) == ("1", "request-1", "page")


def test_the_receipt_itself_is_stored_nowhere(store: SampleStore, tmp_path: Path) -> None:
    receipt = store.keep([new_sample()], group_id="g")
    with store.database.session() as session:
        held = session.scalar(sa.select(Sample.receipt_hash))
    assert re.fullmatch(r"([0-9A-HJKMNP-TV-Z]{4}-){3}[0-9A-HJKMNP-TV-Z]{4}", receipt.code)
    assert held == hashlib.sha256(receipt.code.replace("-", "").encode()).hexdigest()
    for file in (tmp_path / "data").rglob("*"):
        if file.is_file():
            assert receipt.code.encode() not in file.read_bytes()


def test_a_receipt_is_read_however_it_was_typed() -> None:
    assert receipt_hash("01AB-CDEF-GH10-MNPQ") == receipt_hash(" oiab cdef ghLo mnpq ")
    for wrong in ("", "01AB", "01AB-CDEF-GH10-MNPU", "01AB-CDEF-GH10-MNPQ-0"):
        with pytest.raises(UnknownReceiptError):
            receipt_hash(wrong)


def test_several_faces_share_a_receipt_and_all_are_kept_or_none(store: SampleStore) -> None:
    receipt = store.keep([new_sample("happy"), new_sample("sad")], group_id="g")
    assert len(receipt.sample_ids) == 2
    assert {view.predicted_label for view in store.of_receipt(receipt.code)} == {"happy", "sad"}

    def refuse(session: object, rows: object) -> None:
        raise RuntimeError("the last step fails")

    with pytest.raises(RuntimeError):
        store.keep([new_sample("happy"), new_sample("angry")], group_id="g", within=refuse)
    assert len(pictures(store)) == 2
    assert store.verify().clean


def test_exact_copies_join_the_first_ones_group_and_its_audit_flag(
    make_store: Callable[..., SampleStore],
) -> None:
    store = make_store(audit_share=0.5)
    audited = next(f"g{i}" for i in range(100) if share_of("audit", f"g{i}") < 0.5)
    plain = next(f"g{i}" for i in range(100) if share_of("audit", f"g{i}") >= 0.5)
    picture = jpeg()
    first = store.get(keep(store, group=audited, picture=picture))
    copy = store.get(keep(store, group=plain, picture=picture))
    other = store.get(keep(store, group=plain))
    assert (first.group_id, first.audit, first.queue) == (audited, True, "audit")
    assert (copy.group_id, copy.audit, copy.queue) == (audited, True, "audit")
    assert (other.group_id, other.audit, other.queue) == (plain, False, "main")


def test_another_audit_share_does_not_part_a_group(make_store: Callable[..., SampleStore]) -> None:
    keep(make_store(audit_share=0.0), group="g")
    later = make_store(audit_share=0.9)
    groups = [f"h{i}" for i in range(30)]
    assert not later.get(keep(later, group="g")).audit
    audited = [later.get(keep(later, group=group)).audit for group in groups]
    assert audited == [share_of("audit", group) < 0.9 for group in groups]
    assert any(audited)


def test_the_group_key_is_private_and_lasts_a_month(
    make_store: Callable[..., SampleStore], clock: Clock, tmp_path: Path
) -> None:
    store = make_store()
    group = store.group_id("cookie")
    key = tmp_path / "data" / "group.key"
    first_key = key.read_bytes()
    assert key.stat().st_mode & 0o777 == 0o600
    assert group != store.group_id("another cookie")
    clock.forward(days=15)
    assert make_store().group_id("cookie") == group, "the same month in another process"
    clock.forward(days=1)
    assert store.group_id("cookie") != group, "July has a key of its own"
    assert key.read_bytes() != first_key
    july = store.group_id("cookie")
    clock.forward(days=-20)
    assert store.group_id("cookie") == july, "a clock set back makes no new key"
    assert make_store().group_id("cookie") == july


def test_a_visitors_opinion_is_an_event_and_no_decision(store: SampleStore) -> None:
    receipt = store.keep([new_sample("happy")], group_id="g")
    (sample_id,) = receipt.sample_ids
    store.suggest(receipt.code.lower(), "SAD")
    view = store.get(sample_id)
    assert (view.visitor_label, view.visitor_disagreed) == ("sad", True)
    assert (view.status, view.final_label, view.row_version) == ("pending", None, 1)
    store.suggest(receipt.code, "happy", sample_id)
    store.suggest(receipt.code, "other")
    events = store.events(sample_id)
    assert [(e.kind, e.actor, e.actor_kind, e.from_label, e.to_label) for e in events] == [
        ("suggest", "visitor", "visitor", "happy", "sad"),
        ("suggest", "visitor", "visitor", "sad", "happy"),
        ("suggest", "visitor", "visitor", "happy", "other"),
    ]
    assert store.get(sample_id).visitor_disagreed


def test_an_opinion_must_be_of_that_model_and_name_its_face(store: SampleStore) -> None:
    receipt = store.keep([new_sample("happy"), new_sample("sad")], group_id="g")
    with pytest.raises(LabelError):
        store.suggest(receipt.code, "sleepy", receipt.sample_ids[0])
    with pytest.raises(UnknownSampleError):
        store.suggest(receipt.code, "happy")
    with pytest.raises(UnknownSampleError):
        store.suggest(receipt.code, "happy", "0" * 32)
    with pytest.raises(UnknownReceiptError):
        store.suggest("0000-0000-0000-0000", "happy")
    assert store.events(receipt.sample_ids[0]) == []


def test_forgetting_removes_the_file_and_blanks_the_row(store: SampleStore, clock: Clock) -> None:
    receipt = store.keep([new_sample("happy"), new_sample("sad")], group_id="g")
    stays = keep(store, "angry")
    store.suggest(receipt.code, "sad", receipt.sample_ids[0])
    clock.forward(hours=1)
    assert store.forget(receipt.code) == 2

    assert pictures(store) == [f"angry/{stays}.jpg"]
    with store.database.session() as session:
        row = session.get_one(Sample, receipt.sample_ids[0])
        assert {name: getattr(row, name) for name in BLANKED} == dict.fromkeys(BLANKED)
        assert (row.model_version, row.status) == (MODEL, "deleted")
        assert row.created_at == clock.now - timedelta(hours=1)
        assert row.deleted_at == clock.now
        assert session.scalar(sa.select(sa.func.count()).select_from(LabelEvent)) == 1
        assert session.scalar(sa.select(sa.func.count()).select_from(PendingDeletion)) == 0
    assert store.verify().clean
    with pytest.raises(UnknownReceiptError):
        store.forget(receipt.code)
    with pytest.raises(UnknownSampleError):
        store.picture(receipt.sample_ids[0])


def test_a_blanked_row_keeps_exactly_what_the_design_names() -> None:
    # Whoever adds a column must say here whether it tells anything about a person.
    stays = {
        "id", "created_at", "decided_at", "deleted_at", "model_version", "final_label",
        "status", "row_version", "source", "audit", "random_key", "visitor_disagreed",
        "opinion", "decided_by", "label_error_checked",
    }  # fmt: skip
    assert {column.key for column in Sample.__table__.columns} == stays | set(BLANKED)


class DeafStorage:
    """A storage whose disk refuses to delete."""

    def __init__(self, inner: object) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)

    def delete(self, path: str) -> bool:
        raise StorageError("The disk is read-only.", reason="read_only")


def test_an_interrupted_deletion_is_finished_later(store: SampleStore) -> None:
    receipt = store.keep([new_sample()], group_id="g")
    disk = store.storage
    store.storage = DeafStorage(disk)  # type: ignore[assignment]
    with pytest.raises(StorageError):
        store.forget(receipt.code)
    store.storage = disk
    assert len(pictures(store)) == 1
    assert len(store.verify().pending) == 1
    store.expire()
    assert pictures(store) == []
    assert store.verify().clean


def test_samples_expire_when_their_time_is_over(store: SampleStore, clock: Clock) -> None:
    old = keep(store)
    clock.forward(days=29)
    young = keep(store)
    assert store.expire() == 0
    clock.forward(days=1)
    assert store.expire(dry_run=True) == 1
    assert store.get(old).status == "pending"
    assert store.expire() == 1
    assert store.get(old).status == "deleted"
    assert store.get(young).status == "pending"
    assert store.verify().clean


def test_a_full_collection_says_so_and_room_comes_back(
    make_store: Callable[..., SampleStore],
) -> None:
    store = make_store()
    receipt = store.keep([new_sample(picture=jpeg(side=256))], group_id="g")
    full = make_store(max_collected_mb=store.size_bytes() / 1e6)
    with pytest.raises(StorageError) as refused:
        full.keep([new_sample()], group_id="g")
    assert refused.value.details["reason"] == "full"
    with store.database.session() as session:
        held = session.scalar(sa.select(Fact.number).where(Fact.name == "bytes"))
    assert held == len(store.storage.read(str(store.of_receipt(receipt.code)[0].path)))
    store.forget(receipt.code)
    with store.database.session() as session:
        assert session.scalar(sa.select(Fact.number).where(Fact.name == "bytes")) == 0


def test_ids_sort_by_time_and_never_repeat(store: SampleStore, clock: Clock) -> None:
    ids = []
    for _ in range(5):
        ids.append(keep(store))
        clock.forward(seconds=1)
    assert ids == sorted(ids)
    assert all(re.fullmatch(r"[0-9a-f]{32}", sample_id) for sample_id in ids)
    same_moment = {keep(store) for _ in range(20)}
    assert len(same_moment) == 20
