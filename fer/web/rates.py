"""How often one visitor, and one address, may ask for what costs something."""

from __future__ import annotations

import hashlib
import ipaddress
import json
import math
import re
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeVar, get_args

import gradio as gr
from limits import RateLimitItem, parse_many
from limits.strategies import FixedWindowRateLimiter
from pydantic import TypeAdapter, ValidationError
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fer.config import Settings
from fer.web.counters import MOST_COUNTERS, BoundedStorage
from fer.web.logs import id_in
from fer.web.middleware import drain, inner_path, request_language, session_of
from fer.web.proxies import address_of, client_of
from fer.web.texts import Texts

#: What is counted apart from each other.
Kind = Literal["classify", "feedback", "forget", "sign_in", "upload", "other"]

KINDS: tuple[Kind, ...] = get_args(Kind)

#: Uploads for each picture that may be read: some are chosen again before they are sent.
_UPLOADS = 2

_CALL = re.compile(r"(?:run|api|call|call/v2)/(?P<name>[^/]+)/?")
_INDEX: TypeAdapter[int | None] = TypeAdapter(int | None)
_MARK = "fer_counts_as"

_F = TypeVar("_F", bound=Callable[..., Any])


def counts_as(kind: Kind) -> Callable[[_F], _F]:
    """Mark a function of a page: each call counts as one of `kind`."""

    def mark(function: _F) -> _F:
        setattr(function, _MARK, kind)
        return function

    return mark


class Rates:
    """Counts by visitor and by address.

    A visitor is the session of the page's cookie; a program without one the session it names in
    its request. Both can be made up at will, so an address has a limit of its own,
    `rate_per_address` times as high: a class behind one address shares it. Signing in counts by
    address alone.

    Args:
        settings: the limits.
        clock: seconds since the epoch.
        most: counters held at the same time.
    """

    def __init__(
        self,
        settings: Settings,
        clock: Callable[[], float] = time.time,
        most: int = MOST_COUNTERS,
    ) -> None:
        self._clock = clock
        self.storage = BoundedStorage(most, clock)
        self._limiter = FixedWindowRateLimiter(self.storage)
        limits = {
            "classify": _items(settings.rate_classify),
            "feedback": _items(settings.rate_feedback),
            "forget": _items(settings.rate_forget),
            "other": _items(settings.rate_other),
            "upload": _times(_items(settings.rate_classify), _UPLOADS),
        }
        self._by_visitor: dict[str, list[RateLimitItem]] = {**limits, "sign_in": []}
        self._by_address = {
            kind: _times(items, settings.rate_per_address) for kind, items in limits.items()
        } | {"sign_in": _items(settings.rate_sign_in)}

    def wait(self, kind: Kind, address: str, visitor: str = "") -> int:
        """Count a request, or refuse it.

        Args:
            kind: of the request.
            address: where it comes from; an IPv6 address counts as its /64 network.
            visitor: what tells visitors of one address apart; empty for a program without a
                session, which is a visitor too.

        Returns:
            0 where it may go on, else the seconds after which another may.
        """
        place = _place(address)
        # What a stranger sends is of any length: a digest is not.
        known = hashlib.blake2b(visitor.encode("utf-8", "replace"), digest_size=12).hexdigest()
        who = known if visitor else f"nobody at {place}"
        keys = [(item, (kind, "visitor", who)) for item in self._by_visitor[kind]]
        keys += [(item, (kind, "address", place)) for item in self._by_address[kind]]
        waits = [
            self._limiter.get_window_stats(item, *key).reset_time - self._clock()
            for item, key in keys
            if not self._limiter.test(item, *key)
        ]
        if waits:
            return max(1, math.ceil(max(waits)))
        for item, key in keys:
            self._limiter.hit(item, *key)
        return 0


class Calls:
    """Tells what a call of a page's function counts as, however Gradio is asked for it.

    Args:
        pages: the Blocks of each language.
    """

    def __init__(self, pages: Mapping[str, gr.Blocks]) -> None:
        self._by_id: dict[str, dict[int, Kind]] = {}
        self._by_name: dict[str, dict[str, Kind]] = {}
        for language, page in pages.items():
            kinds: dict[int, Kind] = {
                index: getattr(block.fn, _MARK, "other") for index, block in page.fns.items()
            }
            self._by_id[language] = kinds
            names: dict[str, Kind] = {}
            for index, block in page.fns.items():
                if isinstance(block.api_name, str):
                    names.setdefault(block.api_name, kinds[index])
            self._by_name[language] = names

    def kind(self, language: str, route: str, body: object) -> Kind | None:
        """What a call counts as; None where there is no such function.

        Args:
            language: of the page.
            route: below `/gradio_api/`.
            body: the parsed JSON; anything where it is none.
        """
        index = _index(body)
        found = _CALL.fullmatch(route)
        # As Gradio: an index in the body wins over the name in the path, but not below `call/`.
        if index is not None and not route.startswith("call/"):
            return self._by_id[language].get(index)
        # `queue/join` takes an index only, and Gradio says so itself.
        return self._by_name[language].get(found["name"]) if found else "other"


