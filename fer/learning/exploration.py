"""What is in a data set: counts, sizes, brightness, copies, leaks between splits, votes."""

from __future__ import annotations

import hashlib
import io
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import imagehash
import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from fer.errors import PictureError
from fer.learning.datasets import READ_LIMITS, Dataset, Votes, centre_square
from fer.learning.layouts import Picture
from fer.vision.images import decode

Ints = npt.NDArray[np.int64]

#: Side of the pictures that mean faces and samples are made of, and of thumbnails, in pixels.
SIDE, THUMBNAIL = 64, 24

#: A picture whose brightness has a smaller standard deviation, of 255, shows next to nothing.
FLAT = 6.0


@dataclass(frozen=True)
class Nearness:
    """What counts as nearly the same.

    Attributes:
        bits: most of the 64 bits of two perceptual hashes that may differ.
        correlation: least correlation of two thumbnails: the hash alone takes faces that merely
            look the same way for copies.
    """

    bits: int = 6
    correlation: float = 0.95


@dataclass
class Seen:
    """Everything that one pass over the pictures found, a row for each readable picture.

    Attributes:
        pictures: in the order of all arrays.
        sizes: int (n, 2), width and height in pixels.
        modes, formats: of each file, as Pillow names them.
        byte_digests, pixel_digests: SHA-256 of the file and of its decoded pixels.
        hashes: bool (n, 64), perceptual.
        thumbnails: uint8 (n, THUMBNAIL, THUMBNAIL), grey.
        brightness, contrast: mean and standard deviation of the grey pixels, in 0…255.
        means: float (SIDE, SIDE) for each label.
        samples: some pictures (SIDE, SIDE, 3) of each label, with their rows.
        unreadable: (name, reason).
    """

    pictures: list[Picture] = field(default_factory=list)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    modes: list[str] = field(default_factory=list)
    formats: list[str] = field(default_factory=list)
    byte_digests: list[bytes] = field(default_factory=list)
    pixel_digests: list[bytes] = field(default_factory=list)
    hashes: list[npt.NDArray[np.bool_]] = field(default_factory=list)
    thumbnails: list[npt.NDArray[np.uint8]] = field(default_factory=list)
    brightness: list[float] = field(default_factory=list)
    contrast: list[float] = field(default_factory=list)
    means: dict[str, npt.NDArray[np.float64]] = field(default_factory=dict)
    samples: dict[str, list[npt.NDArray[np.uint8]]] = field(default_factory=dict)
    unreadable: list[tuple[str, str]] = field(default_factory=list)


def look(
    dataset: Dataset,
    progress: Callable[[int, int], None] = lambda done, total: None,
    samples: int = 8,
    seed: int = 0,
) -> Seen:
    """Read every picture of a data set once.

    Args:
        samples: pictures of each label to keep for a grid, drawn at random.
    """
    seen = Seen()
    rng = np.random.default_rng(seed)
    wanted: set[str] = set()
    for label in dataset.labels:
        names = [p.name for p in dataset.pictures if p.label == label]
        wanted.update(rng.permutation(names)[:samples].tolist())
    counts: Counter[str] = Counter()
    for done, (picture, data) in enumerate(dataset.read_all(dataset.pictures), start=1):
        progress(done, len(dataset))
        try:
            image = decode(data, READ_LIMITS)
            with Image.open(io.BytesIO(data)) as header:
                mode, kind = header.mode, header.format or ""
        except PictureError as error:
            seen.unreadable.append((picture.name, error.message))
            continue
        grey = Image.fromarray(image).convert("L")
        values = np.asarray(grey)
        square = centre_square(image, SIDE)
        seen.pictures.append(picture)
        seen.sizes.append((image.shape[1], image.shape[0]))
        seen.modes.append(mode)
        seen.formats.append(kind)
        seen.byte_digests.append(hashlib.sha256(data).digest())
        pixels = hashlib.sha256(str(image.shape).encode())
        pixels.update(image.tobytes())
        seen.pixel_digests.append(pixels.digest())
        seen.hashes.append(imagehash.phash(grey).hash.ravel())
        seen.thumbnails.append(
            np.asarray(grey.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX), np.uint8)
        )
        seen.brightness.append(float(values.mean()))
        seen.contrast.append(float(values.std()))
        mean = seen.means.setdefault(picture.label, np.zeros((SIDE, SIDE)))
        mean += square.astype(np.float64).mean(axis=2)
        counts[picture.label] += 1
        if picture.name in wanted:
            seen.samples.setdefault(picture.label, []).append(square)
    for label, total in seen.means.items():
        total /= counts[label]
    return seen


