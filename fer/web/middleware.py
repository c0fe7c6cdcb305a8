"""What surrounds every route: body limits, closed doors of Gradio's, headers, language, cookies."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import secrets
from collections.abc import Callable, Mapping
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fer.web.texts import LANGUAGES, Texts, preferred

SESSION_COOKIE = "fer_session"
LANGUAGE_COOKIE = "fer_lang"

#: Longest body of a request that carries no picture, in bytes.
SMALL_BODY = 256 * 1024

#: Room for what surrounds a picture in a multipart body, in bytes.
_MULTIPART = 16 * 1024

#: How long a body is taken that is refused anyway.
_LINGER_SECONDS = 5

#: A name that can never exist (RFC 6761), and where Gradio's page builds on it.
_NOBODY = "fer.invalid"
_ROOT = re.compile(rf'("root":\s*|const root = )"https?://{re.escape(_NOBODY)}')

_POLICY = "Content-Security-Policy"
_SCRIPT = re.compile(r"<script\b")

_YEAR = 365 * 24 * 3600
_SESSION = re.compile(r"[A-Za-z0-9_-]{22,64}")

#: Gradio's routes that the pages and `gradio_client` use. What is not listed is closed: run
#: history, deep links (which write a session to disk), proxies, recordings, monitoring.
_GRADIO_API = re.compile(
    r"(?:upload|upload_progress|info|openapi\.json|startup-events|app_id|login_check|token|user"
    r"|theme\.css|cancel|reset|queue/(?:join|data|status)|heartbeat/[^/]+"
    r"|(?:run|api|call|call/v2)/[^/]+(?:/[^/]+)?|file=.+)/?"
)
SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; script-src 'self'; "
        "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
        "media-src 'self' blob:; font-src 'self' data:; connect-src 'self'; "
        "worker-src 'self' blob:; object-src 'none'; base-uri 'self'; form-action 'self'; "
        "frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=(), payment=(), usb=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class BodyLimit:
    """Refuses bodies that are longer than their route allows, announced or not.

    Args:
        picture_bytes: longest picture, for the routes that take one.
        picture_routes: ends of the paths of those routes.
        larger: longest body of routes that take yet more, by their paths.
        refused: is told of each refusal.
    """

    def __init__(
        self,
        app: ASGIApp,
        picture_bytes: int,
        picture_routes: tuple[str, ...] = (),
        larger: Mapping[str, int] | None = None,
        refused: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.refused = refused
        self.app = app
        self.picture_bytes = picture_bytes
        self.picture_routes = picture_routes
        self.larger = dict(larger or {})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        limit = SMALL_BODY
        if self._takes_picture(scope):
            limit = self.picture_bytes + _MULTIPART
        limit = self.larger.get(inner_path(scope), limit)
        headers = Headers(scope=scope)
        announced = headers.get("content-length", "")
        if announced.isdigit() and int(announced) > limit:
            await self._refuse(scope, receive, send, limit)
            return
        seen = 0
        over = started = False
        more = True

        async def limited_receive() -> Message:
            nonlocal seen, over, more
            message = await receive()
            if message["type"] == "http.request":
                more = message.get("more_body", False)
                seen += len(message.get("body", b""))
                if seen > limit:
                    over = True
                    raise _TooLong
            return message

        async def limited_send(message: Message) -> None:
            nonlocal started
            # Whatever a route makes of a body that was cut off, the answer is ours.
            if started or not over:
                started = True
                await send(message)

        try:
            await self.app(scope, limited_receive, limited_send)
        except _TooLong:
            over = True
        if over and not started:
            await self._refuse(scope, receive, send, limit, more)

    async def _refuse(
        self, scope: Scope, receive: Receive, send: Send, limit: int, more: bool = True
    ) -> None:
        self.refused("body")
        sentence = self._sentence(scope, limit)
        # Who asks first ("Expect: 100-continue") has not sent the body yet, and need not.
        if more and Headers(scope=scope).get("expect", "").lower() != "100-continue":
            await linger(receive)
        # The rest of the body is not read, so the connection cannot be used again.
        response = PlainTextResponse(sentence, 413, headers={"Connection": "close"})
        await response(scope, receive, send)

    def _takes_picture(self, scope: Scope) -> bool:
        return bool(scope["path"].rstrip("/").endswith(self.picture_routes))

    def _sentence(self, scope: Scope, limit: int) -> str:
        """What was too long, in the words of the route: a picture, a call of the API, any body."""
        texts = Texts(request_language(scope))
        if self._takes_picture(scope):
            megabytes = f"{self.picture_bytes / 1_000_000:g}"
            return texts("error.picture_too_large", limit=megabytes, unit="MB")
        size, unit = (limit / 1024, "KiB") if limit < 1_000_000 else (limit / 1_000_000, "MB")
        sentence = texts("error.body_too_large", limit=f"{size:g}", unit=unit)
        if "/gradio_api/" in scope["path"]:
            sentence += " " + texts("error.upload_first")
        return sentence


class _TooLong(Exception):
    """A body went past its limit; never leaves `BodyLimit`."""


async def linger(receive: Receive) -> None:
    """Take of a body that is too long what comes in `_LINGER_SECONDS`.

    Closing a connection on which bytes lie unread resets it, and the other end may lose an answer
    that it had received already (RFC 9112, section 9.6).
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LINGER_SECONDS):
            await drain(receive)


