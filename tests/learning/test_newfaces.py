"""New faces: what is wanted of them, and what is left of them when some are taken."""

from __future__ import annotations

import numpy as np
import pytest

from fer.learning.newfaces import NewFaces

OWN = np.array([[0.2, 0.3, 0.1, 0.4], [0.6, 0.1, 0.2, 0.1]])


def reviewed(labels: list[int], named: list[int]) -> NewFaces:
    """Faces of four labels."""
    targets = np.eye(4, dtype=np.float32)[labels]
    activations = np.zeros((len(labels), 1, 2), np.float16)
    groups = np.arange(len(labels))
    return NewFaces(activations, targets, np.array(labels), groups, np.array(named, np.int64))


def test_an_opinion_is_softened_by_the_champions_answer() -> None:
    wanted = reviewed([0, 1], [0, 1]).wanted(OWN, trust=0.75, smoothing=0.2)
    # An opinion spreads a fifth over four labels: 0.85 and 0.05. Three quarters of that count.
    np.testing.assert_allclose(wanted[0], [0.6875, 0.1125, 0.0625, 0.1375], atol=1e-6)
    np.testing.assert_allclose(wanted.sum(axis=1), 1, atol=1e-6)


def test_a_label_that_is_named_too_seldom_to_be_trained_stays_as_likely_as_it_was() -> None:
    # Operators named the last label too, on faces that are not here.
    wanted = reviewed([0, 1], [0, 1, 3]).wanted(OWN, trust=0.75, smoothing=0.2)
    np.testing.assert_allclose(wanted[:, 3], OWN[:, 3], atol=1e-6)
    np.testing.assert_allclose(wanted.sum(axis=1), 1, atol=1e-6)
    # The others share the rest as they would have shared it.
    free = reviewed([0, 1], [0, 1]).wanted(OWN, trust=0.75, smoothing=0.2)
    np.testing.assert_allclose(wanted[:, 0] / wanted[:, 1], free[:, 0] / free[:, 1], rtol=1e-5)
    assert (free[:, 3] < OWN[:, 3]).all(), "nobody named it: it becomes rarer"


@pytest.mark.parametrize("rows", [np.array([0, 2]), np.array([True, False, True])])
def test_faces_that_are_taken_know_what_was_named_on_the_others(rows: np.ndarray) -> None:
    taken = reviewed([0, 3, 1], [0, 1, 3]).take(rows)
    assert taken.labels.tolist() == [0, 1]
    assert taken.named.tolist() == [0, 1, 3]
