"""Drift: what is compared, how large a difference is, and that chance raises no alarm."""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from fer.collection.database import Database
from fer.collection.drift import Drift, DriftWatch, drift
from fer.collection.identifiers import new_sample_id
from fer.collection.tables import Sample

NOW = datetime(2025, 6, 15, 12, 0, tzinfo=UTC)
LABELS = ("angry", "happy", "neutral", "sad")


def put(
    database: Database,
    days_ago: float,
    labels: Mapping[str, int],
    *,
    confidence: float | None = 0.8,
    sessions: int = 0,
    model: str = "one",
    **more: object,
) -> None:
    """Rows as many as `labels` says, spread over `sessions`; 0 stands for one each."""
    at = NOW - timedelta(days=days_ago)
    names = [label for label, count in labels.items() for _ in range(count)]
    prefix = secrets.token_hex(4)
    with database.session(write=True) as session:
        session.add_all(
            Sample(
                **{
                    "id": new_sample_id(at),
                    "created_at": at,
                    "group_id": f"{prefix}-{n % sessions if sessions else n}",
                    "source": "page",
                    "audit": False,
                    "random_key": n,
                    "model_version": model,
                    "predicted_label": label,
                    "confidence": confidence,
                    **more,
                }
            )
            for n, label in enumerate(names)
        )


@pytest.fixture
def lite(tmp_path: object) -> Database:
    """SQLite alone, for what does not depend on the database."""
    database = Database(f"sqlite:///{tmp_path}/fer.db")
    database.migrate()
    return database


def test_the_shares_are_those_of_the_two_windows(database: Database) -> None:
    put(database, 3, {"happy": 30, "sad": 10}, confidence=0.6)
    put(database, 20, {"happy": 20, "sad": 60}, confidence=0.9)
    # Neither older, nor imported, nor deleted.
    put(database, 36, {"angry": 500})
    put(database, 2, {"angry": 500}, source="import")
    put(database, 2, {"angry": 500}, deleted_at=NOW, status="deleted")
    found = drift(database, NOW)
    assert (found.recent.faces, found.before.faces) == (40, 80)
    assert found.recent.shares == {"happy": 0.75, "sad": 0.25}
    assert found.before.shares == {"happy": 0.25, "sad": 0.75}
    assert found.recent.confidence == pytest.approx(0.6)
    assert found.before.confidence == pytest.approx(0.9)
    # Worked out by hand: 0.5 ln 3 twice, but for the half face added to each cell.
    assert found.psi == pytest.approx(math.log(3), abs=0.05)
    assert found.labels_shifted and found.confidence_shifted and found.alarm
    assert "PSI" in found.sentence and "from 90% to 60%" in found.sentence


def test_the_same_shares_are_steady(lite: Database) -> None:
    put(lite, 3, {"happy": 300, "sad": 200, "angry": 100})
    put(lite, 20, {"happy": 600, "sad": 400, "angry": 200})
    found = drift(lite, NOW)
    assert found.psi == pytest.approx(0, abs=1e-3)
    assert not found.alarm
    assert found.enough
    assert found.sentence.startswith("Steady")


def test_a_label_that_nobody_showed_before_counts_too(lite: Database) -> None:
    put(lite, 3, {"happy": 100, "sad": 100})
    put(lite, 20, {"happy": 400})
    found = drift(lite, NOW)
    assert found.before.shares["sad"] == 0
    assert found.psi is not None and math.isfinite(found.psi)
    assert found.labels_shifted


def test_few_sessions_raise_no_alarm_however_large_the_shift(lite: Database) -> None:
    put(lite, 3, {"happy": 15})
    put(lite, 20, {"sad": 200})
    found = drift(lite, NOW)
    assert found.psi is not None and found.psi > 1
    assert not found.enough and not found.alarm
    assert found.sentence.startswith("Too few visits")


def test_one_diligent_visitor_is_no_drift(lite: Database) -> None:
    """Five hundred faces of one session are one opinion about what visitors send."""
    for window in (3, 20):
        put(lite, window, {"happy": 20, "sad": 20, "angry": 20})
    put(lite, 2, {"sad": 500}, sessions=1, confidence=0.3)
    found = drift(lite, NOW)
    assert found.psi is not None and found.psi > 0.25
    assert found.effect is not None and found.effect < -0.5
    assert found.enough and not found.alarm
    # The same faces from as many visitors are one.
    put(lite, 2, {"sad": 500}, confidence=0.3)
    assert drift(lite, NOW).labels_shifted


def test_chance_seldom_raises_an_alarm(lite: Database) -> None:
    """Both windows drawn alike, thirty sessions each: at most 1 % of the collections may alarm."""
    random = np.random.default_rng(7)
    alarms = large = 0
    for month in range(30):
        start = 100 * month
        for window, n in ((3, 30), (20, 30)):
            drawn = random.multinomial(n, [0.1, 0.4, 0.3, 0.2])
            put(lite, start + window, dict(zip(LABELS, map(int, drawn), strict=True)))
        found = drift(lite, NOW - timedelta(days=start))
        assert found.enough
        alarms += found.alarm
        large += bool(found.psi and found.psi > 0.1)
    # The index alone would have had something to say several times.
    assert large >= 5
    assert alarms == 0


def test_older_than_retention_is_left_out(lite: Database) -> None:
    """What is left of that time was decided, and operators choose the difficult faces."""
    put(lite, 3, {"happy": 50})
    put(lite, 9, {"happy": 50})
    put(lite, 20, {"sad": 200})
    assert drift(lite, NOW).labels_shifted
    found = drift(lite, NOW, retention_days=14)
    assert found.before.shares == {"happy": 1.0}
    assert not found.alarm


def test_a_new_model_is_named(lite: Database) -> None:
    put(lite, 3, {"happy": 100}, model="two")
    put(lite, 20, {"sad": 100}, model="one")
    found = drift(lite, NOW)
    assert found.new_models == ("two",)
    assert "New since then: model two." in found.sentence


def test_nothing_kept_is_no_drift(lite: Database) -> None:
    found = drift(lite, NOW)
    assert (found.psi, found.effect, found.alarm) == (None, None, False)
    assert found.recent.confidence is None
    put(lite, 3, {"happy": 100})
    found = drift(lite, NOW)
    assert found.recent.confidence == pytest.approx(0.8)
    assert not found.alarm
    assert found.new_models == ()


def test_the_watch_asks_seldom(lite: Database) -> None:
    watch = DriftWatch(lite, clock=lambda: NOW)
    assert watch().recent.faces == 0
    put(lite, 3, {"happy": 1})
    assert watch().recent.faces == 0
    watch._until = 0
    found: Drift = watch()
    assert found.recent.faces == 1
    assert found.to_json()["recent"]["shares"] == {"happy": 1.0}
