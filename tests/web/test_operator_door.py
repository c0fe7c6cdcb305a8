"""Signing in and out, and the guard: nothing below /review answers to strangers."""

from __future__ import annotations

import html
import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from fer.collection.database import Database
from fer.collection.operator_sessions import SESSION_HOURS, OperatorSessions
from fer.collection.operators import Operators
from fer.collection.tables import OperatorSession
from fer.web.operator_guard import OPERATOR_COOKIE, PAGES, ReviewGuard, next_page
from fer.web.operator_lockout import Lockout
from tests.web.operator_support import (
    PASSWORD,
    Client,
    Console,
    review_paths,
    running_console,
)


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    with running_console(tmp_path_factory.mktemp("console"), audit_share=0.0) as console:
        console.operator("ada", "admin")
        console.operator("grace")
        console.fill(3)
        yield console


def test_nothing_below_review_answers_without_a_session(console: Console) -> None:
    paths = review_paths(console.app)
    assert len(paths) > 25, "the walk over the route table found too little"
    assert ("POST", "/review/api/decide") in paths
    assert ("GET", f"/review/image/{'0' * 32}") in paths
    stranger = httpx.Client(base_url=console.url)
    for method, path in [
        *paths,
        ("GET", f"/review/image/{console.ids[0]}"),
        ("OPTIONS", "/review"),
    ]:
        answer = stranger.request(method, path)
        if method == "GET" and path.rstrip("/") in PAGES:
            assert answer.status_code == 303, (method, path)
            assert answer.headers["location"].startswith("/sign-in?next=")
        else:
            assert answer.status_code == 401, (method, path)
            assert answer.headers.get("cache-control") == "private, no-store"


