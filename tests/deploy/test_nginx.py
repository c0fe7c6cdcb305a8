"""Debian's nginx with the project's own file: before an echo (quick), before the page (long)."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from gradio_client import Client, handle_file

from fer.collection.opening import open_store
from fer.collection.operators import Operators
from fer.config import Settings
from tests.deploy.echo import LIES, Echo, echoing
from tests.deploy.proxied import Proxied, behind_nginx, running_nginx
from tests.support import make_version, wait_for

PASSWORD = "a long password"


@pytest.fixture(scope="module")
def echo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxied]:
    """nginx before an echo; `server` is None here."""
    folder = tmp_path_factory.mktemp("echo")
    with echoing() as upstream, running_nginx(folder, upstream) as (plain, secure):
        yield Proxied(
            f"https://localhost:{secure}/fer",
            f"http://127.0.0.1:{plain}",
            None,  # type: ignore[arg-type]
            folder,
        )


def test_what_a_visitor_claims_about_himself_does_not_reach_the_page(echo: Proxied) -> None:
    with echo.browse() as browser:
        told = browser.get(echo.url + "/a", headers=LIES).json()
    sent = [
        (name, value) for name, value in told["headers"] if "forwarded" in name or "-ip" in name
    ]
    assert sorted(sent) == [("x-forwarded-for", "127.0.0.1"), ("x-forwarded-proto", "https")]
    host = echo.url.removeprefix("https://").removesuffix("/fer")
    assert ["host", host] in told["headers"]


def test_the_page_is_asked_without_the_sub_path(echo: Proxied) -> None:
    with echo.browse() as browser:
        assert browser.get(echo.url + "/id/x?y=1").json()["path"] == "/id/x?y=1"
        upload = browser.post(echo.url + "/gradio_api/upload?upload_id=1", content=b"x")
        assert upload.json()["path"] == "/gradio_api/upload?upload_id=1"
        moved = browser.get(echo.url)
        assert (moved.status_code, moved.headers["location"]) == (308, "/fer/")
        outside = echo.url.removesuffix("/fer") + "/other"
        assert browser.get(outside).status_code == 404


def test_events_pass_at_once(echo: Proxied) -> None:
    Echo.let_go.clear()
    address = echo.url + "/events"
    with echo.browse() as browser, browser.stream("GET", address, timeout=10) as answer:
        events = answer.iter_lines()
        # With buffering, nothing arrives before the echo is let go, and this times out.
        assert next(events) == "data: first"
        Echo.let_go.set()
        assert "data: second" in list(events)


def test_a_picture_is_not_written_to_a_disk(echo: Proxied) -> None:
    with echo.browse() as browser:
        picture = bytes(9_900_000)
        told = browser.post(echo.url + "/gradio_api/upload", content=picture).json()
    assert told["length"] == len(picture)
    log = (echo.folder / "error.log").read_text(encoding="utf-8")
    assert "buffered to a temporary file" not in log


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("/gradio_api/upload", "The picture is larger than 10 MB."),
        ("/id/gradio_api/upload", "Gambar lebih besar dari 10 MB."),
    ],
)
def test_a_picture_too_large_is_refused_in_a_sentence(
    echo: Proxied, path: str, sentence: str
) -> None:
    with echo.browse() as browser:
        answer = browser.post(echo.url + path, content=bytes(10_500_000))
    assert answer.status_code == 413
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.text == sentence


def test_an_archive_for_import_may_be_larger(echo: Proxied) -> None:
    with echo.browse() as browser:
        archive = bytes(12_000_000)
        told = browser.post(echo.url + "/review/api/import", content=archive).json()
    assert (told["path"], told["length"]) == ("/review/api/import", len(archive))


@pytest.mark.parametrize(
    "path", ["/metrics", "/metrics/", "/metrics?x", "//metrics", "/a/../metrics", "/%6detrics"]
)
def test_metrics_are_for_the_machine_itself(echo: Proxied, path: str) -> None:
    port = int(re.search(r":(\d+)/", echo.url)[1])  # type: ignore[index]
    # By hand: clients tidy such paths up.
    request = f"GET /fer{path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    with (
        socket.create_connection(("127.0.0.1", port), 30) as raw,
        echo.trust.wrap_socket(raw, server_hostname="localhost") as line,
    ):
        line.sendall(request.encode())
        assert b" 404 " in line.recv(4096).splitlines()[0]


def test_another_hosts_name_is_refused(echo: Proxied) -> None:
    with echo.browse() as browser:
        answer = browser.get(echo.url + "/", headers={"Host": "evil.example"})
    assert answer.status_code == 421
    moved = httpx.get(echo.plain + "/fer/?x=1", headers={"Host": "evil.example"})
    assert (moved.status_code, moved.headers["location"]) == (301, "https://localhost/fer/?x=1")


def test_an_address_has_few_uploads_at_a_time(echo: Proxied) -> None:
    port = int(re.search(r":(\d+)/", echo.url)[1])  # type: ignore[index]
    head = (
        b"POST /fer/gradio_api/upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nslow"
    )
    lines = []
    try:
        for _ in range(8):
            raw = socket.create_connection(("127.0.0.1", port), 30)
            lines.append(echo.trust.wrap_socket(raw, server_hostname="localhost"))
            lines[-1].sendall(head)
        with echo.browse() as browser:
            # nginx may not have read the eighth yet.
            statuses = {
                browser.post(echo.url + "/gradio_api/upload", content=b"x").status_code
                for _ in range(20)
            }
            assert 429 in statuses
            assert browser.get(echo.url + "/").status_code == 200
    finally:
        for line in lines:
            line.close()


def test_the_log_holds_no_address_and_no_query(echo: Proxied) -> None:
    with echo.browse() as browser:
        browser.get(echo.url + "/marked?receipt=SECRET")
    file = echo.folder / "fer.log"
    # It is written when the answer is out, which may be after it has come.
    wait_for(lambda: "GET /fer/marked " in file.read_text(encoding="utf-8"))
    log = file.read_text(encoding="utf-8")
    assert "SECRET" not in log
    assert "127.0.0.1" not in log


@pytest.mark.long
@pytest.mark.parametrize("path", ["/", "/id/"])
def test_a_program_uploads_under_the_sub_path(
    proxied: Proxied, path: str, face_jpeg: bytes, tmp_path: Path
) -> None:
    picture = tmp_path / "face.jpg"
    picture.write_bytes(face_jpeg)
    # The client knows certificates of this machine's authorities only.
    page = Client(proxied.url + path, ssl_verify=False, verbose=False)
    answer = page.predict(handle_file(picture), keep=True, api_name="/classify")
    assert [face["label"] for face in answer["faces"]] == ["happy"]
    assert len(proxied.server.kept()) == 1
    assert page.predict(answer["receipt"], api_name="/forget")["deleted"] == 1
    assert proxied.server.kept() == []
    assert proxied.server.uploaded() == []


@pytest.mark.long
@pytest.mark.parametrize("language", ["en", "id"])
def test_every_file_that_the_page_names_is_there(proxied: Proxied, language: str) -> None:
    path = "/" if language == "en" else "/id/"
    with proxied.browse(headers={"Accept-Language": language}) as browser:
        page = browser.get(proxied.url + path)
        assert page.status_code == 200
        found = re.findall(r'<(?:script|link)[^>]*? (?:src|href)="([^"#]+)"', page.text)
        assert len(found) >= 4
        for name in found:
            # Gradio's own link to a manifest that only its "install this app" would use.
            if name.endswith("manifest.json"):
                continue
            file = page.url.join(name)
            assert str(file).startswith(proxied.url + "/"), name
            assert browser.get(file).status_code == 200, name
        cookie = page.headers["set-cookie"]
        assert "; Path=/fer;" in cookie
        assert "; Secure" in cookie
        assert page.headers["strict-transport-security"]


@pytest.mark.long
def test_a_heartbeat_arrives_before_its_answer_ends(proxied: Proxied) -> None:
    address = proxied.url + "/gradio_api/heartbeat/abc"
    with proxied.browse() as browser, browser.stream("GET", address, timeout=10) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        # The next one comes 15 s later.
        assert "ALIVE" in next(answer.iter_text())


@pytest.mark.long
def test_signing_in_gives_a_cookie_for_https_and_the_sub_path_alone(proxied: Proxied) -> None:
    add_operator(proxied, "ada")
    with proxied.browse() as browser:
        away = browser.get(proxied.url + "/review")
        assert away.headers["location"] == "/fer/sign-in?next=%2Freview"
        form = {"name": "ada", "password": PASSWORD, "next": "/review"}
        origin = proxied.url.removesuffix("/fer")
        foreign = {"Origin": "https://evil.example"}
        refused = browser.post(proxied.url + "/sign-in", data=form, headers=foreign)
        assert "set-cookie" not in refused.headers
        entered = browser.post(proxied.url + "/sign-in", data=form, headers={"Origin": origin})
        assert (entered.status_code, entered.headers["location"]) == (303, "/fer/review")
        cookie = entered.headers["set-cookie"]
        for part in ("; Secure", "; HttpOnly", "; Path=/fer"):
            assert part in cookie
        console = browser.get(proxied.url + "/review")
        assert console.status_code == 200
        for name in re.findall(r'(?:src|href)="([^"#?]+\.(?:js|css))', console.text):
            assert browser.get(console.url.join(name)).status_code == 200, name


@pytest.mark.long
def test_a_spoofed_address_is_not_believed(tmp_path: Path) -> None:
    """Eleven guesses from "eleven addresses" are eleven guesses from one."""
    make_version(tmp_path / "models", default=True)
    with behind_nginx(tmp_path, tmp_path / "models") as proxied, proxied.browse() as browser:
        add_operator(proxied, "ada")
        statuses = [
            browser.post(
                proxied.url + "/sign-in",
                data={"name": f"nobody{number}", "password": "guess"},
                headers={
                    "Origin": proxied.url.removesuffix("/fer"),
                    "X-Forwarded-For": f"203.0.113.{number}",
                },
            ).status_code
            for number in range(11)
        ]
    assert statuses[0] != 429
    assert statuses[-1] == 429


def add_operator(proxied: Proxied, name: str) -> None:
    settings = Settings(data_dir=proxied.server.data, models_dir=proxied.server.models)
    store = open_store(settings)
    Operators(store.database).add(name, PASSWORD, "admin")
    store.database.close()
