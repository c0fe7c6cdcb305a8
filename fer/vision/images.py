"""Bytes of a visitor's picture → an upright 8-bit RGB array, or a refusal that says why.

Everything that comes from outside is decoded here and nowhere else, with limits checked before
the work that they bound: bytes before opening, pixels from the header before decoding. All
metadata (EXIF with its place and time, comments, profiles) ends here: only pixels leave.
"""

from __future__ import annotations

import functools
import io
import struct
import zlib
from dataclasses import dataclass

import numpy as np
import pillow_heif
from numpy.typing import NDArray
from PIL import ExifTags, Image

from fer.config import Settings
from fer.errors import (
    NotAPictureError,
    PictureTooLargeError,
    PictureTooSmallError,
    TruncatedPictureError,
)

Pixels = NDArray[np.uint8]

#: The formats that are read. Anything else that Pillow knows (EPS, which starts Ghostscript, PDF,
#: icons, film formats) is no picture here.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF")

#: What Pillow's decoders, and the C libraries below them, raise on damaged input; their warnings
#: too, for where an administrator makes errors of those.
_DECODER_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    OverflowError,
    ZeroDivisionError,
    RuntimeError,
    MemoryError,
    EOFError,
    struct.error,
    zlib.error,
    UserWarning,
)

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class ImageLimits:
    """What a picture must keep to.

    Attributes:
        max_bytes: size of the file.
        max_pixels: width times height.
        min_side: shortest side, in pixels.
    """

    max_bytes: int = 10_000_000
    max_pixels: int = 40_000_000
    min_side: int = 32

    @classmethod
    def from_settings(cls, settings: Settings) -> ImageLimits:
        """The limits that the administrator set."""
        return cls(
            max_bytes=int(settings.max_image_mb * 1_000_000),
            max_pixels=int(settings.max_image_megapixels * 1_000_000),
            min_side=settings.min_image_px,
        )


def decode(data: bytes, limits: ImageLimits) -> Pixels:
    """Decode a picture.

    Formats: JPEG, PNG, WebP, GIF and other animations (first frame), BMP, TIFF, AVIF, HEIC.
    Transparency is laid on white, 16-bit grey scaled by its range, orientation applied.

    Returns:
        uint8 (height, width, 3), RGB, upright, C-contiguous.

    Raises:
        NotAPictureError: no picture in a format that is read.
        TruncatedPictureError: a picture that ends too early or is damaged.
        PictureTooLargeError: more bytes or pixels than the limits allow.
        PictureTooSmallError: a side shorter than the limits ask for.
    """
    if len(data) > limits.max_bytes:
        megabytes = f"{limits.max_bytes / 1_000_000:g}"
        raise PictureTooLargeError(
            f"The picture is larger than {megabytes} MB.",
            limit=megabytes,
            unit="MB",
        )
    with _open(data, limits) as image:
        _check_size(image.size, limits)
        try:
            image.load()
        except Image.DecompressionBombError as error:
            raise _too_many_pixels(limits) from error
        except _DECODER_ERRORS as error:
            raise _cut_off() from error
        # A damaged header may promise one size and the decoder deliver another.
        _check_size(image.size, limits)
        try:
            upright = _turned(_to_rgb(image), image)
        except _DECODER_ERRORS as error:
            raise _no_picture() from error
    # np.array, not asarray: the caller gets memory of its own that can be written to.
    return np.array(upright, dtype=np.uint8, order="C")


def encode_jpeg(image: Pixels, quality: int = 95) -> bytes:
    """Encode RGB pixels, uint8 (height, width, 3), as a JPEG without metadata."""
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, format="JPEG", quality=quality)
    return stream.getvalue()


@functools.cache
def _register_heif() -> None:
    """Teach Pillow to open HEIC, once; at first use, so that an import changes nothing."""
    pillow_heif.register_heif_opener()


