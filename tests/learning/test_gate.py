"""The gate's lines, on answers whose truth is known."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.gate_simulation import Scene, promotion_rates
from fer.labels import LabelSet
from fer.learning import gate, paired

LABELS = LabelSet(["angry", "happy", "sad"])


def line(n: int, gained: int, lost: int, *, group: int = 1) -> gate.Line:
    """A verdict on `n` faces of one label, of which some were gained and some lost."""
    champion, challenger = np.zeros(n, bool), np.zeros(n, bool)
    challenger[:gained] = True
    champion[gained : gained + lost] = True
    groups = np.arange(n) // group
    return gate.collected_line(
        np.zeros(n, np.int64), champion, challenger, groups, classes=3, alpha=0.05
    )


# Weights


def test_balanced_weights_give_each_label_the_same_say() -> None:
    labels = np.array([0] * 30 + [1] * 10)
    weights = paired.balanced_weights(labels, 3, fewest=5)
    assert weights.sum() == pytest.approx(1)
    assert weights[:30].sum() == pytest.approx(0.5)
    right = labels == 1
    assert weights @ right == pytest.approx(0.5)  # recalls 0 and 1


def test_labels_with_few_faces_share_one_say() -> None:
    labels = np.array([0] * 20 + [1] + [2])
    weights = paired.balanced_weights(labels, 3, fewest=5)
    assert weights[20] == weights[21] == pytest.approx(0.25)


# The test


def test_the_p_value_is_that_of_a_sign_test_when_groups_are_single_faces() -> None:
    # 9 gained and 1 lost: P(at least 9 of 10) = 11 / 1024.
    assert paired.sign_flip_p(np.array([1.0] * 9 + [-1.0]), np.arange(10)) == 11 / 1024


def test_faces_of_one_visitor_count_once() -> None:
    gains = np.ones(12)
    assert paired.sign_flip_p(gains, np.zeros(12, int)) == 0.5
    assert paired.sign_flip_p(gains, np.arange(12)) == 2**-12


def test_nothing_differs_is_no_evidence() -> None:
    assert paired.sign_flip_p(np.zeros(100), np.arange(100)) == 1


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-4, 4), min_size=1, max_size=10))
def test_exact_p_values_count_all_patterns(sums: list[int]) -> None:
    values = np.array(sums, float)
    patterns = list(itertools.product((-1, 1), repeat=len(sums)))
    expected = np.mean([np.dot(pattern, values) >= values.sum() for pattern in patterns])
    p = paired.sign_flip_p(values, np.arange(len(sums)))
    assert p == pytest.approx(1.0 if not values.any() else expected)


def test_drawn_p_values_agree_with_exact_ones() -> None:
    rng = np.random.default_rng(0)
    gains = rng.normal(0.4, 1, 14)
    exact = paired.sign_flip_p(gains, np.arange(14))
    # Two groups more that hardly matter make it draw instead of count.
    drawn = paired.sign_flip_p(np.append(gains, [1e-9, 1e-9]), np.arange(16))
    assert drawn == pytest.approx(exact, abs=4 * math.sqrt(exact / 10_000) + 1e-3)


def test_the_standard_error_sees_that_faces_of_a_visitor_agree() -> None:
    gains = np.repeat(np.random.default_rng(1).choice([-1.0, 1.0], 40), 5) / 200
    alone = paired.standard_error(gains, np.arange(200))
    together = paired.standard_error(gains, np.arange(200) // 5)
    assert together == pytest.approx(alone * math.sqrt(5), rel=0.05)
    assert paired.standard_error(gains, np.zeros(200, int)) == math.inf


def test_power_needs_four_times_the_faces_for_half_the_gain() -> None:
    once = paired.faces_for_power(100, 0.03, 0.08, 0.05)
    assert paired.faces_for_power(100, 0.03, 0.04, 0.05) == pytest.approx(4 * once, rel=0.02)
    # z(0.95) + z(0.8) = 2.4865; (2.4865 * 0.03 / 0.08)² * 100 = 86.9.
    assert once == 87


# Lines


def test_a_clear_gain_passes_and_says_so() -> None:
    verdict = line(100, gained=25, lost=5)
    assert verdict.passed
    assert verdict.figures["gain"] == pytest.approx(0.2)
    assert "25.0% (balanced), the champion in 5.0%" in verdict.sentence


def test_no_gain_is_refused_and_says_how_many_more_are_needed() -> None:
    verdict = line(100, gained=10, lost=8)
    assert verdict.passed is False
    assert verdict.figures["more_needed"] > 100
    assert "more decisions would show a gain" in verdict.sentence


def test_where_a_gain_would_have_shown_no_more_decisions_are_asked_for() -> None:
    verdict = line(2000, gained=12, lost=10)
    assert verdict.passed is False
    assert verdict.figures["more_needed"] == 0
    assert "So many would have shown a gain of 5.0% four times in five." in verdict.sentence


@pytest.mark.parametrize(("n", "group"), [(19, 1), (40, 10)])
def test_too_few_faces_or_visitors_are_no_test(n: int, group: int) -> None:
    verdict = line(n, gained=n, lost=0, group=group)
    assert verdict.passed is False
    assert verdict.figures["p_value"] is None
    assert "Too few" in verdict.sentence


def test_an_empty_collection_is_refused() -> None:
    assert line(0, 0, 0).passed is False


@settings(max_examples=50, deadline=None)
@given(st.integers(20, 120), st.data())
def test_a_worse_challenger_never_passes(n: int, data: st.DataObject) -> None:
    lost = data.draw(st.integers(0, n // 2))
    gained = data.draw(st.integers(0, lost))
    assert line(n, gained, lost).passed is False


def test_the_audit_slice_refuses_only_what_is_significantly_worse() -> None:
    n = 60
    champion, challenger = np.ones(n, bool), np.ones(n, bool)
    challenger[:3] = False
    assert gate.audit_line(champion, challenger, np.arange(n), alpha=0.05).passed  # p = 1/8
    challenger[:6] = False
    refused = gate.audit_line(champion, challenger, np.arange(n), alpha=0.05)  # p = 1/64
    assert refused.passed is False
    assert refused.figures["p_worse"] == 1 / 64
    assert gate.audit_line(champion[:0], champion[:0], np.arange(0), alpha=0.05).passed is None


@pytest.mark.parametrize(("lost", "passed"), [(14, True), (15, False), (0, True)])
def test_the_base_may_lose_its_tolerance_and_no_more(lost: int, passed: bool) -> None:
    champion, challenger = np.ones(1400, bool), np.ones(1400, bool)
    challenger[:lost] = False
    verdict = gate.base_line(champion, challenger, tolerance=0.01)
    assert verdict.passed is passed
    assert ("more than the tolerated 1.0%" in verdict.sentence) is not passed


def test_no_base_hold_out_refuses() -> None:
    nothing = np.zeros(0, bool)
    assert gate.base_line(nothing, nothing, tolerance=0.01).passed is False


def sure_of(answers: np.ndarray, confidence: float = 0.8) -> np.ndarray:
    """Probabilities (n, 3) of a champion with these answers."""
    rest = (1 - confidence) / 2
    return np.where(np.eye(3, dtype=bool)[answers], confidence, rest)


@pytest.mark.parametrize(
    ("called_sad", "precision", "confidence", "passed"),
    [(20, 1.0, 0.8, False), (12, 1.0, 0.8, True), (20, 0.8, 0.8, True), (20, 1.0, 0.5, None)],
    ids=["swapped", "mixed", "not known well", "not sure"],
)
def test_decisions_that_turn_the_base_upside_down_are_refused(
    called_sad: int, precision: float, confidence: float, passed: bool | None
) -> None:
    happy = np.ones(100, np.int64)
    accepted = np.eye(3, dtype=bool)[np.where(np.arange(100) < 100 * precision, 1, 2)]
    decided = np.where(np.arange(20) < called_sad, 2, 1)
    verdict = gate.contradiction_line(
        LABELS, sure_of(happy), accepted, sure_of(happy[:20], confidence), decided
    )
    assert verdict.passed is passed
    if passed is False:
        assert "operators called 100% sad" in verdict.sentence


def test_a_recall_that_falls_beyond_chance_is_named() -> None:
    truth = np.array([0] * 100 + [1] * 100 + [2] * 29)
    champion, challenger = np.ones(229, bool), np.ones(229, bool)
    challenger[:12] = False  # angry: 100 % to 88 %
    challenger[200:] = False  # sad: to nothing, but only 29 faces
    verdict = gate.recall_line(LABELS, truth, champion, challenger)
    assert verdict.passed is False
    assert "angry (100.0% to 88.0%)" in verdict.sentence
    assert "Too few faces to judge: sad (29)" in verdict.sentence
    assert not verdict.figures["per_label"]["sad"]["judged"]


def test_a_small_or_uncertain_drop_of_recall_refuses_nothing() -> None:
    truth = np.zeros(100, np.int64)
    champion, challenger = np.ones(100, bool), np.ones(100, bool)
    challenger[:5] = False
    assert gate.recall_line(LABELS, truth, champion, challenger).passed  # exactly 5 points
    truth = np.zeros(40, np.int64)
    champion, challenger = np.zeros(40, bool), np.zeros(40, bool)
    champion[:11], challenger[11:19] = True, True  # -7.5 points, but 11 against 8
    assert gate.recall_line(LABELS, truth, champion, challenger).passed


def test_files_that_answer_differently_are_refused() -> None:
    keras = np.tile([[0.6, 0.3, 0.1]], (64, 1))
    assert gate.agreement_line(keras, keras + np.array([5e-4, -5e-4, 0])).passed
    assert gate.agreement_line(keras, keras + np.array([2e-3, -2e-3, 0])).passed is False
    assert gate.agreement_line(keras[:63], keras[:63]).passed is False
    close = np.tile([[0.4502, 0.4498, 0.1]], (64, 1))
    other = close[:, [1, 0, 2]]
    assert gate.agreement_line(close, other).passed, "two labels that close may change places"


def test_a_slower_file_is_refused() -> None:
    assert gate.latency_line([0.004] * 9, [0.005] * 9).passed
    assert gate.latency_line([0.004] * 9, [0.0051] * 9).passed is False


def test_a_refusal_holds_every_crossed_line_and_no_other() -> None:
    lines = [
        gate.Line("a", True, "Fine."),
        gate.Line("b", False, "Bad."),
        gate.Line("c", None, "Empty."),
        gate.Line("d", False, "Worse."),
    ]
    assert gate.refusal(lines) == "Bad. Worse."
    assert gate.refusal(lines[:1]) == ""


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 12), min_size=1, max_size=80), st.integers(2, 6))
def test_folds_hold_whole_groups_and_are_even(groups: list[int], count: int) -> None:
    numbers = np.array(groups)
    folds = gate.folds_by_group(numbers, count)
    for group in np.unique(numbers):
        assert len(np.unique(folds[numbers == group])) == 1
    sizes = np.bincount(folds)
    assert len(sizes) == min(count, len(np.unique(numbers)))
    assert sizes.max() - sizes.min() <= np.bincount(numbers).max()


# How often the gate errs


def test_an_equal_challenger_is_promoted_at_most_as_often_as_alpha_says() -> None:
    rate = promotion_rates(Scene(faces=200, gain=0.0), runs=300, seed=1)
    # 300 runs at 5 %: more than 8.3 % has a chance below 1 in 100.
    assert rate <= 0.083


def test_the_gate_has_power_at_four_hundred_corrections() -> None:
    assert promotion_rates(Scene(faces=320, gain=0.12), runs=100, seed=2) >= 0.8


def test_a_worse_challenger_is_not_promoted() -> None:
    assert promotion_rates(Scene(faces=320, gain=-0.03), runs=200, seed=3) <= 0.01


def test_a_challenger_that_forgets_is_not_promoted() -> None:
    assert promotion_rates(Scene(faces=320, gain=0.15, forgets=0.04), runs=100, seed=4) <= 0.02
