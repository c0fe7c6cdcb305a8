"""Picture files taken apart into chunks and put together again, and the sizes in their headers."""

from __future__ import annotations

import itertools
import struct
import zlib
from collections.abc import Callable, Iterator

Pieces = list[tuple[bytes, bytes]]

# Sizes in headers


def with_size(format: str, data: bytes, width: int, height: int) -> bytes:
    """`data` with every width and height in its headers replaced; cut to the field's width."""
    out = bytearray(data)
    if format == "PNG" and len(out) >= 33:
        struct.pack_into(">II", out, 16, width, height)
        struct.pack_into(">I", out, 29, zlib.crc32(out[12:29]))
    elif format == "JPEG":
        for at in _jpeg_frames(data):
            struct.pack_into(">HH", out, at, height & 0xFFFF, width & 0xFFFF)
    elif format == "WEBP":
        _webp_size(out, width, height)
    elif format == "GIF" and len(out) >= 10:
        struct.pack_into("<HH", out, 6, width & 0xFFFF, height & 0xFFFF)
    elif format == "BMP" and len(out) >= 26:
        struct.pack_into("<II", out, 18, width & 0xFFFFFFFF, height & 0xFFFFFFFF)
    elif format == "TIFF":
        _tiff_size(out, width, height)
    elif format in ("AVIF", "HEIF"):
        at = out.find(b"ispe")
        while at >= 0 and at + 16 <= len(out):
            struct.pack_into(">II", out, at + 8, width, height)
            at = out.find(b"ispe", at + 4)
    return bytes(out)


def _jpeg_frames(data: bytes) -> Iterator[int]:
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        if 0xC0 <= data[at + 1] <= 0xC2:
            yield at + 5
        if data[at + 1] == 0xDA:
            return
        at += 2 + struct.unpack_from(">H", data, at + 2)[0]


def _webp_size(out: bytearray, width: int, height: int) -> None:
    kind, start = bytes(out[12:16]), 20
    if kind == b"VP8X" and len(out) >= start + 10:
        for at, side in ((start + 4, width), (start + 7, height)):
            out[at : at + 3] = struct.pack("<I", max(side - 1, 0) & 0xFFFFFF)[:3]
    elif kind == b"VP8 " and len(out) >= start + 10:
        struct.pack_into("<HH", out, start + 6, width & 0x3FFF, height & 0x3FFF)
    elif kind == b"VP8L" and len(out) >= start + 5:
        bits = (max(width - 1, 0) & 0x3FFF) | (max(height - 1, 0) & 0x3FFF) << 14
        struct.pack_into("<I", out, start + 1, bits)


def _tiff_size(out: bytearray, width: int, height: int) -> None:
    for at, tag in _tiff_tags(bytes(out)):
        if tag in (256, 257, 278):
            order = "<" if out[:2] == b"II" else ">"
            struct.pack_into(order + "H", out, at + 2, 4)
            struct.pack_into(order + "II", out, at + 4, 1, width if tag == 256 else height)


def _tiff_tags(data: bytes) -> Iterator[tuple[int, int]]:
    if len(data) < 8 or data[:2] not in (b"II", b"MM"):
        return
    order = "<" if data[:2] == b"II" else ">"
    (start,) = struct.unpack_from(order + "I", data, 4)
    if start + 2 > len(data):
        return
    (count,) = struct.unpack_from(order + "H", data, start)
    for at in range(start + 2, min(start + 2 + 12 * count, len(data) - 11), 12):
        yield at, struct.unpack_from(order + "H", data, at)[0]


# Files taken apart and put together again


def _png_pieces(data: bytes) -> Pieces:
    pieces, at = [], 8
    while at + 12 <= len(data):
        size = struct.unpack_from(">I", data, at)[0]
        pieces.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + size]))
        at += 12 + size
    return pieces