def test_nothing_below_review_of_the_whole_server_answers_without_a_session(
    tmp_path: Path,
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.web.whole_server_walk", str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout.splitlines()[-1])
    assert len(answers) > 25
    assert {status for _, _, status in answers} <= {303, 401}
    assert all(path.rstrip("/") in PAGES for _, path, status in answers if status == 303)


@pytest.mark.parametrize(
    "body", [b"{", b"\xff\xfe", b'{"order": 5}'], ids=["cut off", "no text", "wrong type"]
)
def test_a_malformed_body_tells_strangers_nothing(console: Console, body: bytes) -> None:
    answer = httpx.post(f"{console.url}/review/api/queue", content=body)
    assert answer.status_code == 401


@pytest.mark.parametrize("path", ["/review//api/session", "/review/%61pi/session", "//review/grid"])
def test_odd_spellings_of_a_path_open_no_way_around_the_guard(console: Console, path: str) -> None:
    answer = httpx.get(console.url + path, follow_redirects=False)
    assert answer.status_code in (303, 401, 404)
    assert "csrf" not in answer.text


def test_a_made_up_cookie_is_no_session(console: Console) -> None:
    for token in ("x" * 43, "", "'; DROP TABLE operators; --" * 2):
        answer = httpx.get(
            console.url + "/review/api/session", headers={"Cookie": f"{OPERATOR_COOKIE}={token}"}
        )
        assert answer.status_code == 401


def test_the_cookie_is_for_http_alone_and_for_this_site(console: Console) -> None:
    answer = sign_in(console.url, "ada")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert "Path=/;" in cookie
    assert "Secure" not in cookie


def test_behind_tls_the_cookie_is_secure(console: Console) -> None:
    client = TestClient(console.app, base_url="https://fer.example", follow_redirects=False)
    answer = client.post("/sign-in", data={"name": "ada", "password": PASSWORD})
    assert "Secure" in answer.headers["set-cookie"]


def test_signing_in_gives_a_new_token_and_ends_the_one_before(console: Console) -> None:
    client = console.signed_in("ada")
    first = client.http.cookies[OPERATOR_COOKIE]
    client.http.post("/sign-in", data={"name": "ada", "password": PASSWORD})
    second = client.http.cookies[OPERATOR_COOKIE]
    assert first != second
    planted = httpx.get(
        console.url + "/review/api/session", headers={"Cookie": f"{OPERATOR_COOKIE}={first}"}
    )
    assert planted.status_code == 401


def test_session_fixation_a_planted_token_never_becomes_a_session(console: Console) -> None:
    planted = "A" * 43
    client = httpx.Client(base_url=console.url, cookies={OPERATOR_COOKIE: planted})
    client.post("/sign-in", data={"name": "ada", "password": PASSWORD})
    answer = httpx.get(
        console.url + "/review/api/session", headers={"Cookie": f"{OPERATOR_COOKIE}={planted}"}
    )
    assert answer.status_code == 401


def test_signing_out_ends_the_session_on_the_server(console: Console) -> None:
    client = console.signed_in("ada")
    token = client.http.cookies[OPERATOR_COOKIE]
    forged = client.http.post("/sign-out", data={"csrf": "0" * 64})
    assert forged.status_code == 403
    assert client.get("session").status_code == 200
    answer = client.http.post("/sign-out", data={"csrf": client.csrf})
    assert answer.headers["location"] == "/sign-in"
    again = httpx.get(
        console.url + "/review/api/session", headers={"Cookie": f"{OPERATOR_COOKIE}={token}"}
    )
    assert again.status_code == 401


@pytest.mark.parametrize(
    "wanted",
    [
        "https://evil.example/",
        "//evil.example",
        "/\\evil.example",
        "/review/../../evil",
        "javascript:alert(1)",
        "/review\r\nSet-Cookie: a=b",
        "",
    ],
)
def test_open_redirects_lead_to_the_console_instead(console: Console, wanted: str) -> None:
    answer = httpx.post(
        console.url + "/sign-in", data={"name": "ada", "password": PASSWORD, "next": wanted}
    )
    assert answer.status_code == 303
    assert answer.headers["location"] == "/review"


@given(st.text())
def test_the_next_page_is_always_one_of_the_consoles(wanted: str) -> None:
    assert next_page(wanted) in PAGES


def test_after_signing_in_one_is_where_one_wanted_to_go(console: Console) -> None:
    first = httpx.get(console.url + "/review/board")
    assert first.headers["location"] == "/sign-in?next=%2Freview%2Fboard"
    answer = sign_in(console.url, "ada", next="/review/board")
    assert answer.headers["location"] == "/review/board"


def test_after_a_wrong_password_the_name_stands_there_as_text_and_the_password_does_not(
    console: Console,
) -> None:
    name = 'ada"><script>x</script>'
    answer = httpx.post(console.url + "/sign-in", data={"name": name, "password": "wrong one"})
    assert answer.status_code == 401
    assert "<script>x" not in answer.text and "wrong one" not in answer.text
    assert f'value="{html.escape(name)}"' in answer.text


CHANGING = [
    ("queue", {"order": "uncertain", "count": 1}),
    ("undo", {"sitting": "a-sitting-of-mine"}),
    ("delete", {"ids": ["0" * 32]}),
    ("models/rollback", {}),
    ("retrain", {}),
    ("import", {}),
]


@pytest.mark.parametrize(("path", "body"), CHANGING)
def test_csrf_a_request_without_the_token_changes_nothing(
    console: Console, path: str, body: dict[str, object]
) -> None:
    client = console.signed_in("ada")
    for token in ("", "0" * 64):
        client.csrf = token
        answer = client.post(path, body)
        assert (answer.status_code, answer.json()["code"]) == (403, "csrf")


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
    ],
)
def test_csrf_a_request_from_elsewhere_is_refused_even_with_the_token(
    console: Console, headers: dict[str, str]
) -> None:
    client = console.signed_in("ada")
    assert client.post("undo", {"sitting": "a-sitting-of-mine"}, **headers).status_code == 403
    beacon = {"ids": [], "csrf": client.csrf}
    assert client.post("leases/free", beacon, **headers).status_code == 403
    forged = httpx.post(
        console.url + "/sign-in", data={"name": "ada", "password": PASSWORD}, headers=headers
    )
    assert forged.status_code == 403


