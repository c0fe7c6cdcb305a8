"""Good pictures of every format that is read, and every way to spoil them that we thought of.

Deterministic: the same seed gives the same bytes, as long as Pillow encodes the same.
"""

from __future__ import annotations

import functools
import io
import random
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pillow_heif
from PIL import Image, PngImagePlugin

from benchmarks.soak.containers import JOIN, SPLIT, with_size

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF")

#: Sizes that a header may claim: edges of integers, and just below, at and above 40 megapixels.
SIDES = (0, 1, 31, 33, 255, 4096, 5000, 6324, 6325, 8000, 12_000, 32_767, 65_535, 2**31 - 1)


@dataclass(frozen=True)
class Seedling:
    """A good picture file.

    Attributes:
        format: as in `FORMATS`.
        variant: what is special about it.
        data: the file.
    """

    format: str
    variant: str
    data: bytes


@dataclass(frozen=True)
class Spoiled:
    """A spoiled picture file.

    Attributes:
        number: in the run.
        origin: format and variant of the good picture, and the mutation.
        data: the file.
    """

    number: int
    origin: str
    data: bytes


def scene(width: int = 96, height: int = 72) -> Image.Image:
    """Colours that change from pixel to pixel, with some noise, so that files are not trivial."""
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    noise = np.random.default_rng(7).integers(0, 40, (height, width))
    pixels = np.stack([x, y, (x + y) / 2 + noise], axis=2)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


@functools.cache
def seedlings() -> tuple[Seedling, ...]:
    """Good pictures: every format, and the modes, compressions and extras that each knows."""
    pillow_heif.register_heif_opener()
    rgb = scene()
    rgba = rgb.copy()
    rgba.putalpha(rgb.convert("L"))
    wide = Image.fromarray(np.asarray(rgb.convert("L")).astype(np.uint16) * 257)
    floating = Image.fromarray(np.asarray(rgb.convert("L")).astype(np.float32) / 255)
    palette = rgb.quantize(64)
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "a description " * 8
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", "words " * 40, zip=True)
    text.add_itxt("Title", "Wörter", "de", "Titel", zip=True)
    other = scene(96, 72).rotate(180)
    frames = {"save_all": True, "append_images": [other, rgb]}
    plan: list[tuple[str, str, Image.Image, dict[str, object]]] = [
        ("JPEG", "baseline", rgb, {"exif": exif}),
        ("JPEG", "progressive", rgb, {"progressive": True, "quality": 90, "subsampling": 0}),
        ("JPEG", "grey", rgb.convert("L"), {"restart_marker_blocks": 2}),
        ("JPEG", "cmyk", rgb.convert("CMYK"), {}),
        ("PNG", "rgb", rgb, {"pnginfo": text, "exif": exif}),
        ("PNG", "rgba", rgba, {}),
        ("PNG", "palette", palette, {"transparency": 3}),
        ("PNG", "16 bit", wide, {}),
        ("PNG", "1 bit", rgb.convert("1"), {}),
        ("PNG", "animated", rgb, frames),
        ("WEBP", "lossy", rgb, {"exif": exif}),
        ("WEBP", "lossless alpha", rgba, {"lossless": True}),
        ("WEBP", "animated", rgb, {**frames, "duration": 50}),
        ("GIF", "single", palette, {"transparency": 0}),
        ("GIF", "animated", palette, {**frames, "interlace": 1, "comment": b"words " * 60}),
        ("BMP", "24 bit", rgb, {}),
        ("BMP", "palette", palette, {}),
        ("BMP", "32 bit", rgba, {}),
        ("TIFF", "raw", rgb, {"exif": exif}),
        ("TIFF", "lzw", rgb, {"compression": "tiff_lzw"}),
        ("TIFF", "deflate", rgba, {"compression": "tiff_adobe_deflate"}),
        ("TIFF", "jpeg", rgb, {"compression": "jpeg"}),
        ("TIFF", "packbits", palette, {"compression": "packbits"}),
        ("TIFF", "1 bit", rgb.convert("1"), {"compression": "packbits"}),
        ("TIFF", "16 bit", wide, {}),
        ("TIFF", "floating", floating, {}),
        ("TIFF", "pages", rgb, frames),
        ("AVIF", "lossy", rgb, {"exif": exif}),
        ("AVIF", "alpha", rgba, {}),
        ("AVIF", "animated", rgb, frames),
        ("HEIF", "lossy", rgb, {"exif": exif.tobytes()}),
        ("HEIF", "alpha", rgba, {}),
        ("HEIF", "several", rgb, frames),
    ]
    found = []
    for kind, variant, image, options in plan:
        stream = io.BytesIO()
        image.save(stream, kind, **options)
        found.append(Seedling(kind, variant, stream.getvalue()))
    return tuple(found)


