"""`kill -9` of the whole server under load; without the page, see test_verification.py.

Whether a start takes longer after kills is for `make soak` to measure.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.soak import kills


@pytest.mark.long
@pytest.mark.timeout(900)
def test_kill_9_of_the_server_under_load_loses_nothing_acknowledged(
    tmp_path: Path, face_jpeg: bytes
) -> None:
    outcome = kills.run(tmp_path, face_jpeg, 2, starts=3)
    assert outcome.wrong == []
    assert outcome.receipts > 0 and outcome.forgotten > 0