def test_the_beacon_needs_its_token_in_the_body(console: Console) -> None:
    client = console.signed_in("grace")
    own, client.csrf = client.csrf, ""
    assert client.post("leases/free", {"ids": [], "csrf": own}).status_code == 204
    assert client.post("leases/free", {"ids": [], "csrf": "0" * 64}).status_code == 403


ADMIN_ONLY = [
    ("GET", "models"),
    ("POST", "models/promote"),
    ("POST", "models/rollback"),
    ("POST", "retrain"),
    ("POST", "delete"),
    ("POST", "import"),
]


@pytest.mark.parametrize(("method", "path"), ADMIN_ONLY)
def test_reviewers_may_not_do_what_admins_do(console: Console, method: str, path: str) -> None:
    client = console.signed_in("grace")
    bodies = {"models/promote": {"version": console.model}, "delete": {"ids": console.ids}}
    answer = client.get(path) if method == "GET" else client.post(path, bodies.get(path, {}))
    assert (answer.status_code, answer.json()["code"]) == (403, "admin")
    assert all(row.deleted_at is None for row in console.samples().values())


def test_without_any_operator_the_page_says_how_to_add_one(tmp_path: Path) -> None:
    with running_console(tmp_path) as console:
        answer = httpx.get(console.url + "/sign-in")
        assert "fer operators add NAME --role admin" in answer.text
        assert "<form" not in answer.text
        console.operator("ada")
        assert "<form" in httpx.get(console.url + "/sign-in").text


def test_below_a_sub_path_cookie_redirects_and_links_stay_there(tmp_path: Path) -> None:
    with running_console(tmp_path, root_path="/fer") as console:
        console.operator("ada")
        answer = httpx.get(console.url + "/review/grid")
        assert answer.headers["location"] == "/fer/sign-in?next=%2Freview%2Fgrid"
        signed = sign_in(console.url, "ada", next="/review/grid")
        assert signed.headers["location"] == "/fer/review/grid"
        assert "Path=/fer;" in signed.headers["set-cookie"]
        client = Client(console.url)
        # The proxy takes the sub-path away; a browser, which knows only the path with it, has sent
        # the cookie that belongs there.
        client.http.headers["Cookie"] = signed.headers["set-cookie"].split(";")[0]
        page = client.http.get("/review/grid").text
        assert 'src="/fer/review/assets/app.js"' in page
        assert client.http.get("/review/assets/app.js").status_code == 200


def test_the_page_speaks_indonesian_when_asked(console: Console) -> None:
    client = console.signed_in("ada")
    moved = client.http.get("/review/grid?lang=id")
    assert moved.headers["location"] == "/review/grid"
    session = client.get("session").json()
    assert session["language"] == "id"
    assert session["texts"]["nav.queue"] == "Antrean"


# Wrong passwords


def test_ten_wrong_passwords_lock_the_name_and_the_address(tmp_path: Path) -> None:
    with running_console(tmp_path) as console:
        console.operator("ada")
        console.operator("grace")
        for _ in range(10):
            assert sign_in(console.url, "ada", password="wrong one").status_code == 401
        locked = sign_in(console.url, "ada")
        assert locked.status_code == 429
        assert 0 < int(locked.headers["retry-after"]) <= 300
        assert "set-cookie" not in locked.headers
        # The address, too: whoever guesses tries the next name.
        assert sign_in(console.url, "grace").status_code == 429


def test_a_locked_name_is_locked_from_every_address() -> None:
    lockout = Lockout(wrong=3, lock_seconds=60)
    for address in ("10.0.0.1", "10.0.0.2", "10.0.0.3"):
        assert lockout.begin("ada", address) == 0
        lockout.wrong("ada", address)
    assert 0 < lockout.begin("ADA ", "10.0.0.4") <= 60
    assert lockout.begin("grace", "10.0.0.4") == 0


