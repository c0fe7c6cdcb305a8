"""The board warns in time, and tells drift from chance."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fer.web.operator_board import drift_json, fill
from fer.web.operator_texts import load_console
from fer.web.texts import LANGUAGES
from tests.web.operator_support import Console, drawn_sample, running_console


@pytest.mark.parametrize(
    ("megabytes", "said"),
    [(0, None), (8.99, None), (9.0, "nearly"), (9.89, "nearly"), (9.95, "full"), (12, "full")],
)
def test_the_board_warns_from_ninety_percent_on(megabytes: float, said: str | None) -> None:
    assert fill(int(megabytes * 1_000_000), 10.0) == said


class Clock:
    """Stands where a test puts it."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    """Thirty visits three weeks ago and thirty now, with another expression in each."""
    folder: Path = tmp_path_factory.mktemp("board")
    with running_console(folder, max_collected_mb=50) as console:
        console.operator("ada", "admin")
        clock = Clock()
        console.store.clock = clock
        for days, label in ((20, "happy"), (0, "sad")):
            clock.now = datetime.now(UTC) - timedelta(days=days)
            for seed in range(30):
                sample = drawn_sample(label, 0.8, seed, console.model, side=64)
                console.store.keep([sample], group_id=f"{label}-{seed}")
        yield console


def test_the_board_shows_drift_and_how_full_the_collection_is(console: Console) -> None:
    board = console.signed_in("ada").get("board").json()
    found = board["drift"]
    assert found["alarm"] and found["labels_shifted"] and not found["confidence_shifted"]
    assert found["recent"]["shares"]["sad"] == 1.0
    assert found["before"]["shares"]["sad"] == 0.0
    assert found["recent_days"] == 7 and found["before_days"] == 28
    assert "sentence" not in found
    size = console.store.size_bytes()
    assert board["size_mb"] == pytest.approx(size / 1e6, rel=0.05)
    assert board["fill"] is None
    settings = console.store.settings
    console.store.settings = settings.model_copy(update={"max_collected_mb": size / 0.95e6})
    try:
        assert console.signed_in("ada").get("board").json()["fill"] == "nearly"
    finally:
        console.store.settings = settings


def test_the_drift_is_json_with_numbers_alone(console: Console) -> None:
    from fer.collection.drift import drift

    text = json.dumps(drift_json(drift(console.services.database, datetime.now(UTC))))
    assert "NaN" not in text and "Infinity" not in text


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_alarm_lines_name_what_they_are_about(language: str) -> None:
    texts = load_console(language)
    assert "FER_MAX_COLLECTED_MB" in texts["board.full"]
    assert {"{share}", "{limit}"} <= set(texts["board.nearly_full"].split())
    assert "{before}" in texts["board.drift_confidence"]
    assert "{recent}" in texts["board.drift_confidence"]
