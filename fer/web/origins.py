"""Which site's page a request was sent for: no other site's may change anything here."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fer.web.middleware import request_language
from fer.web.texts import Texts

#: Methods that change nothing.
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

_CORS = b"access-control-"


class SameOrigin:
    """Refuses what changes something if a browser sends it for another site's page.

    Gradio lets every site ask and read, with cookies; here no site may, and none is told that it
    might. Programs that are no browsers send neither `Sec-Fetch-Site` nor `Origin`.

    Args:
        refused: is told of each refusal.
    """

    def __init__(self, app: ASGIApp, refused: Callable[[str], None] = lambda _: None) -> None:
        self.app = app
        self.refused = refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if scope["method"] not in SAFE_METHODS and not same_origin(scope):
            self.refused("cross_site")
            sentence = Texts(request_language(scope))("error.cross_site")
            content = {"code": "csrf", "message": sentence, "detail": sentence, "error": sentence}
            await JSONResponse(content, 403)(scope, receive, send)
            return

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = message.get("headers", [])
                kept = [pair for pair in headers if not pair[0].lower().startswith(_CORS)]
                message = {**message, "headers": kept}
            await send(message)

        await self.app(scope, receive, sending)


def same_origin(scope: Scope) -> bool:
    """Whether a request comes from our own page, as far as the browser says.

    Browsers send `Sec-Fetch-Site` over HTTPS and on loopback addresses, and `Origin` with every
    POST. A program that sends neither is no browser and carries nobody's cookie by accident.
    """
    headers = Headers(scope=scope)
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    origin = headers.get("origin")
    if origin is None:
        return True
    try:
        place = urlsplit(origin).netloc
    except ValueError:
        return False
    return bool(place) and place.casefold() == headers.get("host", "").casefold()
