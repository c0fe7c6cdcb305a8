"""Language, cookies and body limits, by requests to a small application."""

from __future__ import annotations

import re

import pytest
from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from fer.web.middleware import (
    SMALL_BODY,
    BodyLimit,
    ClosedDoors,
    Pages,
    is_open,
    json_script,
    valid_session,
)
from fer.web.proxies import KnownHosts


@pytest.fixture
def client() -> TestClient:
    app = FastAPI(docs_url=None)

    @app.get("/", response_class=HTMLResponse)
    @app.get("/id/", response_class=HTMLResponse)
    def page() -> str:
        return "<html>page</html>"

    @app.get("/other", response_class=HTMLResponse)
    def other() -> str:
        return "<html>other</html>"

    @app.post("/take")
    @app.post("/picture")
    @app.post("/zip")
    async def take(request: Request) -> int:
        return len(await request.body())

    app.add_middleware(Pages, dress=lambda text, language: f"{language}:{text}")
    app.add_middleware(ClosedDoors)
    app.add_middleware(
        BodyLimit,
        picture_bytes=1_000_000,
        picture_routes=("/picture",),
        larger={"/zip": 2_000_000},
    )
    return TestClient(app, follow_redirects=False)


def test_the_page_is_dressed_and_gives_a_session_once(client: TestClient) -> None:
    answer = client.get("/")
    assert answer.text == "en:<html>page</html>"
    assert answer.headers["vary"] == "Accept-Language, Cookie"
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=Lax" in cookie and "Path=/;" in cookie
    found = re.match(r"fer_session=([^;]+)", cookie)
    assert found and valid_session(found.group(1))
    again = client.get("/", headers={"cookie": f"fer_session={found.group(1)}"})
    assert "set-cookie" not in again.headers
    forged = client.get("/", headers={"cookie": "fer_session=short"})
    assert "set-cookie" in forged.headers


def test_the_session_of_a_mounted_page_counts_in_both_languages() -> None:
    """A mount changes `root_path` while it answers: the cookie was for `/id` alone."""
    below = FastAPI(docs_url=None)

    @below.get("/", response_class=HTMLResponse)
    def page() -> str:
        return "<html>page</html>"

    app = FastAPI(docs_url=None)
    app.mount("/id", below)
    app.add_middleware(Pages, dress=lambda text, language: text)
    answer = TestClient(app, root_path="/sub").get("/sub/id/")
    assert answer.text == "<html>page</html>"
    assert "; Path=/sub;" in answer.headers["set-cookie"]


def test_a_browser_that_prefers_indonesian_is_sent_there(client: TestClient) -> None:
    answer = client.get("/?x=1", headers={"accept-language": "id-ID,en;q=0.5"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/id/?x=1")
    assert client.get("/id/").text.startswith("id:")
    assert client.get("/id").headers["location"] == "/id/"


def test_the_switch_sets_a_cookie_that_wins(client: TestClient) -> None:
    answer = client.get("/id/?lang=en", headers={"accept-language": "id"})
    assert answer.headers["location"] == "/"
    assert "fer_lang=en" in answer.headers["set-cookie"]
    chosen = client.get("/", headers={"accept-language": "id", "cookie": "fer_lang=en"})
    assert chosen.status_code == 200
    assert client.get("/?lang=xx").status_code == 200


def test_a_language_never_leads_to_another_site(client: TestClient) -> None:
    for wish in ("//evil.example", "https://evil.example", "\\evil"):
        answer = client.get("/", params={"lang": wish}, headers={"accept-language": "id"})
        assert answer.headers["location"] == "/id/"


@pytest.mark.parametrize(
    ("target", "location"),
    [
        ("http://testserver/there?x=1", "/there?x=1"),
        ("http://testserver//evil.example/", "/evil.example/"),
        ("http://testserver/\\\\evil.example", "/evil.example"),
        ("/there", "/there"),
    ],
)
def test_a_redirect_names_no_host_and_begins_with_one_slash(target: str, location: str) -> None:
    """Frameworks put the request's `Host` before the path, two slashes of a path included."""
    app = FastAPI()

    @app.get("/")
    def moved() -> Response:
        return Response(status_code=303, headers={"Location": target})

    app.add_middleware(KnownHosts)
    answer = TestClient(app, follow_redirects=False).get("/")
    assert answer.headers["location"] == location


def test_other_routes_are_left_alone(client: TestClient) -> None:
    answer = client.get("/other")
    assert answer.text == "<html>other</html>" and "set-cookie" not in answer.headers


def test_bodies_up_to_the_limit_pass(client: TestClient) -> None:
    assert client.post("/take", content=bytes(SMALL_BODY)).json() == SMALL_BODY
    refused = client.post("/take", content=bytes(SMALL_BODY + 1))
    assert refused.status_code == 413
    assert refused.text == "This request is too long; the limit is 256 KiB."
    assert client.post("/zip", content=bytes(1_500_000)).json() == 1_500_000
    refused = client.post("/zip", content=bytes(2_000_001))
    assert refused.text == "This request is too long; the limit is 2 MB."
    assert client.post("/picture", content=bytes(1_000_000)).json() == 1_000_000
    refused = client.post("/picture", content=bytes(1_100_000), headers={"accept-language": "id"})
    assert refused.status_code == 413
    assert refused.text == "Gambar ini terlalu besar; batasnya 1 MB."


def test_a_body_without_a_length_is_counted(client: TestClient) -> None:
    def parts() -> list[bytes]:
        return [bytes(SMALL_BODY // 2)] * 3

    assert client.post("/take", content=iter(parts())).status_code == 413
    assert client.post("/take", content=iter(parts()[:2])).json() == SMALL_BODY


@pytest.mark.parametrize(
    ("path", "opened"),
    [
        ("/", True),
        ("/gradio_api/upload", True),
        ("/gradio_api/run/classify", True),
        ("/id/gradio_api/queue/join", True),
        ("/gradio_api/call/classify/abc", True),
        ("/gradio_api/file=/tmp/x", True),
        ("/gradio_api/file=http://x", False),
        ("/gradio_api/file/tmp/x", False),
        ("/gradio_api/deep_link", False),
        ("/gradio_api/proxy=x", False),
        ("/gradio_api/gradio_api/deep_link", False),
        ("/monitoring", False),
        ("/review/monitoring/x", False),
        ("/page/page.js", True),
    ],
)
def test_which_doors_are_open(path: str, opened: bool) -> None:
    assert is_open(path) is opened


@given(st.text())
def test_data_in_a_script_element_cannot_end_it(text: str) -> None:
    shown = json_script("x", {"text": text + "</script><script>alert(1)"})
    assert shown.count("</script>") == 1
