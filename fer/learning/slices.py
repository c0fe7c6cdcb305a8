"""Figures of parts of a data set: by how a face looks, and by groups that a file names.

A figure without its interval says nothing about a small part, so each comes with one and with the
number of faces that it was measured on.
"""

from __future__ import annotations

import csv
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from fer.errors import DataError
from fer.learning.datasets import Crops
from fer.learning.evaluation import Bools, Ints, bootstrap_figures, wilson_interval

Floats = npt.NDArray[np.float64]

#: Degrees by which a head leans, either way, up to which it counts as upright, and so on.
ROLL_EDGES = (5.0, 15.0, 30.0)

#: Values that a column of groups may have; one with more holds numbers, or names of pictures.
MOST_GROUPS = 40

#: Values of a column of numbers above which it is cut into quarters.
MOST_NUMBERS = 12


@dataclass(frozen=True)
class Facts:
    """How each face looks; NaN where that is not known.

    Attributes:
        brightness: mean of the grey crop, 0…255.
        sharpness: variance of the Laplacian of the grey crop; a blurred face has a low one.
        size: longer side of the face's box in the picture, in pixels.
        roll: how far the head leans, in degrees, clockwise positive.
    """

    brightness: Floats
    sharpness: Floats
    size: Floats
    roll: Floats


def facts_of(
    crops: Crops, sizes: Sequence[float] | None = None, rolls: Sequence[float] | None = None
) -> Facts:
    """The facts of crops, uint8 (n, side, side, 3).

    Args:
        sizes, rolls: from the detector, (n,); not known without one.
    """
    brightness, sharpness = [], []
    for crop in crops:
        grey = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)
        brightness.append(float(grey.mean()))
        sharpness.append(float(cv2.Laplacian(grey, cv2.CV_64F).var()))
    unknown = np.full(len(crops), np.nan)
    return Facts(
        np.array(brightness),
        np.array(sharpness),
        unknown if sizes is None else np.array(sizes, float),
        unknown if rolls is None else np.array(rolls, float),
    )


@dataclass(frozen=True)
class Answers:
    """What is needed to measure any part of a data set.

    Attributes:
        truth: positions in the label set, (n,).
        answers: likewise; `k` stands for a missed face.
        k: number of labels.
        accepted: labels that the votes count as right, (n, k), or None.
    """

    truth: Ints
    answers: Ints
    k: int
    accepted: Bools | None = None

    def part(self, rows: Bools | Ints) -> dict[str, Any]:
        """`n`, accuracy, balanced accuracy and, with votes, `ferplus_accuracy`, with intervals."""
        truth, answers = self.truth[rows], self.answers[rows]
        right = int((truth == answers).sum())
        n = len(truth)
        figures: dict[str, Any] = {"n": n, "accuracy": right / n if n else 0.0}
        figures["accuracy_interval"] = wilson_interval(right, n)
        if n:
            balanced = bootstrap_figures(truth, answers, self.k)["balanced_accuracy"]
            figures["balanced_accuracy"] = balanced.value
            figures["balanced_accuracy_interval"] = balanced.interval
        if self.accepted is not None:
            accepted = self.accepted[rows]
            counted = accepted.any(axis=1)
            # A missed face has no column and so is never right.
            padded = np.pad(accepted, ((0, 0), (0, 1)))
            hits = int(padded[np.arange(n), answers][counted].sum())
            figures["ferplus_n"] = int(counted.sum())
            figures["ferplus_accuracy"] = hits / max(1, figures["ferplus_n"])
            figures["ferplus_accuracy_interval"] = wilson_interval(hits, figures["ferplus_n"])
        return figures


def slices(answers: Answers, facts: Facts) -> dict[str, list[dict[str, Any]]]:
    """Figures by brightness, sharpness and size, in quarters, and by roll.

    Args:
        answers: of the faces that `facts` are about, in the same order.

    Returns:
        For each property that is known a list of `{"slice": …, "from": …, "to": …, "n": …,
        figures}`; each face is in one slice of a property, `from` included, `to` left out.
    """
    found = {}
    for name in ("brightness", "sharpness", "size"):
        values = getattr(facts, name)
        if len(values) and np.isfinite(values).all():
            inner = np.unique(np.quantile(values, [0.25, 0.5, 0.75]))
            found[name] = _cut(answers, values, [float(edge) for edge in inner])
    if len(facts.roll) and np.isfinite(facts.roll).all():
        found["roll"] = _cut(answers, np.abs(facts.roll), list(ROLL_EDGES))
    return {name: rows for name, rows in found.items() if rows}


