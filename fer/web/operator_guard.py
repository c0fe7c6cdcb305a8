"""The door of the review console: nothing behind it answers without a session."""

from __future__ import annotations

import hmac
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fer.collection.operator_sessions import OperatorSessions, SignedIn
from fer.errors import StorageError
from fer.web.middleware import cookies_of, inner_path, request_language
from fer.web.operator_texts import console_texts
from fer.web.origins import SAFE_METHODS, same_origin

#: Name of the cookie that holds a session's token.
OPERATOR_COOKIE = "fer_operator"

#: Repeats the session's CSRF token on every request that changes something.
CSRF_HEADER = "X-CSRF-Token"

#: `sendBeacon` cannot set a header: this route finds the token in its body.
BEACON_PATH = "/review/api/leases/free"

#: Pages of the console; where signing in may lead.
PAGES = ("/review", "/review/grid", "/review/board", "/review/models")

_STATE_KEY = "fer_signed_in"

#: Nothing from elsewhere, no inline script and no inline style.
CONSOLE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


class Unauthorised(Exception):
    """A route was reached without a session, past the guard: answered with 401."""


class ReviewGuard:
    """Lets requests below `/review` through to the app if they carry a session.

    A middleware, not a dependency of each route: a route that somebody adds later, a mount, a
    body that cannot be parsed and a path that does not exist are all behind it.

    Args:
        sessions: the open sessions.
    """

    def __init__(self, app: ASGIApp, sessions: OperatorSessions) -> None:
        self.app = app
        self.sessions = sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or not is_behind(inner_path(scope)):
            await self.app(scope, receive, send)
            return
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        refusal = await self._refusal(scope)
        if refusal is not None:
            await _private(refusal, scope, receive, send)
            return
        await _private(self.app, scope, receive, send)

    async def _refusal(self, scope: Scope) -> Response | None:
        say = console_texts(request_language(scope))
        token = token_of(scope)
        try:
            signed_in = await run_in_threadpool(self.sessions.find, token) if token else None
        except StorageError as error:
            return JSONResponse({"code": error.code, "message": say.error(error)}, 503)
        if signed_in is None:
            return _sign_in_first(scope, say("sign_in.needed"))
        if scope["method"] not in SAFE_METHODS:
            sent = Headers(scope=scope).get(CSRF_HEADER, "")
            at_beacon = inner_path(scope) == BEACON_PATH
            if not same_origin(scope) or not (at_beacon or csrf_matches(signed_in, sent)):
                return JSONResponse({"code": "csrf", "message": say("error.csrf")}, 403)
        scope.setdefault("state", {})[_STATE_KEY] = signed_in
        return None


def is_behind(path: str) -> bool:
    """Whether a path needs a session."""
    return path == "/review" or path.startswith("/review/")


def token_of(scope: Scope) -> str | None:
    """The session token that a request carries, if any."""
    token = cookies_of(scope).get(OPERATOR_COOKIE, "")
    return token if 20 <= len(token) <= 100 else None


def signed_in(request: Request) -> SignedIn:
    """Who makes a request, as the guard found out.

    Raises:
        Unauthorised: the request did not come through the guard.
    """
    found = request.scope.get("state", {}).get(_STATE_KEY)
    if not isinstance(found, SignedIn):
        raise Unauthorised
    return found


def csrf_matches(who: SignedIn, sent: str) -> bool:
    """Whether `sent` is the session's CSRF token."""
    return hmac.compare_digest(who.csrf.encode(), sent.encode("utf-8", "replace"))


def next_page(wanted: str) -> str:
    """The page of the console that `wanted` names, or the first: never another site."""
    return wanted if wanted in PAGES else PAGES[0]


def _sign_in_first(scope: Scope, sentence: str) -> Response:
    path = inner_path(scope).rstrip("/")
    if scope["method"] in ("GET", "HEAD") and path in PAGES:
        root = scope.get("root_path", "").rstrip("/")
        return RedirectResponse(f"{root}/sign-in?next={quote(path, safe='')}", 303)
    return JSONResponse({"code": "signed_out", "message": sentence}, 401)


async def _private(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer so that nothing between the server and this browser keeps anything."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            kept = [
                (name, value)
                for name, value in message.get("headers", [])
                if name.lower() not in (b"cache-control", b"content-security-policy")
            ]
            message = {
                **message,
                "headers": [
                    *kept,
                    (b"cache-control", b"private, no-store"),
                    (b"content-security-policy", CONSOLE_POLICY.encode()),
                    (b"vary", b"Cookie"),
                ],
            }
        await send(message)

    await app(scope, receive, sending)
