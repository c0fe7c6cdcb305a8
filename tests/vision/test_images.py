"""Decoding: every format, every mode, every refusal."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pillow_heif
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from fer.config import Settings
from fer.errors import (
    NotAPictureError,
    PictureError,
    PictureTooLargeError,
    PictureTooSmallError,
    TruncatedPictureError,
)
from fer.vision.images import ImageLimits, Pixels, decode, encode_jpeg

# Pillow warns of what it then reads or refuses; what counts here is which.
pytestmark = pytest.mark.filterwarnings(
    "ignore::UserWarning", "ignore::PIL.Image.DecompressionBombWarning"
)

LIMITS = ImageLimits()
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF")
LOSSLESS = ("PNG", "BMP", "TIFF")


def encoded(image: Image.Image, format: str, **options: object) -> bytes:
    pillow_heif.register_heif_opener()
    stream = io.BytesIO()
    image.save(stream, format=format, **options)
    return stream.getvalue()


def gradient(width: int = 64, height: int = 48) -> Image.Image:
    """No two rows and no two columns alike, so that a turn shows."""
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([x, y, (x + y) / 2], axis=2).astype(np.uint8))


def mean_difference(one: Pixels, other: Pixels) -> float:
    return float(np.abs(one.astype(int) - other).mean())


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_is_read(format: str) -> None:
    picture = gradient()
    read = decode(encoded(picture, format), LIMITS)
    assert read.shape == (48, 64, 3)
    assert read.dtype == np.uint8
    assert read.flags.c_contiguous and read.flags.writeable
    tolerance = 0 if format in LOSSLESS else 8
    assert mean_difference(read, np.asarray(picture)) <= tolerance


def test_lossless_webp_is_read_exactly() -> None:
    picture = gradient()
    assert np.array_equal(
        decode(encoded(picture, "WEBP", lossless=True), LIMITS), np.asarray(picture)
    )


@pytest.mark.parametrize("format", ("JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF"))
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied(format: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = gradient()
    marked = picture.copy()
    marked.getexif()[0x0112] = orientation
    expected = np.asarray(ImageOps.exif_transpose(marked))
    if format == "HEIF":
        # A phone's way: the turn is a property of the picture, and EXIF repeats it.
        stream = io.BytesIO()
        pillow_heif.from_pillow(picture).save(stream, exif=exif.tobytes())
        data = stream.getvalue()
        assert orientation == 1 or b"irot" in data or b"imir" in data
    else:
        data = encoded(picture, format, exif=exif)
    read = decode(data, LIMITS)
    assert read.shape == expected.shape
    assert mean_difference(read, expected) < 8


@pytest.mark.parametrize("orientation", (0, 9, 65535))
def test_an_impossible_orientation_counts_as_none(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = gradient()
    assert np.array_equal(decode(encoded(picture, "PNG", exif=exif), LIMITS), np.asarray(picture))


def test_a_damaged_exif_block_is_no_reason_to_refuse() -> None:
    picture = gradient()
    data = encoded(picture, "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert decode(data, LIMITS).shape == (48, 64, 3)


def test_metadata_ends_here() -> None:
    exif = Image.Exif()
    exif[0x010E] = "secret-description"
    exif.get_ifd(0x8825)[1] = "N"
    data = encoded(gradient(), "JPEG", exif=exif, comment=b"secret-comment")
    assert b"secret" in data
    again = encode_jpeg(decode(data, LIMITS))
    assert b"secret" not in again
    assert not Image.open(io.BytesIO(again)).getexif()


@pytest.mark.parametrize("format", ("PNG", "WEBP", "TIFF", "AVIF"))
def test_transparency_is_laid_on_white(format: str) -> None:
    picture = Image.new("RGBA", (40, 40), (10, 20, 30, 255))
    picture.paste((200, 0, 0, 0), (0, 0, 20, 40))
    read = decode(encoded(picture, format), LIMITS)
    assert mean_difference(read[:, :16], np.full((40, 16, 3), 255)) < 3
    assert mean_difference(read[:, 24:], np.full((40, 16, 3), (10, 20, 30))) < 6


def test_half_transparency_is_half_white() -> None:
    picture = Image.new("RGBA", (40, 40), (0, 0, 0, 128))
    # 255 * (1 - 128 / 255) = 127
    assert np.all(np.abs(decode(encoded(picture, "PNG"), LIMITS).astype(int) - 127) <= 1)


def test_palette_transparency_is_white() -> None:
    picture = Image.new("P", (40, 40), 0)
    picture.putpalette([0, 0, 0, 50, 60, 70])
    picture.paste(1, (20, 0, 40, 40))
    read = decode(encoded(picture, "PNG", transparency=0), LIMITS)
    assert read[0, 0].tolist() == [255, 255, 255]
    assert read[0, 39].tolist() == [50, 60, 70]


def test_grey_with_alpha() -> None:
    picture = Image.new("LA", (40, 40), (90, 0))
    picture.paste((90, 255), (20, 0, 40, 40))
    read = decode(encoded(picture, "PNG"), LIMITS)
    assert read[0, 0].tolist() == [255, 255, 255]
    assert read[0, 39].tolist() == [90, 90, 90]


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    (
        ("1", 1, (255, 255, 255)),
        ("L", 77, (77, 77, 77)),
        ("P", 3, (9, 10, 11)),
        ("RGB", (1, 2, 3), (1, 2, 3)),
        ("CMYK", (255, 0, 0, 0), (0, 255, 255)),
    ),
)
def test_modes(mode: str, colour: object, expected: tuple[int, int, int]) -> None:
    picture = Image.new(mode, (40, 40), colour)  # type: ignore[arg-type]
    if mode == "P":
        picture.putpalette(list(range(12)))
    read = decode(encoded(picture, "TIFF"), LIMITS)
    assert read[20, 20].tolist() == list(expected)


def test_cmyk_jpeg_is_not_inverted() -> None:
    read = decode(encoded(Image.new("CMYK", (40, 40), (0, 0, 0, 0)), "JPEG"), LIMITS)
    assert read.min() > 250


@pytest.mark.parametrize("format", ("PNG", "TIFF"))
def test_16_bit_grey_is_scaled_not_clipped(format: str) -> None:
    values = np.linspace(0, 65535, 64 * 48).reshape(48, 64).astype(np.uint16)
    read = decode(encoded(Image.fromarray(values), format), LIMITS)
    assert np.array_equal(read[:, :, 0], np.rint(values / 257).astype(np.uint8))
    assert np.array_equal(read[:, :, 0], read[:, :, 2])


def test_16_bit_grey_keeps_its_brightness() -> None:
    """A dark picture stays dark: the format's range counts, not the picture's."""
    values = np.full((40, 40), 257 * 20, np.uint16)
    assert np.all(decode(encoded(Image.fromarray(values), "PNG"), LIMITS) == 20)


@pytest.mark.parametrize("kind", (np.int32, np.float32))
def test_samples_without_a_range_are_stretched(kind: type) -> None:
    values = np.linspace(-500, 1500, 64 * 48).reshape(48, 64).astype(kind)
    read = decode(encoded(Image.fromarray(values), "TIFF"), LIMITS)
    assert read.min() == 0 and read.max() == 255
    assert np.all(np.diff(read[:, :, 0].ravel().astype(int)) >= 0)


def test_floats_that_are_no_numbers() -> None:
    values = np.full((40, 40), np.nan, np.float32)
    values[0, 0] = np.inf
    assert decode(encoded(Image.fromarray(values), "TIFF"), LIMITS).shape == (40, 40, 3)


def test_the_first_frame_of_an_animation() -> None:
    first, second = Image.new("RGB", (40, 40), "red"), Image.new("RGB", (40, 40), "blue")
    for format in ("GIF", "WEBP", "PNG", "TIFF", "AVIF"):
        data = encoded(first, format, save_all=True, append_images=[second])
        assert decode(data, LIMITS)[20, 20, 0] > 200, format


# Refusals


@pytest.mark.parametrize(
    "data",
    (
        b"",
        b"hello",
        b"BMing along, nothing here",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"%PDF-1.7\n",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n",
        b"\0\0\0 ftypisom" + bytes(64),
        bytes(1000),
    ),
)
def test_what_is_no_picture(data: bytes) -> None:
    with pytest.raises(NotAPictureError):
        decode(data, LIMITS)


@pytest.mark.parametrize("format", ("EPS", "PDF", "ICO", "PPM", "TGA", "JPEG2000", "ICNS"))
def test_formats_that_pillow_knows_but_we_do_not_read(format: str) -> None:
    with pytest.raises(NotAPictureError):
        decode(encoded(gradient(), format), LIMITS)


@pytest.mark.parametrize("format", FORMATS)
def test_a_picture_cut_off_anywhere_is_never_a_silent_wrong_answer(format: str) -> None:
    data = encoded(gradient(160, 120), format)
    whole = decode(data, LIMITS)
    refused = 0
    for length in {*range(40), *range(40, len(data), max(1, len(data) // 60)), len(data) - 1}:
        try:
            read = decode(data[:length], LIMITS)
        except (TruncatedPictureError, NotAPictureError):
            refused += 1
        else:
            # Only what comes after the last pixel may be missing.
            assert np.array_equal(read, whole), length
    assert refused > 30
    with pytest.raises(TruncatedPictureError):
        decode(data[: len(data) // 2], LIMITS)


@settings(max_examples=150, deadline=None)
@given(
    format=st.sampled_from(FORMATS),
    changes=st.lists(
        st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=8
    ),
)
def test_damage_raises_nothing_but_refusals(format: str, changes: list[tuple[float, int]]) -> None:
    data = bytearray(encoded(gradient(), format))
    for where, value in changes:
        # Squared, so that headers are hit more often than pixels.
        data[int(where**2 * len(data))] = value
    try:
        read = decode(bytes(data), LIMITS)
    except PictureError as error:
        assert error.code != "picture"
        assert error.message.endswith(".") and "\n" not in error.message
    else:
        assert read.ndim == 3 and read.shape[2] == 3 and read.dtype == np.uint8


@settings(max_examples=100, deadline=None)
@given(
    head=st.sampled_from(
        (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"II*\0", b"MM\0*", b"BM", b"")
    ),
    tail=st.binary(max_size=200),
)
def test_any_bytes_are_refused_in_order(head: bytes, tail: bytes) -> None:
    with pytest.raises(PictureError):
        decode(head + tail, LIMITS)


def test_too_many_bytes_are_not_even_opened() -> None:
    with pytest.raises(PictureTooLargeError) as caught:
        decode(bytes(1001), ImageLimits(max_bytes=1000))
    assert caught.value.details["unit"] == "MB"


def test_the_byte_limit_itself_is_allowed() -> None:
    data = encoded(gradient(), "PNG")
    assert decode(data, ImageLimits(max_bytes=len(data))).shape == (48, 64, 3)
    with pytest.raises(PictureTooLargeError):
        decode(data, ImageLimits(max_bytes=len(data) - 1))


def test_the_pixel_limit_itself_is_allowed() -> None:
    data = encoded(gradient(64, 48), "PNG")
    assert decode(data, ImageLimits(max_pixels=64 * 48)).shape == (48, 64, 3)
    with pytest.raises(PictureTooLargeError) as caught:
        decode(data, ImageLimits(max_pixels=64 * 48 - 1))
    assert caught.value.details["unit"] == "megapixels"


def png_header(width: int, height: int) -> bytes:
    """A PNG of that size as its header promises, without the pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("side", (6_400, 12_000, 40_000, 2**31 - 1))
