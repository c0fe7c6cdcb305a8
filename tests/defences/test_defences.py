"""Each defence is taken away, one at a time, from a copy of the program: its tests must fail.

A test that still passes proves nothing about what it is named after.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

import pytest

from tests.defences.table import Defence, Edit, load
from tests.defences.workshop import Copy, all_pass, take_away

TABLE = load()

#: Copies that are worked on at the same time; `DEFENCES_AT_ONCE` says how many elsewhere.
AT_ONCE = int(os.environ.get("DEFENCES_AT_ONCE", "2"))

WHOLE = "nothing is taken away"


@pytest.fixture(scope="module")
def outcomes(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[None]]]:
    """What will have become of each test of this module that was asked for, by its defence."""
    asked = [
        str(item.callspec.params["name"])
        for item in request.session.items
        if item.path == request.path and hasattr(item, "callspec")
    ]
    idle: SimpleQueue[Copy] = SimpleQueue()
    for number in range(AT_ONCE):
        idle.put(Copy(tmp_path_factory.mktemp("defences") / str(number)))

    def work(name: str) -> None:
        copy = idle.get()
        try:
            if name == WHOLE:
                all_pass(copy, TABLE.values())
            else:
                take_away(copy, TABLE[name])
        finally:
            idle.put(copy)

    pool = ThreadPoolExecutor(AT_ONCE)
    yield {name: pool.submit(work, name) for name in asked}
    pool.shutdown(cancel_futures=True)
    while not idle.empty():
        idle.get().close()


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", [WHOLE, *TABLE])
def test_without_its_defence_a_test_fails(name: str, outcomes: dict[str, Future[None]]) -> None:
    outcomes[name].result()


@pytest.mark.long
def test_a_test_that_notices_nothing_is_told(tmp_path: Path) -> None:
    """Else everything would pass: nothing that this test looks at is taken away here."""
    edit = Edit("fer/labels.py", "len(ordered) < 2", "len(ordered) < 1")
    test = "tests/test_labels.py::test_names_that_can_be_labels"
    blind = Defence("blind", (edit,), (test,))
    broken = Defence("broken", (Edit("fer/labels.py", "import re", "import nothing"),), (test,))
    gone = Defence("gone", (edit,), ("tests/test_labels.py::test_that_is_gone",))
    with Copy(tmp_path / "copy") as copy:
        with pytest.raises(AssertionError, match="does not notice that blind is gone"):
            take_away(copy, blind)
        for defence in (broken, gone):
            with pytest.raises(AssertionError):
                take_away(copy, defence)
        all_pass(copy, [blind])
