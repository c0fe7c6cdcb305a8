"""Upright picture → faces, and each face → the crop that a model was trained on.

MediaPipe's short-range model finds near faces, its full-range model those farther away. Where
neither finds one, the short-range model looks at the picture with borders about it, for a face
that fills it from edge to edge, and the full-range model at overlapping tiles of a large picture.
What the full-range model found, the short-range model looks at again from close by: that tells
faces from parts of faces, and it draws the box in one way for near and far (the full-range model's
is a twenty-fifth larger and a sixteenth higher, which framing would feel).
"""

from __future__ import annotations

import contextlib
import importlib
import math
import statistics
import sys
import threading
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any, Self

import cv2
import numpy as np

from fer.errors import ModelError
from fer.vision.crops import FaceBox, Quality, crop_face, face_quality, kept_picture, window
from fer.vision.images import Pixels

__all__ = ["FaceBox", "FaceDetector", "Quality", "crop_face", "face_quality", "kept_picture"]

#: Detections below this score are dropped: MediaPipe's own default.
MIN_SCORE = 0.5

#: Two boxes that share more than this part of the smaller one are one face.
_SAME_FACE = 0.5

#: In a tile everything looks large, and the full-range model sees faces in galaxies too;
#: true faces down to 50 px score above this in one tile or another.
_TILE_MIN_SCORE = 0.7

#: Half the side of the part that is looked at again, in longer sides of the box.
_CLOSE = 1.25

#: A face that fills its picture, as in a close crop or a data set's picture, is often seen only
#: with something about it: middle grey, these parts of the picture's longer side wide. One border
#: shows faces in cups and cats too; a true face is seen within each, with this score on average
#: (measured: docs/framing.md). The detector reads 128 px, so a picture reduced to 512 px has all
#: that it can use. A face found so takes up at least half of the picture's shorter side; a smaller
#: one had room enough without a border.
_BORDERS = (0.25, 0.375, 0.5, 0.75)
_BORDERED_MIN_SCORE = 0.65
_BORDER_GREY = 128
_BORDERED_SIDE = 512
_FILLS = 0.5

#: The full-range model finds faces down to a sixteenth of the frame's width (measured with
#: `benchmarks/face_framing.py --smallest`). Larger pictures are reduced to 1920 px before tiling,
#: so that none costs more than 25 tiles of 5 ms (15 for 1080p), and only where no face was found
#: otherwise. Most faces of 60 and even 40 px are found in 1080p; the overlap holds every face that
#: the look at the whole misses.
_TILE = 512
_TILE_OVERLAP = 128
_TILED_SIDE = 1920


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
        found = found or self._look_with_borders(image) or self._look_at_tiles(image) or far
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

    def _look_with_borders(self, image: Pixels) -> list[FaceBox]:
        """The face that fills the picture, as the short-range model sees it with grey about it."""
        small, back_x, back_y = _reduced(image, _BORDERED_SIDE)
        least = _FILLS * min(small.shape[:2])
        seen = []
        for border in _BORDERS:
            edge = max(1, round(border * max(small.shape[:2])))
            bordered = cv2.copyMakeBorder(
                small, edge, edge, edge, edge, cv2.BORDER_CONSTANT, value=(_BORDER_GREY,) * 3
            )
            looked = self._look(np.asarray(bordered, dtype=np.uint8), _SHORT_RANGE)
            filling = [box for box in looked if box.longer_side >= least]
            if not filling:
                return []
            best = max(filling, key=lambda box: box.score)
            seen.append(best.shifted(-edge, -edge))
        if statistics.fmean(box.score for box in seen) < _BORDERED_MIN_SCORE:
            return []
        return [max(seen, key=lambda box: box.score).scaled(back_x, back_y)]

    def _look_at_tiles(self, image: Pixels) -> list[FaceBox]:
        small, back_x, back_y = _reduced(image, _TILED_SIDE)
        height, width = small.shape[:2]
        if max(height, width) <= _TILE:
            return []
        seen = [
            box.shifted(left, top)
            for top in _tile_starts(height)
            for left in _tile_starts(width)
            for box in self._look(small[top : top + _TILE, left : left + _TILE], _FULL_RANGE)
            if box.score >= _TILE_MIN_SCORE
        ]
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
        left, right = window(box.centre[0] - reach, box.centre[0] + reach, image.shape[1])
        top, bottom = window(box.centre[1] - reach, box.centre[1] + reach, image.shape[0])
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


def _reduced(image: Pixels, side: int) -> tuple[Pixels, float, float]:
    """The picture, no side longer than `side`, and the factors (x, y) that lead back to it."""
    factor = side / max(image.shape[:2])
    if factor >= 1:
        return image, 1.0, 1.0
    height, width = (max(1, round(extent * factor)) for extent in image.shape[:2])
    small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(small, dtype=np.uint8), image.shape[1] / width, image.shape[0] / height


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