def _cut(answers: Answers, values: Floats, inner: list[float]) -> list[dict[str, Any]]:
    edges = [-np.inf, *(edge for edge in inner if edge > values.min()), np.inf]
    if len(edges) == 2 and values.min() == values.max():
        return []  # all alike: nothing to set side by side
    rows = []
    for low, high in itertools.pairwise(edges):
        inside = (values >= low) & (values < high)
        if not inside.any():
            continue
        start = float(values.min()) if np.isinf(low) else low
        end = float(values.max()) if np.isinf(high) else high
        name = f"{_short(start)} to {_short(end)}"
        rows.append({"slice": name, "from": start, "to": end} | answers.part(inside))
    return rows


def _short(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 10 else f"{value:.1f}"


@dataclass(frozen=True)
class Groups:
    """Groups that pictures belong to.

    Attributes:
        columns: what the groups are about, such as `age band`.
        values: a value for each column, by the picture's path inside its data set, or by its
            name without folders.
    """

    columns: tuple[str, ...]
    values: dict[str, tuple[str, ...]]

    def of(self, name: str) -> tuple[str, ...] | None:
        """The values of a picture; None where the file does not name it."""
        return self.values.get(name) or self.values.get(PurePosixPath(name).name)


def read_groups(path: Path) -> Groups:
    """Read groups: a CSV with a column `file` and any others.

    Raises:
        DataError: it cannot be read, names a file twice, or has no column but `file`.
    """
    values: dict[str, tuple[str, ...]] = {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            names = list(reader.fieldnames or ())
            columns = tuple(name for name in names if name and name != "file")
            if "file" not in names or not columns:
                raise DataError(f"{path} has no column `file`, or none beside it.")
            for row in reader:
                file = (row["file"] or "").strip()
                if file in values:
                    raise DataError(f"{path} names {file} twice.")
                values[file] = tuple((row[name] or "").strip() for name in columns)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as groups: {error}.") from error
    return Groups(columns, values)


def by_groups(answers: Answers, names: Sequence[str], groups: Groups) -> dict[str, Any]:
    """Figures of each group of each column.

    Args:
        names: paths of the pictures inside their data set, in the order of `answers`.

    Returns:
        `columns`: for each column a list of `{"group": …, "n": …, figures}`; `unnamed`: how many
        pictures the file says nothing about.

    Raises:
        DataError: none of the pictures is named, or a column has a value for each picture.
    """
    known = [groups.of(name) for name in names]
    if not any(known):
        raise DataError(
            "The file of groups names none of the pictures: its column `file` holds their paths "
            "inside the data, or their names."
        )
    found: dict[str, Any] = {}
    for position, column in enumerate(groups.columns):
        cells = ["" if row is None else row[position] for row in known]
        found[column] = [
            {"group": value} | answers.part(np.flatnonzero([cell == value for cell in cut]))
            for cut, values in [_grouped(column, cells)]
            for value in values
        ]
    return {"columns": found, "unnamed": sum(row is None for row in known)}


def _grouped(column: str, cells: list[str]) -> tuple[list[str], list[str]]:
    """The group of each picture, "" for none, and the groups in order."""
    present = sorted({cell for cell in cells if cell})
    if len(present) <= MOST_NUMBERS:
        return cells, present
    try:
        numbers = np.array([float(cell) if cell else np.nan for cell in cells])
    except ValueError:
        if len(present) > MOST_GROUPS:
            raise DataError(
                f"The column {column} has {len(present)} different values; groups are "
                f"{MOST_GROUPS} at most."
            ) from None
        return cells, present
    edges = np.unique(np.nanquantile(numbers, [0, 0.25, 0.5, 0.75, 1]))
    names = [f"{a:g} to {b:g}" for a, b in itertools.pairwise(edges)]
    inner = np.searchsorted(edges[1:-1], numbers, side="right")
    named = [names[i] if np.isfinite(x) else "" for i, x in zip(inner, numbers, strict=True)]
    return named, [name for name in names if name in named]
