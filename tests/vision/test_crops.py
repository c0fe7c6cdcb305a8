"""Boxes, the geometry of crops cut at them, and what their quality tells."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fer.manifest import Framing
from fer.vision.crops import FaceBox, crop_face, face_quality, kept_picture
from fer.vision.faces import FaceDetector
from fer.vision.images import Pixels

# Boxes


@pytest.mark.parametrize(
    "wrong",
    (
        {"width": 0},
        {"height": -1},
        {"left": math.nan},
        {"top": math.inf},
        {"roll": math.nan},
        {"score": 1.1},
        {"score": -0.1},
    ),
)
def test_impossible_boxes(wrong: dict[str, float]) -> None:
    fields = {"left": 0.0, "top": 0.0, "width": 1.0, "height": 1.0, "roll": 0.0, "score": 1.0}
    with pytest.raises(ValueError):
        FaceBox(**{**fields, **wrong})


def test_overlap_is_the_shared_part_of_the_smaller_box() -> None:
    box = FaceBox(0, 0, 10, 10)
    assert box.overlap(box) == 1
    assert box.overlap(FaceBox(5, 5, 10, 10)) == 0.25
    assert box.overlap(FaceBox(2, 2, 2, 2)) == 1
    assert box.overlap(FaceBox(10, 0, 10, 10)) == 0
    assert box.overlap(FaceBox(99, 99, 1, 1)) == 0


# Crops

numbers = st.floats(-300, 400, allow_nan=False)
boxes = st.builds(
    FaceBox,
    left=numbers,
    top=numbers,
    width=st.floats(0.5, 500),
    height=st.floats(0.5, 500),
    roll=st.floats(-180, 180),
    score=st.floats(0, 1),
)
framings = st.builds(Framing, scale=st.floats(0.5, 2.0), lift=st.floats(-0.3, 0.3))


def waves(width: int = 160, height: int = 120) -> Pixels:
    """Smooth, and different everywhere, so that a crop shows where it was taken."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    return np.stack(
        [127 + 120 * np.sin(x / 25), 127 + 120 * np.cos(y / 20), x + y / 2], axis=2
    ).astype(np.uint8)


@settings(max_examples=200, deadline=None)
@given(box=boxes, framing=framings, size=st.sampled_from((8, 48, 96)))
@example(box=FaceBox(-5000, -5000, 10, 10), framing=Framing(), size=48)
@example(box=FaceBox(0, 0, 1e6, 1e6), framing=Framing(), size=48)
@example(box=FaceBox(5, 5, 1e-3, 1e-3), framing=Framing(), size=48)
def test_a_crop_has_its_shape_whatever_the_box(box: FaceBox, framing: Framing, size: int) -> None:
    picture = waves()
    crop = crop_face(picture, box, framing, size)
    assert crop.shape == (size, size, 3) and crop.dtype == np.uint8
    # Interpolation and averaging invent no brightness.
    assert crop.min() >= picture.min() and crop.max() <= picture.max()


@settings(max_examples=200, deadline=None)
@given(box=boxes)
def test_the_kept_picture_gives_the_same_crop(box: FaceBox) -> None:
    picture = waves()
    kept, moved = kept_picture(picture, box, max_side=2000)
    assert max(kept.shape[:2]) <= 2 * box.longer_side + 2
    assert (moved.width, moved.height, moved.roll) == (box.width, box.height, box.roll)
    one = crop_face(picture, box, Framing(), 48).astype(int)
    other = crop_face(kept, moved, Framing(), 48)
    assert np.abs(one - other).mean() < 1.5


@settings(max_examples=100, deadline=None)
@given(box=boxes, max_side=st.integers(32, 300))
def test_the_kept_picture_keeps_to_its_size(box: FaceBox, max_side: int) -> None:
    picture = waves()
    kept, moved = kept_picture(picture, box, max_side)
    assert min(kept.shape[:2]) >= 1 and max(kept.shape[:2]) <= max_side
    assert kept.dtype == np.uint8 and kept.flags.c_contiguous
    assert moved.roll == box.roll and moved.score == box.score


def test_a_reduced_kept_picture_still_gives_nearly_the_same_crop(
    detector: FaceDetector, astronaut: Pixels
) -> None:
    picture = np.asarray(cv2.resize(astronaut, (3000, 3000)))
    (box,) = detector.detect(picture)
    kept, moved = kept_picture(picture, box)
    assert max(kept.shape[:2]) == 512
    one = crop_face(picture, box, Framing(), 48).astype(int)
    other = crop_face(kept, moved, Framing(), 48)
    assert np.abs(one - other).mean() < 2


def test_an_unturned_crop_is_a_cut() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (60, 80, 3)).astype(np.uint8)
    box = FaceBox(20, 15, 24, 24)
    assert np.array_equal(crop_face(picture, box, Framing(lift=0), 24), picture[15:39, 20:44])


def test_lift_raises_the_crop() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (60, 80, 3)).astype(np.uint8)
    crop = crop_face(picture, FaceBox(20, 25, 20, 20), Framing(lift=0.25), 20)
    assert np.array_equal(crop, picture[20:40, 20:40])


def test_the_longer_side_counts() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (60, 80, 3)).astype(np.uint8)
    crop = crop_face(picture, FaceBox(30, 20, 10, 20), Framing(lift=0), 20)
    assert np.array_equal(crop, picture[20:40, 25:45])


def test_a_quarter_turn_lifts_along_the_face() -> None:
    """A head lying on its side, crown to the right: up is to the right, and the crop upright."""
    picture = np.random.default_rng(0).integers(0, 256, (80, 80, 3)).astype(np.uint8)
    crop = crop_face(picture, FaceBox(30, 30, 20, 20, roll=90), Framing(lift=0.25), 20)
    expected = np.rot90(picture[30:50, 35:55])
    assert np.abs(crop.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("factor", (2, 3, 5, 17))
def test_shrinking_averages_areas(factor: int) -> None:
    """A fine checkerboard turns grey; picking pixels would leave black or white."""
    side = 24 * factor
    board = (np.indices((side, side)).sum(axis=0) % 2 * 255).astype(np.uint8)
    picture = np.repeat(board[:, :, None], 3, axis=2)
    crop = crop_face(picture, FaceBox(0, 0, side, side), Framing(lift=0), 24)
    # An odd factor leaves one pixel more of one colour in each area.
    assert np.all(np.abs(crop.astype(float) - 127.5) <= 127.5 / factor**2 + 1.5)


def test_beyond_the_edge_the_border_repeats() -> None:
    picture = np.zeros((40, 40, 3), np.uint8)
    picture[:, 0] = 200
    crop = crop_face(picture, FaceBox(-10, 10, 20, 20), Framing(lift=0), 20)
    assert np.all(crop[:, :11] == 200) and np.all(crop[:, 11:] == 0)


# Quality


def test_quality_tells_size_and_score(detector: FaceDetector, astronaut: Pixels) -> None:
    (box,) = detector.detect(astronaut)
    quality = face_quality(astronaut, box)
    assert quality.face_px == round(box.longer_side)
    assert quality.detector_score == box.score


def test_a_blurred_face_is_less_sharp(astronaut: Pixels, detector: FaceDetector) -> None:
    (box,) = detector.detect(astronaut)
    readings = [
        face_quality(np.asarray(cv2.GaussianBlur(astronaut, (0, 0), blur)), box).sharpness
        for blur in (0.5, 1.0, 2.0, 4.0)
    ]
    assert readings == sorted(readings, reverse=True)
    assert readings[0] > 10 * readings[-1] > 0
