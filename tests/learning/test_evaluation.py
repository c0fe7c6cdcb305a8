from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fer.labels import LabelSet
from fer.learning.evaluation import (
    bootstrap_calibration,
    bootstrap_figures,
    bootstrap_interval,
    evaluate,
    expected_calibration_error,
    fit_temperature,
    reliability,
    sign_test,
    softmax,
    wilson_interval,
)

LABELS = LabelSet(("a", "b", "c"))


def sure(*answers: int) -> np.ndarray:
    return np.eye(3)[list(answers)]


def test_figures_worked_out_by_hand() -> None:
    # a: 2 of 3 right, b: 1 of 1, c: absent; one b is answered for an a.
    figures = evaluate(LABELS, np.array([0, 0, 0, 1]), sure(0, 0, 1, 1))
    assert figures["n"] == 4
    assert figures["accuracy"] == pytest.approx(3 / 4)
    assert figures["balanced_accuracy"] == pytest.approx((2 / 3 + 1) / 2)
    assert figures["per_class"]["a"] == pytest.approx(
        {"precision": 1.0, "recall": 2 / 3, "f1": 0.8, "n": 3}
    )
    assert figures["per_class"]["b"]["precision"] == pytest.approx(1 / 2)
    assert figures["macro_f1"] == pytest.approx((0.8 + 2 / 3) / 2)
    assert figures["confusion"] == [[2, 1, 0], [0, 1, 0], [0, 0, 0]]
    # Every answer was given with certainty, and a quarter of them is wrong.
    assert figures["ece"] == pytest.approx(1 / 4)


def test_a_missed_face_is_an_error_of_its_label() -> None:
    figures = evaluate(LABELS, np.array([0, 1]), sure(0, 1), missed=np.array([1, 2]))
    assert figures["n"] == 4
    assert figures["faces_missed"] == 2
    assert figures["accuracy"] == pytest.approx(2 / 4)
    # Recall: a 1, b 1/2, c 0. Precision suffers for none.
    assert figures["balanced_accuracy"] == pytest.approx(0.5)
    assert figures["per_class"]["b"]["precision"] == 1.0


def test_votes_count_ties_for_either_and_leave_out_the_undecided() -> None:
    accepted = np.array([[1, 1, 0], [0, 0, 1], [0, 0, 0], [0, 1, 0]], bool)
    figures = evaluate(LABELS, np.array([0, 0, 0, 0]), sure(1, 0, 0, 1), accepted=accepted)
    assert figures["ferplus_n"] == 3
    assert figures["ferplus_accuracy"] == pytest.approx(2 / 3)
    # Calibration follows the votes: three certain answers, one of them wrong.
    assert figures["ece"] == pytest.approx(1 / 3)


def test_a_missed_face_with_votes_is_an_error_too() -> None:
    figures = evaluate(
        LABELS,
        np.array([0]),
        sure(0),
        missed=np.array([1, 2]),
        accepted=np.array([[1, 0, 0]], bool),
        missed_accepted=np.array([[0, 1, 0], [0, 0, 0]], bool),
    )
    assert figures["ferplus_n"] == 2
    assert figures["ferplus_accuracy"] == pytest.approx(1 / 2)


def test_no_faces_at_all_give_figures_not_a_crash() -> None:
    figures = evaluate(LABELS, np.empty(0, np.int64), np.empty((0, 3)), missed=np.array([0]))
    assert figures["accuracy"] == 0.0
    assert figures["faces_missed"] == 1


def test_calibration_error_is_the_weighted_gap() -> None:
    confidence = np.array([0.95, 0.95, 0.55, 0.55])
    correct = np.array([True, True, True, False])
    # Bin of 0.95: gap 0.05; bin of 0.55: gap 0.05.
    assert expected_calibration_error(confidence, correct) == pytest.approx(0.05)
    assert expected_calibration_error(np.empty(0), np.empty(0, bool)) == 0.0


