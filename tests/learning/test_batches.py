"""Batches: what is drawn, mixed and weighted, and the targets."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from fer.errors import TrainingError
from fer.learning.batches import FaceBatches, class_weights, soft_targets
from fer.learning.recipe import Recipe


def test_targets_mix_votes_with_smoothed_labels() -> None:
    recipe = Recipe(label_smoothing=0.3, vote_weight=0.5)
    votes = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]], np.float32)
    targets = soft_targets(np.array([0, 2]), 3, recipe, votes)
    # Smoothed: 0.8 for the label, 0.1 for each other; a picture without votes keeps that.
    np.testing.assert_allclose(targets, [[0.4, 0.55, 0.05], [0.1, 0.1, 0.8]], atol=1e-6)


def test_rare_classes_weigh_more_and_faces_weigh_one_on_average() -> None:
    targets = np.eye(2, dtype=np.float32)[[0, 0, 0, 1]]
    for mode, ratio in (("none", 1.0), ("sqrt", 3**0.5), ("balanced", 3.0)):
        weights = class_weights(targets, mode)
        assert weights[1] / weights[0] == pytest.approx(ratio)
        assert (targets @ weights).mean() == pytest.approx(1.0)


def test_batches_hold_every_face_once_and_mixup_keeps_targets_whole() -> None:
    crops = np.arange(10, dtype=np.uint8)[:, None, None, None].repeat(3, axis=3)
    targets = np.eye(2, dtype=np.float32)[np.arange(10) % 2]
    ones = np.ones(2, np.float32)
    batches = FaceBatches(crops, targets, ones, Recipe(batch_size=4))
    seen = np.concatenate([batches[i][0][:, 0, 0, 0] for i in range(len(batches))])
    assert sorted(seen) == list(range(10))
    mixed = FaceBatches(crops, targets, ones, Recipe(batch_size=8, mixup=0.4))
    x, y, _ = mixed[0]
    np.testing.assert_allclose(y.sum(axis=1), 1, atol=1e-6)
    assert not np.isin(x, np.arange(10)).all()


def test_cutmix_takes_a_rectangle_and_as_much_of_the_target() -> None:
    # A face is filled with its own number, so that each pixel tells where it comes from.
    crops = np.arange(8, dtype=np.uint8)[:, None, None, None] + np.zeros((8, 12, 12, 3), np.uint8)
    targets = np.eye(8, dtype=np.float32)
    recipe = Recipe(batch_size=8, cutmix=1.0)
    batches = FaceBatches(crops, targets, np.ones(8, np.float32), recipe)
    x, y, w = batches[0]
    np.testing.assert_allclose(w, 1, atol=1e-6)
    cut = 0
    for own, face, target in zip(batches.order, x[..., 0].astype(int), y, strict=True):
        shares = np.bincount(face.ravel(), minlength=8) / face.size
        np.testing.assert_allclose(target, shares, atol=1e-6)
        other = face != own
        rows, columns = np.flatnonzero(other.any(axis=1)), np.flatnonzero(other.any(axis=0))
        assert other.sum() == len(rows) * len(columns)
        cut += bool(other.any())
    assert cut >= 4


def test_mixup_and_cutmix_together_are_refused() -> None:
    with pytest.raises(TrainingError, match="set one of them"):
        Recipe(mixup=0.2, cutmix=1.0)


@pytest.mark.parametrize(("mode", "share"), [("none", 0.1), ("sqrt", 0.25), ("balanced", 0.5)])
def test_rare_classes_are_drawn_as_often_as_asked(mode: str, share: float) -> None:
    # One face in ten is of the second class. Its chance is its share over the root of it, 0.316,
    # against 0.949 of the others: a quarter of the draws; balanced, half of them.
    targets = np.eye(2, dtype=np.float32)[(np.arange(4000) % 10 == 0).astype(int)]
    crops = np.zeros((4000, 1, 1, 3), np.uint8)
    recipe = Recipe(sampling=mode)
    batches = FaceBatches(crops, targets, np.ones(2, np.float32), recipe)
    assert len(batches.order) == 4000
    # Four standard errors of 4,000 draws.
    assert targets[batches.order, 1].mean() == pytest.approx(share, abs=0.032)
    again = FaceBatches(crops, targets, np.ones(2, np.float32), recipe)
    assert (batches.order == again.order).all()


def test_an_epoch_of_a_fit_is_drawn_in_the_order_of_its_number() -> None:
    """`fit` looks at batches before it trains, and says that an epoch ended when it has looked."""
    crops = np.arange(12, dtype=np.uint8)[:, None, None, None].repeat(3, axis=3)
    targets = np.eye(2, dtype=np.float32)[np.arange(12) % 2]
    batches = FaceBatches(crops, targets, np.ones(2, np.float32), Recipe(batch_size=4, seed=5))
    stepped: list[float] = []

    class Model(keras.Model):
        def train_step(self, data: object) -> dict[str, float]:
            stepped.extend(np.asarray(data[0])[:, 0, 0, 0])  # type: ignore[index]
            return {"loss": 0.0}

    inputs = keras.Input((1, 1, 3))
    model = Model(inputs, keras.layers.Dense(2)(keras.layers.Flatten()(inputs)))
    model.compile(optimizer="sgd", loss="mse", run_eagerly=True)
    for epoch in (1, 2):
        batches.begin(epoch)
        model.fit(batches, epochs=1, shuffle=False, verbose=0)
        # Versions that are shipped were trained in this order: a seed must go on meaning it.
        assert stepped == list(np.random.default_rng((5, epoch)).permutation(12))
        stepped.clear()
