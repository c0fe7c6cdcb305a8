"""Servers for the tests of this room and of the browser's."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.support import make_version
from tests.web.serving import Server, start

#: Where the trusted proxy of `edge` comes from; the whole of 127.0.0.0/8 is this machine.
PROXY = "127.0.0.2"

#: What `edge` asks for `/metrics` from elsewhere.
METRICS_TOKEN = "a token for the test"

#: A server that refuses the fifth picture of a visitor and the ninth of an address, behind a
#: proxy, with everything an administrator can ask for.
EDGE = {
    "FER_RATE_CLASSIFY": "4/hour",
    "FER_RATE_FEEDBACK": "4/hour",
    "FER_RATE_FORGET": "4/hour",
    "FER_RATE_SIGN_IN": "4/hour",
    "FER_RATE_OTHER": "40/hour",
    "FER_RATE_PER_ADDRESS": "2",
    "FER_TRUSTED_PROXIES": PROXY,
    "FER_LOG_FORMAT": "json",
    "FER_METRICS_TOKEN": METRICS_TOKEN,
    "FER_MAX_UPLOADS_MB": "2",
}


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


@pytest.fixture(scope="session")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A running server with narrow limits; ask it through `proxy`, each time as somebody new."""
    folder = tmp_path_factory.mktemp("edge")
    make_version(folder / "models", favourite="happy", default=True)
    running = start(folder, **EDGE)
    yield running
    running.stop()


@pytest.fixture(scope="session")
def proxy() -> Iterator[httpx.Client]:
    """Requests as from the trusted proxy."""
    with httpx.Client(transport=httpx.HTTPTransport(local_address=PROXY), timeout=60) as client:
        yield client


_NUMBERS = iter(range(1, 1 << 20))


def somebody() -> dict[str, str]:
    """What the proxy says of a visitor whom the server has not seen yet."""
    number = next(_NUMBERS)
    return {"X-Forwarded-For": f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"}
