"""What the board shows: counts by day, accuracy in service, confusion, agreement, pace."""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from fer.collection.database import Database
from fer.collection.runs import new_decisions
from fer.collection.tables import (
    DECISIONS,
    LABELLED,
    ActorKind,
    Kind,
    LabelEvent,
    Sample,
    Status,
)

#: 97.5 % quantile of the normal distribution: two-sided 95 % intervals.
_Z = 1.959963984540054

#: Longest pause between two decisions that still counts as work, in seconds.
_PAUSE = 60


@dataclass(frozen=True)
class Proportion:
    """A share with its 95 % Wilson interval; `value`, `low` and `high` are None without any n."""

    hits: int
    n: int
    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Confusion:
    """What one model said against what operators said.

    Attributes:
        labels: the model's and, after them, any others that operators gave.
        counts: `counts[i][j]` samples predicted `labels[i]` with final label `labels[j]`.
        precision, recall: by label, None where nothing was predicted, or decided, so.
    """

    model: str
    labels: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    precision: Mapping[str, float | None]
    recall: Mapping[str, float | None]


@dataclass(frozen=True)
class Board:
    """Everything on the board.

    Attributes:
        by_day: for each UTC day with anything, counts of `collected` and of decisions by the
            state that they led to; events as they happened, whatever became of the sample.
        status: number of samples in each state now.
        accuracy: in service, by model version and under "" for all: audit slice only.
        kappa: Cohen's κ between first and second opinions; None below two pairs.
        pairs: how many pairs of opinions there are.
        pace: labels a minute by operator, pauses over a minute left out.
        new_decisions: what the next retraining has to go on.
    """

    by_day: Mapping[date, Mapping[str, int]]
    status: Mapping[str, int]
    accuracy: Mapping[str, Proportion]
    confusion: Mapping[str, Confusion]
    kappa: float | None
    pairs: int
    differences: int
    pace: Mapping[str, float]
    decisions: Mapping[str, int]
    new_decisions: int

    def to_json(self) -> dict[str, Any]:
        """Plain values for `json.dumps`."""
        value = {
            name: getattr(self, name) for name in ("kappa", "pairs", "differences", "new_decisions")
        }
        value["by_day"] = {day.isoformat(): dict(n) for day, n in self.by_day.items()}
        for name in ("status", "pace", "decisions"):
            value[name] = dict(getattr(self, name))
        value["accuracy"] = {key: vars(entry) for key, entry in self.accuracy.items()}
        value["confusion"] = {
            key: {**vars(entry), "labels": list(entry.labels), "counts": list(entry.counts)}
            for key, entry in self.confusion.items()
        }
        return value


def wilson(hits: int, n: int) -> Proportion:
    """A proportion with its 95 % Wilson score interval."""
    if n == 0:
        return Proportion(hits, n, None, None, None)
    share = hits / n
    centre = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2)) / (1 + _Z**2 / n)
    return Proportion(hits, n, share, max(0.0, centre - half), min(1.0, centre + half))


def cohens_kappa(pairs: Sequence[tuple[str, str]]) -> float | None:
    """Agreement of two raters beyond chance, -1…1; None for fewer than two pairs.

    Where both only ever gave one and the same answer, chance explains all of it and κ has no
    value: 1.0 is returned, for they agreed.
    """
    n = len(pairs)
    if n < 2:
        return None
    observed = sum(first == second for first, second in pairs) / n
    firsts = Counter(first for first, _ in pairs)
    seconds = Counter(second for _, second in pairs)
    chance = sum(firsts[label] * seconds[label] for label in firsts) / n**2
    return 1.0 if chance == 1 else (observed - chance) / (1 - chance)


def confusion_of(model: str, cells: Mapping[tuple[str, str], int]) -> Confusion:
    """The confusion of one model from counts by (predicted, final) label."""
    labels = tuple(dict.fromkeys([*sorted({p for p, _ in cells}), *sorted({f for _, f in cells})]))
    counts = tuple(tuple(cells.get((p, f), 0) for f in labels) for p in labels)
    precision: dict[str, float | None] = {}
    recall: dict[str, float | None] = {}
    for i, label in enumerate(labels):
        said = sum(counts[i])
        was = sum(row[i] for row in counts)
        precision[label] = counts[i][i] / said if said else None
        recall[label] = counts[i][i] / was if was else None
    return Confusion(model, labels, counts, precision, recall)


def labels_a_minute(times: Iterable[datetime]) -> float | None:
    """Decisions a minute of work, from their sorted times; None for fewer than two.

    A pause of over a minute is no work; the decision after it begins a new stretch.
    """
    ordered = list(times)
    gaps = [(b - a).total_seconds() for a, b in itertools.pairwise(ordered)]
    worked = [gap for gap in gaps if gap <= _PAUSE]
    seconds = sum(worked)
    return 60 * len(worked) / seconds if seconds > 0 else None


