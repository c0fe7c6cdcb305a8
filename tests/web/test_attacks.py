"""Attacks on the running server.

Those on local files, `data:` URLs, hidden lengths and closed routes were seen to succeed with
`has_launched`, `Photo.preprocess`, `BodyLimit` and `ClosedDoors` taken out. What Gradio itself
refuses today (loopback URLs, run history) is tested too, so that an upgrade cannot open it.
"""

from __future__ import annotations

import base64
import http.client
import http.server
import json
import re
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from fer.collection.database import Database
from fer.collection.operators import Operators
from tests.web.conftest import somebody
from tests.web.serving import Server

FILE = {"_type": "gradio.FileData"}

#: Both mounts: what is closed on one must not be open on the other.
MOUNTS = ["", "/id"]


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file outside of every upload folder that nobody may read."""
    path = tmp_path / "secret.txt"
    path.write_text(f"secret {uuid.uuid4()}")
    return path


@pytest.fixture
def listener() -> Iterator[tuple[str, list[str]]]:
    """A web server on loopback, and the paths that it was asked for."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(204)
            self.end_headers()

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            return

    service = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=service.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{service.server_port}", asked
    service.shutdown()


def run(server: Server, mount: str, name: str, data: list[Any], **more: Any) -> httpx.Response:
    body = {"data": data, "session_hash": uuid.uuid4().hex, **more}
    return httpx.post(f"{server.url}{mount}/gradio_api/run/{name}", json=body, timeout=60)


def cached(server: Server, contents: bytes) -> list[Path]:
    """Files in upload folders that hold `contents`."""
    return [path for path in server.uploaded() if contents in path.read_bytes()]


@pytest.mark.parametrize("mount", MOUNTS)
def test_a_local_file_named_as_uploaded_is_not_copied_to_the_cache(
    server: Server, mount: str, secret: Path
) -> None:
    """GRADIO.md 1, first half: without `has_launched` any path passes as uploaded."""
    for name, rest in (("classify", [False, None, "largest"]), ("forget", [])):
        answer = run(server, mount, name, [{"path": str(secret), "meta": FILE}, *rest])
        assert answer.status_code == 500
        assert secret.read_text() not in answer.text
    assert cached(server, secret.read_bytes()) == []
    assert secret.exists()


@pytest.mark.parametrize("mount", MOUNTS)
@pytest.mark.parametrize("meta", [FILE, None, {}])
def test_a_local_image_is_not_opened(
    server: Server, mount: str, meta: dict[str, str] | None, tmp_path: Path, face_jpeg: bytes
) -> None:
    """GRADIO.md 1, second half: stock `gr.Image` opens any image when `meta` is left out."""
    picture = tmp_path / "private.jpg"
    picture.write_bytes(face_jpeg)
    payload = {"path": str(picture)} | ({} if meta is None else {"meta": meta})
    answer = run(server, mount, "classify", [payload, False, None, "largest"])
    assert answer.status_code == 500
    assert "faces" not in answer.text
    assert picture.exists()


def test_a_path_that_leaves_the_upload_folder_is_refused(
    server: Server, tmp_path: Path, face_jpeg: bytes
) -> None:
    (server.folder / "tmp" / "beside.jpg").write_bytes(face_jpeg)
    folder = next((server.folder / "tmp").glob("fer-*/uploads-*"))
    for path in (f"{folder}/../../beside.jpg", f"{folder}/.lock", str(folder)):
        answer = run(server, "", "classify", [{"path": path}, False, None, "largest"])
        assert answer.status_code == 500, path
        assert "faces" not in answer.text
    assert (folder / ".lock").exists()
    (server.folder / "tmp" / "beside.jpg").unlink()


@pytest.mark.parametrize("mount", MOUNTS)
def test_a_data_url_past_the_limit_is_refused(server: Server, mount: str) -> None:
    """GRADIO.md 1: no `max_file_size` counts for `data:` URLs; 37 MB went through."""
    url = "data:image/png;base64," + base64.b64encode(bytes(2_000_000)).decode()
    answer = run(server, mount, "classify", [{"url": url}, False, None, "largest"])
    assert answer.status_code == 413
    # Not the limit of a picture: the caller would shrink it to that, and be refused again.
    assert "256 KiB" in answer.text and "/gradio_api/upload" in answer.text


def test_a_short_data_url_is_read(server: Server, face_jpeg: bytes) -> None:
    url = "data:image/jpeg;base64," + base64.b64encode(face_jpeg).decode()
    answer = run(server, "", "classify", [{"url": url}, False, None, "largest"])
    assert answer.json()["data"][0]["faces"][0]["label"] == "happy"


