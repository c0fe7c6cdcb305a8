"""Attacks on the running server.

Those on local files, `data:` URLs, hidden lengths and closed routes were seen to succeed with
`has_launched`, `Photo.preprocess`, `BodyLimit` and `ClosedDoors` taken out. What Gradio itself
refuses today (loopback URLs, run history) is tested too, so that an upgrade cannot open it.
"""

from __future__ import annotations

import base64
import http.server
import json
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

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
    assert httpx.get(server.url + mount + path, timeout=30).status_code == 404


@pytest.mark.parametrize("route", ["process_recording", "vibe-edit", "component_server"])
def test_posts_that_nobody_needs_are_closed(server: Server, route: str) -> None:
    answer = httpx.post(f"{server.url}/gradio_api/{route}", json={}, timeout=30)
    assert answer.status_code == 404


def test_errors_show_no_path_of_the_server(server: Server) -> None:
    for data in ([{"path": 5}, 1, 2, 3], [[], {}, [], {}], ["x"], [{"path": "/x", "meta": 1}]):
        answer = run(server, "", "classify", data)
        assert answer.status_code >= 400
        assert "/work" not in answer.text and "site-packages" not in answer.text
        assert "Traceback" not in answer.text


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


def test_pages_carry_security_headers(server: Server) -> None:
    for path in ("/", "/id/", "/healthz", "/page/page.js", "/gradio_api/info"):
        headers = httpx.get(server.url + path, timeout=30).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["referrer-policy"] == "same-origin"
        assert "camera=(self)" in headers["permissions-policy"]