def board(database: Database, now: datetime, days: int = 30) -> Board:
    """Everything on the board, over the last `days` days where it goes by day."""
    since = now - timedelta(days=days)
    with database.session() as session:
        statuses = session.execute(sa.select(Sample.status, sa.func.count()).group_by("status"))
        status = {str(Status(name)): count for name, count in statuses}
        cells = _label_cells(session)
        pairs = _opinion_pairs(session)
        decisions, pace = _by_operator(session, since)
        return Board(
            by_day=_by_day(session, since),
            status=status,
            accuracy=_accuracy(cells),
            confusion=_confusion(cells),
            kappa=cohens_kappa(pairs),
            pairs=len(pairs),
            differences=sum(first != second for first, second in pairs),
            pace=pace,
            decisions=decisions,
            new_decisions=new_decisions(session),
        )


def _by_day(session: Session, since: datetime) -> dict[date, dict[str, int]]:
    days: dict[date, Counter[str]] = defaultdict(Counter)
    kept = session.scalars(sa.select(Sample.created_at).where(Sample.created_at >= since))
    for moment in kept.yield_per(5000):
        days[moment.astimezone(UTC).date()]["collected"] += 1
    events = session.execute(
        sa.select(LabelEvent.at, LabelEvent.kind).where(
            LabelEvent.at >= since,
            LabelEvent.kind.in_(list(DECISIONS)),
            LabelEvent.second.is_(False),
        )
    )
    for moment, kind in events.yield_per(5000):
        days[moment.astimezone(UTC).date()][str(DECISIONS[Kind(kind)])] += 1
    return {day: dict(days[day]) for day in sorted(days)}


_Cells = dict[tuple[str, bool, str, str], int]


def _label_cells(session: Session) -> _Cells:
    """Counts by (model, audit, predicted, final) of samples that carry a label."""
    keys = (Sample.model_version, Sample.audit, Sample.predicted_label, Sample.final_label)
    rows = session.execute(
        sa.select(*keys, sa.func.count())
        .where(
            Sample.status.in_([*LABELLED, Status.OTHER]),
            Sample.predicted_label.is_not(None),
            Sample.final_label.is_not(None),
            Sample.source != "import",
        )
        .group_by(*keys)
    )
    return {
        (model, audit, str(predicted), str(final)): n for model, audit, predicted, final, n in rows
    }


def _accuracy(cells: _Cells) -> dict[str, Proportion]:
    hits: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for (model, audit, predicted, final), n in cells.items():
        if not audit:
            continue
        for key in ("", model):
            total[key] += n
            hits[key] += n if predicted == final else 0
    return {key: wilson(hits[key], total[key]) for key in sorted({"", *total})}


def _confusion(cells: _Cells) -> dict[str, Confusion]:
    by_model: dict[str, Counter[tuple[str, str]]] = defaultdict(Counter)
    for (model, _, predicted, final), n in cells.items():
        by_model[model][predicted, final] += n
    return {model: confusion_of(model, by_model[model]) for model in sorted(by_model)}


def _opinion_pairs(session: Session) -> list[tuple[str, str]]:
    """First and second opinion of each sample that has both: a label, or what was said instead."""
    latest = (
        sa.select(sa.func.max(LabelEvent.id))
        .where(LabelEvent.second.is_(True))
        .group_by(LabelEvent.sample_id)
    )
    undone = sa.orm.aliased(LabelEvent)
    states = session.scalars(
        sa.select(LabelEvent.state).where(
            LabelEvent.id.in_(latest),
            ~sa.exists().where(undone.undoes == LabelEvent.id, undone.kind == Kind.UNDO),
        )
    )
    return [
        (
            state["final_label"] or state["status"],
            state["second_label"] or str(DECISIONS[Kind(state["second_kind"])]),
        )
        for state in states
    ]


def _by_operator(session: Session, since: datetime) -> tuple[dict[str, int], dict[str, float]]:
    times: dict[str, list[datetime]] = defaultdict(list)
    rows = session.execute(
        sa.select(LabelEvent.actor, LabelEvent.at)
        .where(
            LabelEvent.at >= since,
            LabelEvent.actor_kind == ActorKind.OPERATOR,
            LabelEvent.kind.in_(list(DECISIONS)),
            LabelEvent.batch.is_(None),
        )
        .order_by(LabelEvent.id)
    )
    for actor, at in rows.yield_per(5000):
        times[actor].append(at)
    pace = {actor: labels_a_minute(sorted(at)) for actor, at in sorted(times.items())}
    return (
        {actor: len(at) for actor, at in sorted(times.items())},
        {actor: value for actor, value in pace.items() if value is not None},
    )