async def drain(receive: Receive) -> None:
    """Take what is left of a body, which `BodyLimit` bounds, and forget it.

    A refusal before that would cut the connection while the other end still sends, and it would
    see an error of the network in place of the sentence.
    """
    more = True
    while more:
        more = (await receive()).get("more_body", False)


class ClosedDoors:
    """Answers 404 for routes of Gradio's that nothing here uses."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not is_open(scope["path"]):
            await PlainTextResponse("Not found", 404)(scope, receive, send)
            return
        await self.app(scope, receive, send)


def is_open(path: str) -> bool:
    """Whether a path may be asked for."""
    _, found, rest = path.partition("/gradio_api/")
    if found:
        # `file=` serves local files by path, and fetches what begins with http: only the first.
        remote = rest.startswith("file=") and "://" in rest
        return _GRADIO_API.fullmatch(rest) is not None and not remote
    return not {"monitoring", "openapi.json"} & set(path.split("/"))


class SecurityHeaders:
    """Adds `SECURITY_HEADERS` where a route has not set its own.

    What Gradio's routes answer may show a face: no browser or proxy stores it. Its preview of an
    uploaded picture, place and time of its taking included, was found in a browser's cache.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
                if "/gradio_api/" in scope["path"]:
                    headers["Cache-Control"] = "no-store"
            await send(message)

        await self.app(scope, receive, sending)


class Pages:
    """The visitor's pages: chooses the language, gives the session cookie, dresses the HTML.

    `/` is the English page, `/id/` the Indonesian one. `?lang=` sets a cookie and moves over;
    without one, a browser that prefers the other language is sent there from `/`.

    Args:
        dress: what becomes of the HTML of the page in a language.
    """

    def __init__(self, app: ASGIApp, dress: Callable[[str, str], str]) -> None:
        self.app = app
        self.dress = dress

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        language = page_language(scope)
        if language is None:
            await self.app(_nameless(scope), receive, send)
            return
        moved = self._moved(scope, language)
        if moved is not None:
            await moved(scope, receive, send)
            return
        await self._dressed(_nameless(scope), receive, send, language)

    def _moved(self, scope: Scope, here: str) -> RedirectResponse | None:
        root = scope.get("root_path", "").rstrip("/")
        query = parse_qs(scope.get("query_string", b"").decode("latin-1"))
        chosen = query.pop("lang", [""])[-1]
        chosen = chosen if chosen in LANGUAGES else ""
        wanted = chosen or here
        if not chosen and here == "en":
            wanted = request_language(scope)
        at_slash = inner_path(scope).endswith("/")
        if not chosen and wanted == here and at_slash:
            return None
        path = root + ("/" if wanted == "en" else f"/{wanted}/")
        rest = urlencode(query, doseq=True)
        response = RedirectResponse(f"{path}?{rest}" if rest else path, 303)
        response.headers["Cache-Control"] = "no-store"
        if chosen:
            response.set_cookie(
                LANGUAGE_COOKIE, chosen, max_age=_YEAR, path=root or "/", samesite="lax"
            )
        return response

    async def _dressed(self, scope: Scope, receive: Receive, send: Send, language: str) -> None:
        start: Message | None = None
        body = b""
        # Before the app is asked: its mounts add their own path to the scope's `root_path`, and a
        # cookie of the page in one language must count in the other.
        cookie = _session_cookie(scope)

        async def gathering(message: Message) -> None:
            nonlocal start, body
            if message["type"] == "http.response.start":
                start = message
                return
            if start is None:
                await send(message)
                return
            body += message.get("body", b"")
            if message.get("more_body", False):
                return
            headers = MutableHeaders(raw=list(start["headers"]))
            out = body
            if headers.get("content-type", "").startswith("text/html"):
                document = _ROOT.sub(r'\1location.origin+"', body.decode("utf-8"))
                nonce = secrets.token_urlsafe(16)
                document = self.dress(document, language)
                out = _SCRIPT.sub(rf'<script nonce="{nonce}"', document).encode("utf-8")
                headers["Content-Security-Policy"] = SECURITY_HEADERS[_POLICY].replace(
                    "script-src 'self'", f"script-src 'self' 'nonce-{nonce}' 'unsafe-eval'"
                )
                headers["Content-Length"] = str(len(out))
                headers["Cache-Control"] = "no-store"
                headers["Vary"] = "Accept-Language, Cookie"
                if not session_of(scope):
                    headers.append("Set-Cookie", cookie)
            await send({**start, "headers": headers.raw})
            await send({"type": "http.response.body", "body": out})

        await self.app(scope, receive, gathering)


