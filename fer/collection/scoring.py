"""Refreshing the scores that depend on the whole collection; run by a process of its own.

Rarity moves as the collection grows, and suspected label errors come from cleanlab, which the
server never imports. Both go by the probabilities that were stored when a sample was kept: the
model had not been trained on it then, so they are out of sample.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import sqlalchemy as sa
from sqlalchemy.orm import Session

from fer.collection import scores
from fer.collection.database import Database
from fer.collection.tables import LABELLED, Fact, Sample, Status, Waiting

#: Refreshed at most this often, unless forced.
AT_MOST_EVERY = timedelta(hours=1)

#: Rows written in one transaction, so that nobody who labels waits for long.
_CHUNK = 1000

#: Fewest labelled samples from which label errors are told.
MIN_LABELLED = 20

#: A stored rarity this close to the new one stays as it is.
_SAME = 0.005


@dataclass(frozen=True)
class ScoreReport:
    """What a refresh did: rows whose rarity changed, and suspected label errors."""

    skipped: bool
    rarity_changed: int = 0
    label_errors: int = 0


def refresh_scores(database: Database, now: datetime, *, force: bool = False) -> ScoreReport:
    """Refresh rarity and label-error scores, at most hourly.

    Raises:
        StorageError: the database refused.
        ImportError: cleanlab is not installed (it comes with the `train` extra).
    """
    with database.session(write=True) as session:
        fact = session.get(Fact, "class_shares", with_for_update=True)
        if fact is not None and not force and timedelta() <= now - fact.at < AT_MOST_EVERY:
            return ScoreReport(skipped=True)
        shares = _class_shares(session)
        if fact is None:
            fact = Fact(name="class_shares", at=now)
            session.add(fact)
        fact.value, fact.at = dict(shares), now
    changed = _refresh_rarity(database, shares)
    return ScoreReport(False, changed, _refresh_label_errors(database))


def _class_shares(session: Session) -> dict[str, float]:
    """Share of each predicted class among all samples that are held."""
    rows = session.execute(
        sa.select(Sample.predicted_label, sa.func.count())
        .where(Sample.predicted_label.is_not(None))
        .group_by(Sample.predicted_label)
    ).all()
    names = [str(name) for name, _ in rows]
    labels = np.repeat(np.arange(len(names)), [count for _, count in rows])
    shares = scores.class_shares(labels, len(names))
    return dict(zip(names, shares.tolist(), strict=True))


def _refresh_rarity(database: Database, shares: dict[str, float]) -> int:
    changed = 0
    for label, share in shares.items():
        value = 1.0 - share
        last = ""
        while True:
            with database.session(write=True) as session:
                ids = session.scalars(
                    sa.select(Sample.id)
                    .where(
                        Sample.predicted_label == label,
                        Sample.id > last,
                        Sample.queue == Waiting.MAIN,
                        sa.or_(Sample.rarity.is_(None), sa.func.abs(Sample.rarity - value) > _SAME),
                    )
                    .order_by(Sample.id)
                    .limit(_CHUNK)
                ).all()
                if ids:
                    session.execute(
                        sa.update(Sample).where(Sample.id.in_(ids)).values(rarity=value)
                    )
            if not ids:
                break
            changed += len(ids)
            last = ids[-1]
    return changed


def _refresh_label_errors(database: Database) -> int:
    """Mark suspected errors among operators' labels and, on pending samples, visitors'."""
    with database.session() as session:
        rows = session.execute(
            sa.select(
                Sample.id,
                Sample.probabilities,
                sa.case(
                    (Sample.status == Status.PENDING, Sample.visitor_label),
                    else_=Sample.final_label,
                ),
            ).where(
                Sample.audit.is_(False),
                Sample.label_error_checked.is_(False),
                sa.or_(
                    Sample.status.in_(LABELLED),
                    sa.and_(Sample.status == Status.PENDING, Sample.visitor_label.is_not(None)),
                ),
            )
        ).all()
    suspects: dict[str, float] = {}
    sets: dict[tuple[str, ...], list[tuple[str, list[float], int]]] = defaultdict(list)
    for sample_id, probabilities, label in rows:
        labels = tuple(probabilities or ())
        if label in labels:
            sets[labels].append((sample_id, list(probabilities.values()), labels.index(label)))
    for entries in sets.values():
        suspects |= _suspects(entries)
    _write_label_errors(database, suspects)
    return len(suspects)


def _suspects(entries: list[tuple[str, list[float], int]]) -> dict[str, float]:
    """Ids of samples whose label cleanlab doubts, with 1 - the label's quality."""
    labels = np.array([label for _, _, label in entries])
    if len(entries) < MIN_LABELLED or len(set(labels.tolist())) < 2:
        return {}
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    table = np.array([row for _, row, _ in entries], dtype=np.float64)
    table /= table.sum(axis=1, keepdims=True)
    # cleanlab wants every class to occur; the others cannot be told anything about.
    present = np.unique(labels)
    narrowed = table[:, present] + 1e-9
    narrowed /= narrowed.sum(axis=1, keepdims=True)
    renumbered = np.searchsorted(present, labels)
    doubtful = find_label_issues(renumbered, narrowed, n_jobs=1)
    quality = get_label_quality_scores(renumbered, narrowed)
    return {entries[i][0]: float(1.0 - quality[i]) for i in np.flatnonzero(doubtful)}


def _write_label_errors(database: Database, suspects: dict[str, float]) -> None:
    with database.session() as session:
        marked = session.execute(
            sa.select(Sample.id, Sample.label_error).where(Sample.label_error.is_not(None))
        )
        held = {sample_id: value for sample_id, value in marked}
    changes: dict[str, float | None] = {
        sample_id: value for sample_id, value in suspects.items() if held.get(sample_id) != value
    }
    changes |= dict.fromkeys(set(held) - set(suspects))
    ids = sorted(changes)
    for start in range(0, len(ids), _CHUNK):
        with database.session(write=True) as session:
            for sample_id in ids[start : start + _CHUNK]:
                # What was decided meanwhile was looked at: it is not raised again.
                session.execute(
                    sa.update(Sample)
                    .where(
                        Sample.id == sample_id,
                        Sample.label_error_checked.is_(False),
                        Sample.deleted_at.is_(None),
                    )
                    .values(label_error=changes[sample_id])
                )
