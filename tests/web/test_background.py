"""Chores: when they are done, and that trouble with one does not end them."""

from __future__ import annotations

import logging
import threading

import pytest

from fer.errors import StorageError
from fer.web.background import Background, Chore


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_chores_are_done_when_due_and_not_before() -> None:
    clock, done = Clock(), []
    often = Chore("often", 2, lambda: done.append("often"), due=2)
    seldom = Chore("seldom", 5, lambda: done.append("seldom"), due=5)
    background = Background([often, seldom], clock)
    assert background.run_due() == 2
    assert done == []
    clock.now = 2
    assert background.run_due() == 2
    assert done == ["often"]
    clock.now = 5
    background.run_due()
    assert done == ["often", "often", "seldom"]


def test_trouble_is_said_once_and_the_chore_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    clock, calls = Clock(), []

    def fails() -> None:
        calls.append(clock.now)
        if clock.now < 3:
            raise StorageError("The disk is full.")

    background = Background([Chore("expiry", 1, fails, due=1)], clock)
    with caplog.at_level(logging.WARNING):
        for clock.now in (1.0, 2.0, 3.0, 4.0):
            background.run_due()
    assert calls == [1.0, 2.0, 3.0, 4.0]
    assert [record.getMessage() for record in caplog.records] == ["expiry: The disk is full."]


def test_it_runs_by_itself_and_stops() -> None:
    ran = threading.Event()
    background = Background([Chore("quick", 0.01, ran.set)])
    background.start()
    assert ran.wait(30)
    background.stop()
    assert not background._thread.is_alive()