def _nameless(scope: Scope) -> Scope:
    """A request to Gradio under a name that is nobody's: it builds absolute URLs from `Host`."""
    if scope["type"] != "http":
        return scope
    named = "/gradio_api/" in scope["path"] or inner_path(scope).rstrip("/").endswith("/config")
    if page_language(scope) is None and not named:
        return scope
    headers = [pair for pair in scope["headers"] if pair[0] != b"host"]
    return {**scope, "headers": [*headers, (b"host", _NOBODY.encode())]}


def inner_path(scope: Scope) -> str:
    """The path below the sub-path that the server is mounted at."""
    path: str = scope["path"]
    root = scope.get("root_path", "").rstrip("/")
    return path[len(root) :] if root and path.startswith(root) else path


def page_language(scope: Scope) -> str | None:
    """The language of the visitor's page that a request asks for; None for anything else."""
    if scope["type"] != "http" or scope["method"] not in ("GET", "HEAD"):
        return None
    path = inner_path(scope)
    if path in ("", "/"):
        return "en"
    tag = path.strip("/")
    return tag if tag in LANGUAGES and tag != "en" else None


def cookies_of(scope: Scope) -> dict[str, str]:
    """The request's cookies; none where the header is malformed."""
    try:
        jar = SimpleCookie(Headers(scope=scope).get("cookie", ""))
    except CookieError:
        return {}
    return {name: morsel.value for name, morsel in jar.items()}


def request_language(scope: Scope) -> str:
    """By the path, the cookie, then the browser's wish."""
    first = inner_path(scope).strip("/").split("/")[0]
    if first in LANGUAGES:
        return first
    chosen = cookies_of(scope).get(LANGUAGE_COOKIE, "")
    if chosen in LANGUAGES:
        return chosen
    return preferred(Headers(scope=scope).get("accept-language", ""))


def session_of(scope: Scope) -> str | None:
    """The visitor's session, where the cookie holds one that this server could have given."""
    return valid_session(cookies_of(scope).get(SESSION_COOKIE))


def valid_session(value: str | None) -> str | None:
    """`value` if it looks like a session that this server gave."""
    return value if value and _SESSION.fullmatch(value) else None


def _session_cookie(scope: Scope) -> str:
    path = scope.get("root_path", "").rstrip("/") or "/"
    secure = "; Secure" if scope.get("scheme") == "https" else ""
    value = secrets.token_urlsafe(24)
    return f"{SESSION_COOKIE}={value}; Path={path}; HttpOnly; SameSite=Lax{secure}"


def json_script(element_id: str, value: object) -> str:
    """A `<script>` element that holds data, safe whatever the data says."""
    text = json.dumps(value, ensure_ascii=False).replace("<", "\\u003c")
    return f'<script type="application/json" id="{element_id}">{text}</script>'
