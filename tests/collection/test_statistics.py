"""The board's numbers, the grid, the scores."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fer.collection import scores
from fer.collection.grid import GridFilter, grid_page, hamming_share
from fer.collection.identifiers import share_of
from fer.collection.review import ReviewQueue
from fer.collection.runs import end_run, new_decisions, start_run
from fer.collection.samples import SampleStore
from fer.collection.scoring import refresh_scores
from fer.collection.statistics import board, cohens_kappa, labels_a_minute, wilson
from tests.collection.support import MODEL, Clock, jpeg, keep, new_sample


def queue_of(store: SampleStore, **settings: object) -> ReviewQueue:
    return ReviewQueue(store.database, store.settings.model_copy(update=settings), store.clock)


def label(
    store: SampleStore, queue: ReviewQueue, sample_id: str, name: str, by: str = "ana"
) -> None:
    version = store.get(sample_id).row_version
    queue.decide(sample_id, by, "relabel", label=name, row_version=version)


# Numbers


def test_wilson_gives_the_published_interval() -> None:
    # Newcombe 1998, table I: 81 of 263 gives 0.2553 to 0.3662, 0 of 20 gives 0 to 0.1611.
    share = wilson(81, 263)
    assert (share.low, share.high) == (
        pytest.approx(0.2553, abs=1e-4),
        pytest.approx(0.3662, abs=1e-4),
    )
    assert wilson(0, 20).high == pytest.approx(0.1611, abs=1e-4)
    assert wilson(0, 0).value is None


@given(st.integers(0, 500), st.integers(0, 500))
def test_a_wilson_interval_holds_its_share(hits: int, misses: int) -> None:
    share = wilson(hits, hits + misses)
    if share.value is not None and share.low is not None and share.high is not None:
        assert 0 <= share.low <= share.value + 1e-12
        assert share.value - 1e-12 <= share.high <= 1


def test_kappa_is_agreement_beyond_chance() -> None:
    # Two raters, 50 cases: 20 both yes, 15 both no, 5 and 10 split: 0.7 observed, 0.5 by chance.
    pairs = [("y", "y")] * 20 + [("n", "n")] * 15 + [("y", "n")] * 5 + [("n", "y")] * 10
    assert cohens_kappa(pairs) == pytest.approx(0.4)
    assert cohens_kappa([("y", "y")]) is None
    assert cohens_kappa([("y", "y")] * 5) == 1.0


def test_pace_leaves_pauses_out() -> None:
    start = datetime(2025, 1, 1, tzinfo=UTC)
    steps = [0, 2, 4, 6, 3600, 3602]
    assert labels_a_minute(start + timedelta(seconds=s) for s in steps) == pytest.approx(30)
    assert labels_a_minute([start]) is None


# The board


def test_the_board_counts_what_happened(
    make_store: Callable[..., SampleStore], clock: Clock
) -> None:
    store = make_store(audit_share=0.5)
    audited = next(f"g{i}" for i in range(99) if share_of("audit", f"g{i}") < 0.5)
    plain = next(f"g{i}" for i in range(99) if share_of("audit", f"g{i}") >= 0.5)
    queue = queue_of(store)
    for answer in ("happy", "happy", "sad"):
        label(store, queue, keep(store, "happy", group=audited), answer)
    label(store, queue, keep(store, "sad", group=plain), "angry")
    rejected = keep(store, group=plain)
    clock.forward(days=1)
    queue.decide(rejected, "ben", "reject", row_version=1)
    shown = board(store.database, clock.now)
    assert shown.by_day == {
        date(2025, 6, 15): {"collected": 5, "confirmed": 2, "relabelled": 2},
        date(2025, 6, 16): {"rejected": 1},
    }
    assert shown.status == {"confirmed": 2, "relabelled": 2, "rejected": 1}
    assert (shown.accuracy[MODEL].hits, shown.accuracy[""].n) == (2, 3), "audit slice only"
    confusion = shown.confusion[MODEL]
    assert set(confusion.labels) == {"angry", "happy", "sad"}
    at = confusion.labels.index
    assert confusion.counts[at("happy")][at("sad")] == 1
    assert confusion.counts[at("sad")][at("angry")] == 1
    assert confusion.precision["happy"] == pytest.approx(2 / 3)
    assert confusion.recall == {"angry": 0.0, "happy": 1.0, "sad": 0.0}
    assert shown.decisions == {"ana": 4, "ben": 1}
    assert shown.new_decisions == 1, "neither the audit slice nor what was rejected trains"


def test_an_empty_board_has_no_numbers_to_invent(store: SampleStore, clock: Clock) -> None:
    shown = board(store.database, clock.now)
    assert (shown.by_day, shown.status, shown.kappa, shown.new_decisions) == ({}, {}, None, 0)
    assert shown.accuracy[""].value is None


def test_kappa_comes_from_second_opinions_that_stand(store: SampleStore, clock: Clock) -> None:
    queue = queue_of(store, second_opinion=1.0)
    answers = [("happy", "happy"), ("sad", "sad"), ("happy", "sad"), ("happy", "happy")]
    for first, second in answers:
        sample_id = keep(store)
        label(store, queue, sample_id, first, "ana")
        label(store, queue, sample_id, second, "ben")
    undone = keep(store)
    label(store, queue, undone, "happy", "ana")
    queue.decide(undone, "ben", "reject", row_version=2, sitting="s")
    queue.undo("ben", "s")
    shown = board(store.database, clock.now)
    assert (shown.pairs, shown.differences) == (4, 1)
    assert shown.kappa == pytest.approx(cohens_kappa(answers))


def test_new_decisions_count_from_the_last_run_that_trained(
    store: SampleStore, clock: Clock
) -> None:
    queue = queue_of(store)

    def count() -> int:
        with store.database.session() as session:
            return new_decisions(session)

    first, second = keep(store), keep(store)
    label(store, queue, first, "sad")
    assert count() == 1
    skipped = start_run(store.database, "champion", clock)
    end_run(store.database, skipped, "skipped", "too few", clock=clock)
    assert count() == 1
    run = start_run(store.database, "champion", clock)
    clock.forward(days=-2)
    label(store, queue, second, "angry")
    end_run(store.database, run, "kept", "no better", sample_ids=[first], clock=clock)
    assert count() == 1, "what was decided while it ran is new, whatever the clock says"
    label(store, queue, first, "angry")
    assert count() == 2


# The grid


def grid_ids(store: SampleStore, **chosen: object) -> list[str]:
    return [cell.sample.id for cell in grid_page(store.database, GridFilter(**chosen)).cells]  # type: ignore[arg-type]


def test_the_grid_filters(store: SampleStore, clock: Clock) -> None:
    queue = queue_of(store)
    happy = keep(store, "happy", 0.9, group="a")
    clock.forward(days=1)
    day = clock.now
    receipt = store.keep([new_sample("sad", 0.5)], group_id="b")
    (sad,) = receipt.sample_ids
    store.suggest(receipt.code, "happy")
    clock.forward(days=1)
    angry = keep(store, "angry", 0.6, group="c")
    label(store, queue, angry, "happy")
    store.delete([keep(store, group="d")])
    assert grid_ids(store) == [angry, sad, happy]
    assert grid_ids(store, status="pending") == [sad, happy]
    assert grid_ids(store, label="happy") == [angry, happy]
    assert grid_ids(store, predicted_label="angry") == [angry]
    assert grid_ids(store, final_label="happy") == [angry]
    assert grid_ids(store, low=0.5, high=0.6) == [angry, sad]
    assert grid_ids(store, disagreed=True) == [sad]
    assert grid_ids(store, since=day, until=day + timedelta(days=1)) == [sad]
    assert grid_ids(store, id=sad[:20]) == [sad]
    assert grid_ids(store, model="another") == []


def test_the_grid_pages_without_gaps_or_doubles(store: SampleStore, clock: Clock) -> None:
    kept = []
    for number in range(7):
        kept.append(keep(store, group=f"g{number}"))
        clock.forward(seconds=1)
    seen: list[str] = []
    after = None
    while True:
        page = grid_page(store.database, GridFilter(), after, limit=3)
        seen += [cell.sample.id for cell in page.cells]
        after = page.after
        if after is None:
            break
    assert seen == kept[::-1]


def test_copies_fold_within_a_group_only(store: SampleStore, clock: Clock) -> None:
    picture = jpeg(seed=1, side=128)
    nearly = jpeg(seed=1, side=120)
    first = keep(store, group="a", picture=picture)
    clock.forward(seconds=1)
    stranger = keep(store, group="b", picture=nearly)
    clock.forward(seconds=1)
    newest = keep(store, group="a", picture=nearly)
    other = keep(store, group="c", picture=jpeg(seed=2))
    left, right = store.get(first), store.get(newest)
    assert hamming_share(str(left.phash), str(right.phash)) <= 0.10
    assert left.sha256 != right.sha256
    # `newest` is an exact copy of the stranger's picture, and joined that group.
    cells = {
        c.sample.id: [v.id for v in c.copies] for c in grid_page(store.database, GridFilter()).cells
    }
    assert cells == {newest: [newest, stranger], first: [first], other: [other]}
    near = keep(store, group="a", picture=jpeg(seed=1, side=112))
    cells = {
        c.sample.id: [v.id for v in c.copies] for c in grid_page(store.database, GridFilter()).cells
    }
    assert near in {i for ids in cells.values() for i in ids if len(ids) == 2 and first in ids}


def test_the_grid_does_not_show_the_audit_slice_before_its_decision(
    make_store: Callable[..., SampleStore],
) -> None:
    store = make_store(audit_share=0.9)
    audited = next(f"g{i}" for i in range(99) if share_of("audit", f"g{i}") < 0.9)
    sample_id = keep(store, group=audited)
    assert grid_ids(store) == []
    label(store, queue_of(store), sample_id, "happy")
    assert grid_ids(store) == [sample_id]


# Scores


def test_scores_of_known_rows() -> None:
    table = np.array([[1.0, 0.0, 0.0], [1 / 3, 1 / 3, 1 / 3], [0.5, 0.4, 0.1]])
    assert scores.least_confidence(table) == pytest.approx([0, 2 / 3, 0.5])
    assert scores.margin(table) == pytest.approx([1, 0, 0.1])
    assert scores.entropy(table)[:2] == pytest.approx([0, 1])
    assert scores.self_confidence(table, np.array([1, 0, 1])) == pytest.approx([0, 1 / 3, 0.4])
    shares = scores.class_shares(np.array([0, 0, 0, 2]), 3)
    assert shares == pytest.approx([0.75, 0, 0.25])
    assert scores.rarity(np.array([0, 1, 2]), shares) == pytest.approx([0.25, 1, 0.75])
    for wrong in (np.ones((2, 2)), np.ones(3) / 3, np.array([[2.0, -1.0]]), np.ones((1, 1))):
        with pytest.raises(ValueError, match="probabilities"):
            scores.least_confidence(wrong)


@given(st.lists(st.lists(st.floats(0.01, 1), min_size=4, max_size=4), min_size=1, max_size=20))
def test_scores_stay_in_range_and_agree_on_the_extremes(raw: list[list[float]]) -> None:
    table = np.array(raw)
    table /= table.sum(axis=1, keepdims=True)
    assert (scores.least_confidence(table) <= 1 - 1 / 4 + 1e-9).all()
    assert ((scores.entropy(table) >= 0) & (scores.entropy(table) <= 1 + 1e-9)).all()
    assert ((scores.margin(table) >= 0) & (scores.margin(table) <= 1)).all()


def test_the_rarest_predicted_class_comes_first_after_a_refresh(
    store: SampleStore, clock: Clock
) -> None:
    from fer.collection.tables import Operator

    with store.database.session(write=True) as session:
        session.add(Operator(name="ana", password_hash="-", role="reviewer", created_at=clock.now))
    common = [keep(store, "happy", 0.5 + i / 100) for i in range(3)]
    rare = keep(store, "sad", 0.9)
    report = refresh_scores(store.database, clock.now)
    assert not report.skipped
    assert store.get(rare).rarity == pytest.approx(0.75)
    assert store.get(common[0]).rarity == pytest.approx(0.25)
    later = keep(store, "sad", 0.8)
    unseen = keep(store, "angry", 0.99)
    assert store.get(later).rarity == pytest.approx(0.75), "by the last refresh's shares"
    views = queue_of(store).next("ana", "rarest", 9)
    assert [view.id for view in views] == [unseen, later, rare, *common]
    clock.forward(minutes=59)
    assert refresh_scores(store.database, clock.now).skipped
    clock.forward(minutes=1)
    assert not refresh_scores(store.database, clock.now).skipped


def test_suspected_label_errors_are_those_that_were_planted(
    store: SampleStore, clock: Clock
) -> None:
    pytest.importorskip("cleanlab")
    from fer.collection.tables import Operator

    with store.database.session(write=True) as session:
        session.add(Operator(name="ana", password_hash="-", role="reviewer", created_at=clock.now))
    queue = queue_of(store)
    for number in range(24):
        name = ("happy", "sad")[number % 2]
        label(store, queue, keep(store, name, 0.9), name)
    wrong = keep(store, "happy", 0.97)
    label(store, queue, wrong, "sad")
    refresh_scores(store.database, clock.now)
    (view,) = queue.next("ana", "label_error", 5)
    assert view.id == wrong
    assert math.isclose(view.label_error or 0, 0.99, abs_tol=0.05)
    queue.decide(wrong, "ana", "relabel", label="sad", row_version=2, order="label_error")
    refresh_scores(store.database, clock.now, force=True)
    assert store.get(wrong).label_error is None, "looked at: not raised again"
