"""Biases for visitors' pictures alone: the gate, its fit, and the graph that has it."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

from fer.learning.architectures import Network, build
from fer.learning.domains import (
    BIASES,
    GATE,
    fit_biases,
    fit_gate,
    has_domains,
    layer_weights,
    moments_of,
    opened,
    with_domains,
    with_layers,
)
from fer.learning.evaluation import softmax
from fer.learning.replay import cut

FREEZE_POINT = "block_9_add"


@pytest.fixture(scope="module")
def model() -> keras.Model:
    keras.utils.set_random_seed(3)
    return build(Network("mobilenet_v2", 4, crop_size=32, image_size=64))


@pytest.fixture(scope="module")
def crops() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3)).astype(np.uint8)


def test_a_closed_gate_changes_no_answer(model: keras.Model, crops: np.ndarray) -> None:
    gated = with_domains(model, FREEZE_POINT)
    np.testing.assert_array_equal(gated.predict(crops, verbose=0), model.predict(crops, verbose=0))
    assert not has_domains(model)
    # A gate sees a mean and a spread of each of 64 channels; it opens for four biases.
    assert gated.count_params() == model.count_params() + (2 * 64 + 1) + 4


def test_a_gate_is_put_in_once_and_outlives_saving(model: keras.Model, tmp_path: Path) -> None:
    gated = with_domains(model, FREEZE_POINT)
    gated.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", compile=False, safe_mode=True)
    assert with_domains(loaded, FREEZE_POINT) is loaded


def test_where_there_are_no_channels_a_model_stays_as_it_is(model: keras.Model) -> None:
    assert with_domains(model, "pool") is model


def test_the_graph_opens_its_gate_as_far_as_the_fit_thought(model: keras.Model) -> None:
    _, tail = cut(with_domains(model, FREEZE_POINT), FREEZE_POINT)
    rng = np.random.default_rng(1)
    stored = rng.normal(0, 1, (6, *tail.input_shape[1:])).astype(np.float16)
    kernel = rng.normal(0, 0.5, (128, 1)).astype(np.float32)
    bias, biases = np.array([0.3], np.float32), np.array([[1, -2, 0.5, 0.5]], np.float32)
    closed = tail.get_weights()
    changed = with_layers(tail, closed, {GATE: [kernel, bias], BIASES: [biases]})
    before = tail.predict(stored.astype(np.float32), verbose=0)
    tail.set_weights(changed)
    after = tail.predict(stored.astype(np.float32), verbose=0)
    expected = opened(moments_of(stored), kernel, bias)[:, None] * biases
    assert np.ptp(expected[:, 0]) > 0.1, "the gate is not as far open for every picture"
    np.testing.assert_allclose(after - before, expected, atol=1e-4)
    np.testing.assert_array_equal(layer_weights(tail, changed, BIASES)[0], biases)
    emptied = with_layers(tail, changed, {BIASES: None, GATE: None})
    for found, was in zip(emptied, closed, strict=True):
        np.testing.assert_array_equal(found, was)


def test_a_gate_opens_for_new_pictures_and_not_for_base_faces() -> None:
    rng = np.random.default_rng(2)
    # A single moment differs, and it is one of a small scale: 0.01 where the other has 10.
    base = rng.normal(0, 1, (900, 2)) * [10, 0.01] + [5, 1]
    new = rng.normal(0, 1, (60, 2)) * [10, 0.01] + [5, 1.06]
    kernel, bias = fit_gate(new.astype(np.float32), base.astype(np.float32))
    gates = [opened(each.astype(np.float32), kernel, bias) for each in (new, base)]
    assert gates[0].mean() > 0.8
    assert gates[1].mean() < 0.1, "few new pictures count as much as many base faces"


def test_biases_of_a_shift_are_found_where_the_gate_is_open() -> None:
    rng = np.random.default_rng(3)
    logits = rng.normal(0, 1, (400, 3)).astype(np.float32)
    shift = np.array([0.8, -0.6, -0.2])
    gates = np.repeat([1.0, 0.0], 200)
    targets = softmax(logits + gates[:, None] * shift).astype(np.float32)
    # Behind the closed gate anything may be wanted: it moves nothing.
    targets[200:] = [1, 0, 0]
    biases = fit_biases(gates, logits, targets, np.full(400, 1 / 400))
    np.testing.assert_allclose(biases, shift[None], atol=0.01)


def test_faces_that_let_the_gate_open_by_mistake_hold_the_biases_back() -> None:
    rng = np.random.default_rng(4)
    logits = rng.normal(0, 1, (400, 3)).astype(np.float32)
    shift = np.array([0.8, -0.6, -0.2])
    targets = softmax(logits).astype(np.float32)
    targets[:200] = softmax(logits[:200] + shift)
    weights = np.full(400, 1 / 400)
    alike = fit_biases(np.ones(400), logits, targets, weights)
    apart = fit_biases(np.repeat([1.0, 0.1], 200), logits, targets, weights)
    assert np.abs(alike).max() < 0.6 * np.abs(apart).max()