def test_a_body_that_hides_its_length_is_cut_off(server: Server) -> None:
    def endless() -> Iterator[bytes]:
        yield b'{"data": ["'
        for _ in range(400):
            yield b"x" * 10_000

    url = f"{server.url}/gradio_api/run/forget"
    headers = {"content-type": "application/json"}
    try:
        answer = httpx.post(url, content=endless(), headers=headers, timeout=60)
    except (httpx.WriteError, httpx.RemoteProtocolError, httpx.ReadError):
        return  # the server hung up while the body was still being sent
    assert answer.status_code == 413


@pytest.mark.parametrize("mount", MOUNTS)
def test_an_upload_past_the_limit_is_refused_with_a_sentence(server: Server, mount: str) -> None:
    files = {"files": ("big.jpg", bytes(10_500_000), "image/jpeg")}
    answer = httpx.post(f"{server.url}{mount}/gradio_api/upload", files=files, timeout=60)
    assert answer.status_code == 413
    assert "10 MB" in answer.text
    assert [path for path in server.uploaded() if path.stat().st_size > 1_000_000] == []


def test_no_url_is_fetched_for_a_caller(server: Server, listener: tuple[str, list[str]]) -> None:
    """A payload's `path` or `url` that begins with http would make the server a proxy."""
    address, asked = listener
    for payload in (
        {"path": f"{address}/a.jpg", "meta": FILE},
        {"path": f"{address}/b.jpg"},
        {"url": f"{address}/c.jpg"},
        {"path": "x", "url": f"{address}/d.jpg", "meta": FILE},
    ):
        run(server, "", "classify", [payload, False, None, "largest"])
        run(server, "", "forget", [payload])
    httpx.get(f"{server.url}/gradio_api/file={address}/e.jpg", timeout=30)
    httpx.get(f"{server.url}/gradio_api/proxy={address}/f.jpg", timeout=30)
    assert asked == []


def test_kept_faces_are_not_served(server: Server, face_jpeg: bytes) -> None:
    """GRADIO.md 2: what is in Gradio's cache, or in a folder that it allows, is anyone's."""
    receipt = server.classify(face_jpeg, True)["receipt"]
    kept = server.kept()
    assert kept
    for path in (*kept, server.data / "fer.db", server.data / "group.key"):
        for mount in MOUNTS:
            for route in ("gradio_api/file=", "gradio_api/file/", "file="):
                answer = httpx.get(f"{server.url}{mount}/{route}{path}", timeout=30)
                assert answer.status_code in (403, 404), (route, path)
    server.client().predict(receipt, api_name="/forget")


def test_a_private_function_believes_no_forged_state(server: Server, face_jpeg: bytes) -> None:
    """GRADIO.md 3: `private` only hides. Functions of the page trust the server's state alone."""
    receipt = server.classify(face_jpeg, True)["receipt"]
    before = server.kept()
    config = httpx.get(f"{server.url}/config", timeout=30).json()
    private = [d for d in config["dependencies"] if d["api_visibility"] == "private"]
    assert private
    forged = {"receipt": receipt, "kept": {"0": "x"}, "samples": []}
    for dependency in private:
        data: list[Any] = [forged for _ in dependency["inputs"]]
        run(server, "", dependency["api_name"], data, fn_index=dependency["id"])
    assert server.kept() == before
    assert server.client().predict(receipt, api_name="/forget") == {"deleted": 1}


@pytest.mark.parametrize("mount", MOUNTS)
@pytest.mark.parametrize(
    "path",
    [
        "/monitoring",
        "/monitoring/summary",
        "/gradio_api/deep_link?session_hash=x",
        "/gradio_api/proxy=https://example.org",
        "/gradio_api/stream/x/1/2/playlist.m3u8",
        "/gradio_api/runs",
        "/gradio_api/vibe-code",
        "/gradio_api/dev/reload",
        "/gradio_api/custom_component/1/client/component/x.js",
        "/docs",
        "/openapi.json",
    ],
)
def test_doors_that_nobody_needs_are_closed(server: Server, mount: str, path: str) -> None:
    # One of them would stream without end: its head is enough.
    with httpx.stream("GET", server.url + mount + path, timeout=30) as answer:
        assert answer.status_code == 404