@dataclass(frozen=True)
class Copies:
    """Groups of pictures that are the same, or nearly.

    Attributes:
        groups: rows of each group, those across splits first, then the largest.
        across: how many of the first groups lie across splits.
        other_labels: how many groups hold different labels.
        leaks: for (earlier, later) splits, rows of the later one with a copy in the earlier.
    """

    groups: tuple[tuple[int, ...], ...]
    across: int
    other_labels: int
    leaks: dict[tuple[str, str], tuple[int, ...]]

    @property
    def pictures(self) -> int:
        """Pictures in all groups."""
        return sum(len(group) for group in self.groups)

    def as_dict(self, pictures: Sequence[Picture]) -> dict[str, Any]:
        """For JSON, pictures by name."""
        return {
            "groups": len(self.groups),
            "pictures": self.pictures,
            "groups_across_splits": self.across,
            "groups_with_different_labels": self.other_labels,
            "leaks": [
                {"from": earlier, "into": later, "pictures": len(rows)}
                for (earlier, later), rows in self.leaks.items()
            ],
            "names": [[pictures[row].name for row in group] for group in self.groups],
        }


def grouped(pictures: Sequence[Picture], groups: Sequence[Sequence[int]]) -> Copies:
    """Sum up groups of rows of `pictures`."""

    def splits(group: Sequence[int]) -> set[str]:
        return {pictures[row].split or "" for row in group}

    ordered = sorted((tuple(g) for g in groups), key=lambda g: (-len(splits(g)), -len(g), g))
    order = {"train": 0, "validation": 1, "test": 2, "": 3}
    leaks: dict[tuple[str, str], list[int]] = defaultdict(list)
    for group in ordered:
        present = sorted(splits(group), key=lambda name: order[name])
        for place, later in enumerate(present):
            for earlier in present[:place]:
                leaks[(earlier, later)] += [r for r in group if (pictures[r].split or "") == later]
    return Copies(
        groups=tuple(ordered),
        across=sum(len(splits(group)) > 1 for group in ordered),
        other_labels=sum(len({pictures[row].label for row in g}) > 1 for g in ordered),
        leaks={key: tuple(sorted(rows)) for key, rows in sorted(leaks.items())},
    )


def exact_copies(pictures: Sequence[Picture], digests: Sequence[bytes]) -> Copies:
    """Groups of pictures with the same digest."""
    by_digest: dict[bytes, list[int]] = defaultdict(list)
    for row, digest in enumerate(digests):
        by_digest[digest].append(row)
    return grouped(pictures, [rows for rows in by_digest.values() if len(rows) > 1])


def near_copies(seen: Seen, nearness: Nearness = Nearness()) -> Copies:
    """Groups of pictures that are nearly the same, but not in every pixel."""
    n = len(seen.pictures)
    if n < 2:
        return grouped(seen.pictures, [])
    signs = np.where(np.stack(seen.hashes), 1, -1).astype(np.float32)
    thumbs = np.stack(seen.thumbnails).reshape(n, -1).astype(np.float32)
    thumbs -= thumbs.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(thumbs, axis=1, keepdims=True)
    thumbs = np.divide(thumbs, norms, out=np.zeros_like(thumbs), where=norms > 0)
    numbers = {digest: number for number, digest in enumerate(dict.fromkeys(seen.pixel_digests))}
    identity = np.array([numbers[digest] for digest in seen.pixel_digests])
    left: list[Ints] = []
    right: list[Ints] = []
    block = 1024
    for start in range(0, n, block):
        # The product of two sign vectors counts the bits that agree less those that differ.
        alike = signs[start : start + block] @ signs[start:].T >= 64 - 2 * nearness.bits
        rows, columns = (places + start for places in np.nonzero(alike))
        ahead = (rows < columns) & (identity[rows] != identity[columns])
        rows, columns = rows[ahead], columns[ahead]
        correlation = np.einsum("ij,ij->i", thumbs[rows], thumbs[columns])
        near = correlation >= nearness.correlation
        left.append(rows[near])
        right.append(columns[near])
    a, b = np.concatenate(left), np.concatenate(right)
    graph = coo_array((np.ones(len(a), bool), (a, b)), shape=(n, n))
    _, component = connected_components(graph, directed=False)
    members: dict[int, list[int]] = defaultdict(list)
    for row in np.unique(np.concatenate([a, b])).tolist():
        members[int(component[row])].append(row)
    return grouped(seen.pictures, list(members.values()))