def test_a_bomb_is_refused_from_its_header(side: int) -> None:
    """Were it decoded, the missing pixels would make it a cut off picture."""
    with pytest.raises(PictureTooLargeError):
        decode(png_header(side, side), LIMITS)


def test_a_bomb_of_one_bit_pixels() -> None:
    data = encoded(Image.new("1", (12_000, 12_000)), "PNG")
    assert len(data) < 100_000
    with pytest.raises(PictureTooLargeError):
        decode(data, LIMITS)


def test_a_bomb_of_text() -> None:
    """zTXt that unpacks to 64 MB."""
    content = b"Comment\0\0" + zlib.compress(bytes(64_000_000))
    chunk = struct.pack(">I", len(content)) + b"zTXt" + content
    chunk += struct.pack(">I", zlib.crc32(b"zTXt" + content))
    data = encoded(gradient(), "PNG")
    with pytest.raises(TruncatedPictureError):
        decode(data[:33] + chunk + data[33:], LIMITS)


def test_too_small() -> None:
    with pytest.raises(PictureTooSmallError) as caught:
        decode(encoded(gradient(200, 31), "PNG"), LIMITS)
    assert caught.value.details == {"side": 31, "limit": 32}
    assert decode(encoded(gradient(200, 32), "PNG"), LIMITS).shape == (32, 200, 3)


def test_limits_come_from_the_settings() -> None:
    made = ImageLimits.from_settings(
        Settings(_env_file=None, max_image_mb=1.5, max_image_megapixels=2, min_image_px=50)
    )
    assert made == ImageLimits(max_bytes=1_500_000, max_pixels=2_000_000, min_side=50)


def test_a_decoder_does_not_speak_to_the_visitor() -> None:
    data = encoded(gradient(160, 120), "JPEG")
    with pytest.raises(TruncatedPictureError) as caught:
        decode(data[:-200], LIMITS)
    assert caught.value.message == "The picture is cut off or damaged."


def test_encoding_and_decoding_again() -> None:
    picture = np.asarray(gradient())
    data = encode_jpeg(picture)
    assert data.startswith(b"\xff\xd8")
    assert mean_difference(decode(data, LIMITS), picture) < 3
