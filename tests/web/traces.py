"""A picture that can be recognised wherever a trace of it lies, and the search for traces."""

from __future__ import annotations

import base64
import binascii
import io
import re
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile, ImageOps

#: Begins every picture format that a program here could write.
_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF", b"GIF8", b"BM", b"II*\x00")
_BASE64 = re.compile(rb"(?:/9j/|iVBORw0KGgo|UklGR|R0lGOD)[A-Za-z0-9+/=\r\n\\]{200,}")
_GZIP = b"\x1f\x8b\x08"

#: Longest piece that is decoded; a kept face has a tenth of it.
_PIECE = 4_000_000


@dataclass
class Marked:
    """A picture with marks.

    Attributes:
        name: of the file; a mark.
        text: stands in the file's metadata; another mark.
        jpeg: the file.
        image: its pixels.
    """

    name: str
    text: str
    jpeg: bytes
    image: Image.Image
    others: list[Image.Image] = field(default_factory=list)

    def looks_like(self, picture: Image.Image) -> bool:
        """Whether a picture shows this one, or one of `others`, at any size."""
        seen = _fingerprint(picture)
        shown = (self.image, *self.others)
        return any(float(np.dot(seen, _fingerprint(own))) > 0.85 for own in shown)


def marked_picture(face: np.ndarray, token: str) -> Marked:
    """`face` mirrored and behind a pattern, so that no other copy of it is taken for this one."""
    image = Image.fromarray(np.ascontiguousarray(face[:, ::-1]))
    pattern = np.random.default_rng(list(token.encode())).integers(0, 255, (16, 16, 3), np.uint8)
    tiles = Image.fromarray(pattern).resize(image.size, Image.Resampling.NEAREST)
    image = Image.blend(image, tiles, 0.18)
    text = f"PLANTED-{token}"
    exif = Image.Exif()
    exif[0x010E] = text  # ImageDescription
    exif[0x013B] = text  # Artist
    exif.get_ifd(0x8825)[1] = "N"
    exif.get_ifd(0x8825)[2] = (1.0, 2.0, 3.0)
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=90, exif=exif, comment=text.encode())
    return Marked(f"planted-name-{token}.jpg", text, stream.getvalue(), image)


def traces(marked: Marked, places: Sequence[Path], codes: Sequence[str] = ()) -> list[str]:
    """Where something of a picture lies, and what: marks, bytes of the file, what shows it.

    Args:
        marked: the picture.
        places: files and folders to search.
        codes: further texts that must not be anywhere, such as receipts.
    """
    words = {
        "its name": marked.name.removesuffix(".jpg").encode(),
        "its metadata": marked.text.encode(),
        "bytes of the file": marked.jpeg[len(marked.jpeg) // 2 :][:64],
        **{f"the code {code[:4]}…": code.encode() for code in codes},
    }
    found = []
    for path in _files(places):
        if any(word in str(path).encode() for word in words.values()):
            found.append(f"{path}: named after it")
        try:
            data = path.read_bytes()
        except OSError:
            continue
        for layer in (data, *_unpacked(data)):
            plain = layer.replace(b"\x00", b"")  # UTF-16, as browsers write some texts
            for what, word in words.items():
                if word in layer or (what != "bytes of the file" and word in plain):
                    found.append(f"{path}: {what}")
            if any(marked.looks_like(picture) for picture in _pictures(layer)):
                found.append(f"{path}: a picture that shows it")
    return sorted(set(found))


def _files(places: Sequence[Path]) -> Iterator[Path]:
    for place in places:
        for path in [place] if place.is_file() else sorted(place.rglob("*")):
            if path.is_file() and not path.is_symlink():
                yield path


def _unpacked(data: bytes) -> Iterator[bytes]:
    """What lies in gzip streams anywhere in `data`, as a browser's cache has them."""
    for at in (match.start() for match in re.finditer(re.escape(_GZIP), data)):
        unpack = zlib.decompressobj(31)
        try:
            yield unpack.decompress(data[at:], _PIECE)
        except zlib.error:
            continue


def _pictures(data: bytes) -> Iterator[Image.Image]:
    pieces = [
        data[match.start() : match.start() + _PIECE]
        for signature in _SIGNATURES
        for match in re.finditer(re.escape(signature), data)
    ]
    for match in _BASE64.finditer(data):
        text = re.sub(rb"[^A-Za-z0-9+/]", b"", match[0])
        try:
            pieces.append(base64.b64decode(text[: len(text) // 4 * 4]))
        except binascii.Error:
            continue
    ImageFile.LOAD_TRUNCATED_IMAGES, before = True, ImageFile.LOAD_TRUNCATED_IMAGES
    try:
        for piece in pieces:
            try:
                with Image.open(io.BytesIO(piece)) as picture:
                    if min(picture.size) >= 16 and max(picture.size) <= 8192:
                        yield picture.convert("RGB")
            except (OSError, ValueError, SyntaxError, struct.error, IndexError, MemoryError):
                continue
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = before


def _fingerprint(picture: Image.Image) -> np.ndarray:
    """24 × 24 grey values, normalised: their product is the correlation of two pictures."""
    small = ImageOps.grayscale(picture).resize((24, 24), Image.Resampling.BOX)
    grey = np.asarray(small, np.float64).ravel()
    grey -= grey.mean()
    return np.asarray(grey / max(float(np.linalg.norm(grey)), 1e-9))
