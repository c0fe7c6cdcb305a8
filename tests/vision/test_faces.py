"""The real detector on real and made-up pictures, and the geometry of crops."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
import skimage.data
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fer.manifest import Framing
from fer.vision import faces
from fer.vision.faces import FaceBox, FaceDetector, crop_face, face_quality, kept_picture
from fer.vision.images import Pixels

# Where the astronaut's eyes are in skimage's photograph, read off the picture by hand.
EYES = ((203, 103), (245, 102))
MIDDLE = (224, 125)


def turned(picture: Pixels, degrees: float) -> Pixels:
    """The picture turned clockwise about the astronaut's face."""
    height, width = picture.shape[:2]
    matrix = cv2.getRotationMatrix2D(MIDDLE, -degrees, 1.0)
    return np.asarray(
        cv2.warpAffine(picture, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)
    )


def pasted(width: int, height: int, *faces: tuple[Pixels, int, int]) -> Pixels:
    frame = np.full((height, width, 3), 128, np.uint8)
    for face, left, top in faces:
        frame[top : top + face.shape[0], left : left + face.shape[1]] = face
    return frame


def resized(picture: Pixels, factor: float) -> Pixels:
    return np.asarray(cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA))


def holds_eyes(box: FaceBox) -> bool:
    return all(
        box.left < x < box.left + box.width and box.top < y < box.top + box.height for x, y in EYES
    )


# The detector


def test_the_astronaut_is_found(detector: FaceDetector, astronaut: Pixels) -> None:
    (box,) = detector.detect(astronaut)
    assert holds_eyes(box)
    # The face, from brow to chin, is about 95 px wide.
    assert 80 < box.longer_side < 120
    assert math.dist(box.centre, MIDDLE) < 15
    assert abs(box.roll) < 12
    assert box.score > 0.8


@pytest.mark.parametrize("degrees", (-30, -20, 20, 30))
def test_a_leaning_head_is_found_and_its_roll_told(
    detector: FaceDetector, astronaut: Pixels, degrees: int
) -> None:
    (upright,) = detector.detect(astronaut)
    (box,) = detector.detect(turned(astronaut, degrees))
    assert math.dist(box.centre, MIDDLE) < 20
    assert abs(box.roll - upright.roll - degrees) < 12


@pytest.mark.parametrize("degrees", (-30, -20, 20, 30))
def test_straightening_undoes_the_lean(
    detector: FaceDetector, astronaut: Pixels, degrees: int
) -> None:
    """The crop of the leaning head looks more like the upright crop than an unturned one."""
    (upright,) = detector.detect(astronaut)
    leaning = turned(astronaut, degrees)
    (box,) = detector.detect(leaning)
    target = crop_face(astronaut, upright, Framing(), 48).astype(int)
    unturned = FaceBox(box.left, box.top, box.width, box.height, 0.0, box.score)
    straight = np.abs(crop_face(leaning, box, Framing(), 48) - target).mean()
    slanted = np.abs(crop_face(leaning, unturned, Framing(), 48) - target).mean()
    assert straight < 0.8 * slanted


def test_every_face_is_found_largest_first(detector: FaceDetector, astronaut: Pixels) -> None:
    frame = pasted(1000, 520, (astronaut, 0, 0), (resized(astronaut, 0.75), 560, 60))
    large, small = detector.detect(frame)
    assert holds_eyes(large)
    assert math.dist(small.centre, (560 + 0.75 * MIDDLE[0], 60 + 0.75 * MIDDLE[1])) < 15
    assert large.width * large.height > small.width * small.height


def test_a_near_face_does_not_hide_a_far_one(detector: FaceDetector, astronaut: Pixels) -> None:
    close_up = np.asarray(cv2.resize(astronaut[40:220, 130:310], (480, 480)))
    frame = pasted(1000, 600, (close_up, 0, 0), (resized(astronaut[:300], 0.9), 520, 100))
    assert len(detector.detect(frame)) == 2


@pytest.mark.parametrize("face_px", (60, 80, 110))
@pytest.mark.parametrize("place", ((0, 0), (1500, 20), (700, 400), (1650, 850)))
def test_a_small_face_in_a_large_picture(
    detector: FaceDetector, astronaut: Pixels, face_px: int, place: tuple[int, int]
) -> None:
    factor = face_px / 95
    small = resized(astronaut[:280, 100:360], factor)
    left = min(place[0], 1920 - small.shape[1])
    top = min(place[1], 1080 - small.shape[0])
    frame = pasted(1920, 1080, (small, left, top))
    (box,) = detector.detect(frame)
    centre = (left + (MIDDLE[0] - 100) * factor, top + MIDDLE[1] * factor)
    assert math.dist(box.centre, centre) < 0.25 * face_px


