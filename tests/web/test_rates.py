"""Rates and trusted proxies: the counters by themselves, then the running server."""

from __future__ import annotations

import re
import uuid
from functools import cache
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

from fer.config import Settings
from fer.web.counters import BoundedStorage
from fer.web.proxies import ClientAddress, address_of
from fer.web.rates import Rates
from tests.web.conftest import somebody
from tests.web.serving import Server

MOUNTS = ["", "/id"]


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


def rates(clock: Clock, most: int = 1000, **settings: Any) -> Rates:
    return Rates(Settings(_env_file=None, **settings), clock, most)


def test_a_visitor_is_refused_past_the_rate_and_served_after_retry_after() -> None:
    clock = Clock()
    counted = rates(clock, rate_classify="3/minute;5/hour")
    for _ in range(3):
        assert counted.wait("classify", "192.0.2.1", "a") == 0
    clock.now += 20
    assert counted.wait("classify", "192.0.2.1", "a") == 40
    clock.now += 39.5
    assert counted.wait("classify", "192.0.2.1", "a") == 1
    clock.now += 1
    for _ in range(2):
        assert counted.wait("classify", "192.0.2.1", "a") == 0
    # Five within the hour: what is left of it.
    assert counted.wait("classify", "192.0.2.1", "a") == 3540


def test_what_is_refused_is_not_counted() -> None:
    clock = Clock()
    counted = rates(clock, rate_classify="1/minute", rate_per_address=2)
    assert counted.wait("classify", "192.0.2.1", "a") == 0
    for _ in range(10):
        assert counted.wait("classify", "192.0.2.1", "a") > 0
    assert counted.wait("classify", "192.0.2.1", "b") == 0  # the address has one left
    assert counted.wait("classify", "192.0.2.1", "c") > 0


def test_a_class_behind_one_address_is_not_locked_out() -> None:
    """30 students who each send a picture every 6 s, by the default settings, for ten minutes."""
    clock = Clock()
    counted = rates(clock, most=40_000)
    refused = 0
    for _ in range(100):
        for student in range(30):
            refused += counted.wait("classify", "203.0.113.9", f"student {student}") > 0
        clock.now += 6
    assert refused == 0


