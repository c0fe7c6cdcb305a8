"""Upright picture → faces, and each face → the crop that a model was trained on.

MediaPipe's short-range model finds near faces, its full-range model those farther away, and where
both find none and the picture is large, the full-range model looks at overlapping tiles. What the
full-range model found, the short-range model looks at again from close by: that tells faces from
ears and galaxies, and it draws the box in one way for near and far (the full-range model's is a
twenty-fifth larger and a sixteenth higher, which framing would feel).

**Framing.** FER2013's faces fill their 48 px crops in their own way, and a model reads a face
best when it is cut like the faces that it learned from. `fer.manifest.Framing` says how; its
default is what `docs/framing.md` measured with `benchmarks/face_framing.py`.
"""

from __future__ import annotations

import contextlib
import importlib
import math
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self

import cv2
import numpy as np

from fer.errors import ModelError
from fer.manifest import Framing
from fer.vision.images import Pixels

#: Detections below this score are dropped: MediaPipe's own default.
MIN_SCORE = 0.5

#: Two boxes that share more than this part of the smaller one are one face.
_SAME_FACE = 0.5

#: In a tile everything looks large, and the full-range model sees faces in galaxies and leaves;
#: true faces down to 50 px score above this in one tile or another.
_TILE_MIN_SCORE = 0.7

#: Half the side of the part that is looked at again, in longer sides of the box.
_CLOSE = 1.25

#: The full-range model finds faces down to a sixteenth of the frame's width (measured with
#: `benchmarks/face_framing.py --smallest`). Larger pictures are reduced to 1920 px before tiling,
#: so that none costs more than 25 tiles of 5 ms (15 for 1080p), and only where no face was found
#: otherwise. Faces of 60 px are found in 1080p, most of 40 px; the overlap holds every face that
#: the look at the whole misses.
_TILE = 512
_TILE_OVERLAP = 128
_TILED_SIDE = 1920

#: Where a crop is blended from at most this many samples a side for each of its pixels.
_OVERSAMPLING = 8

#: Side, in pixels, of the grey crop on which sharpness is read, so that it compares between sizes.
_SHARPNESS_SIDE = 96

#: Half the side of a kept picture, in longer sides of the box: a crop at scale 1.25, lifted by
#: 0.1, fits in at any roll (1.25 / 2 * sqrt(2) + 0.1 < 1).
_KEPT_MARGIN = 1.0


@dataclass(frozen=True)
class FaceBox:
    """A face in a picture, in the pixels of that picture once upright.

    Attributes:
        left, top, width, height: the box, axis-parallel; it may reach beyond the picture.
        roll: how far the head leans in the picture plane, in degrees, clockwise positive.
        score: the detector's, in 0…1.

    Raises:
        ValueError: a number that is not finite, no area, or a score outside 0…1.
    """

    left: float
    top: float
    width: float
    height: float
    roll: float = 0.0
    score: float = 1.0

    def __post_init__(self) -> None:
        numbers = (self.left, self.top, self.width, self.height, self.roll, self.score)
        if not all(math.isfinite(number) for number in numbers):
            raise ValueError(f"a face box needs finite numbers, got {numbers}")
        if self.width <= 0 or self.height <= 0:
            raise ValueError(f"a face box needs an area, got {self.width} by {self.height}")
        if not 0 <= self.score <= 1:
            raise ValueError(f"a detector's score lies in 0…1, got {self.score}")

    @property
    def longer_side(self) -> float:
        """The longer side, in pixels."""
        return max(self.width, self.height)

    @property
    def centre(self) -> tuple[float, float]:
        """Centre (x, y), in pixels."""
        return self.left + self.width / 2, self.top + self.height / 2

    def scaled(self, factor_x: float, factor_y: float) -> FaceBox:
        """The box in the same picture resized by these factors."""
        return replace(
            self,
            left=self.left * factor_x,
            top=self.top * factor_y,
            width=self.width * factor_x,
            height=self.height * factor_y,
        )

    def shifted(self, x: float, y: float) -> FaceBox:
        """The box moved by (x, y) pixels."""
        return replace(self, left=self.left + x, top=self.top + y)

    def overlap(self, other: FaceBox) -> float:
        """Shared part of the smaller of both boxes, 0…1."""
        width = min(self.left + self.width, other.left + other.width) - max(self.left, other.left)
        height = min(self.top + self.height, other.top + other.height) - max(self.top, other.top)
        shared = max(width, 0.0) * max(height, 0.0)
        return shared / min(self.width * self.height, other.width * other.height)