class RateLimit:
    """Answers 429 where somebody asks too often, with `Retry-After` and a sentence.

    Args:
        rates: the counters.
        calls: what calls of the pages' functions count as.
        refused: is told of each refusal.
    """

    def __init__(
        self,
        app: ASGIApp,
        rates: Rates,
        calls: Calls,
        refused: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.app = app
        self.rates = rates
        self.calls = calls
        self.refused = refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        kind: Kind | None = None
        named = ""
        _, at_gradio, route = scope["path"].partition("/gradio_api/")
        if at_gradio and route.rstrip("/") == "upload":
            kind = "upload"
        elif at_gradio and (_CALL.fullmatch(route) or route.rstrip("/") == "queue/join"):
            body = await _whole(receive)
            if body is None:
                return  # hung up
            receive = _again(body, receive)
            parsed = _parsed(body)
            kind = self.calls.kind(request_path_language(scope), route, parsed)
            if kind is None:
                # Gradio would break on it, and log what was sent.
                await JSONResponse({"detail": "Not found", "error": "Not found"}, 404)(
                    scope, receive, send
                )
                return
            named = _named_session(parsed)
        elif inner_path(scope).rstrip("/") == "/sign-in":
            kind = "sign_in"
        if kind is not None:
            visitor = session_of(scope) or named
            wait = self.rates.wait(kind, client_of(scope), visitor)
            if wait:
                self.refused(f"rate_{kind}")
                await drain(receive)
                as_json = bool(at_gradio) and kind != "upload"
                await too_many(scope, wait, as_json)(scope, receive, send)
                return
        await self.app(scope, receive, send)


def request_path_language(scope: Scope) -> str:
    """The language of the mount that a path belongs to."""
    return "id" if inner_path(scope).startswith("/id/") else "en"


def too_many(scope: Scope, wait: int, as_json: bool) -> Response:
    """The refusal, in the visitor's language.

    Args:
        scope: of the request.
        wait: seconds after which another request may come.
        as_json: in the form that Gradio's front end and clients show, else plain text.
    """
    texts = Texts(request_language(scope))
    if wait < 120:
        sentence = texts("error.too_many.seconds", count=wait)
    else:
        sentence = texts("error.too_many.minutes", count=math.ceil(wait / 60))
    headers = {"Retry-After": str(wait), "Cache-Control": "no-store"}
    if as_json:
        content = {"detail": sentence, "error": sentence, "request_id": id_in(scope)}
        return JSONResponse(content, 429, headers)
    return PlainTextResponse(sentence, 429, headers)


async def _whole(receive: Receive) -> bytes | None:
    """The body of a request, which `BodyLimit` keeps short; None where the other end hung up."""
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += bytes(message.get("body", b""))
        if not message.get("more_body", False):
            return body


def _again(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives `body` once more, then what comes after it."""
    given = False

    async def receiving() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receiving


def _parsed(body: bytes) -> object:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None  # Gradio will not make anything of it either


def _index(body: object) -> int | None:
    """The function index in a body, read as Gradio's data classes read it."""
    try:
        return _INDEX.validate_python(body.get("fn_index") if isinstance(body, dict) else None)
    except ValidationError:
        return None


def _named_session(body: object) -> str:
    named = body.get("session_hash") if isinstance(body, dict) else None
    return named[:200] if isinstance(named, str) else ""


def _place(address: str) -> str:
    """What of an address is counted: an IPv6 customer has a whole /64 at hand."""
    found = address_of(address)
    if isinstance(found, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((found, 64), strict=False))
    return str(found) if found is not None else "unknown"


def _items(text: str) -> list[RateLimitItem]:
    return [] if text == "off" else parse_many(text)


def _times(items: list[RateLimitItem], factor: int) -> list[RateLimitItem]:
    return [type(item)(item.amount * factor, item.multiples) for item in items]
