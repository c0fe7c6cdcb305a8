"""The pure parts of a fine-tuning: what is drawn between faces, and means of weights."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fer.learning.chances import mixtures, with_doubt
from fer.learning.domains import share_biases
from fer.learning.evaluation import softmax
from fer.learning.finetuning import Tuned, averaged, mixed
from fer.learning.retraining import together


@given(n=st.integers(2, 6), count=st.integers(0, 30), seed=st.integers(0, 99))
def test_mixtures_lie_between_two_faces_that_may_be_drawn(n: int, count: int, seed: int) -> None:
    # Face i is i in its first place and i squared in its second: a straight line between two faces
    # lies on no third one.
    stored = np.stack([np.array([[i], [i * i]], np.float16) for i in range(n)])
    chance = np.full(n, 1 / (n - 1))
    chance[0] = 0
    between = mixtures(stored, chance, count, np.random.default_rng(seed))
    assert between.shape == (count, 2, 1)
    assert between.dtype == np.float16
    assert (between[:, 0] >= 1).all(), "face 0 has no chance"
    low, high = between[:, 0, 0].astype(float), between[:, 1, 0].astype(float)
    # On the chord of a parabola between whole numbers: above the curve, below the longest chord.
    assert (high >= low**2 - 0.1).all()
    assert (high <= 1 + (low - 1) * n + 0.1).all()


def test_every_face_has_the_greater_share_of_some_mixture() -> None:
    stored = np.eye(4, dtype=np.float16)
    between = mixtures(stored, np.full(4, 0.25), 200, np.random.default_rng(0))
    np.testing.assert_allclose(between.sum(axis=1), 1, atol=2e-3)
    assert (between.max(axis=1) >= 0.499).all()
    assert set(between.argmax(axis=1)) == {0, 1, 2, 3}
    assert ((between > 0.01).sum(axis=1) == 2).any(), "some lie between two faces"


def weights(value: float) -> list[np.ndarray]:
    return [np.full((2, 3), value, np.float32), np.full(3, 10 * value, np.float32)]


def test_the_mean_of_weights_is_taken_variable_by_variable() -> None:
    mean = averaged([weights(1), weights(2), weights(6)])
    for found, expected in zip(mean, weights(3), strict=True):
        np.testing.assert_array_equal(found, expected)
        assert found.dtype == np.float32
    half = mixed(weights(0), weights(4), 0.5)
    np.testing.assert_array_equal(half[0], weights(2)[0])


def test_the_challenger_is_the_mean_of_all_fine_tunings_and_keeps_its_own_curve() -> None:
    own = Tuned(weights(1), 0.8, (1.0, 0.5))
    folds = [Tuned(weights(value), 0.4, (1.0, 0.9)) for value in (2, 3)]
    found = together(own, folds)
    np.testing.assert_array_equal(found.weights[1], weights(2)[1])
    assert (found.mix, found.curve) == (own.mix, own.curve)
    np.testing.assert_array_equal(together(own, []).weights[0], own.weights[0])


def test_biases_undo_a_shift_that_is_the_same_for_every_face() -> None:
    before = np.random.default_rng(0).normal(size=(200, 4))
    shift = np.array([0.9, -0.5, -0.4, 0.0])
    found = share_biases(before, before + shift, np.ones(200))
    np.testing.assert_allclose(found, -shift, atol=1e-4)


def test_biases_give_each_label_its_share_again_in_weighted_faces() -> None:
    rng = np.random.default_rng(1)
    before, after = rng.normal(size=(2, 300, 3)) * [[[1.0]], [[2.0]]]
    chance = rng.uniform(0.1, 1, 300)
    biases = share_biases(before, after, chance)
    np.testing.assert_allclose(
        np.average(softmax(after + biases), axis=0, weights=chance),
        np.average(softmax(before), axis=0, weights=chance),
        atol=1e-4,
    )


def test_the_less_often_the_champion_is_right_the_larger_the_step() -> None:
    assert with_doubt(0.4, 1.0) == pytest.approx(0.4)
    assert with_doubt(0.4, 0.5) == pytest.approx(0.7)
    assert with_doubt(0.4, 0.0) == 1