@pytest.mark.parametrize("route", ["process_recording", "vibe-edit", "component_server"])
def test_posts_that_nobody_needs_are_closed(server: Server, route: str) -> None:
    answer = httpx.post(f"{server.url}/gradio_api/{route}", json={}, timeout=30)
    assert answer.status_code == 404


def test_errors_show_no_path_of_the_server(server: Server) -> None:
    for data in ([{"path": 5}, 1, 2, 3], [[], {}, [], {}], ["x"], [{"path": "/x", "meta": 1}]):
        answer = run(server, "", "classify", data)
        # Nothing at all of what went wrong: an error's words name functions, paths and versions.
        assert (answer.status_code, answer.json()) == (500, {"error": None}), data


def test_a_receipt_full_of_sql_and_html_finds_nothing(server: Server) -> None:
    for code in ("' OR 1=1 --", "<script>alert(1)</script>", "%", "x" * 10_000, "\x00"):
        answer = run(server, "", "forget", [code])
        assert answer.status_code == 500
        assert "Nothing is kept under this receipt" in answer.text
        assert code not in json.dumps(answer.json()) or code == "%"


@pytest.mark.parametrize("model", ["../../etc", "20250101T000000Z-none", "/etc/passwd", "\x00"])
def test_a_model_name_reaches_no_file(server: Server, model: str, face_jpeg: bytes) -> None:
    url = "data:image/jpeg;base64," + base64.b64encode(face_jpeg).decode()
    answer = run(server, "", "classify", [{"url": url}, False, model, "largest"])
    assert answer.status_code == 500
    assert "no such model" in answer.text


EVIL = "evil.example"

_CLIENT = httpx.Client(timeout=60)


def plain(method: str, url: str, **options: Any) -> httpx.Response:
    """A request by somebody without cookies, over a connection that is open already."""
    _CLIENT.cookies.clear()
    return _CLIENT.request(method, url, **options)


@pytest.mark.parametrize("mount", MOUNTS)
def test_forged_host_headers_get_into_no_page_redirect_or_cookie(
    server: Server, mount: str
) -> None:
    """Gradio builds the address that its page asks from `Host`, frameworks their redirects."""
    forged = {"Host": EVIL, "Accept-Language": "id"}
    for path in ("", "/", "/?lang=id", "/?lang=en", "/config", "/gradio_api/startup-events"):
        answer = plain("GET", server.url + mount + path, headers=forged)
        assert EVIL not in answer.text + str(answer.headers), path
    page = plain("GET", server.url + mount + "/?lang=en", headers=forged)
    assert page.headers.get("location") == "/"
    data = {"data": ["x"], "session_hash": "s"}
    url = f"{server.url}{mount}/gradio_api/run/forget"
    assert EVIL not in plain("POST", url, json=data, headers=forged).text


@pytest.mark.parametrize(
    "path", ["/page", "/sign-in", "/sign-in?lang=id", "/review", "/review/", "/review/board"]
)
def test_forged_host_headers_at_the_operators_door(server: Server, path: str) -> None:
    answer = plain("GET", server.url + path, headers={"Host": EVIL})
    assert EVIL not in answer.text + str(answer.headers)
    assert answer.headers.get("location", "/").startswith("/")


@pytest.mark.parametrize("host", ["", "a b", "a/b", "evil.example@here", "a:b:c", "ä.example"])
def test_malformed_host_headers_are_refused(server: Server, host: str) -> None:
    answer = plain("GET", server.url + "/", headers={"Host": host.encode("latin-1")})
    assert answer.status_code == 400


@pytest.mark.parametrize(
    "path",
    [
        "//evil.example",
        "//evil.example/",
        "//evil.example/%2e%2e",
        "/%5cevil.example",
        "/%2f%2fevil.example",
        "//evil.example?lang=id",
        "/page//evil.example/..",
        "/page/%2f%2fevil.example",
        "/id//evil.example?lang=en",
        "/sign-in//evil.example",
        "/?lang=//evil.example",
        "/review//evil.example",
    ],
)
def test_open_redirects_lead_nowhere(server: Server, path: str) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    # By a connection of our own: clients tidy such paths up.
    connection = http.client.HTTPConnection(host, int(port), timeout=60)
    connection.request("GET", path, headers={"Accept-Language": "id"})
    location = connection.getresponse().getheader("location", "/")
    connection.close()
    assert re.match(r"/(?![/\\])", location + "x"), location
    assert not location.startswith(("/%5c", "/%2f"))


