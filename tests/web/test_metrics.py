"""`/metrics`: who gets it, and what it says."""

from __future__ import annotations

import base64
import re
import uuid
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from fer.config import Settings
from fer.errors import NoModelError, StorageError
from fer.web import metrics as module
from fer.web.metrics import Metrics, add_metrics
from fer.web.proxies import ClientAddress
from tests.web.conftest import METRICS_TOKEN, somebody
from tests.web.serving import Server


def value(text: str, name: str) -> float:
    """The value of a series, by its name with labels as Prometheus writes them."""
    found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    assert found, f"no {name} in\n{text}"
    return float(found.group(1))


def door(token: str | None, trusted: str = "") -> Callable[..., int]:
    """Asks for `/metrics` from an address; the status."""
    app = FastAPI()
    add_metrics(app, SimpleNamespace(text=lambda: b""), token)  # type: ignore[arg-type]
    app.add_middleware(ClientAddress, trusted=trusted)

    def ask(peer: str, host: str = "127.0.0.1:7860", **headers: str) -> int:
        client = TestClient(app, base_url=f"http://{host}", client=(peer, 5000))
        sent = {name.replace("_", "-"): text for name, text in headers.items()}
        return client.get("/metrics", headers=sent).status_code

    return ask


def test_metrics_are_for_this_machine() -> None:
    ask = door(None)
    assert ask("127.0.0.1") == ask("::1", "[::1]:7860") == 200
    assert ask("192.0.2.1") == 403
    assert ask("192.0.2.1", authorization="Bearer ") == 403


def test_or_for_who_knows_the_token() -> None:
    ask = door("secret")
    assert ask("192.0.2.1", authorization="Bearer secret") == 200
    assert ask("192.0.2.1") == 401
    for wrong in ("Bearer secre", "Bearer secret1", "Bearer", "Basic secret", "secret", "Bearer é"):
        assert ask("192.0.2.1", authorization=wrong.encode()) == 401  # type: ignore[arg-type]


def test_a_visitor_behind_a_proxy_on_this_machine_is_not_this_machine() -> None:
    known = door(None, trusted="127.0.0.1")
    assert known("127.0.0.1", x_forwarded_for="192.0.2.1") == 403
    assert known("127.0.0.1", x_forwarded_for="127.0.0.1") == 200
    # Nobody told the server about this proxy: that it speaks for others is enough.
    unknown = door(None)
    assert unknown("127.0.0.1", x_forwarded_for="192.0.2.1") == 403
    assert unknown("127.0.0.1", x_forwarded_for="127.0.0.1") == 403
    assert unknown("127.0.0.1", x_real_ip="192.0.2.1") == 403
    # Nor does it say so: the name that was asked for does.
    assert unknown("127.0.0.1", "fer.example") == 403


def test_dns_rebinding_reads_no_metrics() -> None:
    """A stranger's page in a browser on this machine, under a name that now leads here."""
    assert door(None)("127.0.0.1", "rebound.evil.example:7860") == 403


def services(**parts: Any) -> Any:
    def broken(*_: object) -> Any:
        raise StorageError("The database is gone.")

    def no_champion() -> str:
        raise NoModelError("There is none.")

    database = SimpleNamespace(session=broken)
    return SimpleNamespace(
        settings=Settings(_env_file=None),
        recogniser=SimpleNamespace(champion=no_champion),
        database=database,
        store=SimpleNamespace(size_bytes=broken),
        desk=SimpleNamespace(meter=None),
        warnings=lambda: ["one"],
        **parts,
    )


def test_without_model_and_database_the_figures_say_so() -> None:
    text = Metrics(services()).text().decode()
    assert value(text, "fer_ready") == value(text, "fer_collection_up") == 0
    assert value(text, "fer_warnings") == 1


def test_the_database_is_not_asked_at_every_scrape(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[None] = []
    monkeypatch.setattr(module, "waiting", lambda _: asked.append(None) or {})
    now = [0.0]
    counted = Metrics(services(), clock=lambda: now[0])
    for _ in range(5):
        counted.text()
    assert len(asked) == 1
    now[0] = 11.0
    counted.text()
    assert len(asked) == 2


def scrape(edge: Server, proxy: httpx.Client) -> str:
    headers = somebody() | {"Authorization": f"Bearer {METRICS_TOKEN}"}
    answer = proxy.get(edge.url + "/metrics", headers=headers)
    assert answer.status_code == 200
    return answer.text


def test_the_running_server_counts(edge: Server, proxy: httpx.Client, face_jpeg: bytes) -> None:
    assert proxy.get(edge.url + "/metrics", headers=somebody()).status_code == 401
    before = scrape(edge, proxy)
    url = "data:image/jpeg;base64," + base64.b64encode(face_jpeg).decode()
    who = somebody()
    run, session = f"{edge.url}/gradio_api/run/classify", uuid.uuid4().hex
    for _ in range(5):  # the fifth is one too many
        body = {"data": [{"url": url}, False, None, "largest"], "session_hash": session}
        proxy.post(run, json=body, headers=who)
    blank = "data:image/png;base64," + base64.b64encode(b"no picture").decode()
    proxy.post(run, json={"data": [{"url": blank}, False, None, "largest"]}, headers=somebody())
    text = scrape(edge, proxy)

    def more(name: str) -> float:
        old = re.search(rf"^{re.escape(name)} (\S+)$", before, re.MULTILINE)
        return value(text, name) - (float(old.group(1)) if old else 0.0)

    assert more('fer_requests_total{route="run",status="200"}') == 4
    assert more('fer_requests_total{route="run",status="429"}') == 1
    assert more('fer_requests_total{route="run",status="500"}') == 1
    assert more('fer_request_seconds_count{route="run"}') == 6
    assert more('fer_refusals_total{kind="rate_classify"}') == 1
    assert more('fer_refusals_total{kind="not_a_picture"}') == 1
    assert more("fer_pictures_total") == more("fer_faces_total") == 4
    assert value(text, "fer_ready") == value(text, "fer_collection_up") == 1
    assert value(text, "fer_collection_bytes") > 0
    assert value(text, "fer_drift_alarm") == 0
    assert re.search(r'^fer_champion_info\{version="\d+T\d+Z-tiny"\} 1', text, re.MULTILINE)


def test_strangers_cannot_grow_the_figures(edge: Server, proxy: httpx.Client) -> None:
    """Cardinality: a series for each path, method or status that somebody makes up."""
    series = len(scrape(edge, proxy).splitlines())
    for number in range(30):
        proxy.request(f"M{number}", f"{edge.url}/{number}/gradio_api/{number}", headers=somebody())
        proxy.get(f"{edge.url}/gradio_api/file={number}", headers=somebody())
    after = scrape(edge, proxy)
    # At most a route with its histogram, and a few statuses.
    assert len(after.splitlines()) < series + 40
    assert "M7" not in after
