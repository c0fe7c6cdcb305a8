"""Drift: whether what visitors send, or how sure the model is of it, changed in the last week.

The last 7 days are compared with the 28 before. A shift of the label shares is measured by the
population stability index (Lewis 1994; Siddiqi, Credit Risk Scorecards, 2006), Σ (a - b) ln(a / b)
over the labels, a shift of the confidence by Cohen's d. Both tell how large a difference is and
not whether chance made it: on few samples chance alone exceeds the usual bounds (Yurdakul and
Naranjo 2020). So each has a permutation test beside it. Whole sessions are exchanged in that test,
for the faces of one visitor are alike; its p-value counts the observed order as one of the
permutations (Phipson and Smyth 2010), so that it is never too small.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from fer.collection.database import Database
from fer.collection.identifiers import id_floor
from fer.collection.tables import Sample

RECENT_DAYS = 7
BEFORE_DAYS = 28

#: Index from which the label shares count as shifted; 0.1 to 0.25 is called a moderate change.
PSI_ALARM = 0.25

#: Cohen's d from which the confidence counts as changed: a medium effect in Cohen's words.
EFFECT_ALARM = 0.5

#: Sessions that each window needs before anything is said at all.
FEWEST_SESSIONS = 20

#: Largest p-value of an alarm. There are two tests, so this is 0.01 shared between them.
P_ALARM = 0.005

_PERMUTATIONS = 1999
_AT_ONCE = 100

#: Seconds for which `DriftWatch` gives the same answer.
_HOLDS = 600.0


@dataclass(frozen=True)
class Window:
    """One of the two periods.

    Attributes:
        faces: how many were kept and not deleted since; imported pictures do not count.
        sessions: visitors' sessions that they came from.
        shares: share of each predicted label, summing to 1; empty without a face.
        confidence: mean of the winning probability, or None without a face.
    """

    faces: int
    sessions: int
    shares: Mapping[str, float]
    confidence: float | None


@dataclass(frozen=True)
class Drift:
    """The last 7 days beside the 28 before.

    Attributes:
        recent, before: the two windows; `shares` of both have the same labels.
        psi: population stability index of the label shares, or None without faces in both.
        effect: Cohen's d of the confidence, negative where the model became less sure.
        enough: whether both windows have enough sessions to say anything.
        labels_shifted, confidence_shifted: large, and not by chance.
        new_models: versions that read faces in the last 7 days and none before: a shift may be
            theirs rather than the visitors'.
    """

    recent: Window
    before: Window
    psi: float | None
    effect: float | None
    enough: bool
    labels_shifted: bool
    confidence_shifted: bool
    new_models: tuple[str, ...]

    @property
    def alarm(self) -> bool:
        """Whether somebody should look."""
        return self.labels_shifted or self.confidence_shifted

    @property
    def sentence(self) -> str:
        """The result in English words."""
        if not self.enough:
            return (
                f"Too few visits to tell: {self.recent.sessions} in the last {RECENT_DAYS} days, "
                f"{self.before.sessions} before; {FEWEST_SESSIONS} are needed in each."
            )
        parts = []
        if self.labels_shifted:
            parts.append(f"The expressions that are read have shifted (PSI {self.psi or 0:.2f}).")
        if self.confidence_shifted:
            parts.append(
                f"The mean confidence went from {self.before.confidence or 0:.0%} "
                f"to {self.recent.confidence or 0:.0%}."
            )
        if not parts:
            return f"Steady: the last {RECENT_DAYS} days are like the {BEFORE_DAYS} before."
        if self.new_models:
            parts.append(f"New since then: model {', '.join(self.new_models)}.")
        return " ".join(parts)

    def to_json(self) -> dict[str, Any]:
        """Plain values for `json.dumps`."""
        return {
            "recent": vars(self.recent) | {"shares": dict(self.recent.shares)},
            "before": vars(self.before) | {"shares": dict(self.before.shares)},
            "psi": self.psi,
            "effect": self.effect,
            "enough": self.enough,
            "labels_shifted": self.labels_shifted,
            "confidence_shifted": self.confidence_shifted,
            "new_models": list(self.new_models),
            "alarm": self.alarm,
            "sentence": self.sentence,
        }


def drift(database: Database, now: datetime, *, retention_days: int | None = None) -> Drift:
    """Compare the last 7 days with the 28 before.

    Args:
        now: end of the last 7 days.
        retention_days: days after which undecided samples are deleted. What is older is left
            out: only decided samples remain of it, and operators choose the difficult ones.

    Raises:
        StorageError: the database refused.
    """
    middle = now - timedelta(days=RECENT_DAYS)
    begin = middle - timedelta(days=BEFORE_DAYS)
    if retention_days is not None:
        begin = max(begin, now - timedelta(days=retention_days))
    cells = [_cells(database, middle, now), _cells(database, begin, middle)]
    labels = sorted({label for window in cells for _, label, _ in window})
    tables = [_table(window, labels) for window in cells]
    recent, before = (_window(table, labels) for table in tables)
    models = [{model for _, _, model in window} for window in cells]
    new_models = tuple(sorted(models[0] - models[1])) if models[1] else ()
    if not (recent.faces and before.faces):
        return Drift(recent, before, None, None, False, False, False, new_models)
    rows = np.concatenate(tables)
    first = np.zeros(len(rows))
    first[: len(tables[0])] = 1
    psi, effect = (float(value[0]) for value in _statistics(rows, first[None, :]))
    enough = min(recent.sessions, before.sessions) >= FEWEST_SESSIONS
    large = (enough and psi >= PSI_ALARM, enough and abs(effect) >= EFFECT_ALARM)
    likely = _p_values(rows, first, (psi, effect)) if any(large) else (1.0, 1.0)
    shifted = [size and p <= P_ALARM for size, p in zip(large, likely, strict=True)]
    return Drift(recent, before, psi, effect, enough, shifted[0], shifted[1], new_models)


class DriftWatch:
    """`drift`, worked out at most every ten minutes; safe from several threads.

    Args:
        database: migrated already.
        retention_days: as for `drift`.
        clock: the time now, in UTC.
    """

    def __init__(
        self,
        database: Database,
        retention_days: int | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._database = database
        self._retention_days = retention_days
        self._clock = clock
        self._lock = threading.Lock()
        self._until = 0.0
        self._found: Drift | None = None

    def __call__(self) -> Drift:
        """The drift, as it was at most ten minutes ago.

        Raises:
            StorageError: the database refused.
        """
        with self._lock:
            if self._found is None or time.monotonic() >= self._until:
                self._found = drift(
                    self._database, self._clock(), retention_days=self._retention_days
                )
                self._until = time.monotonic() + _HOLDS
            return self._found


#: By session, label and model version: faces, sum of confidences, sum of their squares.
_Cells = dict[tuple[str, str, str], tuple[float, float, float]]


def _cells(database: Database, begin: datetime, end: datetime) -> _Cells:
    keys = (Sample.group_id, Sample.predicted_label, Sample.model_version)
    query = (
        sa.select(
            *keys,
            sa.func.count(),
            sa.func.sum(Sample.confidence),
            sa.func.sum(Sample.confidence * Sample.confidence),
        )
        # By id, which sorts by time and is indexed.
        .where(Sample.id >= id_floor(begin), Sample.id < id_floor(end))
        .where(Sample.deleted_at.is_(None), Sample.source != "import")
        .where(Sample.predicted_label.is_not(None), Sample.confidence.is_not(None))
        .group_by(*keys)
    )
    with database.session() as session:
        return {
            (group or "", label or "", model): (count, total or 0.0, squares or 0.0)
            for group, label, model, count, total, squares in session.execute(query)
        }


def _table(cells: _Cells, labels: list[str]) -> NDArray[np.float64]:
    """A row for each session: faces by label, then the sums of confidence and of its squares."""
    groups = {group: n for n, group in enumerate(dict.fromkeys(key[0] for key in cells))}
    place = {label: n for n, label in enumerate(labels)}
    table = np.zeros((len(groups), len(labels) + 2))
    for (group, label, _), (count, total, squares) in cells.items():
        row = table[groups[group]]
        row[place[label]] += count
        row[-2] += total
        row[-1] += squares
    return table


def _window(table: NDArray[np.float64], labels: list[str]) -> Window:
    total = table.sum(axis=0)
    faces = float(total[:-2].sum())
    if not faces:
        return Window(0, 0, {}, None)
    shares = {label: float(n) / faces for label, n in zip(labels, total, strict=False)}
    return Window(int(faces), len(table), shares, float(total[-2]) / faces)


def _statistics(
    rows: NDArray[np.float64], first: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Index and effect for each line of `first`, (n, sessions), 1 where a session is recent."""
    recent = first @ rows
    before = rows.sum(axis=0) - recent
    counts = [side[:, :-2] for side in (recent, before)]
    # Half a face more everywhere: a label that nobody showed has no logarithm otherwise.
    a, b = ((n + 0.5) / (n + 0.5).sum(axis=1, keepdims=True) for n in counts)
    psi = ((a - b) * np.log(a / b)).sum(axis=1)
    faces = [np.maximum(n.sum(axis=1), 1) for n in counts]
    means = [side[:, -2] / n for side, n in zip((recent, before), faces, strict=True)]
    spread = sum(
        side[:, -1] - n * mean**2
        for side, n, mean in zip((recent, before), faces, means, strict=True)
    ) / np.maximum(faces[0] + faces[1] - 2, 1)
    effect = (means[0] - means[1]) / np.sqrt(np.maximum(spread, 1e-6))
    return psi, effect


def _p_values(
    rows: NDArray[np.float64], first: NDArray[np.float64], seen: tuple[float, float]
) -> tuple[float, float]:
    """How often chance makes as large an index, and as large an effect."""
    # Always the same permutations, so that the same faces always give the same answer.
    random = np.random.default_rng(20240)
    hits = np.ones(2)
    done = 0
    while done < _PERMUTATIONS:
        size = min(_AT_ONCE, _PERMUTATIONS - done)
        orders = random.permuted(np.repeat(first[None, :], size, axis=0), axis=1)
        psi, effect = _statistics(rows, orders)
        hits[0] += np.count_nonzero(psi >= seen[0] - 1e-12)
        hits[1] += np.count_nonzero(np.abs(effect) >= abs(seen[1]) - 1e-12)
        done += size
    return float(hits[0] / (done + 1)), float(hits[1] / (done + 1))