CROSS = [
    {"Sec-Fetch-Site": "cross-site", "Origin": f"https://{EVIL}"},
    {"Sec-Fetch-Site": "same-site"},
    {"Origin": f"https://{EVIL}"},
    {"Origin": "null"},
    {"Origin": "http://["},
]


@pytest.mark.parametrize("mount", MOUNTS)
@pytest.mark.parametrize(
    "route",
    [
        *("upload", "run/forget", "run/classify", "api/forget", "call/forget"),
        *("call/v2/forget", "queue/join", "cancel", "reset"),
    ],
)
def test_csrf_no_other_site_may_ask_in_a_visitors_name(
    server: Server, mount: str, route: str
) -> None:
    """Gradio answers every site, and lets its page read the answer with the visitor's cookies."""
    for headers in CROSS:
        for content in ("application/json", "text/plain"):
            answer = plain(
                "POST",
                f"{server.url}{mount}/gradio_api/{route}",
                content=b'{"data": ["x"], "session_hash": "s", "fn_index": 1}',
                headers={**headers, "Content-Type": content},
            )
            assert answer.status_code == 403, (headers, content)
            assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("path", ["/sign-in", "/sign-out", "/review/api/decide", "/healthz"])
def test_csrf_nor_in_an_operators(server: Server, path: str) -> None:
    for headers in CROSS:
        assert plain("POST", server.url + path, headers=headers).status_code == 403


def test_csrf_a_receipt_survives_another_sites_attempt(server: Server, face_jpeg: bytes) -> None:
    receipt = server.classify(face_jpeg, True)["receipt"]
    url = f"{server.url}/gradio_api/run/forget"
    plain("POST", url, json={"data": [receipt]}, headers=CROSS[0])
    own = {"Sec-Fetch-Site": "same-origin", "Origin": server.url}
    answer = plain("POST", url, json={"data": [receipt]}, headers=own)
    assert answer.json().get("data") == [{"deleted": 1}]


def test_no_other_site_may_read_answers(server: Server) -> None:
    headers = {"Origin": f"https://{EVIL}", "Access-Control-Request-Method": "POST", "Host": "a.b"}
    for method, path in (
        ("OPTIONS", "/gradio_api/run/classify"),
        ("GET", "/config"),
        ("GET", "/gradio_api/info"),
        ("GET", "/"),
    ):
        answer = plain(method, server.url + path, headers=headers)
        assert not [name for name in answer.headers if name.startswith("access-control-")], path


@pytest.mark.parametrize("label", ["'; DROP TABLE samples; --", "<script>alert(1)</script>", "../"])
def test_sql_html_and_paths_in_a_label_or_sample_id_change_nothing(
    server: Server, label: str, face_jpeg: bytes
) -> None:
    answer = server.classify(face_jpeg, True)
    (sample,) = answer["sample_ids"]
    before = server.kept()
    for data in ([answer["receipt"], label, sample], [answer["receipt"], "happy", label]):
        refused = run(server, "", "feedback", data)
        assert refused.status_code == 500
        assert label not in refused.text
    assert server.kept() == before
    assert server.client().predict(answer["receipt"], api_name="/forget") == {"deleted": 1}


def test_cached_files_of_a_closed_app_are_not_served_by_the_open_one(
    server: Server, face_jpeg: bytes
) -> None:
    """GRADIO.md 2: what an operator saw lay in the cache that all mounts share."""
    receipt = server.classify(face_jpeg, True)
    (sample,) = receipt["sample_ids"]
    database = Database(f"sqlite:///{server.data / 'fer.db'}")
    Operators(database).add("eve", "a long password", "admin")
    with httpx.Client(base_url=server.url, timeout=60) as operator:
        signed = {"name": "eve", "password": "a long password"}
        assert operator.post("/sign-in", data=signed).status_code == 303
        faces = [operator.get(f"/review/image/{sample}{side}") for side in ("", "?side=96")]
    assert [face.status_code for face in faces] == [200, 200]
    for face in faces:
        assert "no-store" in face.headers["cache-control"]
        assert cached(server, face.content) == []
    kept = next(path for path in server.kept() if sample in path.name)
    names = (str(kept), kept.name, f"review/image/{sample}", f"/review/image/{sample}")
    for mount in MOUNTS:
        for name in names:
            answer = plain("GET", f"{server.url}{mount}/gradio_api/file={name}")
            assert answer.status_code in (403, 404)
            assert b"\xff\xd8" not in answer.content[:2]
    assert plain("GET", f"{server.url}/review/image/{sample}").status_code == 401
    Operators(database).remove("eve")
    database.close()
    server.client().predict(receipt["receipt"], api_name="/forget")


