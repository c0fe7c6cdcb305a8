"""A correction for visitors' pictures alone: the gate, the fits, and the graph that has them."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

from fer.learning.architectures import Network, build
from fer.learning.domains import (
    BIASES,
    GATE,
    MATRIX,
    fit_correction,
    fit_gate,
    has_domains,
    layer_weights,
    log_likely,
    matrix_penalty,
    moments_of,
    opened,
    with_domains,
    with_layers,
)
from fer.learning.evaluation import softmax
from fer.learning.finetuning import Tuner
from fer.learning.knobs import FineTuning
from fer.learning.newfaces import NewFaces
from fer.learning.replay import Replay, cut, frozen_digest

FREEZE_POINT = "block_9_add"

#: A penalty that leaves a matrix no room.
HELD = 1e3


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
    # A gate sees a mean and a spread of each of 64 channels; it opens for four biases and a matrix.
    assert gated.count_params() == model.count_params() + (2 * 64 + 1) + 4 + 4 * 4


def test_a_gate_is_put_in_once_and_outlives_saving(model: keras.Model, tmp_path: Path) -> None:
    gated = with_domains(model, FREEZE_POINT)
    gated.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", compile=False, safe_mode=True)
    assert with_domains(loaded, FREEZE_POINT) is loaded


def test_a_gate_with_biases_alone_is_kept_and_gets_the_matrix(
    model: keras.Model, crops: np.ndarray
) -> None:
    """As earlier releases made them."""
    gated = with_domains(model, FREEZE_POINT)
    gate, biases = gated.get_layer(GATE), gated.get_layer(BIASES)
    kernel = np.random.default_rng(2).normal(0, 0.5, (128, 1)).astype(np.float32)
    gate.set_weights([kernel, np.zeros(1, np.float32)])
    biases.set_weights([np.array([[1, -2, 0.5, 0.5]], np.float32)])
    answers = keras.layers.Add()([model.outputs[0], biases.output])
    earlier = keras.Model(gated.inputs[0], answers)
    now = with_domains(earlier, FREEZE_POINT)
    assert now.get_layer(MATRIX).count_params() == 16
    np.testing.assert_array_equal(now.predict(crops, verbose=0), earlier.predict(crops, verbose=0))
    assert np.ptp(now.predict(crops, verbose=0) - model.predict(crops, verbose=0)) > 0.1


def test_where_there_are_no_channels_a_model_stays_as_it_is(model: keras.Model) -> None:
    assert with_domains(model, "pool") is model


def test_the_graph_opens_its_gate_as_far_as_the_fit_thought(model: keras.Model) -> None:
    _, tail = cut(with_domains(model, FREEZE_POINT), FREEZE_POINT)
    rng = np.random.default_rng(1)
    stored = rng.normal(0, 1, (6, *tail.input_shape[1:])).astype(np.float16)
    kernel = rng.normal(0, 0.5, (128, 1)).astype(np.float32)
    bias, biases = np.array([0.3], np.float32), np.array([[1, -2, 0.5, 0.5]], np.float32)
    matrix = rng.normal(0, 0.5, (4, 4)).astype(np.float32)
    closed = tail.get_weights()
    correction = {GATE: [kernel, bias], BIASES: [biases], MATRIX: [matrix]}
    changed = with_layers(tail, closed, correction)
    before = tail.predict(stored.astype(np.float32), verbose=0)
    tail.set_weights(changed)
    after = tail.predict(stored.astype(np.float32), verbose=0)
    gates = opened(moments_of(stored), kernel, bias)[:, None]
    expected = gates * (log_likely(before) @ matrix + biases)
    assert np.ptp(expected[:, 0]) > 0.1, "the gate is not as far open for every picture"
    np.testing.assert_allclose(after - before, expected, atol=1e-4)
    np.testing.assert_array_equal(layer_weights(tail, changed, BIASES)[0], biases)
    emptied = with_layers(tail, changed, {BIASES: None, GATE: None, MATRIX: None})
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
    matrix, biases = fit_correction(gates, logits, targets, np.full(400, 1 / 400), HELD)
    np.testing.assert_allclose(biases, shift[None], atol=0.01)
    np.testing.assert_allclose(matrix, 0, atol=0.001)


def test_a_matrix_finds_what_is_taken_for_what_and_a_penalty_holds_it() -> None:
    rng = np.random.default_rng(3)
    logits = rng.normal(0, 2, (2000, 3)).astype(np.float32)
    gates = np.ones(2000)
    # What looks like the second label is the first as often as not; no bias could say so.
    true = np.array([[0, 0, 0], [0.7, -0.7, 0], [0, 0, 0]])
    true -= true.mean(axis=1, keepdims=True)
    targets = softmax(logits + log_likely(logits) @ true).astype(np.float32)
    weights = np.full(2000, 1 / 2000)
    matrix, biases = fit_correction(gates, logits, targets, weights, 1e-6)
    found = softmax(logits + log_likely(logits) @ matrix + biases)
    np.testing.assert_allclose(found, targets, atol=0.02)
    held, biases = fit_correction(gates, logits, targets, weights, HELD)
    assert np.abs(held).max() < 0.01
    left = np.abs(softmax(logits + log_likely(logits) @ held + biases) - targets).mean()
    assert left > 5 * np.abs(found - targets).mean()


def test_the_better_a_champion_reads_new_faces_the_less_its_answers_are_rearranged() -> None:
    penalties = [matrix_penalty(right, 320) for right in (0.0, 0.3, 0.5, 0.65, 0.9, 1.0)]
    assert penalties == sorted(penalties)
    assert penalties[0] == penalties[1], "below a third it is free already"
    assert penalties[-1] < np.inf
    assert matrix_penalty(0.5, 80) == 4 * matrix_penalty(0.5, 320), "few faces say less"


def test_faces_that_let_the_gate_open_by_mistake_hold_the_biases_back() -> None:
    rng = np.random.default_rng(4)
    logits = rng.normal(0, 1, (400, 3)).astype(np.float32)
    shift = np.array([0.8, -0.6, -0.2])
    targets = softmax(logits).astype(np.float32)
    targets[:200] = softmax(logits[:200] + shift)
    weights = np.full(400, 1 / 400)
    _, alike = fit_correction(np.ones(400), logits, targets, weights, HELD)
    _, apart = fit_correction(np.repeat([1.0, 0.1], 200), logits, targets, weights, HELD)
    assert np.abs(alike).max() < 0.6 * np.abs(apart).max()


def test_a_fine_tuning_learns_what_is_common_among_visitors_and_keeps_the_base() -> None:
    keras.utils.set_random_seed(5)
    model = build(Network("mobilenet_v2", 3, crop_size=32, image_size=64))
    frozen, _ = cut(model, FREEZE_POINT)
    rng = np.random.default_rng(6)

    def faces(count: int, style: float) -> np.ndarray:
        return (rng.normal(0, 1, (count, 4, 4, 64)) + style).astype(np.float16)

    def replay_of(count: int) -> tuple[np.ndarray, np.ndarray]:
        return faces(count, 0.0), np.eye(3, dtype=np.float32)[np.arange(count) % 3]

    stored, held = replay_of(90), replay_of(60)
    replay = Replay(FREEZE_POINT, frozen_digest(frozen), *stored, *held, held[1] > 0)
    # Visitors show one label alone, another one than the network names for anybody.
    named = int(Tuner(model, replay, FineTuning()).logits(stored[0]).sum(axis=0).argmax())
    shown = (named + 1) % 3
    labels = np.full(40, shown)
    targets = np.eye(3, dtype=np.float32)[labels]
    new = NewFaces(faces(40, 0.6)[:, None], targets, labels, np.arange(40), np.unique(labels))
    knobs = FineTuning(rounds=1, steps=1, fewest_rounds=1)

    for _ in range(2):  # The second time from a champion that has a gate already.
        tuner = Tuner(model, replay, knobs)
        before = tuner.logits(held[0])
        tuned = tuner.fit(new)
        asked = faces(50, 0.6)
        gained = tuner.logits(asked, tuned.weights)[:, shown] - tuner.logits(asked)[:, shown]
        moved = np.abs(softmax(tuner.logits(held[0], tuned.weights)) - softmax(before))
        biases = layer_weights(tuner.tail, tuned.weights, BIASES)[0][0]
        assert biases.argmax() == shown
        assert moved.max() < 0.1, "base faces are answered as before"
        if model is not tuner.model:
            assert (gained > 0.5).mean() > 0.9
        tuner.become(tuned)
        model = tuner.model
    assert sum(layer.name == GATE for layer in model.layers) == 1


def test_a_label_with_too_few_decisions_to_be_trained_is_not_made_rarer() -> None:
    """The queue shows least of what a champion reads well, and visitors may show it often."""
    rng = np.random.default_rng(8)
    logits = rng.normal(0, 1, (300, 3)).astype(np.float32)
    own, labels = softmax(logits), np.arange(300) % 2
    targets, gates = np.eye(3, dtype=np.float32)[labels], np.ones(300)
    activations, weights = np.zeros((300, 1, 1), np.float16), np.full(300, 1 / 300)
    likely = []
    for named in ([0, 1], [0, 1, 2]):
        new = NewFaces(activations, targets, labels, np.arange(300), np.array(named))
        wanted = new.wanted(own, 0.8, 0.1)
        matrix, biases = fit_correction(gates, logits, wanted, weights, HELD)
        corrected = softmax(logits + log_likely(logits) @ matrix + biases)
        likely.append(corrected[:, 2].mean() / own[:, 2].mean())
    assert likely[0] < 0.5, "a label that nobody named becomes rare"
    assert likely[1] == pytest.approx(1, abs=0.01)


def test_new_faces_tell_which_labels_operators_named(model: keras.Model, crops: np.ndarray) -> None:
    frozen, _ = cut(model, FREEZE_POINT)
    stored = np.zeros((4, 4, 4, 64), np.float16), np.eye(4, dtype=np.float32)
    replay = Replay(FREEZE_POINT, frozen_digest(frozen), *stored, *stored, stored[1] > 0)
    tuner = Tuner(model, replay, FineTuning(copies=0))
    labels = np.array([0, 0, 1, 1, 3, 1])
    new = tuner.new_faces(crops, np.eye(4, dtype=np.float32)[labels], labels, np.arange(6))
    # One face of the last label is too few to train on: it is left out, and not forgotten.
    assert new.take(labels != 3).named.tolist() == [0, 1, 3]
