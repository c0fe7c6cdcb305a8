"""Bad and odd pictures, sent to the running server as a visitor's program sends them."""

from __future__ import annotations

import io

import numpy as np
import pytest
from gradio_client.exceptions import AppError
from PIL import Image

from tests.conftest import as_file
from tests.web.serving import Server


def bad(kind: str, face: np.ndarray) -> bytes:
    """A picture that must be refused."""
    whole = as_file(face, "JPEG")
    if kind == "text":
        return b"This is no picture."
    if kind == "empty":
        return b""
    if kind == "svg":
        return b'<svg xmlns="http://www.w3.org/2000/svg" width="64" height="64"><rect/></svg>'
    if kind == "cut off":
        return whole[: len(whole) // 2]
    if kind == "tiny":
        return as_file(face[:31, :], "PNG")
    if kind == "too many pixels":
        stream = io.BytesIO()
        Image.new("1", (12_000, 12_000)).save(stream, "PNG")
        return stream.getvalue()
    if kind == "no face":
        return as_file(np.full((300, 300, 3), 120, np.uint8), "PNG")
    raise ValueError(kind)


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("text", "not a picture"),
        ("svg", "not a picture"),
        ("cut off", "cut off or damaged"),
        ("tiny", "too small"),
        ("too many pixels", "too large; the limit is 40 megapixels"),
        ("no face", "No face was found"),
    ],
)
def test_a_bad_picture_gets_its_sentence(
    server: Server, face_image: np.ndarray, kind: str, sentence: str
) -> None:
    kept, said = server.kept(), len(server.log)
    with pytest.raises(AppError, match=sentence):
        server.classify(bad(kind, face_image), True)
    assert server.kept() == kept
    assert server.uploaded() == []
    assert "Traceback" not in server.log[said:]


def test_an_empty_file_is_refused(server: Server, face_image: np.ndarray) -> None:
    with pytest.raises(AppError):
        server.classify(bad("empty", face_image), True)


def odd(kind: str, face: np.ndarray) -> bytes:
    """A picture that is unusual and still has to be read."""
    image = Image.fromarray(face)
    stream = io.BytesIO()
    if kind == "GIF":
        image.quantize().save(stream, "GIF")
    elif kind == "16-bit grey":
        grey = np.asarray(image.convert("L")).astype(np.uint16) * 257
        Image.fromarray(grey).save(stream, "PNG")
    elif kind == "CMYK":
        image.convert("CMYK").save(stream, "JPEG", quality=95)
    elif kind == "alpha":
        image.convert("RGBA").save(stream, "PNG")
    elif kind == "turned by EXIF":
        exif = Image.Exif()
        exif[0x0112] = 6  # shown turned clockwise: stored turned the other way
        image.transpose(Image.Transpose.ROTATE_90).save(stream, "JPEG", exif=exif, quality=95)
    else:
        image.save(stream, kind)
    return stream.getvalue()


@pytest.mark.parametrize(
    "kind",
    ["PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "16-bit grey", "CMYK", "alpha", "turned by EXIF"],
)
def test_an_odd_picture_is_read_where_the_face_is(
    server: Server, face_image: np.ndarray, kind: str
) -> None:
    (face,) = server.classify(odd(kind, face_image), False)["faces"]
    left, top, width, height = face["box"]
    assert left < 224 < left + width and top < 120 < top + height
