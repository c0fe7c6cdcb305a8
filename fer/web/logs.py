"""What the server writes down of a request: never a picture, a name of a file, a receipt, a cookie.

Each request has an id. It is in the answer's `X-Request-ID`, in the log lines that the request
caused, and in the row of a face that was kept through it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import time
import uuid
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Literal

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fer.errors import (
    DamagedModelError,
    DatabaseVersionError,
    FerError,
    ManifestError,
    NoModelError,
    StorageError,
)
from fer.web.middleware import inner_path
from fer.web.texts import Texts

LogFormat = Literal["text", "json"]

#: Header that carries the id, both ways.
HEADER = "X-Request-ID"

_LOG = logging.getLogger("fer.requests")
_STATE = "fer_request_id"
_FIT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{7,63}")
_current: ContextVar[str] = ContextVar("fer_request_id", default="")

#: Where a request goes, without what it carries: the first that fits the path names the route.
_ROUTES = [
    (re.compile(pattern), name)
    for pattern, name in (
        (r"(?:/id)?/?", "page"),
        (r"/page/.*", "static"),
        (r"(?:/id)?/gradio_api/upload/?", "upload"),
        (r"(?:/id)?/gradio_api/queue/join/?", "join"),
        (r"(?:/id)?/gradio_api/queue/.*", "queue"),
        (r"(?:/id)?/gradio_api/(?:run|api)/[^/]+/?", "run"),
        (r"(?:/id)?/gradio_api/call/(?:v2/)?[^/]+/?", "call"),
        (r"(?:/id)?/gradio_api/call/.*", "result"),
        (r"(?:/id)?/gradio_api/.*", "gradio"),
        (r"(?:/id)?/(?:config|info)/?", "gradio"),
        (r"(?:/id)?/(?:assets|static|theme\.css).*", "static"),
        (r"/sign-(?:in|out)(?:/.*)?", "sign-in"),
        (r"/review/api/.*", "review-api"),
        (r"/review/image/.*", "review-image"),
        (r"/review(?:/.*)?", "review"),
        (r"/healthz|/readyz", "health"),
        (r"/metrics", "metrics"),
    )
]

#: Every name that `route_of` may give.
ROUTES = tuple(dict.fromkeys([*(name for _, name in _ROUTES), "other"]))

#: Told at the end of each request: its route, its status, and the seconds it took.
Observer = Callable[[str, int, float], None]


def request_id() -> str:
    """The id of the request that is being answered here; empty outside of any."""
    return _current.get()


def id_in(scope: Scope) -> str:
    """The id that `RequestLog` gave to a request; empty where there is none."""
    return str(scope.get("state", {}).get(_STATE, ""))


@contextlib.contextmanager
def answering(request: str) -> Iterator[None]:
    """Work for a request in another task than the one that took it, as Gradio's queue does."""
    before = _current.set(request)
    try:
        yield
    finally:
        _current.reset(before)


#: What is the server's fault rather than the visitor's: whoever complains needs a reference.
_FAULTS = (
    StorageError,
    DatabaseVersionError,
    NoModelError,
    DamagedModelError,
    ManifestError,
)


def error_sentence(error: FerError, texts: Texts) -> str:
    """The sentence for an error; for a fault of the server's with the id of the request."""
    sentence = texts.error(error)
    if not (isinstance(error, _FAULTS) and request_id()):
        return sentence
    _LOG.warning("%s: %s", error.code, error.message)
    return texts("error.reference", sentence=sentence, request=request_id())


class RequestLog:
    """Gives each request an id, writes a line about it, and tells an observer.

    An id that comes with the request is a trusted proxy's: `ClientAddress` drops all others.
    Lines of what only reads are written at DEBUG level, unless it was refused or went wrong.

    Args:
        observe: told of each request at its end.
        clock: seconds, for durations.
    """

    def __init__(
        self,
        app: ASGIApp,
        observe: Observer = lambda *_: None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.app = app
        self.observe = observe
        self.clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        said = Headers(scope=scope).get(HEADER, "")
        identity = said if _FIT.fullmatch(said) else uuid.uuid4().hex
        # A dictionary of this request's own: the server's may be shared.
        scope["state"] = {**scope.get("state", {}), _STATE: identity}
        begin, status = self.clock(), 0

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[HEADER] = identity
            await send(message)

        with answering(identity):
            try:
                await self.app(scope, receive, sending)
            finally:
                self._end(scope, status, self.clock() - begin)

    def _end(self, scope: Scope, status: int, seconds: float) -> None:
        route, method = route_of(scope), method_of(scope)
        # No answer at all: the other end hung up, or the route broke, which the server logs.
        shown = status or 499
        self.observe(route, shown, seconds)
        reads = method in ("GET", "HEAD", "OPTIONS") and shown < 400
        _LOG.log(
            logging.DEBUG if reads else logging.INFO,
            "%s %s %d %.0f ms",
            method,
            route,
            shown,
            1000 * seconds,
            extra={"fer": {"method": method, "route": route, "status": shown, "seconds": seconds}},
        )


def route_of(scope: Scope) -> str:
    """One of `ROUTES`; never a part of the path that the request chose."""
    path = inner_path(scope)
    return next((name for pattern, name in _ROUTES if pattern.fullmatch(path)), "other")


def method_of(scope: Scope) -> str:
    """The method, if it is one of HTTP's own."""
    known = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
    return scope["method"] if scope["method"] in known else "OTHER"


class TextFormatter(logging.Formatter):
    """Lines for people."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s%(request)s %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """The line, with the id of the request that caused it."""
        record.request = f" [{request_id()}]" if request_id() else ""
        return super().format(record)

    def formatMessage(self, record: logging.LogRecord) -> str:
        # What a stranger sent may be quoted in a message: it must not pass as a line of its own.
        record.message = record.message.replace("\r", "\\r").replace("\n", "\\n")
        return super().formatMessage(record)


class JsonFormatter(logging.Formatter):
    """One JSON object a line, for programs."""

    def format(self, record: logging.LogRecord) -> str:
        """The line: time, level, logger, message; request_id, exception and more where known."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if request_id():
            line["request_id"] = request_id()
        more = getattr(record, "fer", None)
        if isinstance(more, dict):
            line.update(more)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def configure(form: LogFormat, level: int = logging.INFO) -> None:
    """Write every logger's lines to stderr in one form; Uvicorn's too, if it has no own."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # It names the address and the path of each request that Gradio makes to itself.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    logging.getLogger("alembic.runtime.plugins").setLevel(logging.WARNING)