def test_many_attempts_at_once_do_not_slip_through() -> None:
    lockout = Lockout(wrong=3)
    # None has been answered yet: they count from their beginning.
    assert [lockout.begin("ada", "10.0.0.1") > 0 for _ in range(5)] == [0, 0, 0, 1, 1]


def test_a_right_password_strikes_the_wrong_ones_off() -> None:
    lockout = Lockout(wrong=3)
    for _ in range(5):
        assert lockout.begin("ada", "10.0.0.1") == 0
        lockout.wrong("ada", "10.0.0.1")
        assert lockout.begin("ada", "10.0.0.1") == 0
        lockout.right("ada", "10.0.0.1")


def test_a_million_names_leave_memory_bounded() -> None:
    """The storage of `limits` keeps every name that was ever tried."""
    lockout = Lockout(wrong=1, most=500)
    for number in range(2000):
        lockout.begin(f"name {number}", f"10.0.{number >> 8}.{number & 255}")
        lockout.wrong(f"name {number}", f"10.0.{number >> 8}.{number & 255}")
        assert len(lockout.counted) <= 500 and len(lockout.locked) <= 500


def test_a_flood_of_names_unlocks_nobody() -> None:
    lockout = Lockout(wrong=2, most=500)
    for _ in range(2):
        assert lockout.begin("ada", "10.0.0.1") == 0
        lockout.wrong("ada", "10.0.0.1")
    for number in range(2000):
        lockout.begin(f"name {number}", f"10.1.{number >> 8}.{number & 255}")
    assert lockout.begin("ada", "10.0.0.2") > 0


# Sessions


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2025, 6, 15, 12, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path / 'fer.db'}")
    database.migrate()
    yield database
    database.close()


def test_a_session_ends_by_itself(database: Database) -> None:
    clock = Clock()
    Operators(database, clock).add("ada", PASSWORD)
    sessions = OperatorSessions(database, clock)
    token = sessions.open("ada")
    clock.now += timedelta(hours=SESSION_HOURS, seconds=-1)
    assert sessions.find(token) is not None
    clock.now += timedelta(seconds=1)
    assert sessions.find(token) is None


def test_a_new_password_or_a_removal_ends_sessions(database: Database) -> None:
    clock = Clock()
    operators = Operators(database, clock)
    operators.add("ada", PASSWORD)
    sessions = OperatorSessions(database, clock)
    token = sessions.open("ada")
    operators.set_password("ada", "another long one")
    assert sessions.find(token) is None
    token = sessions.open("ada")
    operators.remove("ada")
    assert sessions.find(token) is None
    clock.now += timedelta(seconds=1)
    # Who gets the name next does not inherit the session.
    operators.add("ada", PASSWORD)
    operators.set_password("ada", PASSWORD)
    assert sessions.find(token) is None


def test_the_database_holds_no_token(database: Database) -> None:
    Operators(database).add("ada", PASSWORD)
    token = OperatorSessions(database).open("ada")
    with database.session() as session:
        (row,) = session.query(OperatorSession)
    assert token not in row.token_hash
    assert OperatorSessions(database).find(row.token_hash) is None


def test_a_route_that_the_guard_does_not_see_is_closed_all_the_same(tmp_path: Path) -> None:
    with running_console(tmp_path) as console:
        bare = FastAPI()
        bare.router.routes = console.app.router.routes
        bare.exception_handlers = console.app.exception_handlers
        assert ReviewGuard not in [entry.cls for entry in bare.user_middleware]
        answer = TestClient(bare).get("/review/api/session")
        assert answer.status_code == 401


def sign_in(url: str, name: str, password: str = PASSWORD, **more: str) -> httpx.Response:
    return httpx.post(url + "/sign-in", data={"name": name, "password": password, **more})
