"""One server behind one nginx for the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.deploy.proxied import Proxied, behind_nginx
from tests.support import make_version


@pytest.fixture(scope="session")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxied]:
    """The page at https://localhost:PORT/fer, whose tiny model reads every face as happy."""
    folder = tmp_path_factory.mktemp("proxied")
    make_version(folder / "models", favourite="happy", default=True)
    with behind_nginx(folder, folder / "models") as running:
        yield running
