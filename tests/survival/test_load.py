"""Visitors at once, some slow, some who hang up; the long form is `make soak`."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.soak import load
from tests.support import make_version


@pytest.mark.long
@pytest.mark.timeout(900)
def test_visitors_at_once_are_answered_without_an_error(tmp_path: Path) -> None:
    make_version(tmp_path / "models", favourite="happy", default=True)
    server = load.serve(tmp_path)
    try:
        outcome = load.run(server, visitors=24, seconds=40, idle=10)
        left = server.uploaded()
    finally:
        server.stop()
    assert outcome.errors == {}
    assert outcome.too_many == 0
    assert outcome.answered > 24
    assert outcome.hung_up > 0
    # What those who hung up had sent so far stays until the janitor comes, ten minutes later.
    assert len(left) <= outcome.hung_up
