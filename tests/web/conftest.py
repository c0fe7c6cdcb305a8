"""A server for the tests of this room and of the browser's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support import make_version
from tests.web.serving import Server, start


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A running server whose tiny model reads every face as happy; shared, so count relatively."""
    folder = tmp_path_factory.mktemp("server")
    make_version(
        folder / "models",
        favourite="happy",
        default=True,
        metrics={"ferplus_accuracy": 0.83},
    )
    running = start(folder)
    yield running
    running.stop()