@dataclass(frozen=True)
class Quality:
    """How well a face can be read.

    Attributes:
        face_px: longer side of the face's box, in pixels of the upright picture.
        sharpness: variance of the Laplacian of the grey crop at 96 px; a blurred or tiny face
            has a low one.
        detector_score: 0…1.
    """

    face_px: int
    sharpness: float
    detector_score: float


class FaceDetector:
    """MediaPipe's face detection, safe to use from several threads.

    One model object behind one lock: an object that two threads use at once fails and stays
    broken, and one for each thread is no faster. An object that failed is made anew.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._models: dict[int, Any] = {}

    def detect(self, image: Pixels) -> list[FaceBox]:
        """All faces of an upright picture, largest first; empty when there is none.

        Args:
            image: uint8 (height, width, 3), RGB.

        Raises:
            ValueError: another shape or type, or no pixels.
            ModelError: the detector failed twice on this picture.
        """
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
            raise ValueError(
                f"the detector takes uint8 (height, width, 3), got {image.dtype} {image.shape}"
            )
        found = _without_doubles(self._look(image, _SHORT_RANGE))
        far = [
            box
            for box in _without_doubles(self._look(image, _FULL_RANGE))
            if all(box.overlap(near) <= _SAME_FACE for near in found)
        ]
        found += self._confirmed(image, far)
        # What nothing confirms is better than nothing at all, but no better than that.
        found = found or self._look_at_tiles(image) or far
        return sorted(_without_doubles(found), key=lambda box: -box.width * box.height)

    def close(self) -> None:
        """Free the models; the next `detect` makes them anew."""
        with self._lock:
            for model in self._models.values():
                model.close()
            self._models.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _look(self, image: Pixels, model: int) -> list[FaceBox]:
        pixels = np.ascontiguousarray(image)
        height, width = image.shape[:2]
        detections = self._detections(pixels, model)
        boxes = (_box_from_mediapipe(detection, width, height) for detection in detections)
        return [box for box in boxes if box is not None]

    def _detections(self, pixels: Pixels, model: int) -> Sequence[Any]:
        with self._lock:
            try:
                return self._run(pixels, model)
            except (RuntimeError, ValueError):
                self._models.pop(model, None)
            try:
                return self._run(pixels, model)
            except (RuntimeError, ValueError) as error:
                self._models.pop(model, None)
                raise ModelError("The face detector failed on this picture.") from error

    def _run(self, pixels: Pixels, model: int) -> Sequence[Any]:
        if model not in self._models:
            self._models[model] = _mediapipe().solutions.face_detection.FaceDetection(
                model_selection=model, min_detection_confidence=MIN_SCORE
            )
        return self._models[model].process(pixels).detections or []

    def _look_at_tiles(self, image: Pixels) -> list[FaceBox]:
        factor = min(1.0, _TILED_SIDE / max(image.shape[:2]))
        height, width = (max(1, round(side * factor)) for side in image.shape[:2])
        if max(height, width) <= _TILE:
            return []
        small = np.asarray(
            cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8
        )
        seen = [
            box.shifted(left, top)
            for top in _tile_starts(height)
            for left in _tile_starts(width)
            for box in self._look(small[top : top + _TILE, left : left + _TILE], _FULL_RANGE)
            if box.score >= _TILE_MIN_SCORE
        ]
        back_x, back_y = image.shape[1] / width, image.shape[0] / height
        return self._confirmed(
            image, [box.scaled(back_x, back_y) for box in _without_doubles(seen)]
        )

    def _confirmed(self, image: Pixels, boxes: Sequence[FaceBox]) -> list[FaceBox]:
        """Those boxes in which the short-range model sees a face too, as it draws them."""
        closer = (self._look_closer(image, box) for box in boxes)
        return [box for box in closer if box is not None]

    def _look_closer(self, image: Pixels, box: FaceBox) -> FaceBox | None:
        """What the short-range model sees at a place where the full-range model saw a face."""
        reach = _CLOSE * box.longer_side
        left, right = _window(box.centre[0] - reach, box.centre[0] + reach, image.shape[1])
        top, bottom = _window(box.centre[1] - reach, box.centre[1] + reach, image.shape[0])
        seen = self._look(image[top:bottom, left:right], _SHORT_RANGE)
        there = [near.shifted(left, top) for near in seen]
        there = [near for near in there if near.overlap(box) > _SAME_FACE]
        return max(there, key=lambda near: near.score, default=None)


_SHORT_RANGE, _FULL_RANGE = 0, 1

_import_lock = threading.Lock()


def _mediapipe() -> Any:
    """The mediapipe package, imported at first use without TensorFlow and JAX."""
    if "mediapipe" in sys.modules and not _import_lock.locked():
        return sys.modules["mediapipe"]
    with _import_lock, _hidden("tensorflow", "jax"):
        return importlib.import_module("mediapipe")


@contextlib.contextmanager
def _hidden(*names: str) -> Iterator[None]:
    """Let an import of these packages fail meanwhile, unless they are loaded already.

    MediaPipe imports both where they are installed and can do without: 9 s and 735 MB against
    1.5 s and 126 MB. Afterwards they can be imported as before.
    """
    hidden = [name for name in names if name not in sys.modules]
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        for name in hidden:
            if sys.modules.get(name) is None:
                sys.modules.pop(name, None)


def _box_from_mediapipe(detection: Any, width: int, height: int) -> FaceBox | None:
    """A MediaPipe detection as a `FaceBox`; None if it has no area in the picture."""
    place = detection.location_data
    box = place.relative_bounding_box
    if box.width <= 0 or box.height <= 0:
        return None
    if box.xmin >= 1 or box.ymin >= 1 or box.xmin + box.width <= 0 or box.ymin + box.height <= 0:
        return None
    # The first two key points are the person's right and left eye; an upright face shows the
    # right one on the left.
    right_eye, left_eye = place.relative_keypoints[0], place.relative_keypoints[1]
    across = (left_eye.x - right_eye.x) * width
    down = (left_eye.y - right_eye.y) * height
    return FaceBox(
        left=box.xmin * width,
        top=box.ymin * height,
        width=box.width * width,
        height=box.height * height,
        roll=math.degrees(math.atan2(down, across)),
        score=min(max(float(detection.score[0]), 0.0), 1.0),
    )


def _tile_starts(side: int) -> list[int]:
    """Where tiles begin along a side, evenly spread so that neighbours overlap enough."""
    if side <= _TILE:
        return [0]
    count = math.ceil((side - _TILE) / (_TILE - _TILE_OVERLAP)) + 1
    return [round(step * (side - _TILE) / (count - 1)) for step in range(count)]


def _without_doubles(boxes: Sequence[FaceBox]) -> list[FaceBox]:
    """Non-maximum suppression: of boxes on the same face, the one with the best score."""
    kept: list[FaceBox] = []
    for box in sorted(boxes, key=lambda box: -box.score):
        if all(box.overlap(other) <= _SAME_FACE for other in kept):
            kept.append(box)
    return kept


def crop_face(image: Pixels, box: FaceBox, framing: Framing, size: int) -> Pixels:
    """Cut a face as a model wants it.

    The crop is a square, turned with the head so that the eyes are level; its side is
    `framing.scale` times the longer side of the box and its centre raised, along the face, by
    `framing.lift` times that side. Beyond the picture's edge its border pixels repeat. Shrinking
    averages over the area of each pixel.

    Args:
        image: uint8 (height, width, 3), upright.
        box: in the pixels of `image`.
        framing: of the model.
        size: side of the crop, in pixels.

    Returns:
        uint8 (size, size, 3).
    """
    angle = math.radians(box.roll)
    side = framing.scale * box.longer_side
    lift = framing.lift * box.longer_side
    centre_x = box.centre[0] + lift * math.sin(angle)
    centre_y = box.centre[1] - lift * math.cos(angle)

    # Work on the part of the picture that the turned square touches; two pixels more, for the
    # neighbours that interpolation reads.
    reach = side / 2 * (abs(math.sin(angle)) + abs(math.cos(angle))) + 2
    left, right = _window(centre_x - reach, centre_x + reach, image.shape[1])
    top, bottom = _window(centre_y - reach, centre_y + reach, image.shape[0])
    part = np.ascontiguousarray(image[top:bottom, left:right])
    x, y = centre_x - left, centre_y - top

    # Shrink a large face to no less than twice the crop, then sample finely and average: together
    # an area average for any angle.
    excess = min(side / (2 * size), max(part.shape[:2]))
    scale_x = scale_y = 1.0
    if excess > 2:
        width, height = (max(1, round(extent / excess)) for extent in (right - left, bottom - top))
        scale_x, scale_y = width / part.shape[1], height / part.shape[0]
        part = cv2.resize(part, (width, height), interpolation=cv2.INTER_AREA)
    steps = min(max(1, math.ceil(side * max(scale_x, scale_y) / size)), _OVERSAMPLING)
    samples = size * steps
    pitch = side / samples
    cos, sin = math.cos(angle) * pitch, math.sin(angle) * pitch
    # Pixel centres lie at half-integers: sample (i, j) of the square reads the picture at
    # centre + turn((i, j) + 0.5 - samples / 2) * pitch - 0.5.
    middle = samples / 2 - 0.5
    to_picture = np.array(
        [
            [cos * scale_x, -sin * scale_x, (x - middle * (cos - sin)) * scale_x - 0.5],
            [sin * scale_y, cos * scale_y, (y - middle * (sin + cos)) * scale_y - 0.5],
        ]
    )
    fine = cv2.warpAffine(
        part,
        to_picture,
        (samples, samples),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    crop = fine if steps == 1 else cv2.resize(fine, (size, size), interpolation=cv2.INTER_AREA)
    return np.asarray(crop, dtype=np.uint8)


def kept_picture(image: Pixels, box: FaceBox, max_side: int = 512) -> tuple[Pixels, FaceBox]:
    """What is kept of a picture: the face and its margin, not the scene.

    Roomy enough that `crop_face` gives from it, with the returned box, the crop that it gives
    from the whole picture, up to resampling.

    Returns:
        The part, uint8 (height, width, 3) with no side longer than `max_side`, and the box in it.
    """
    centre_x, centre_y = box.centre
    reach = _KEPT_MARGIN * box.longer_side
    left, right = _window(centre_x - reach, centre_x + reach, image.shape[1])
    top, bottom = _window(centre_y - reach, centre_y + reach, image.shape[0])
    part = image[top:bottom, left:right]
    moved = box.shifted(-left, -top)
    height, width = part.shape[:2]
    factor = min(1.0, max_side / max(height, width))
    if factor == 1.0:
        return np.ascontiguousarray(part), moved
    new_width, new_height = max(1, round(width * factor)), max(1, round(height * factor))
    resized = cv2.resize(
        np.ascontiguousarray(part), (new_width, new_height), interpolation=cv2.INTER_AREA
    )
    kept = np.asarray(resized, dtype=np.uint8)
    return kept, moved.scaled(new_width / width, new_height / height)


def face_quality(image: Pixels, box: FaceBox) -> Quality:
    """How well a face can be read; see `Quality`."""
    crop = crop_face(image, box, Framing(), _SHARPNESS_SIDE)
    grey = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)
    return Quality(
        face_px=max(1, round(box.longer_side)),
        sharpness=float(cv2.Laplacian(grey, cv2.CV_64F).var()),
        detector_score=box.score,
    )


def _window(low: float, high: float, extent: int) -> tuple[int, int]:
    """Whole pixels that cover low…high, inside 0…extent and never empty.

    Where the range lies beyond an edge, the outermost pixel stands for it, as it does for the
    repeated border.
    """
    start = min(max(math.floor(low), 0), extent - 1)
    return start, max(min(math.ceil(high), extent), start + 1)
