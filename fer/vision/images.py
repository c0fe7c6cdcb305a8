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
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

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

#: Pixels that are brought to RGB at a time: what is in between needs no memory worth counting.
_STRIP = 1 << 20

#: Share of the pixel limit for formats whose decoders hold several copies of the picture, so that
#: every picture within the limits is read in about the same memory (7 bytes a pixel of the limit).
#: WebP's decoder keeps two canvases of its own and gives a third.
_SHARE = {"WEBP": 0.4, "AVIF": 0.65, "HEIF": 0.65}

#: The same for progressive JPEGs by number of channels: all their coefficients are held at once.
_PROGRESSIVE_SHARE = {1: 1.0, 3: 0.7, 4: 0.55}

#: Fax compressions of TIFF. No camera makes them, and libtiff writes a line to the server's log
#: for each row that is damaged: 10 kB of them made thousands of lines.
_FAX = ("group3", "group4", "tiff_ccitt")


@dataclass(frozen=True)
class ImageLimits:
    """What a picture must keep to.

    Attributes:
        max_bytes: size of the file.
        max_pixels: width times height; of AVIF and HEIC 65 % of it, of
            progressive JPEG 70 % (CMYK 55 %), of WebP 40 %.
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

    Formats: JPEG, PNG, WebP, GIF and other animations (first frame), BMP, TIFF other than fax,
    AVIF, HEIC. Transparency is laid on white, 16-bit grey scaled by its range,
    orientation applied.

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
        if image.format == "TIFF" and image.info.get("compression") in _FAX:
            raise _no_picture()
        limits = _its_limits(limits, image)
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
            return _upright(image)
        except _DECODER_ERRORS as error:
            raise _no_picture() from error


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


def _its_limits(limits: ImageLimits, image: Image.Image) -> ImageLimits:
    share = _SHARE.get(image.format or "", 1.0)
    if image.format == "JPEG" and image.info.get("progressive"):
        share = _PROGRESSIVE_SHARE.get(len(image.getbands()), 0.55)
    return replace(limits, max_pixels=int(limits.max_pixels * share))


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


def _upright(image: Image.Image) -> Pixels:
    """A loaded picture of any mode → uint8 (height, width, 3), RGB, with its turn applied.

    Strip by strip into the array that is returned: besides the picture as Pillow holds it, there
    is no second copy of a large one.
    """
    width, height = image.size
    turn = _orientation(image)
    shape = (width, height, 3) if turn >= 5 else (height, width, 3)
    upright = np.empty(shape, np.uint8)
    unturned = _UNTURNED[turn](upright)
    grey = _wide_grey_scale(image) if image.mode.startswith(("I", "F")) else None
    for top, strip in _strips(image):
        pixels = np.asarray(_to_rgb(strip)) if grey is None else grey(strip)
        unturned[top : top + strip.height] = pixels
    return upright


def _strips(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    rows = max(1, _STRIP // image.width)
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))


def _to_rgb(image: Image.Image) -> Image.Image:
    """Any mode → RGB, transparency on white."""
    if image.has_transparency_data:
        clear = image.convert("RGBA")
        flat = Image.new("RGB", image.size, "white")
        flat.paste(clear, mask=clear.getchannel("A"))
        return flat
    # By way of RGBA for palettes, since a palette may itself hold RGBA colours.
    return image if image.mode == "RGB" else image.convert("RGB")


def _wide_grey_scale(image: Image.Image) -> Callable[[Image.Image], Pixels]:
    """What turns strips in grey of 16 or 32 bits, or floating point, into uint8 (h, w, 1).

    Sixteen unsigned bits have a declared range (TIFF may declare 12 bits), and are scaled by it.
    Other samples declare none: there the picture's own range is stretched.
    """
    if image.mode.startswith("I;16"):
        low, high = 0.0, float(2 ** _bits_per_sample(image) - 1)
    else:
        ends = [(values.min(), values.max()) for values in map(_numbers, _only_strips(image))]
        low, high = float(min(a for a, _ in ends)), float(max(b for _, b in ends))
    opaque_except = image.info.get("transparency")

    def scaled(strip: Image.Image) -> Pixels:
        values = _numbers(strip)
        grey = np.rint((values - low) * (255.0 / max(high - low, 1e-12))).clip(0, 255)
        if isinstance(opaque_except, int):
            grey[values == opaque_except] = 255
        return np.asarray(grey, dtype=np.uint8)[:, :, np.newaxis]

    return scaled


def _only_strips(image: Image.Image) -> Iterator[Image.Image]:
    return (strip for _, strip in _strips(image))


def _numbers(strip: Image.Image) -> NDArray[np.float64]:
    return np.nan_to_num(np.asarray(strip).astype(np.float64), posinf=0.0, neginf=0.0)


def _bits_per_sample(image: Image.Image) -> int:
    tags = getattr(image, "tag_v2", None)
    bits = tags.get(258, (16,)) if tags is not None else (16,)
    first = bits[0] if isinstance(bits, tuple) else bits
    return first if isinstance(first, int) and 8 < first <= 16 else 16


def _orientation(image: Image.Image) -> int:
    """EXIF's orientation, 1…8; 1 where there is none or the EXIF block is damaged."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except _DECODER_ERRORS:
        return 1
    return orientation if isinstance(orientation, int) and orientation in _UNTURNED else 1


#: For each orientation, the view of an upright picture in which it lies as the file has it.
_UNTURNED: dict[int, Callable[[Pixels], Pixels]] = {
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.transpose(1, 0, 2),
    6: lambda upright: np.rot90(upright, 1),
    7: lambda upright: upright.transpose(1, 0, 2)[::-1, ::-1],
    8: lambda upright: np.rot90(upright, -1),
}


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
