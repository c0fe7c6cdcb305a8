from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa

from fer.collection.opening import open_store
from fer.collection.tables import Fact
from fer.config import Settings
from fer.web.scoring_child import ScoringChild


def test_the_real_command_refreshes_the_scores(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data", models_dir=tmp_path / "models")
    store = open_store(settings)
    before = datetime.now(UTC)
    child = ScoringChild(settings)
    child.start()
    assert child.child is not None
    assert child.child.wait(timeout=200) == 0
    with store.database.session() as session:
        refreshed = session.scalar(sa.select(Fact.at).where(Fact.name == "class_shares"))
    assert refreshed is not None
    assert refreshed >= before.replace(microsecond=0)


def test_one_at_a_time_and_none_left_behind(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    wait = (sys.executable, "-c", "import sys; sys.stdin = None; import signal; signal.pause()")
    child = ScoringChild(settings, wait)
    child.start()
    first = child.child
    child.start()
    assert child.child is first
    child.stop()
    assert first is not None
    assert first.returncode is not None
    child.start()
    assert child.child is not first
    child.stop()
