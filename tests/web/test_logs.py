"""The request id on its way from the answer to the log to the row, and what is in no log."""

from __future__ import annotations

import base64
import io
import json
import logging
import sqlite3
import time
import uuid
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from fer.errors import NoFaceError, StorageError
from fer.web import logs
from fer.web.logs import ROUTES, JsonFormatter, RequestLog, TextFormatter, answering, route_of
from fer.web.texts import Texts
from tests.web.conftest import somebody
from tests.web.serving import Server


@pytest.fixture
def seen() -> list[tuple[str, int, float]]:
    return []


@pytest.fixture
def client(seen: list[tuple[str, int, float]]) -> TestClient:
    app = FastAPI()

    @app.get("/healthz")
    def healthz() -> str:
        logging.getLogger("fer.test").info("at work")
        return logs.request_id()

    @app.post("/sign-in")
    def broken() -> str:
        raise RuntimeError("a bug")

    app.add_middleware(RequestLog, observe=lambda *what: seen.append(what))
    return TestClient(app, raise_server_exceptions=False)


def test_each_request_has_an_id_of_its_own(
    client: TestClient, seen: list[tuple[str, int, float]]
) -> None:
    one, two = client.get("/healthz"), client.get("/healthz")
    assert one.headers["x-request-id"] == one.json() != two.json()
    assert [(route, status) for route, status, _ in seen] == [("health", 200)] * 2
    assert logs.request_id() == ""


@pytest.mark.parametrize("sent", ["short", "x" * 65, "with space", "a\tb-12345678", "", "é" * 10])
def test_an_unfit_id_is_replaced(client: TestClient, sent: str) -> None:
    answer = client.get("/healthz", headers={"X-Request-ID": sent.encode("latin-1")})
    assert answer.headers["x-request-id"] != sent
    assert len(answer.headers["x-request-id"]) == 32


def test_a_proxys_id_is_kept(client: TestClient) -> None:
    answer = client.get("/healthz", headers={"X-Request-ID": "edge-0123.4567_x"})
    assert answer.json() == "edge-0123.4567_x"


def test_a_request_that_breaks_is_counted(
    client: TestClient, seen: list[tuple[str, int, float]], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "fer.requests"):
        client.post("/sign-in")
    assert [(route, status) for route, status, _ in seen] == [("sign-in", 499)]
    assert "POST sign-in 499" in caplog.text


@given(st.text(max_size=80))
def test_a_route_is_one_of_few_names_whatever_is_asked(path: str) -> None:
    assert route_of({"path": "/" + path, "root_path": ""}) in ROUTES


def record(message: str) -> logging.LogRecord:
    return logging.LogRecord("fer.test", logging.INFO, "x.py", 1, message, (), None)


def test_a_line_is_one_line_whatever_was_quoted() -> None:
    """Log injection: a receipt or a name with a line break would forge a line of its own."""
    forged = "x\r\n2026-01-01 00:00:00 INFO fer.requests all is well"
    with answering("abcdef12"):
        text = TextFormatter().format(record(forged))
        line = json.loads(JsonFormatter().format(record(forged)))
    assert "\n" not in text and "\r" not in text and " [abcdef12] " in text
    assert line["message"] == forged and line["request_id"] == "abcdef12"


@pytest.mark.parametrize("language", ["en", "id"])
def test_a_fault_of_the_servers_tells_its_reference(language: str) -> None:
    texts = Texts(language)
    with answering("abcdef12"):
        assert "abcdef12" in logs.error_sentence(StorageError("The disk is gone."), texts)
        assert "abcdef12" not in logs.error_sentence(NoFaceError("No face."), texts)
    assert logs.error_sentence(StorageError("x"), texts) == texts.error(StorageError("x"))


# The running server.


def lines(server: Server) -> list[dict[str, Any]]:
    found = []
    for line in server.log.splitlines():
        if line.startswith("{"):
            found.append(json.loads(line))
    return found


def read_by_call(edge: Server, proxy: httpx.Client, data: list[Any], who: dict[str, str]) -> Any:
    """Read a picture by Gradio's queue; the headers of the answer, and what `/classify` says."""
    url = f"{edge.url}/gradio_api/call/classify"
    taken = proxy.post(url, json={"data": data}, headers=who)
    stream = proxy.get(f"{url}/{taken.json()['event_id']}", headers=who).text
    assert "event: complete" in stream, stream
    return taken.headers, json.loads(stream.split("data: ", 1)[1].splitlines()[0])[0]


