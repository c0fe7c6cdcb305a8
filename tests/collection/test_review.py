"""Orders, leases, decisions, undo, history, second opinions."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta

import pytest
import sqlalchemy as sa
from argon2 import PasswordHasher

from fer.collection.database import Database
from fer.collection.identifiers import share_of
from fer.collection.operators import Operators
from fer.collection.review import LEASE, Order, ReviewQueue
from fer.collection.samples import SampleStore
from fer.collection.tables import LabelEvent, Sample
from fer.errors import DecisionConflictError, LabelError, OperatorError, UnknownSampleError
from tests.collection.support import Clock, keep, new_sample

#: The cheapest argon2 there is: what is tested here is not its strength.
HASHER = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


@pytest.fixture(autouse=True)
def operators(database: Database) -> Operators:
    accounts = Operators(database, hasher=HASHER)
    for name in ("ana", "ben", "cid"):
        accounts.add(name, "a good password")
    return accounts


def queue_of(store: SampleStore, **settings: object) -> ReviewQueue:
    changed = store.settings.model_copy(update=settings)
    return ReviewQueue(store.database, changed, store.clock)


@pytest.fixture
def queue(store: SampleStore) -> ReviewQueue:
    return queue_of(store)


def ids(views: list[object]) -> list[str]:
    return [view.id for view in views]  # type: ignore[attr-defined]


def snapshot(store: SampleStore, sample_id: str) -> tuple[object, ...]:
    view = store.get(sample_id)
    return (
        view.status, view.final_label, view.decided_at, view.decided_by, view.queue,
        view.opinion, view.second_by, view.second_label, view.expires_at,
    )  # fmt: skip


# Orders


def test_the_least_certain_come_first(store: SampleStore, queue: ReviewQueue) -> None:
    by_confidence = {c: keep(store, confidence=c) for c in (0.9, 0.4, 0.7, 0.5)}
    assert ids(queue.next("ana", Order.UNCERTAIN, 9)) == [
        by_confidence[c] for c in (0.4, 0.5, 0.7, 0.9)
    ]


def test_the_newest_come_first(store: SampleStore, queue: ReviewQueue, clock: Clock) -> None:
    kept = []
    for _ in range(3):
        kept.append(keep(store))
        clock.forward(seconds=1)
    assert ids(queue.next("ana", Order.NEWEST, 9)) == kept[::-1]


def test_those_where_the_visitor_disagreed_come_first(
    store: SampleStore, queue: ReviewQueue
) -> None:
    unsure = keep(store, confidence=0.3)
    first = store.keep([new_sample("happy", 0.8)], group_id="g")
    second = store.keep([new_sample("happy", 0.6)], group_id="g")
    agreed = store.keep([new_sample("happy", 0.4)], group_id="g")
    store.suggest(first.code, "sad")
    store.suggest(second.code, "other")
    store.suggest(agreed.code, "happy")
    assert ids(queue.next("ana", Order.DISAGREED, 9)) == [
        second.sample_ids[0], first.sample_ids[0], unsure, agreed.sample_ids[0],
    ]  # fmt: skip


def test_an_unknown_order_or_operator_is_refused(queue: ReviewQueue) -> None:
    with pytest.raises(OperatorError):
        queue.next("ana", "best")
    with pytest.raises(OperatorError):
        queue.next("dora")
    with pytest.raises(OperatorError):
        queue.next("visitor")


# The audit slice


def test_every_fifth_face_is_a_blind_random_one_of_the_audit_slice(
    make_store: Callable[..., SampleStore],
) -> None:
    store = make_store(audit_share=0.5)
    audited = next(f"g{i}" for i in range(99) if share_of("audit", f"g{i}") < 0.5)
    plain = next(f"g{i}" for i in range(99) if share_of("audit", f"g{i}") >= 0.5)
    for _ in range(6):
        receipt = store.keep([new_sample("happy", 0.3)], group_id=audited)
        store.suggest(receipt.code, "sad")
    for _ in range(20):
        keep(store, group=plain)
    queue = queue_of(store)
    views = [view for _ in range(5) for view in queue.next("ana", Order.UNCERTAIN, 3)]
    assert [view.audit for view in views] == [(i + 1) % 5 == 0 for i in range(15)]
    with store.database.session() as session:
        keys = dict(session.execute(sa.select(Sample.id, Sample.random_key)).all())
    by_key = sorted((key, i) for i, key in keys.items() if store.get(i).audit)
    assert [v.id for v in views if v.audit] == [i for _, i in by_key[:3]], "not by uncertainty"
    for view in views:
        told = (view.predicted_label, view.probabilities, view.visitor_label, view.path)
        assert view.blind == view.audit
        assert (told == (None, None, None, None)) == view.audit
        assert not (view.audit and view.visitor_disagreed)


@pytest.mark.parametrize("order", [o for o in Order if o != Order.DIFFERENCES])
def test_audit_faces_come_blind_where_an_order_has_no_more(
    make_store: Callable[..., SampleStore], order: Order
) -> None:
    store = make_store(audit_share=0.9)
    audited = next(f"g{i}" for i in range(99) if share_of("audit", f"g{i}") < 0.9)
    sample_id = keep(store, group=audited)
    views = queue_of(store).next("ana", order, 3)
    assert [(view.id, view.blind) for view in views] == [(sample_id, True)]


def test_a_blind_face_cannot_be_confirmed_only_labelled(
    make_store: Callable[..., SampleStore],
) -> None:
    store = make_store(audit_share=0.9)
    audited = next(f"g{i}" for i in range(99) if share_of("audit", f"g{i}") < 0.9)
    sample_id = keep(store, "happy", group=audited)
    queue = queue_of(store)
    with pytest.raises(LabelError):
        queue.decide(sample_id, "ana", "confirm", row_version=1)
    event = queue.decide(sample_id, "ana", "relabel", label="happy", row_version=1)
    assert (event.kind, event.blind, event.to_label) == ("confirm", True, "happy")


# Leases


def test_two_operators_never_hold_the_same_face(store: SampleStore, clock: Clock) -> None:
    for _ in range(10):
        keep(store)
    queue = queue_of(store)
    first = ids(queue.next("ana", count=6))
    second = ids(queue.next("ben", count=6))
    assert len(first) == 6
    assert len(second) == 4
    assert not set(first) & set(second)
    assert queue.next("ana", count=6) == [], "not twice to the same operator either"
    clock.forward(seconds=LEASE.total_seconds() - 1)
    assert queue.renew("ana", first[:2]) == first[:2] or set(queue.renew("ana", first[:2])) == set(
        first[:2]
    )
    clock.forward(seconds=2)
    assert set(ids(queue.next("cid", count=20))) == set(first[2:]) | set(second)
    assert queue.renew("ana", first[2:]) == [], "they are in other hands now"
    assert queue.free("ana", first) == 2
    assert set(ids(queue.next("cid", count=20))) == set(first[:2])


def test_operators_at_the_same_time_never_hold_the_same_face(store: SampleStore) -> None:
    for _ in range(60):
        keep(store)
    handed: dict[str, list[str]] = {"ana": [], "ben": [], "cid": []}
    start = threading.Barrier(3)

    def work(name: str) -> None:
        queue = queue_of(store)
        start.wait()
        while views := queue.next(name, count=4):
            handed[name] += ids(views)

    threads = [threading.Thread(target=work, args=(name,)) for name in handed]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    everything = [sample_id for part in handed.values() for sample_id in part]
    assert len(everything) == len(set(everything)) == 60


# Decisions


@pytest.mark.parametrize(
    ("kind", "label", "text", "status", "final", "stays_days"),
    [
        ("confirm", None, None, "confirmed", "happy", 365),
        ("relabel", "SAD", None, "relabelled", "sad", 365),
        ("relabel", "happy", None, "confirmed", "happy", 365),
        ("other", None, " bored ", "other", "other", 365),
        ("reject", None, None, "rejected", None, 365),
        ("unsure", None, None, "unsure", None, 30),
    ],
)
def test_a_decision_is_an_event_and_a_state(
    store: SampleStore,
    queue: ReviewQueue,
    clock: Clock,
    kind: str,
    label: str | None,
    text: str | None,
    status: str,
    final: str | None,
    stays_days: int,
) -> None:
    sample_id = keep(store, "happy")
    kept_at = clock.now
    (view,) = queue.next("ana")
    clock.forward(minutes=1)
    event = queue.decide(
        sample_id, "ana", kind, label=label, text=text, row_version=view.row_version,
        order="uncertain", sitting="s1",
    )  # fmt: skip
    after = store.get(sample_id)
    assert (after.status, after.final_label, after.decided_by) == (status, final, "ana")
    assert after.decided_at == clock.now
    assert (after.queue, after.lease_by, after.row_version) == (None, None, view.row_version + 1)
    start = clock.now if stays_days == 365 else kept_at
    assert after.expires_at == start + timedelta(days=stays_days)
    expected_kind = "confirm" if final == "happy" else kind
    assert (event.kind, event.from_label, event.to_label) == (expected_kind, "happy", final)
    assert (event.actor, event.actor_kind, event.order_shown, event.sitting) == (
        "ana", "operator", "uncertain", "s1",
    )  # fmt: skip
    assert event.note == ("bored" if kind == "other" else None)
    assert queue.next("ben") == []


def test_labels_of_the_sitting_count_beside_the_models(
    store: SampleStore, queue: ReviewQueue
) -> None:
    first, second = keep(store), keep(store)
    event = queue.decide(first, "ana", "relabel", label="bored", labels=["Bored"], row_version=1)
    assert event.to_label == "Bored"
    with pytest.raises(LabelError):
        queue.decide(second, "ana", "relabel", label="bored", row_version=1)
    for kind, label in [("relabel", None), ("confirm", "happy"), ("undo", None), ("x", None)]:
        with pytest.raises(LabelError):
            queue.decide(second, "ana", kind, label=label, row_version=1)
    assert store.get(second).row_version == 1


def test_a_decision_on_a_changed_row_is_refused_with_what_changed(
    store: SampleStore, queue: ReviewQueue, clock: Clock
) -> None:
    sample_id = keep(store)
    (view,) = queue.next("ana")
    clock.forward(minutes=3)
    queue.next("ben")
    queue.decide(sample_id, "ben", "reject", row_version=view.row_version)
    with pytest.raises(DecisionConflictError) as refused:
        queue.decide(sample_id, "ana", "confirm", row_version=view.row_version)
    assert refused.value.details == {
        "sample_id": sample_id, "status": "rejected", "final_label": None, "decided_by": "ben",
        "decided_at": clock.now.isoformat(), "row_version": 2, "expected": 1,
    }  # fmt: skip
    assert len(queue.history(sample_id)) == 1
    with pytest.raises(UnknownSampleError):
        queue.decide("0" * 32, "ana", "confirm", row_version=1)


def test_a_decision_after_the_lease_counts_if_nobody_else_decided(
    store: SampleStore, queue: ReviewQueue, clock: Clock
) -> None:
    sample_id = keep(store)
    (view,) = queue.next("ana")
    clock.forward(minutes=3)
    queue.next("ben")
    queue.decide(sample_id, "ana", "confirm", row_version=view.row_version)
    assert store.get(sample_id).decided_by == "ana"


def test_a_visitors_later_opinion_does_not_refuse_the_decision(
    store: SampleStore, queue: ReviewQueue
) -> None:
    receipt = store.keep([new_sample()], group_id="g")
    (view,) = queue.next("ana")
    store.suggest(receipt.code, "sad")
    queue.decide(view.id, "ana", "confirm", row_version=view.row_version)
    assert store.get(view.id).status == "confirmed"


def test_a_forgotten_face_cannot_be_decided_and_its_free_text_goes(
    store: SampleStore, queue: ReviewQueue
) -> None:
    receipt = store.keep([new_sample()], group_id="g")
    (sample_id,) = receipt.sample_ids
    queue.decide(sample_id, "ana", "other", text="like my aunt Mia", row_version=1)
    store.forget(receipt.code)
    with pytest.raises(DecisionConflictError) as refused:
        queue.decide(sample_id, "ana", "confirm", row_version=2)
    assert refused.value.details["status"] == "deleted"
    (event,) = queue.history(sample_id)
    assert (event.kind, event.to_label, event.note) == ("other", "other", None)
    assert store.get(sample_id).final_label == "other"
    assert store.verify().clean


def test_one_decision_for_many_says_what_became_of_each(
    store: SampleStore, queue: ReviewQueue
) -> None:
    kept = [keep(store, label) for label in ("happy", "sad", "angry")]
    queue.decide(kept[1], "ben", "reject", row_version=1)
    outcomes = queue.decide_many(
        [*((sample_id, 1) for sample_id in kept), ("0" * 32, 1)],
        "ana", "relabel", label="sad", sitting="s",
    )  # fmt: skip
    assert [type(outcome.error) for outcome in outcomes] == [
        type(None), DecisionConflictError, type(None), UnknownSampleError,
    ]  # fmt: skip
    assert [store.get(sample_id).final_label for sample_id in kept] == ["sad", None, "sad"]
    undone = queue.undo("ana", "s")
    assert {view.id for view in undone.samples} == {kept[0], kept[2]}, "one undo for all of them"
    assert [store.get(sample_id).status for sample_id in kept] == ["pending", "rejected", "pending"]


# Undo and history


def test_undo_goes_back_step_by_step_to_the_sittings_start(
    store: SampleStore, queue: ReviewQueue, clock: Clock
) -> None:
    kept = [keep(store) for _ in range(3)]
    queue.decide(kept[0], "ana", "reject", row_version=1, sitting="before")
    states = [snapshot(store, sample_id) for sample_id in kept]
    queue.decide(kept[0], "ana", "confirm", row_version=2, sitting="now")
    queue.decide(kept[1], "ana", "other", text="x", row_version=1, sitting="now")
    queue.decide(kept[2], "ben", "confirm", row_version=1, sitting="now")
    clock.forward(minutes=5)
    assert ids(queue.undo("ana", "now").samples) == [kept[1]]
    again = store.get(kept[1])
    queue.decide(kept[1], "ana", "unsure", row_version=again.row_version, sitting="now")
    for expected in (kept[1], kept[0]):
        (view,) = queue.undo("ana", "now").samples
        assert view.id == expected
        assert view.lease_by == "ana", "it is in the operator's hands again"
    assert queue.undo("ana", "now").samples == []
    assert snapshot(store, kept[0]) == states[0], "the decision of an earlier sitting stands"
    assert snapshot(store, kept[1]) == states[1]
    assert store.get(kept[2]).status == "confirmed", "ben's decision is ben's to undo"
    kinds = [event.kind for event in queue.history(kept[1])]
    assert kinds == ["other", "undo", "unsure", "undo"], "undo appends"


def test_undo_passes_over_what_others_changed_or_visitors_deleted(
    store: SampleStore, queue: ReviewQueue
) -> None:
    first = keep(store)
    changed = keep(store)
    receipt = store.keep([new_sample()], group_id="g")
    for sample_id in (first, changed, receipt.sample_ids[0]):
        queue.decide(sample_id, "ana", "confirm", row_version=1, sitting="s")
    queue.decide(changed, "ben", "reject", row_version=2)
    store.forget(receipt.code)
    undone = queue.undo("ana", "s")
    assert ids(undone.samples) == [first]
    assert undone.skipped == [receipt.sample_ids[0], changed]
    assert store.get(changed).status == "rejected"


def test_any_earlier_state_can_be_restored_by_a_new_event(
    store: SampleStore, queue: ReviewQueue, clock: Clock
) -> None:
    sample_id, stranger = keep(store), keep(store)
    states = [snapshot(store, sample_id)]
    for version, (kind, label) in enumerate([("relabel", "sad"), ("reject", None)], start=1):
        clock.forward(minutes=1)
        queue.decide(sample_id, "ana", kind, label=label, row_version=version)
        states.append(snapshot(store, sample_id))
    events = queue.history(sample_id)
    clock.forward(days=1)
    restored = queue.restore(sample_id, events[0].id, "ben")
    assert snapshot(store, sample_id) == states[1]
    assert (restored.kind, restored.actor, restored.actor_kind) == ("restore", "ben", "restore")
    assert (restored.from_label, restored.to_label) == (None, "sad")
    queue.restore(sample_id, None, "ben")
    assert snapshot(store, sample_id) == states[0]
    assert [event.kind for event in queue.history(sample_id)] == [
        "relabel", "reject", "restore", "restore",
    ]  # fmt: skip
    with pytest.raises(UnknownSampleError):
        queue.restore(stranger, events[0].id, "ben")


# Second opinions


def test_the_share_for_a_second_opinion_is_fixed_by_hash(store: SampleStore) -> None:
    queue = queue_of(store, second_opinion=0.5)
    kept = [keep(store) for _ in range(20)]
    for sample_id in kept:
        queue.decide(sample_id, "ana", "confirm", row_version=1)
    waiting = [store.get(sample_id).queue == "second" for sample_id in kept]
    assert waiting == [share_of("second", sample_id) < 0.5 for sample_id in kept]
    assert True in waiting
    assert False in waiting


def test_a_second_opinion_is_blind_and_another_operators(store: SampleStore) -> None:
    queue = queue_of(store, second_opinion=1.0)
    sample_id = keep(store, "happy")
    queue.decide(sample_id, "ben", "confirm", row_version=1)
    first = snapshot(store, sample_id)
    assert queue.next("ben") == []
    for other in ("ana", "cid"):  # one sorts before ben, one after
        (view,) = queue.next(other)
        assert (view.blind, view.final_label, view.predicted_label) == (True, None, None)
        assert (view.status, view.decided_by) == ("pending", None)
        queue.free(other, [view.id])
    event = queue.decide(sample_id, "ana", "relabel", label="happy", row_version=2)
    assert (event.blind, event.second, event.from_label) == (True, True, "happy")
    after = store.get(sample_id)
    assert (after.opinion, after.second_by, after.second_label, after.queue) == (
        "agreed", "ana", "happy", None,
    )  # fmt: skip
    assert snapshot(store, sample_id)[:4] == first[:4], "the first decision stands"


def test_differences_come_back_as_a_queue_of_their_own(store: SampleStore) -> None:
    queue = queue_of(store, second_opinion=1.0)
    sample_id = keep(store, "happy")
    pending = keep(store)
    queue.decide(sample_id, "ben", "confirm", row_version=1)
    queue.decide(sample_id, "ana", "relabel", label="sad", row_version=2, sitting="s")
    assert store.get(sample_id).final_label == "happy", "not changed before it is settled"
    assert ids(queue.next("cid", Order.UNCERTAIN, 9)) == [pending]
    (view,) = queue.next("cid", Order.DIFFERENCES, 9)
    assert (view.id, view.blind) == (sample_id, False)
    assert (view.final_label, view.decided_by) == ("happy", "ben")
    assert (view.second_label, view.second_by) == ("sad", "ana")
    queue.decide(sample_id, "cid", "relabel", label="angry", row_version=3)
    after = store.get(sample_id)
    assert (after.final_label, after.opinion, after.queue) == ("angry", "settled", None)
    assert queue.undo("ana", "s").skipped == [sample_id]


def test_undoing_a_second_opinion_asks_for_it_again(store: SampleStore) -> None:
    queue = queue_of(store, second_opinion=1.0)
    sample_id = keep(store, "happy")
    queue.decide(sample_id, "ben", "confirm", row_version=1)
    before = snapshot(store, sample_id)
    queue.decide(sample_id, "ana", "reject", row_version=2, sitting="s")
    assert store.get(sample_id).opinion == "differs"
    (view,) = queue.undo("ana", "s").samples
    assert view.blind
    assert snapshot(store, sample_id) == before


def test_events_are_only_ever_added(store: SampleStore, queue: ReviewQueue) -> None:
    sample_id = keep(store)
    written: list[tuple[object, ...]] = []
    columns = [c for c in LabelEvent.__table__.columns if c.key != "note"]

    def rows() -> list[tuple[object, ...]]:
        with store.database.session() as session:
            return [tuple(r) for r in session.execute(sa.select(*columns).order_by(LabelEvent.id))]

    def step(act: Callable[[], object]) -> None:
        nonlocal written
        act()
        now = rows()
        assert now[: len(written)] == written
        assert len(now) == len(written) + 1
        written = now

    step(lambda: queue.decide(sample_id, "ana", "reject", row_version=1, sitting="s"))
    step(lambda: queue.undo("ana", "s"))
    step(lambda: queue.decide(sample_id, "ana", "confirm", row_version=3, sitting="s"))
    step(lambda: queue.restore(sample_id, written[0][0], "ben"))  # type: ignore[arg-type]
    before = rows()
    store.delete([sample_id])
    assert rows() == before