@pytest.mark.parametrize("sample", ["..%2f..%2ffer.db", "%2e%2e/fer.db", "x' OR '1'='1", "%00"])
def test_path_traversal_in_a_sample_id_needs_a_session_first(server: Server, sample: str) -> None:
    assert plain("GET", f"{server.url}/review/image/{sample}").status_code in (401, 404)


@pytest.mark.parametrize(
    "path",
    [
        *("/", "/sign-in", "/sign-out", "/healthz", "/metrics", "/nothing", "/page/page.js"),
        *("/review/api/decide", "/gradio_api/cancel", "/gradio_api/reset", "/login"),
        *("/gradio_api/run/forget", "/gradio_api/call/forget", "/gradio_api/queue/join"),
    ],
)
def test_a_long_body_is_refused_on_every_route(server: Server, path: str) -> None:
    answer = plain("POST", server.url + path, content=b" " * 300_000)
    assert answer.status_code == 413


@pytest.mark.parametrize("head", ["Content-Length: 300000", "Transfer-Encoding: chunked"])
def test_a_refused_body_still_on_its_way_does_not_cost_the_answer(
    server: Server, head: str
) -> None:
    """A connection closed before all was read is reset, and the sentence with it."""
    path = "/gradio_api/run/forget"
    where = urlsplit(server.url)
    body = b" " * 300_000
    if "chunked" in head:
        body = b"493e0\r\n" + body + b"\r\n0\r\n\r\n"
    with socket.create_connection((where.hostname, where.port), timeout=30) as line:
        line.sendall(f"POST {path} HTTP/1.1\r\nHost: {where.netloc}\r\n{head}\r\n\r\n".encode())
        for part in (body[:290_000], body[290_000:]):
            time.sleep(0.3)
            line.sendall(part)
        assert line.recv(100).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 200),
        ("GET", "/id/", 200),
        ("GET", "/id", 303),
        ("GET", "/config", 200),
        ("GET", "/healthz", 200),
        ("GET", "/metrics", 200),
        ("GET", "/page/page.js", 200),
        ("GET", "/page/none.js", 404),
        ("GET", "/gradio_api/info", 200),
        ("GET", "/theme.css", 200),
        ("GET", "/nothing", 404),
        ("GET", "/gradio_api/proxy=x", 404),
        ("GET", "/sign-in", 200),
        ("GET", "/sign-in/style.css", 200),
        ("GET", "/review", 303),
        ("GET", "/review/api/board", 401),
        ("DELETE", "/healthz", 404),
        ("POST", "/gradio_api/run/forget", 422),
        ("OPTIONS", "/config", 405),
    ],
)
def test_every_answer_carries_security_headers(
    server: Server, method: str, path: str, status: int
) -> None:
    answer = plain(method, server.url + path)
    assert answer.status_code == status
    check_headers(answer.headers)


def test_refusals_carry_security_headers(edge: Server, proxy: httpx.Client) -> None:
    who = somebody()
    refused = proxy.post(edge.url + "/sign-in", content=b" " * 300_000, headers=who)
    assert refused.status_code == 413
    check_headers(refused.headers)
    for _ in range(5):
        refused = proxy.post(edge.url + "/sign-in", data={"name": "x"}, headers=who)
    assert refused.status_code == 429
    check_headers(refused.headers)
    refused = proxy.get(edge.url, headers=who | {"Host": "a b"})
    assert refused.status_code == 400
    check_headers(refused.headers)


def check_headers(headers: httpx.Headers) -> None:
    policy = headers["content-security-policy"]
    assert "frame-ancestors 'none'" in policy and "default-src" in policy
    assert "'unsafe-inline'" not in policy.partition("script-src")[2].partition(";")[0]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "same-origin"
    assert headers["permissions-policy"].startswith("camera=(self), microphone=()")
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert headers["x-request-id"]
    assert "server" not in headers


def test_scripts_run_by_a_number_that_nobody_can_guess(server: Server) -> None:
    """Markup that slips into a page runs nothing: its scripts lack this page's nonce."""
    nonces = []
    for _ in range(2):
        page = plain("GET", server.url + "/")
        (nonce,) = re.findall(r"'nonce-([\w-]+)'", page.headers["content-security-policy"])
        assert page.text.count("<script") == page.text.count(f'<script nonce="{nonce}"') > 3
        nonces.append(nonce)
    assert nonces[0] != nonces[1]