def _open(data: bytes, limits: ImageLimits) -> Image.Image:
    _register_heif()
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_many_pixels(limits) from error
    except _DECODER_ERRORS as error:
        if _begins_like_a_picture(data):
            raise _cut_off() from error
        raise _no_picture() from error


def _begins_like_a_picture(data: bytes) -> bool:
    """Whether the first bytes are those of a format that is read.

    BMP is left out: its two bytes, "BM", may begin any text.
    """
    if data.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a")):
        return True
    if data.startswith((b"II*\0", b"MM\0*")):
        return True
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return True
    brands = (b"avif", b"avis", b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1")
    return data[4:8] == b"ftyp" and data[8:12] in brands


def _check_size(size: tuple[int, int], limits: ImageLimits) -> None:
    width, height = size
    if width * height > limits.max_pixels:
        raise _too_many_pixels(limits)
    if min(width, height) < limits.min_side:
        raise PictureTooSmallError(
            f"The picture's shortest side has {min(width, height)} pixels; "
            f"at least {limits.min_side} are needed.",
            side=min(width, height),
            limit=limits.min_side,
        )


def _to_rgb(image: Image.Image) -> Image.Image:
    """Any mode → RGB: transparency on white, wide grey scaled to 8 bits."""
    if image.mode.startswith(("I", "F")):
        return Image.fromarray(_wide_grey_to_8_bits(image)).convert("RGB")
    if image.has_transparency_data:
        clear = image.convert("RGBA")
        flat = Image.new("RGB", image.size, "white")
        flat.paste(clear, mask=clear.getchannel("A"))
        return flat
    # By way of RGBA for palettes, since a palette may itself hold RGBA colours.
    return image if image.mode == "RGB" else image.convert("RGB")


def _wide_grey_to_8_bits(image: Image.Image) -> Pixels:
    """Grey of 16 or 32 bits, or floating point → uint8 (height, width).

    Sixteen unsigned bits have a declared range (TIFF may declare 12 bits), and are scaled by it.
    Other samples declare none: there the picture's own range is stretched.
    """
    values = np.nan_to_num(np.asarray(image).astype(np.float64), posinf=0.0, neginf=0.0)
    if image.mode.startswith("I;16"):
        low, high = 0.0, float(2 ** _bits_per_sample(image) - 1)
    else:
        low, high = float(values.min()), float(values.max())
    grey = np.rint((values - low) * (255.0 / max(high - low, 1e-12))).clip(0, 255)
    opaque_except = image.info.get("transparency")
    if isinstance(opaque_except, int):
        grey[values == opaque_except] = 255
    return np.asarray(grey, dtype=np.uint8)


def _bits_per_sample(image: Image.Image) -> int:
    tags = getattr(image, "tag_v2", None)
    bits = tags.get(258, (16,)) if tags is not None else (16,)
    first = bits[0] if isinstance(bits, tuple) else bits
    return first if isinstance(first, int) and 8 < first <= 16 else 16


def _turned(upright: Image.Image, source: Image.Image) -> Image.Image:
    """Apply the EXIF orientation that `source` carries; a damaged EXIF block counts as none."""
    try:
        orientation = source.getexif().get(ExifTags.Base.Orientation, 1)
    except _DECODER_ERRORS:
        return upright
    turn = _TURNS.get(orientation) if isinstance(orientation, int) else None
    return upright if turn is None else upright.transpose(turn)


def _no_picture() -> NotAPictureError:
    return NotAPictureError(
        "The file is not a picture that can be read: "
        "use JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF or HEIC."
    )


def _cut_off() -> TruncatedPictureError:
    return TruncatedPictureError("The picture is cut off or damaged.")


def _too_many_pixels(limits: ImageLimits) -> PictureTooLargeError:
    megapixels = f"{limits.max_pixels / 1_000_000:g}"
    return PictureTooLargeError(
        f"The picture has more than {megapixels} megapixels.",
        limit=megapixels,
        unit="megapixels",
    )