def test_64_visitors_with_a_picture_each_5_s_are_never_refused_by_default() -> None:
    clock = Clock()
    counted = rates(clock, most=40_000)
    for _ in range(600 // 5):
        for visitor in range(64):
            assert counted.wait("classify", f"198.51.100.{visitor}") == 0
            assert counted.wait("upload", f"198.51.100.{visitor}") == 0
        clock.now += 5


def test_invented_sessions_do_not_get_past_the_address() -> None:
    counted = rates(Clock(), rate_classify="5/minute", rate_per_address=3)
    passed = [counted.wait("classify", "192.0.2.1", uuid.uuid4().hex) == 0 for _ in range(100)]
    assert sum(passed) == 15


def test_addresses_of_one_ipv6_network_count_together() -> None:
    counted = rates(Clock(), rate_classify="5/minute", rate_per_address=1)
    passed = [counted.wait("classify", f"2001:db8:0:1::{i:x}") == 0 for i in range(20)]
    assert sum(passed) == 5
    assert counted.wait("classify", "2001:db8:0:2::1") == 0


def test_kinds_are_counted_apart_and_off_is_off() -> None:
    counted = rates(Clock(), rate_classify="1/minute", rate_forget="off", rate_per_address=1)
    assert counted.wait("classify", "192.0.2.1") == 0
    assert counted.wait("classify", "192.0.2.1") > 0
    assert counted.wait("feedback", "192.0.2.1") == 0
    assert all(counted.wait("forget", "192.0.2.1") == 0 for _ in range(1000))


def test_an_address_signs_in_as_often_whatever_sessions_it_invents() -> None:
    counted = rates(Clock(), rate_sign_in="3/minute")
    passed = [counted.wait("sign_in", "192.0.2.1", uuid.uuid4().hex) == 0 for _ in range(20)]
    assert sum(passed) == 3


@given(st.lists(st.tuples(st.text(max_size=4), st.integers(1, 5)), max_size=200))
def test_counters_never_outgrow_their_bound(asked: list[tuple[str, int]]) -> None:
    clock = Clock()
    storage = BoundedStorage(8, clock)
    for key, seconds in asked:
        storage.incr(key, seconds)
        assert len(storage) <= 8
        assert storage.get(key) >= 1
        clock.now += 0.5


def test_a_million_addresses_leave_memory_bounded() -> None:
    clock = Clock()
    counted = rates(clock, most=500)
    for number in range(5000):
        assert counted.wait("classify", f"10.{number >> 8 & 255}.{number & 255}.7") == 0
    assert len(counted.storage) <= 500


# Who is at the other end.


def ends(
    peer: str, headers: list[tuple[str, str]], trusted: str, scheme: str = "http"
) -> tuple[str, str, dict[str, str]]:
    """Address, scheme and headers of a request as routes see them."""
    seen: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    client = TestClient(
        ClientAddress(app, trusted), base_url=f"{scheme}://fer.example", client=(peer, 5000)
    )
    client.get("/", headers=headers)
    passed = {name.decode(): value.decode() for name, value in seen[0]["headers"]}
    return seen[0]["client"][0], seen[0]["scheme"], passed


@pytest.mark.parametrize(
    ("peer", "said", "trusted", "address"),
    [
        ("127.0.0.1", "192.0.2.7", "", "127.0.0.1"),
        ("192.0.2.1", "127.0.0.1", "127.0.0.1", "192.0.2.1"),
        ("127.0.0.1", "192.0.2.7", "127.0.0.1", "192.0.2.7"),
        # What the visitor wrote stands to the left of what the proxy wrote.
        ("127.0.0.1", "198.51.100.1, 192.0.2.7", "127.0.0.1", "192.0.2.7"),
        ("127.0.0.1", "127.0.0.1, 192.0.2.7", "127.0.0.1", "192.0.2.7"),
        ("10.0.0.9", "192.0.2.7, 10.0.0.8", "10.0.0.0/8", "192.0.2.7"),
        ("10.0.0.9", "10.1.1.1, 10.0.0.8", "10.0.0.0/8", "10.1.1.1"),
        ("127.0.0.1", "", "127.0.0.1", "127.0.0.1"),
        ("127.0.0.1", "unknown", "127.0.0.1", "127.0.0.1"),
        ("127.0.0.1", "192.0.2.7, nonsense", "127.0.0.1", "127.0.0.1"),
        ("127.0.0.1", "192.0.2.7:4711", "127.0.0.1", "192.0.2.7"),
        ("127.0.0.1", "[2001:db8::7]:4711", "127.0.0.1", "2001:db8::7"),
        ("::ffff:127.0.0.1", "192.0.2.7", "127.0.0.1", "192.0.2.7"),
        ("::1", "192.0.2.7", "127.0.0.1,::1", "192.0.2.7"),
        ("no address", "192.0.2.7", "127.0.0.1", "no address"),
    ],
)
def test_the_right_most_address_that_is_no_proxy_counts(
    peer: str, said: str, trusted: str, address: str
) -> None:
    assert ends(peer, [("x-forwarded-for", said)], trusted)[0] == address


def test_several_headers_are_read_as_one() -> None:
    headers = [("x-forwarded-for", "198.51.100.1"), ("x-forwarded-for", "192.0.2.7")]
    assert ends("127.0.0.1", headers, "127.0.0.1")[0] == "192.0.2.7"


def test_a_thousand_forged_proxies_are_not_walked_through() -> None:
    chain = ", ".join(["192.0.2.7"] + ["127.0.0.1"] * 1000)
    assert ends("127.0.0.1", [("x-forwarded-for", chain)], "127.0.0.1")[0] == "127.0.0.1"


@pytest.mark.parametrize(
    ("peer", "chain", "proto", "scheme"),
    [
        ("127.0.0.1", "192.0.2.7", "https", "https"),
        ("192.0.2.1", "192.0.2.7", "https", "http"),
        ("127.0.0.1", "192.0.2.7", "http, https", "https"),
        ("127.0.0.1", "192.0.2.7, 127.0.0.1", "https, http", "https"),
        ("127.0.0.1", "192.0.2.7", "javascript", "http"),
    ],
)
def test_the_scheme_comes_from_the_same_place(
    peer: str, chain: str, proto: str, scheme: str
) -> None:
    headers = [("x-forwarded-for", chain), ("x-forwarded-proto", proto)]
    assert ends(peer, headers, "127.0.0.1")[1] == scheme


@pytest.mark.parametrize("peer", ["127.0.0.1", "192.0.2.1"])
def test_no_word_of_a_proxy_gets_further_in(peer: str) -> None:
    names = ["X-Forwarded-Host", "Forwarded", "X-Real-IP", "X-Gradio-Server", "X-Forwarded-Proto"]
    passed = ends(peer, [(name, "evil.example") for name in names], "127.0.0.1")[2]
    assert "evil.example" not in passed.values()


@given(st.text(max_size=60))
def test_any_text_is_an_address_or_none(text: str) -> None:
    found = address_of(text)
    assert found is None or address_of(str(found)) == found


# The running server.


@cache
def indices(url: str) -> dict[str, int]:
    config = httpx.get(f"{url}/config", timeout=60).json()
    return {d["api_name"]: d["id"] for d in config["dependencies"]}


def index_of(server: Server, mount: str, name: str) -> int:
    return indices(server.url + mount)[name]


def ask(
    client: httpx.Client,
    server: Server,
    route: str,
    name: str,
    headers: dict[str, str],
    mount: str = "",
) -> httpx.Response:
    """Call an endpoint with nothing in it, by one of the ways that Gradio has."""
    session = {"session_hash": uuid.uuid4().hex}
    data: list[Any] = {
        "classify": [None, False, None, "largest"],
        "feedback": ["x", "happy", None],
        "forget": ["x"],
    }[name]
    base = f"{server.url}{mount}/gradio_api"
    if route == "queue/join":
        body: dict[str, Any] = {"data": data, "fn_index": index_of(server, mount, name), **session}
        return client.post(f"{base}/queue/join", json=body, headers=headers)
    if route == "fn_index in the body":
        # The path names a cheap function, the body the one that is called; as text, besides.
        body = {"data": data, "fn_index": str(index_of(server, mount, name)), **session}
        return client.post(f"{base}/run/choices", json=body, headers=headers)
    if route == "call/v2":
        words = {
            "classify": {"image": None, "keep": False},
            "feedback": {"receipt": "x", "label": "happy"},
            "forget": {"receipt": "x"},
        }[name]
        return client.post(f"{base}/call/v2/{name}", json=words, headers=headers)
    body = {"data": data, **session}
    return client.post(f"{base}/{route}/{name}", json=body, headers=headers)


def refusals(answers: list[httpx.Response]) -> list[bool]:
    return [answer.status_code == 429 for answer in answers]


@pytest.mark.parametrize("mount", MOUNTS)
@pytest.mark.parametrize(
    "route", ["run", "api", "call", "call/v2", "queue/join", "fn_index in the body"]
)
def test_no_throttling_however_the_endpoint_is_reached(
    edge: Server, proxy: httpx.Client, route: str, mount: str
) -> None:
    """GRADIO.md: no throttling. Each request with a session of its own: the address counts."""
    visitor = somebody()
    answers = [ask(proxy, edge, route, "classify", visitor, mount) for _ in range(9)]
    if route == "call/v2":  # names no session: one visitor
        assert refusals(answers) == [False] * 4 + [True] * 5
    else:
        assert refusals(answers) == [False] * 8 + [True]
    refused = answers[-1]
    assert 3500 < int(refused.headers["retry-after"]) <= 3600
    english = "Too many requests from here. Please try again in 60 minutes."
    indonesian = "Terlalu banyak permintaan dari sini. Silakan coba lagi dalam 60 menit."
    assert refused.json()["detail"] == (indonesian if mount else english)
    assert ask(proxy, edge, route, "classify", somebody(), mount).status_code != 429


@pytest.mark.parametrize("name", ["feedback", "forget"])
def test_no_throttling_of_feedback_and_receipts(
    edge: Server, proxy: httpx.Client, name: str
) -> None:
    visitor = somebody()
    answers = [ask(proxy, edge, "run", name, visitor) for _ in range(9)]
    assert refusals(answers) == [False] * 8 + [True]


def test_no_throttling_by_session(edge: Server, proxy: httpx.Client) -> None:
    """One session from many addresses: a cookie that moves about."""
    cookie = {"Cookie": "fer_session=" + "s" * 32}
    answers = [ask(proxy, edge, "run", "classify", somebody() | cookie) for _ in range(5)]
    assert refusals(answers) == [False] * 4 + [True]


def test_no_throttling_of_the_pages_own_functions(edge: Server, proxy: httpx.Client) -> None:
    """`read_example` of the page reads a picture too, and counts with `/classify`."""
    visitor = somebody()
    index = index_of(edge, "", "read_example")
    body = {"data": [None], "fn_index": index, "session_hash": "s"}
    url = f"{edge.url}/gradio_api/run/read_example"
    answers = [proxy.post(url, json=body, headers=visitor) for _ in range(4)]
    assert refusals(answers) == [False] * 4
    assert proxy.post(url, json=body, headers=visitor).status_code == 429


def test_no_throttling_of_uploads(edge: Server, proxy: httpx.Client, face_jpeg: bytes) -> None:
    visitor = somebody()

    def upload() -> httpx.Response:
        files = {"files": ("x.jpg", face_jpeg, "image/jpeg")}
        return proxy.post(f"{edge.url}/gradio_api/upload", files=files, headers=visitor)

    answers = [upload() for _ in range(9)]
    assert refusals(answers) == [False] * 8 + [True]
    assert answers[-1].text == "Too many requests from here. Please try again in 60 minutes."


def test_a_disk_filled_by_uploads_stops_further_uploads(edge: Server, proxy: httpx.Client) -> None:
    """Each from an address of its own, and none ever sent: 2 MB is all they may take."""
    answers = []
    for _ in range(4):
        files = {"files": ("x.jpg", bytes(900_000) + uuid.uuid4().bytes, "image/jpeg")}
        url = f"{edge.url}/gradio_api/upload"
        answers.append(proxy.post(url, files=files, headers=somebody()))
    assert answers[-1].status_code == 503
    assert answers[-1].headers["retry-after"] == "30"
    assert answers[-1].text.startswith("Too many pictures are on their way")
    assert sum(path.stat().st_size for path in edge.uploaded()) < 3_000_000
    for path in edge.uploaded():
        path.unlink()
    files = {"files": ("x.jpg", b"x", "image/jpeg")}
    again = proxy.post(f"{edge.url}/gradio_api/upload", files=files, headers=somebody())
    assert again.status_code == 200


def test_no_throttling_of_sign_in(edge: Server, proxy: httpx.Client) -> None:
    visitor = somebody()

    def knock(name: str) -> httpx.Response:
        form = {"name": name, "password": "wrong"}
        return proxy.post(f"{edge.url}/sign-in", data=form, headers=visitor)

    answers = [knock(f"somebody {number}") for number in range(5)]
    assert refusals(answers) == [False] * 4 + [True]
    assert "Too many requests" in answers[-1].text


def test_a_spoofed_address_from_an_untrusted_peer_changes_nothing(edge: Server) -> None:
    """GRADIO.md 5: Uvicorn believes `X-Forwarded-For` of whoever comes from loopback."""
    with httpx.Client(timeout=60) as stranger:
        answers = [ask(stranger, edge, "run", "classify", somebody()) for _ in range(9)]
        assert refusals(answers) == [False] * 8 + [True]
        forged = {
            "X-Forwarded-Proto": "https",
            "X-Forwarded-Host": "evil.example",
            "X-Gradio-Server": "http://evil.example",
            "Forwarded": "for=192.0.2.1;host=evil.example;proto=https",
        }
        page = stranger.get(edge.url + "/", headers=forged)
        assert "Secure" not in page.headers["set-cookie"]
        assert "evil.example" not in page.text + str(page.headers)
        assert "evil.example" not in stranger.get(edge.url + "/config", headers=forged).text


def test_behind_a_trusted_proxy_with_tls_the_cookie_is_secure(
    edge: Server, proxy: httpx.Client
) -> None:
    headers = {**somebody(), "X-Forwarded-Proto": "https", "X-Forwarded-Host": "evil.example"}
    page = proxy.get(edge.url + "/", headers=headers)
    assert re.search(r"fer_session=[^;]+;.*; Secure", page.headers["set-cookie"])
    assert "evil.example" not in page.text
