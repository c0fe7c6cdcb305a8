"""Where a face is, and what is cut from the picture there.

**Framing.** FER2013's faces fill their 48 px crops in their own way, and a model reads a face
best when it is cut like the faces that it learned from. `fer.manifest.Framing` says how; what
`benchmarks/face_framing.py` measured is in docs/framing.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np

from fer.manifest import Framing
from fer.vision.images import Pixels

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
    left, right = window(centre_x - reach, centre_x + reach, image.shape[1])
    top, bottom = window(centre_y - reach, centre_y + reach, image.shape[0])
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
    left, right = window(centre_x - reach, centre_x + reach, image.shape[1])
    top, bottom = window(centre_y - reach, centre_y + reach, image.shape[0])
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


def window(low: float, high: float, extent: int) -> tuple[int, int]:
    """Whole pixels that cover low…high, inside 0…extent and never empty.

    Where the range lies beyond an edge, the outermost pixel stands for it, as it does for the
    repeated border.
    """
    start = min(max(math.floor(low), 0), extent - 1)
    return start, max(min(math.ceil(high), extent), start + 1)
