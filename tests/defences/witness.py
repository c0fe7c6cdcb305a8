"""A pytest plugin: writes down what became of each test, for the process that started pytest.

Loaded with `-p tests.defences.witness`; the file to write is named by `DEFENCES_WITNESS`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

_SEEN: dict[str, Any] = {"program": "", "collecting": [], "tests": []}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report: Any = yield
    kinds = [kind.__name__ for kind in call.excinfo.type.__mro__] if call.excinfo else []
    said = str(call.excinfo.value) if call.excinfo else ""
    if report.when == "call" or report.outcome != "passed":
        _SEEN["tests"].append(
            {
                "id": item.nodeid,
                "when": report.when,
                "outcome": report.outcome,
                "kinds": kinds,
                "said": said[:2000],
            }
        )
    return report  # type: ignore[no-any-return]


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.outcome != "passed":
        _SEEN["collecting"].append(f"{report.nodeid}: {report.longrepr}"[-2000:])


def pytest_sessionfinish() -> None:
    # Late, so that what is imported here is what the tests imported.
    import fer

    _SEEN["program"] = fer.__file__
    Path(os.environ["DEFENCES_WITNESS"]).write_text(json.dumps(_SEEN), encoding="utf-8")
