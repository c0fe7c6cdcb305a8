"""Results of events that never were, or that this server forgot: no traceback in the log."""

from __future__ import annotations

import re

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_RESULTS = re.compile(r".*/gradio_api/(?:queue/data|call/(?:v2/)?[^/]+/[^/]+)/?")


class LostEvents:
    """Ends the stream of a result that is not there as any other stream.

    Gradio tells whoever asks that the event is not known, which its page needs after a restart,
    and then raises 404 into an answer that has begun: eighty lines in the log for each request of
    a stranger's.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not _RESULTS.fullmatch(scope["path"]):
            await self.app(scope, receive, send)
            return
        started = False

        async def sending(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app(scope, receive, sending)
        except (HTTPException, RuntimeError) as error:
            # Starlette wraps it where the answer has begun.
            lost = error if isinstance(error, HTTPException) else error.__cause__
            if not started or not isinstance(lost, HTTPException):
                raise
            await send({"type": "http.response.body", "body": b"", "more_body": False})