def _png_join(pieces: Pieces, _: bytes) -> bytes:
    chunks = (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in pieces
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _jpeg_pieces(data: bytes) -> Pieces:
    pieces: Pieces = []
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        size = struct.unpack_from(">H", data, at + 2)[0]
        if data[at + 1] == 0xDA:
            # The scan goes to the end, its own header included.
            return [*pieces, (data[at : at + 2], data[at + 4 :])]
        pieces.append((data[at : at + 2], data[at + 4 : at + 2 + size]))
        at += 2 + size
    return pieces


def _jpeg_join(pieces: Pieces, _: bytes) -> bytes:
    out = b"\xff\xd8"
    for kind, content in pieces:
        # A scan's length is that of its header alone: two bytes for each component.
        scan = kind == b"\xff\xda" and bool(content)
        size = 6 + 2 * content[0] if scan else min(len(content) + 2, 65_535)
        out += kind + struct.pack(">H", size) + content
    return out


def _webp_pieces(data: bytes) -> Pieces:
    pieces, at = [], 12
    while at + 8 <= len(data):
        size = struct.unpack_from("<I", data, at + 4)[0]
        pieces.append((data[at : at + 4], data[at + 8 : at + 8 + size]))
        at += 8 + size + size % 2
    return pieces


def _webp_join(pieces: Pieces, _: bytes) -> bytes:
    body = b"WEBP" + b"".join(
        kind + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)
        for kind, content in pieces
    )
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _box_pieces(data: bytes) -> Pieces:
    pieces, at = [], 0
    while at + 8 <= len(data):
        size = struct.unpack_from(">I", data, at)[0]
        size = size if size >= 8 else len(data) - at
        kind, content = data[at + 4 : at + 8], data[at + 8 : at + size]
        # `meta` holds what describes the picture: its boxes are pieces too.
        if kind == b"meta":
            pieces += [(b"meta", b""), *_box_pieces(content[4:]), (b"end!", b"")]
        else:
            pieces.append((kind, content))
        at += size
    return pieces


def _box_join(pieces: Pieces, _: bytes) -> bytes:
    out, inner = b"", None
    for kind, content in pieces:
        if kind == b"meta" and inner is None:
            inner = b""
        elif kind == b"end!":
            inner, meta = None, bytes(4) + (inner or b"")
            out += struct.pack(">I", len(meta) + 8) + b"meta" + meta
        else:
            box = struct.pack(">I", len(content) + 8) + kind + content
            out, inner = (out + box, None) if inner is None else (out, inner + box)
    return out + (inner or b"")


def _tiff_pieces(data: bytes) -> Pieces:
    return [(b"", data[at : at + 12]) for at, _ in _tiff_tags(data)]


def _tiff_join(pieces: Pieces, data: bytes) -> bytes:
    order = "<" if data[:2] == b"II" else ">"
    (start,) = struct.unpack_from(order + "I", data, 4)
    entries = b"".join(content[:12].ljust(12, b"\0") for _, content in pieces)
    # At the end, where it may be longer than it was.
    listed = struct.pack(order + "H", len(pieces) & 0xFFFF) + entries + bytes(4)
    if len(data) < 8 or start + 2 > len(data):
        return data
    return data[:4] + struct.pack(order + "I", len(data)) + data[8:] + listed


def _gif_pieces(data: bytes) -> Pieces:
    """Logical screen with its colours, then stretches between the marks of blocks."""
    marks = [at for at in range(13, len(data)) if data[at] in (0x21, 0x2C, 0x3B)]
    edges = [0, *marks, len(data)]
    return [(b"", data[a:b]) for a, b in itertools.pairwise(edges)]


def _plain_join(pieces: Pieces, _: bytes) -> bytes:
    return b"".join(kind + content for kind, content in pieces)


SPLIT: dict[str, Callable[[bytes], Pieces]] = {
    "PNG": _png_pieces,
    "JPEG": _jpeg_pieces,
    "WEBP": _webp_pieces,
    "GIF": _gif_pieces,
    "TIFF": _tiff_pieces,
    "AVIF": _box_pieces,
    "HEIF": _box_pieces,
}
JOIN: dict[str, Callable[[Pieces, bytes], bytes]] = {
    "PNG": _png_join,
    "JPEG": _jpeg_join,
    "WEBP": _webp_join,
    "GIF": _plain_join,
    "TIFF": _tiff_join,
    "AVIF": _box_join,
    "HEIF": _box_join,
}
