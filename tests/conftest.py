"""Fixtures that several rooms share."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The data sets beside the checkout; skips where there are none."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no data sets in ../shared/data")
    return folder


@pytest.fixture(scope="session")
def face_image() -> np.ndarray:
    """A face: uint8 (512, 512, 3). NASA's Eileen Collins, in the public domain."""
    image: np.ndarray = data.astronaut()
    image.setflags(write=False)
    return image


@pytest.fixture(scope="session")
def face_jpeg(face_image: np.ndarray) -> bytes:
    """The face as a JPEG file."""
    return as_file(face_image, "JPEG", quality=92)


@pytest.fixture(scope="session")
def two_faces_jpeg(face_image: np.ndarray) -> bytes:
    """Two faces, the left one half as large again as the right one."""
    small = np.asarray(Image.fromarray(face_image).resize((340, 340)))
    canvas = np.full((512, 852, 3), 128, np.uint8)
    canvas[:, :512] = face_image
    canvas[100:440, 512:] = small[:, ::-1]
    return as_file(canvas, "JPEG", quality=92)


def as_file(image: np.ndarray, kind: str, **options: object) -> bytes:
    """`image` as the bytes of a picture file."""
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, kind, **options)
    return stream.getvalue()
