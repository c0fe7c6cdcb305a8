"""The real detector on real and made-up pictures."""

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

from fer.manifest import Framing
from fer.vision import faces
from fer.vision.faces import FaceBox, FaceDetector, crop_face
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


@pytest.mark.parametrize(("left", "top", "side"), ((200, 80, 240), (80, 40, 300)))
def test_a_part_of_a_cup_is_no_face(detector: FaceDetector, left: int, top: int, side: int) -> None:
    """The first looks like a face within one border, the second, though doubtful, within all."""
    cup = np.asarray(skimage.data.coffee())[top : top + side, left : left + side]
    assert detector.detect(cup) == []


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
