"""Caddy with the project's own file, before an echo."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator

import pytest

from tests.deploy.echo import LIES, Echo, echoing
from tests.deploy.proxied import NAME, Proxied, certificate, free_ports
from tests.deploy.test_files import DEPLOY

# Where proxies are required, as in CI, a missing one is a failure.
pytestmark = pytest.mark.skipif(
    shutil.which("caddy") is None and os.environ.get("FER_REQUIRE_NGINX") != "1",
    reason="no caddy here",
)


@pytest.fixture(scope="module")
def upstream() -> Iterator[int]:
    """The port of an echo."""
    with echoing() as port:
        yield port


@pytest.fixture(scope="module")
def caddy(tmp_path_factory: pytest.TempPathFactory, upstream: int) -> Iterator[Proxied]:
    """Caddy before an echo, with a self-made certificate."""
    folder = tmp_path_factory.mktemp("caddy")
    certificate(folder)
    (secure,) = free_ports(1)
    site = (DEPLOY / "Caddyfile").read_text(encoding="utf-8")
    tls = f"tls {folder}/fullchain.pem {folder}/privkey.pem"
    for old, new in (
        (f"{re.escape(NAME)} {{", f"https://localhost:{secure} {{\n\tbind 127.0.0.1\n\t{tls}"),
        (r"reverse_proxy 127\.0\.0\.1:7860", f"reverse_proxy 127.0.0.1:{upstream}"),
        (r"/var/log/caddy/", f"{folder}/"),
    ):
        site, count = re.subn(old, new, site)
        assert count, f"Caddyfile has nothing like {old!r}"
    options = "{\n\tadmin off\n\tauto_https off\n}\n"
    (folder / "Caddyfile").write_text(options + site, encoding="utf-8")
    process = subprocess.Popen(
        ["caddy", "run", "--adapter", "caddyfile", "--config", str(folder / "Caddyfile")],
        stderr=subprocess.DEVNULL,
        env={"HOME": str(folder), "PATH": "/usr/bin:/bin"},
    )
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", secure)) == 0:
                break
        time.sleep(0.05)
    yield Proxied(f"https://localhost:{secure}/fer", "", None, folder)  # type: ignore[arg-type]
    process.terminate()
    process.wait(30)


def test_what_a_visitor_claims_about_himself_does_not_reach_the_page(caddy: Proxied) -> None:
    with caddy.browse() as browser:
        told = browser.get(caddy.url + "/id/a?b=1", headers=LIES).json()
    assert told["path"] == "/id/a?b=1"
    sent = sorted((n, value) for n, value in told["headers"] if "forwarded" in n or "-ip" in n)
    assert sent == [("x-forwarded-for", "127.0.0.1"), ("x-forwarded-proto", "https")]


def test_events_pass_at_once(caddy: Proxied) -> None:
    Echo.let_go.clear()
    address = caddy.url + "/events"
    with caddy.browse() as browser, browser.stream("GET", address, timeout=10) as answer:
        events = answer.iter_lines()
        assert next(events) == "data: first"
        Echo.let_go.set()
        assert "data: second" in list(events)


def test_limits_and_what_is_not_for_strangers(caddy: Proxied) -> None:
    with caddy.browse() as browser:
        assert browser.post(caddy.url + "/gradio_api/upload", content=bytes(9_900_000)).is_success
        archive = bytes(12_000_000)
        assert browser.post(caddy.url + "/review/api/import", content=archive).is_success
        for path in ("/metrics", "/metrics/x", "/a/../metrics", "/%6detrics", "//metrics"):
            assert browser.get(caddy.url + path).status_code == 404
        moved = browser.get(caddy.url)
        assert (moved.status_code, moved.headers["location"]) == (308, "/fer/")
    # Announced too large, it is refused before it is sent: a client that waits for that reads why.
    with socket.create_connection(("127.0.0.1", int(caddy.url.split(":")[2].split("/")[0]))) as raw:
        line = caddy.trust.wrap_socket(raw, server_hostname="localhost")
        line.sendall(
            b"POST /fer/gradio_api/upload HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Length: 11000000\r\nExpect: 100-continue\r\n\r\n"
        )
        answer = line.recv(4096)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"The picture is larger than 10 MB." in answer
