"""Many samples at a glance: filters, pages by key, copies folded."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session

from fer.collection.database import Database
from fer.collection.identifiers import id_floor
from fer.collection.tables import Sample, Status, Waiting
from fer.collection.views import SampleView

#: Two pictures are near-duplicates when at most this share of their hashes' bits differ.
NEAR = 0.10

#: Most samples of one group that are compared with each other.
_FOLD_LIMIT = 200


@dataclass(frozen=True)
class GridFilter:
    """What the grid shows; None means any.

    Attributes:
        label: the final label of decided samples, the predicted one of the others.
        since, until: when they were kept; `until` itself not included.
        low, high: confidence, both included.
        disagreed: the visitor said another label than the model.
        id: beginning of a sample id.
    """

    status: str | None = None
    label: str | None = None
    predicted_label: str | None = None
    final_label: str | None = None
    model: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    low: float | None = None
    high: float | None = None
    disagreed: bool | None = None
    id: str | None = None


@dataclass(frozen=True)
class Cell:
    """One cell of the grid: the newest of some copies, and all of them, itself first."""

    sample: SampleView
    copies: tuple[SampleView, ...]


@dataclass(frozen=True)
class GridPage:
    """Cells, newest first; `after` fetches the next page, None at the end."""

    cells: list[Cell]
    after: str | None


def hamming_share(left: str, right: str) -> float:
    """Share of the bits that differ between two hashes of the same length, in 0…1."""
    if len(left) != len(right):
        return 1.0
    return (int(left, 16) ^ int(right, 16)).bit_count() / (4 * len(left))


def near(left: SampleView, right: SampleView) -> bool:
    """Whether two samples are copies or near-duplicates within one group.

    A group is one visitor's session: between groups, similar pictures are mostly of strangers.
    """
    if left.group_id is None or left.group_id != right.group_id:
        return False
    if left.sha256 == right.sha256:
        return True
    return hamming_share(left.phash or "", right.phash or "0") <= NEAR


def grid_page(
    database: Database, chosen: GridFilter, after: str | None = None, limit: int = 60
) -> GridPage:
    """One page of the grid.

    Samples of the audit slice are not in it before they were decided blind, nor are deleted
    ones.

    Args:
        after: what the page before gave, or None for the first one.
        limit: cells, 1 to 500.
    """
    limit = max(1, min(limit, 500))
    cells: list[Cell] = []
    with database.session() as session:
        while len(cells) < limit:
            rows = session.scalars(
                _query(chosen, after).order_by(Sample.id.desc()).limit(limit)
            ).all()
            group_ids = {row.group_id for row in rows if row.group_id is not None}
            heads = _heads(session, chosen, group_ids)
            for row in rows:
                after = row.id
                if row.group_id is None:
                    cells.append(Cell(SampleView.of(row), (SampleView.of(row),)))
                elif row.id in heads:
                    cells.append(heads[row.id])
                if len(cells) == limit:
                    return GridPage(cells, after)
            if len(rows) < limit:
                return GridPage(cells, None)
    return GridPage(cells, after)


def _query(chosen: GridFilter, after: str | None) -> sa.Select[Sample]:
    query = sa.select(Sample).where(
        Sample.status != Status.DELETED,
        sa.or_(Sample.queue.is_(None), Sample.queue != Waiting.AUDIT),
    )
    equal = {
        Sample.status: chosen.status,
        Sample.predicted_label: chosen.predicted_label,
        Sample.final_label: chosen.final_label,
        Sample.model_version: chosen.model,
        Sample.visitor_disagreed: chosen.disagreed,
    }
    for column, value in equal.items():
        if value is not None:
            query = query.where(column == value)
    if chosen.label is not None:
        query = query.where(
            sa.or_(
                Sample.final_label == chosen.label,
                sa.and_(Sample.final_label.is_(None), Sample.predicted_label == chosen.label),
            )
        )
    # Ids begin with the time: the primary key finds a range of days.
    if chosen.since is not None:
        query = query.where(Sample.id >= id_floor(chosen.since))
    if chosen.until is not None:
        query = query.where(Sample.id < id_floor(chosen.until))
    if chosen.low is not None:
        query = query.where(Sample.confidence >= chosen.low)
    if chosen.high is not None:
        query = query.where(Sample.confidence <= chosen.high)
    if chosen.id:
        query = query.where(Sample.id >= chosen.id, Sample.id < chosen.id + "~")
    return query.where(Sample.id < after) if after is not None else query


def _heads(session: Session, chosen: GridFilter, group_ids: set[str]) -> dict[str, Cell]:
    """The cells of these groups, by the id of the sample that heads each.

    Each sample joins the first head that it is near to; heads are the newest. A group with more
    samples than can be compared keeps the rest unfolded.
    """
    rows = session.scalars(
        _query(chosen, None).where(Sample.group_id.in_(group_ids)).order_by(Sample.id.desc())
    )
    clusters: dict[str, list[list[SampleView]]] = {}
    compared: Counter[str] = Counter()
    for row in rows:
        view = SampleView.of(row)
        own = clusters.setdefault(str(view.group_id), [])
        compared[str(view.group_id)] += 1
        few = compared[str(view.group_id)] <= _FOLD_LIMIT
        home = next((copies for copies in own if few and near(copies[0], view)), None)
        if home is None:
            own.append([view])
        else:
            home.append(view)
    return {
        copies[0].id: Cell(copies[0], tuple(copies)) for own in clusters.values() for copies in own
    }