def spoiled(count: int, seed: int = 20250615) -> Iterator[Spoiled]:
    """`count` spoiled pictures: each mutation of each good picture in turn, then again."""
    chance = random.Random(seed)
    good = seedlings()
    number = 0
    while True:
        for origin in good:
            for mutation in MUTATIONS:
                if number == count:
                    return
                data = mutation(origin, good, chance)
                # Now and then a second time, for damage that hides other damage.
                if chance.random() < 0.2:
                    again = Seedling(origin.format, origin.variant, data)
                    data = chance.choice(MUTATIONS)(again, good, chance)
                name = f"{origin.format} {origin.variant}: {mutation.__name__}"
                yield Spoiled(number, name, data)
                number += 1


# Mutations. Each takes a picture, all the good ones, and the source of chance.


def cut(origin: Seedling, good: tuple[Seedling, ...], chance: random.Random) -> bytes:
    """The file ends early; half of the time within its first quarter."""
    end = len(origin.data) // (4 if chance.random() < 0.5 else 1)
    return origin.data[: chance.randrange(max(1, end))]


def flip_bits(origin: Seedling, good: tuple[Seedling, ...], chance: random.Random) -> bytes:
    """One to thirty bits, headers more often than pixels."""
    data = bytearray(origin.data)
    for _ in range(chance.randint(1, 30) if data else 0):
        data[int(chance.random() ** 3 * len(data))] ^= 1 << chance.randrange(8)
    return bytes(data)


def set_numbers(origin: Seedling, good: tuple[Seedling, ...], chance: random.Random) -> bytes:
    """Numbers of two or four bytes, set to the edges of what they can say."""
    data = bytearray(origin.data)
    for _ in range(chance.randint(1, 4)):
        form = chance.choice(("<H", ">H", "<I", ">I"))
        size = struct.calcsize(form)
        if len(data) <= size:
            break
        at = int(chance.random() ** 3 * (len(data) - size))
        value = chance.choice((*SIDES, 0x7FFF, 0x8000, 0xFFFFFFFF)) & (256**size - 1)
        struct.pack_into(form, data, at, value)
    return bytes(data)


def splice(origin: Seedling, good: tuple[Seedling, ...], chance: random.Random) -> bytes:
    """The head of one file with the tail of another, half of the time of the same format."""
    same = [one for one in good if one.format == origin.format]
    other = chance.choice(same if chance.random() < 0.5 else good).data
    return (
        origin.data[: chance.randint(0, len(origin.data))] + other[chance.randrange(len(other)) :]
    )


def repeat(origin: Seedling, good: tuple[Seedling, ...], chance: random.Random) -> bytes:
    """A stretch that stands there again and again, or is left out."""
    data = origin.data
    start = chance.randint(0, len(data))
    end = min(len(data), start + chance.choice((1, 4, 13, 100, 1000)))
    return data[:start] + data[start:end] * chance.choice((0, 2, 3, 200)) + data[end:]


def fill(origin: Seedling, good: tuple[Seedling, ...], chance: random.Random) -> bytes:
    """A stretch of zeros, ones or noise in place of what was there."""
    data = bytearray(origin.data)
    start = chance.randint(0, len(data))
    end = min(len(data), start + chance.choice((4, 64, 4096)))
    kind = chance.randrange(3)
    blank = bytes(end - start) if kind == 0 else b"\xff" * (end - start)
    data[start:end] = chance.randbytes(end - start) if kind == 2 else blank
    return bytes(data)


def edit_chunk(origin: Seedling, good: tuple[Seedling, ...], chance: random.Random) -> bytes:
    """One chunk, segment, box or tag changed, dropped, doubled or moved; lengths and CRCs agree."""
    split = SPLIT.get(origin.format)
    pieces = split(origin.data) if split else []
    if not pieces:
        return flip_bits(origin, good, chance)
    at = chance.randrange(len(pieces))
    kind, content = pieces[at]
    what = chance.randrange(7)
    if what == 0:
        pieces.pop(at)
    elif what == 1:
        pieces[at:at] = [pieces[at]] * chance.choice((1, 2, 50))
    elif what == 2:
        pieces.insert(chance.randrange(len(pieces)), pieces.pop(at))
    elif what == 3:
        pieces[at] = (chance.choice(pieces)[0], content)
    elif what == 4:
        pieces[at] = (kind, content[: chance.randint(0, len(content))])
    elif what == 5:
        pieces[at] = (kind, content + chance.randbytes(chance.choice((1, 3, 300))))
    else:
        edited = bytearray(content)
        for _ in range(chance.randint(1, 6) if edited else 0):
            edited[int(chance.random() ** 2 * len(edited))] = chance.choice((0, 1, 127, 128, 255))
        pieces[at] = (kind, bytes(edited))
    return JOIN[origin.format](pieces, origin.data)


def lie_about_size(origin: Seedling, good: tuple[Seedling, ...], chance: random.Random) -> bytes:
    """The header claims another width and height than the pixels have."""
    return with_size(origin.format, origin.data, chance.choice(SIDES), chance.choice(SIDES))


Mutation = Callable[[Seedling, tuple[Seedling, ...], random.Random], bytes]

MUTATIONS: tuple[Mutation, ...] = (
    cut,
    flip_bits,
    set_numbers,
    splice,
    repeat,
    fill,
    edit_chunk,
    lie_about_size,
)