@dataclass(frozen=True)
class Disagreement:
    """Labels against votes.

    Attributes:
        counted: pictures of each label that have a most-voted one among the labels.
        agree: those of them whose label is most voted.
        instead: what was voted instead, by label.
        names: pictures that disagree.
    """

    counted: dict[str, int]
    agree: dict[str, int]
    instead: dict[str, Counter[str]]
    names: tuple[str, ...]


def disagreement(dataset: Dataset, pictures: Sequence[Picture], votes: Votes) -> Disagreement:
    """Compare each picture's label with what its annotators voted."""
    accepted = votes.accepted([p.name for p in pictures], dataset.labels)
    counted: Counter[str] = Counter()
    agree: Counter[str] = Counter()
    instead: dict[str, Counter[str]] = {label: Counter() for label in dataset.labels}
    names = []
    for picture, row in zip(pictures, accepted, strict=True):
        if not row.any():
            continue
        counted[picture.label] += 1
        if row[dataset.labels.index(picture.label)]:
            agree[picture.label] += 1
        else:
            names.append(picture.name)
            instead[picture.label].update(dataset.labels[int(i)] for i in np.flatnonzero(row))
    return Disagreement(dict(counted), dict(agree), instead, tuple(names))


@dataclass(frozen=True)
class Exploration:
    """A data set, looked at.

    Attributes:
        counts: pictures that can be read, by label and split (None: no split).
        same_bytes, same_pixels: exact copies by file and by decoded pixels.
        near: near duplicates by `nearness`.
        votes: None without votes.
    """

    dataset: Dataset
    seen: Seen
    counts: dict[str, dict[str | None, int]]
    same_bytes: Copies
    same_pixels: Copies
    near: Copies
    nearness: Nearness
    votes: Disagreement | None

    def flat(self) -> list[str]:
        """Names of pictures that are nearly of one tone."""
        pairs = zip(self.seen.pictures, self.seen.contrast, strict=True)
        return [picture.name for picture, contrast in pairs if contrast < FLAT]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        seen, labels = self.seen, self.dataset.labels
        brightness = {}
        for label in labels:
            rows = [i for i, p in enumerate(seen.pictures) if p.label == label]
            values = np.array([seen.brightness[i] for i in rows])
            spread = float(values.std()) if rows else 0.0
            brightness[label] = {"mean": float(values.mean()) if rows else 0.0, "std": spread}
        sizes = Counter(f"{width}x{height}" for width, height in seen.sizes)
        votes = None
        if self.votes is not None:
            votes = {
                "counted": self.votes.counted,
                "agree": self.votes.agree,
                "instead": {label: dict(c) for label, c in self.votes.instead.items()},
                "names": list(self.votes.names),
            }
        return {
            "data": self.dataset.path.name,
            "n": len(seen.pictures),
            "labels": list(labels),
            "counts": {
                label: {split or "": n for split, n in row.items()}
                for label, row in self.counts.items()
            },
            "sizes": dict(sizes.most_common()),
            "modes": dict(Counter(seen.modes)),
            "formats": dict(Counter(seen.formats)),
            "brightness": brightness,
            "flat": self.flat(),
            "same_bytes": self.same_bytes.as_dict(seen.pictures),
            "same_pixels": self.same_pixels.as_dict(seen.pictures),
            "near": {"bits": self.nearness.bits, "correlation": self.nearness.correlation}
            | self.near.as_dict(seen.pictures),
            "unreadable": [{"name": name, "reason": why} for name, why in seen.unreadable],
            "skipped": [{"name": name, "reason": why} for name, why in self.dataset.skipped],
            "votes": votes,
        }


def explore(
    dataset: Dataset,
    votes: Votes | None = None,
    nearness: Nearness = Nearness(),
    progress: Callable[[int, int], None] = lambda done, total: None,
    seed: int = 0,
) -> Exploration:
    """Look at every picture of a data set, in the splits that it came with."""
    seen = look(dataset, progress, seed=seed)
    counts: dict[str, dict[str | None, int]] = {label: {} for label in dataset.labels}
    for picture in seen.pictures:
        row = counts[picture.label]
        row[picture.split] = row.get(picture.split, 0) + 1
    return Exploration(
        dataset=dataset,
        seen=seen,
        counts=counts,
        same_bytes=exact_copies(seen.pictures, seen.byte_digests),
        same_pixels=exact_copies(seen.pictures, seen.pixel_digests),
        near=near_copies(seen, nearness),
        nearness=nearness,
        votes=None if votes is None else disagreement(dataset, seen.pictures, votes),
    )