@pytest.mark.parametrize("half", (33, 36))
@pytest.mark.parametrize("side", (48, 350, 3000))
def test_a_face_that_fills_its_picture(
    detector: FaceDetector, astronaut: Pixels, half: int, side: int
) -> None:
    """From brow to lip and cheek to cheek; without a chin the box is drawn a little higher."""
    (whole,) = detector.detect(astronaut)
    left, top = MIDDLE[0] - half, MIDDLE[1] - half
    close_up = astronaut[top : top + 2 * half, left : left + 2 * half]
    (box,) = detector.detect(np.asarray(cv2.resize(close_up, (side, side))))
    there = box.scaled(2 * half / side, 2 * half / side).shifted(left, top)
    assert math.dist(there.centre, whole.centre) < 0.15 * whole.longer_side
    assert there.longer_side == pytest.approx(whole.longer_side, rel=0.1)


@pytest.mark.parametrize("name", ("coffee", "rocket", "chelsea", "coins", "cell"))
def test_no_face_where_there_is_none(detector: FaceDetector, name: str) -> None:
    """A cup, a rocket, a cat, coins and a cell."""
    picture = np.asarray(getattr(skimage.data, name)())
    if picture.ndim == 2:
        picture = np.repeat(picture[:, :, None], 3, axis=2)
    assert detector.detect(picture) == []


@pytest.mark.parametrize("shape", ((1, 1), (1, 500), (32, 32), (700, 40), (1200, 1200)))
def test_an_empty_picture_has_no_face(detector: FaceDetector, shape: tuple[int, int]) -> None:
    assert detector.detect(np.zeros((*shape, 3), np.uint8)) == []


def test_views_and_read_only_arrays_are_fine(detector: FaceDetector, astronaut: Pixels) -> None:
    assert len(detector.detect(astronaut[:, ::-1])) == 1


@pytest.mark.parametrize(
    "image",
    (
        np.zeros((0, 0, 3), np.uint8),
        np.zeros((9, 9), np.uint8),
        np.zeros((9, 9, 4), np.uint8),
        np.zeros((9, 9, 3), np.float32),
    ),
)
def test_what_would_break_the_detector_is_kept_from_it(
    detector: FaceDetector, astronaut: Pixels, image: Pixels
) -> None:
    with pytest.raises(ValueError, match="detector takes"):
        detector.detect(image)
    assert len(detector.detect(astronaut)) == 1


def test_a_broken_model_is_made_anew(astronaut: Pixels) -> None:
    with FaceDetector() as detector:
        before = detector.detect(astronaut)
        for model in detector._models.values():
            with pytest.raises((RuntimeError, ValueError)):
                model.process(np.zeros((0, 0, 3), np.uint8))
        assert detector.detect(astronaut) == before


def test_a_closed_detector_starts_again(astronaut: Pixels) -> None:
    detector = FaceDetector()
    before = detector.detect(astronaut)
    detector.close()
    detector.close()
    assert detector.detect(astronaut) == before
    detector.close()


def test_threads_share_one_detector(detector: FaceDetector, astronaut: Pixels) -> None:
    pictures = [np.roll(astronaut, 3 * step, axis=1) for step in range(20)]
    alone = [detector.detect(picture) for picture in pictures]
    assert any(one != other for one, other in itertools.pairwise(alone))
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(detector.detect, pictures * 4)) == alone * 4


def test_detecting_loads_no_training_library_and_leaves_it_importable() -> None:
    code = """
import sys
import numpy as np
from fer.vision.faces import FaceDetector
assert "mediapipe" not in sys.modules, "imported before it is needed"
FaceDetector().detect(np.zeros((64, 64, 3), np.uint8))
assert "mediapipe" in sys.modules
assert not {"tensorflow", "jax", "keras"} & sys.modules.keys()
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_a_loaded_training_library_stays_as_it_is() -> None:
    """A stand-in, loaded before MediaPipe is, must be there afterwards."""
    code = """
import sys, types
import numpy as np
stand_in = types.ModuleType("tensorflow")
stand_in.__version__ = "2.19"
sys.modules["tensorflow"] = stand_in
from fer.vision import faces
with faces._hidden("tensorflow", "jax"):
    assert sys.modules["tensorflow"] is stand_in
    assert sys.modules["jax"] is None
assert sys.modules["tensorflow"] is stand_in
assert "jax" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


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


def test_doubles_keep_the_better_score() -> None:
    good, double = FaceBox(0, 0, 10, 10, score=0.9), FaceBox(1, 1, 10, 10, score=0.8)
    apart = FaceBox(50, 0, 10, 10, score=0.6)
    assert faces._without_doubles([double, apart, good]) == [good, apart]


@pytest.mark.parametrize("side", (1, 511, 512, 513, 900, 1080, 1919, 1920))
def test_tiles_cover_the_side_and_overlap(side: int) -> None:
    starts = faces._tile_starts(side)
    ends = [min(start + faces._TILE, side) for start in starts]
    assert starts[0] == 0 and ends[-1] == side
    assert len(starts) <= 5
    for end, following in zip(ends, starts[1:], strict=False):
        assert end - following >= faces._TILE_OVERLAP - 1


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
