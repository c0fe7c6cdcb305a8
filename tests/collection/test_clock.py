"""A clock that is set back: what was decided last counts, whatever time it says."""

from __future__ import annotations

import pytest
from argon2 import PasswordHasher

from fer.collection.identifiers import GroupKey
from fer.collection.operators import Operators
from fer.collection.review import ReviewQueue
from fer.collection.runs import end_run, new_decisions, start_run
from fer.collection.samples import SampleStore
from fer.collection.training_data import read_reviews
from tests.collection.support import Clock, keep


@pytest.fixture
def review(store: SampleStore, clock: Clock) -> ReviewQueue:
    accounts = Operators(store.database, hasher=PasswordHasher(1, 8, 1))
    for name in ("ada", "ben"):
        accounts.add(name, "a long password")
    return ReviewQueue(store.database, store.settings, clock)


def decide(review: ReviewQueue, store: SampleStore, sample: str, label: str, who: str) -> None:
    version = store.get(sample).row_version
    review.decide(sample, who, "relabel", row_version=version, label=label, sitting=f"s-{who}")


def test_the_later_decision_counts_though_its_time_is_earlier(
    review: ReviewQueue, store: SampleStore, clock: Clock
) -> None:
    sample = keep(store)
    decide(review, store, sample, "sad", "ada")
    clock.forward(days=-1)
    decide(review, store, sample, "angry", "ben")
    events = store.events(sample)
    assert events[1].at < events[0].at
    assert [event.to_label for event in events] == ["sad", "angry"]
    assert store.get(sample).final_label == "angry"
    (reviewed,) = read_reviews(store.database).samples
    assert reviewed.label == "angry"
    review.undo("ben", "s-ben")
    assert store.get(sample).final_label == "sad"
    assert [event.kind for event in store.events(sample)] == ["relabel", "relabel", "undo"]


def test_a_decision_after_a_run_is_new_though_its_time_is_earlier(
    review: ReviewQueue, store: SampleStore, clock: Clock
) -> None:
    first, second = keep(store), keep(store)
    decide(review, store, first, "sad", "ada")
    run = start_run(store.database, None, clock)
    end_run(store.database, run, "kept", "-", clock=clock)
    clock.forward(days=-3)
    decide(review, store, second, "angry", "ada")
    with store.database.session() as session:
        assert new_decisions(session) == 1
    new = {sample.id: sample.new for sample in read_reviews(store.database).samples}
    assert new == {first: False, second: True}


def test_a_face_is_not_kept_from_everybody_until_the_clock_catches_up(
    review: ReviewQueue, store: SampleStore, clock: Clock
) -> None:
    sample = keep(store)
    assert [face.id for face in review.next("ada", "newest", 1)] == [sample]
    assert review.next("ben", "newest", 1) == []
    clock.forward(days=-1)
    assert [face.id for face in review.next("ben", "newest", 1)] == [sample]
    # And what is handed out now is kept from others as ever.
    assert review.next("ada", "newest", 1) == []


def test_nothing_expires_early_and_an_old_months_key_does_not_come_back(
    store: SampleStore, clock: Clock
) -> None:
    before = store.group_id("cookie")
    clock.forward(days=-40)
    sample = keep(store)
    assert store.expire() == 0
    assert store.group_id("cookie") == before
    assert GroupKey(store.settings.data_dir.absolute()).group_id("cookie", clock.now) == before
    clock.forward(days=41)
    assert store.expire() == 1
    assert store.get(sample).status == "deleted"