@pytest.mark.parametrize("way", ["run", "queue"])
def test_the_id_goes_from_the_answer_to_the_log_to_the_row(
    edge: Server, proxy: httpx.Client, face_jpeg: bytes, way: str
) -> None:
    who = somebody() | {"X-Request-ID": f"from-the-proxy-{uuid.uuid4().hex}"[:40]}
    url = "data:image/jpeg;base64," + base64.b64encode(face_jpeg).decode()
    data = [{"url": url}, True, None, "largest"]
    if way == "run":
        taken = proxy.post(f"{edge.url}/gradio_api/run/classify", json={"data": data}, headers=who)
        headers, answer = taken.headers, taken.json()["data"][0]
    else:
        headers, answer = read_by_call(edge, proxy, data, who)
    identity = who["X-Request-ID"]
    assert headers["x-request-id"] == identity == answer["request_id"]
    with sqlite3.connect(f"file:{edge.data}/fer.db?mode=ro", uri=True) as database:
        query = "SELECT request_id FROM samples WHERE id = ?"
        (row,) = database.execute(query, [uuid_text(answer["sample_ids"][0])]).fetchall()
    assert row == (identity,)

    def said() -> list[str]:
        return [line["message"] for line in lines(edge) if line.get("request_id") == identity]

    assert "1 of 1 faces kept" in said()
    # The line about the request itself is written once the answer is out.
    latest = time.monotonic() + 10
    while not any(message.startswith("POST ") for message in said()):
        assert time.monotonic() < latest, said()
        time.sleep(0.05)


def uuid_text(identifier: str) -> str:
    return identifier


def test_a_strangers_id_does_not_count(edge: Server) -> None:
    forged = "forged-by-a-stranger"
    answer = httpx.post(edge.url + "/sign-in", headers={"X-Request-ID": forged}, timeout=60)
    assert answer.headers["x-request-id"] != forged
    assert forged not in edge.log


def test_no_picture_file_name_receipt_or_cookie_is_logged(
    edge: Server, proxy: httpx.Client, face_jpeg: bytes
) -> None:
    """Everything a visitor can send carries a mark; the log has none of them."""
    mark = f"marked{uuid.uuid4().hex[:12]}"
    who = somebody() | {"Cookie": f"fer_session={mark}{'c' * 20}; other={mark}"}
    who |= {"User-Agent": mark, "Referer": f"http://x/{mark}", "Authorization": f"Bearer {mark}"}
    base = f"{edge.url}/gradio_api"
    files = {"files": (f"{mark}.jpg", io.BytesIO(face_jpeg + mark.encode()), "image/jpeg")}
    (path,) = proxy.post(f"{base}/upload?upload_id={mark}", files=files, headers=who).json()
    payload = {"path": path, "orig_name": f"{mark}.jpg", "meta": {"_type": "gradio.FileData"}}
    _, answer = read_by_call(edge, proxy, [payload, True, None, "largest"], who)
    receipt = answer["receipt"]
    for name, data in (
        ("feedback", [receipt, mark, None]),
        ("forget", [mark]),
        ("forget", [receipt]),
        ("classify", [{"path": f"/{mark}"}, True, mark, mark]),
        (mark, [mark]),
    ):
        proxy.post(f"{base}/run/{name}", json={"data": data}, headers=who)
    proxy.get(f"{edge.url}/{mark}?{mark}={mark}", headers=who)
    proxy.post(f"{edge.url}/sign-in", data={"name": mark, "password": mark}, headers=who)
    for secret in (mark, receipt, who["X-Forwarded-For"], answer["sample_ids"][0]):
        assert secret not in edge.log
    assert all("request_id" in line for line in lines(edge) if line["logger"] == "fer.requests")


@pytest.mark.parametrize(
    "path", ["call/forget/{}", "call/v2/forget/{}", "queue/data?session_hash={}"]
)
def test_asking_for_an_event_that_never_was_leaves_no_traceback(
    edge: Server, proxy: httpx.Client, path: str
) -> None:
    """Gradio says so to who asks, and then raises: a stranger filled the log."""
    before = len(edge.log)
    url = f"{edge.url}/gradio_api/{path.format(uuid.uuid4().hex)}"
    answer = proxy.get(url, headers=somebody())
    assert answer.status_code == 200
    assert "404" in answer.text and ("event: error" in answer.text or "not_found" in answer.text)
    # A request that is answered later is in the log only after this one.
    refused = proxy.post(f"{edge.url}/gradio_api/run/none", json={"data": []}, headers=somebody())
    assert refused.headers["x-request-id"] in edge.log[before:]
    assert "Traceback" not in edge.log[before:]
