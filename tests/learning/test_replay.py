"""What is stored beside a model for retraining: where it is cut, and how many faces fit."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from fer.learning import replay
from fer.learning.architectures import Network, build
from fer.learning.domains import has_domains, with_domains
from fer.learning.replay import (
    FEWEST_FACES,
    FEWEST_HELD,
    LARGEST_REPLAY,
    Replay,
    choose_freeze_point,
    make_replay,
    room_for,
)

#: Bytes of one face at 32 px, after block 9 (2x2x64) and after block 13 (1x1x160).
AFTER_9, AFTER_13 = 512, 320


@pytest.fixture(scope="module")
def model() -> keras.Model:
    """MobileNetV2 at 32 px with random weights."""
    return build(Network("mobilenet_v2", classes=2, crop_size=32, image_size=32))


def stored(model: keras.Model, train: int = 40, held: int = 30) -> Replay:
    """A replay of noise, with as many faces of each kind as there is room for."""
    rng = np.random.default_rng(0)
    crops = rng.integers(0, 256, (train + held, 32, 32, 3), dtype=np.uint8)
    targets = np.eye(2, dtype=np.float32)[np.arange(train + held) % 2]
    held_part = (crops[train:], targets[train:], targets[train:] > 0)
    return make_replay(model, "mobilenet_v2", (crops[:train], targets[:train]), held_part)


@pytest.mark.parametrize(
    ("room", "point", "faces", "held"),
    [
        (AFTER_9 * 70, "block_9_add", 40, 30),
        # The hold-out gives way first, down to its fewest, then the training faces.
        (AFTER_9 * 65, "block_9_add", 40, 25),
        (AFTER_9 * 35, "block_9_add", 21, 14),
        # 30 are the fewest of both: with room for 29 the cut comes later.
        (AFTER_9 * 30 - 1, "block_13_project_BN", 33, 14),
        (AFTER_13 * 30, "block_13_project_BN", 16, 14),
    ],
)
def test_fewer_faces_are_stored_before_the_cut_comes_later(
    model: keras.Model,
    monkeypatch: pytest.MonkeyPatch,
    room: int,
    point: str,
    faces: int,
    held: int,
) -> None:
    monkeypatch.setattr(replay, "LARGEST_REPLAY", room)
    monkeypatch.setattr(replay, "FEWEST_FACES", 16)
    monkeypatch.setattr(replay, "FEWEST_HELD", 14)
    made = stored(model)
    assert made.freeze_point == point
    assert (len(made.activations), len(made.targets)) == (faces, faces)
    assert (len(made.holdout_activations), len(made.holdout_accepted)) == (held, held)
    assert made.activations.nbytes + made.holdout_activations.nbytes <= room
    # Balanced by class, as far as an odd number allows.
    assert abs(np.diff(made.targets.sum(axis=0))[0]) <= 1


def test_few_faces_need_no_room_for_many(model: keras.Model) -> None:
    made = stored(model, train=6, held=4)
    assert made.freeze_point == "block_9_add"
    assert (len(made.activations), len(made.holdout_activations)) == (6, 4)


@pytest.mark.parametrize(
    ("side", "point"),
    [(64, "block_9_add"), (96, "block_9_add"), (128, "block_13_project_BN")],
)
def test_every_image_size_is_cut_where_the_gate_sees_channels(side: int, point: str) -> None:
    """After the pooling there would be none, and biases would be laid on every face."""
    model = build(Network("mobilenet_v2", classes=7, crop_size=48, image_size=side))
    fewest = FEWEST_FACES + FEWEST_HELD
    assert choose_freeze_point(model, "mobilenet_v2", fewest) == point
    assert fewest <= room_for(model, point) <= LARGEST_REPLAY
    assert has_domains(with_domains(model, point))