def test_temperature_undoes_overconfidence() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4000, 3)) * 1.5
    truth = np.array([rng.choice(3, p=row) for row in softmax(logits)])
    accepted = np.eye(3, dtype=bool)[truth]
    assert fit_temperature(logits * 3, accepted) == pytest.approx(3.0, rel=0.1)
    assert fit_temperature(logits, accepted) == pytest.approx(1.0, rel=0.1)
    assert fit_temperature(logits, np.zeros_like(accepted)) == 1.0


@given(st.lists(st.floats(-50, 50), min_size=2, max_size=9), st.floats(0.3, 5))
def test_softmax_sums_to_one_and_keeps_the_order(logits: list[float], t: float) -> None:
    row = softmax(np.array([logits]), t)[0]
    assert row.sum() == pytest.approx(1)
    assert row[int(np.argmax(logits))] == row.max()


def test_intervals() -> None:
    low, high = wilson_interval(8, 10)
    # Wilson's formula for 8 of 10 at 95 %.
    assert (low, high) == pytest.approx((0.4902, 0.9433), abs=2e-4)
    assert wilson_interval(0, 0) == (0.0, 1.0)
    truth = np.zeros(400, np.int64)
    answers = np.where(np.arange(400) < 300, 0, 1)
    low, high = bootstrap_interval(truth, answers)
    assert low < 0.75 < high
    # Four standard errors of a share of 0.75 over 400: 0.087.
    assert high - low == pytest.approx(0.085, abs=0.015)


def test_sign_test_is_exact_and_one_sided() -> None:
    assert sign_test(5, 0) == pytest.approx(1 / 32)
    assert sign_test(0, 5) == 1.0
    assert sign_test(0, 0) == 1.0


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3)), min_size=1, max_size=60),
)
def test_bootstrapped_figures_are_those_of_evaluate(pairs: list[tuple[int, int]]) -> None:
    truth, answers = (np.array(column) for column in zip(*pairs, strict=True))
    found = bootstrap_figures(truth, answers, 3, draws=50)
    seen = answers < 3
    figures = evaluate(
        LABELS, truth[seen], np.eye(3)[answers[seen]].reshape(-1, 3), missed=truth[~seen]
    )
    for name, figure in found.items():
        assert figure.value == pytest.approx(figures[name]), name
        low, high = figure.interval
        assert 0 <= low <= high <= 1


def test_the_multinomial_bootstrap_is_the_one_over_faces() -> None:
    rng = np.random.default_rng(3)
    truth = rng.integers(0, 3, 400)
    answers = np.where(rng.random(400) < 0.7, truth, rng.integers(0, 3, 400))
    found = bootstrap_figures(truth, answers, 3, draws=4000)
    for name, balanced in (("accuracy", False), ("balanced_accuracy", True)):
        slow = bootstrap_interval(truth, answers, balanced=balanced, draws=2000)
        assert found[name].interval == pytest.approx(slow, abs=0.006), name


def test_an_interval_of_the_calibration_error_narrows_with_the_faces() -> None:
    rng = np.random.default_rng(5)
    widths = []
    for n in (100, 3000):
        confidence = rng.uniform(0.4, 1, n)
        correct = rng.random(n) < confidence
        low, high = bootstrap_calibration(confidence, correct)
        assert 0 <= low <= high
        widths.append(high - low)
    assert widths[1] < widths[0] / 2


def test_reliability_by_hand() -> None:
    confidence = np.array([0.55, 0.58, 0.93, 0.97, 1.0])
    correct = np.array([True, False, True, True, False])
    rows = reliability(confidence, correct)
    assert [(row["from"], row["n"]) for row in rows] == [(0.5, 2), (0.9, 3)]
    assert rows[0]["accuracy"] == 0.5
    assert rows[1]["confidence"] == pytest.approx(2.9 / 3)
    assert rows[1]["accuracy"] == pytest.approx(2 / 3)
