"""Boxes and labels drawn on a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from fer.vision.faces import FaceBox
from fer.vision.images import Pixels

_LINE = (255, 200, 0)
_TEXT = (0, 0, 0)


class HasBox(Protocol):
    """Anything that knows where its face is, such as a `Reading`."""

    @property
    def box(self) -> FaceBox:
        """In the pixels of the picture."""
        ...


def annotate(image: Pixels, readings: Sequence[HasBox], texts: Sequence[str]) -> Pixels:
    """Draw a box, turned with the head, around each face, and its text beside it.

    Args:
        image: uint8 (height, width, 3), upright; it is not changed.
        readings: the faces.
        texts: one for each face, in the same order; "" draws the box alone.

    Returns:
        uint8 (height, width, 3).
    """
    picture = Image.fromarray(image)
    pen = ImageDraw.Draw(picture)
    line = max(2, round(max(picture.size) / 300))
    for reading, text in zip(readings, texts, strict=True):
        corners = _corners(reading.box)
        pen.line([*corners, corners[0], corners[1]], fill=_LINE, width=line, joint="curve")
        if text:
            _write(pen, text, reading.box, picture.size)
    return np.asarray(picture).copy()


def _corners(box: FaceBox) -> list[tuple[float, float]]:
    """The box's corners, clockwise from the top left, after turning it by the roll."""
    angle = math.radians(box.roll)
    centre_x, centre_y = box.centre
    turned = []
    for across, down in ((-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)):
        x, y = across * box.width, down * box.height
        turned.append(
            (
                centre_x + x * math.cos(angle) - y * math.sin(angle),
                centre_y + x * math.sin(angle) + y * math.cos(angle),
            )
        )
    return turned


def _write(pen: ImageDraw.ImageDraw, text: str, box: FaceBox, size: tuple[int, int]) -> None:
    """Put `text` above the box, or below or in it where there is no room, inside the picture."""
    font = ImageFont.load_default(min(max(box.longer_side / 7, 12), 64))
    left, top, right, bottom = pen.textbbox((0, 0), text, font=font)
    pad = max(2, round((bottom - top) / 4))
    width, height = right - left + 2 * pad, bottom - top + 2 * pad
    corners = _corners(box)
    x = min(max(min(corner[0] for corner in corners), 0), max(size[0] - width, 0))
    y = min(corner[1] for corner in corners) - height
    if y < 0:
        y = max(corner[1] for corner in corners)
    y = min(max(y, 0), max(size[1] - height, 0))
    pen.rectangle((x, y, x + width, y + height), fill=_LINE)
    pen.text((x + pad - left, y + pad - top), text, font=font, fill=_TEXT)
