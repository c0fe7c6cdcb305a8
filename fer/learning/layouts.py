"""Where labels and splits stand in a data set: folders, in the layouts that people have.

Understood at any depth and in any case of letters::

    DATA/train/<label>/*.jpg   DATA/valid/<label>/*.jpg   DATA/test/<label>/*.jpg
    DATA/<label>/*.jpg                                     (split later, by label)
    DATA/<label>/train/*.jpg
"""

from __future__ import annotations

import zipfile
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from fer.errors import DataError, LabelError
from fer.labels import LabelSet

TRAIN, VALIDATION, TEST = "train", "validation", "test"

#: What people call the splits, without case.
SPLITS = {
    "train": TRAIN,
    "training": TRAIN,
    "val": VALIDATION,
    "valid": VALIDATION,
    "validation": VALIDATION,
    "dev": VALIDATION,
    "publictest": VALIDATION,
    "test": TEST,
    "testing": TEST,
    "privatetest": TEST,
}

_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif"}
    | {".heic", ".heif", ".pgm", ".ppm"}
)


@dataclass(frozen=True)
class Picture:
    """One labelled picture of a data set; `name` is its path inside it, with `/`."""

    name: str
    label: str
    split: str | None


def list_files(path: Path) -> tuple[list[str], list[tuple[str, str]]]:
    """Names of the pictures in a folder or zip, and (name, reason) of what is passed over.

    Raises:
        DataError: it does not exist, or is neither a folder nor a zip.
    """
    skipped: list[tuple[str, str]] = []
    if path.is_dir():
        names = [p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file()]
    elif path.is_file():
        try:
            with zipfile.ZipFile(path) as archive:
                names = [info.filename for info in archive.infolist() if not info.is_dir()]
        except (zipfile.BadZipFile, OSError) as error:
            raise DataError(f"{path} is neither a folder nor a zip that can be read.") from error
    else:
        raise DataError(f"{path} does not exist.")
    kept = []
    for name in names:
        parts = PurePosixPath(name).parts
        if any(part.startswith(".") or part == "__MACOSX" for part in parts):
            continue
        if PurePosixPath(name).suffix.lower() in _SUFFIXES:
            kept.append(name)
        else:
            skipped.append((name, "not a picture's file name"))
    return kept, skipped


def label_files(names: list[str], skipped: list[tuple[str, str]]) -> list[Picture]:
    """Each file with the label and split of its folders; one without a label joins `skipped`."""
    folders = [PurePosixPath(name).parts[:-1] for name in names]
    prefix = _common_prefix(folders)
    pictures = []
    for name, parts in zip(names, folders, strict=True):
        split, label = _split_and_label(parts, prefix)
        if label is None:
            skipped.append((name, "not inside a label's folder"))
            continue
        pictures.append(Picture(name, label, split))
    return pictures


def _common_prefix(folders: list[tuple[str, ...]]) -> int:
    """How many leading folders all files share; a data set of one label keeps that label."""
    if not folders:
        return 0
    shortest = min(len(parts) for parts in folders)
    shared = 0
    while shared < shortest and len({parts[shared] for parts in folders}) == 1:
        shared += 1
    return min(shared, max(shortest - 1, 0))


def _split_and_label(parts: tuple[str, ...], prefix: int) -> tuple[str | None, str | None]:
    at = next((i for i in reversed(range(len(parts))) if parts[i].casefold() in SPLITS), None)
    if at is None:
        rest = parts[prefix:]
        return None, rest[0] if rest else None
    after, before = parts[at + 1 :], parts[prefix:at]
    label = after[0] if after else (before[-1] if before else None)
    return SPLITS[parts[at].casefold()], label


def choose_classes(
    path: Path, pictures: list[Picture], classes: str | None
) -> tuple[list[Picture], LabelSet]:
    """The pictures of the labels asked for, and these in the order of a model's outputs.

    Raises:
        DataError: there is no picture of a label, or the labels make no label set.
    """
    spellings: dict[str, Counter[str]] = defaultdict(Counter)
    for picture in pictures:
        spellings[picture.label.casefold()][picture.label] += 1
    spelling = {folded: counts.most_common(1)[0][0] for folded, counts in spellings.items()}
    wanted: dict[str, str] = {}
    try:
        if classes is None:
            labels = LabelSet(sorted(spelling.values(), key=str.casefold))
            wanted = {folded: spelled for folded, spelled in spelling.items()}
        else:
            ordered = []
            for item in classes.split(","):
                target, _, sources = item.strip().partition("=")
                target = target.strip()
                ordered.append(target if sources else spelling.get(target.casefold(), target))
                for source in sources.split("+") if sources else [target]:
                    folded = source.strip().casefold()
                    if folded not in spelling:
                        have = ", ".join(sorted(spelling.values()))
                        raise DataError(
                            f"{path} has no pictures of {source.strip()!r}; it has: {have}."
                        )
                    wanted[folded] = ordered[-1]
            labels = LabelSet(ordered)
    except LabelError as error:
        raise DataError(f"{path}: {error.message}") from error
    chosen = [
        replace(picture, label=wanted[picture.label.casefold()])
        for picture in pictures
        if picture.label.casefold() in wanted
    ]
    return chosen, labels
