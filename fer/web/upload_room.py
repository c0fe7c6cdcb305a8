"""How much the pictures that wait to be read may take up on the disk together."""

from __future__ import annotations

import time
from collections.abc import Callable

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from fer.web.middleware import drain, request_language
from fer.web.texts import Texts

#: Seconds after which a refused visitor may try again: most pictures are read within one.
_RETRY = 30

#: Seconds for which a look at the folder is good enough, while it is less than half full.
_HOLDS = 1.0


class UploadRoom:
    """Answers 503 to uploads while those that nobody sent yet fill their folder.

    Rates bound what one address uploads; this bounds what all of them do together, so that
    uploads cannot fill the disk that the system's temporary files lie on.

    Args:
        size: bytes in the folder now.
        most: bytes at which uploads are refused.
        refused: is told of each refusal.
    """

    def __init__(
        self,
        app: ASGIApp,
        size: Callable[[], int],
        most: int,
        refused: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.app = app
        self.size = size
        self.most = most
        self.refused = refused
        # When the folder was last walked through, what it held, and what was let in since.
        self._walked = float("-inf")
        self._held = self._since = 0

    def _has_plenty(self, announced: int) -> bool:
        """Whether that is known without walking through the folder, which costs most of it all."""
        fresh = time.monotonic() < self._walked + _HOLDS
        return fresh and self._held + self._since + announced < self.most / 2

    def _is_full(self) -> bool:
        """Whether there is no room, by a walk through the folder."""
        self._held, self._since = self.size(), 0
        self._walked = time.monotonic()
        return self._held >= self.most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        posted = scope["type"] == "http" and scope["method"] == "POST"
        if not (posted and scope["path"].rstrip("/").endswith("/gradio_api/upload")):
            await self.app(scope, receive, send)
            return
        # One that does not say how long it is may be as long as all that is left.
        length = Headers(scope=scope).get("content-length", "")
        announced = int(length) if length.isdigit() else self.most
        if not self._has_plenty(announced) and await run_in_threadpool(self._is_full):
            self.refused("uploads_full")
            sentence = Texts(request_language(scope))("error.uploads_full")
            headers = {"Retry-After": str(_RETRY)}
            await drain(receive)
            await PlainTextResponse(sentence, 503, headers)(scope, receive, send)
            return
        self._since += announced
        await self.app(scope, receive, send)
