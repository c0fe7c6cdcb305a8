"""Uploads that end early: no room, or nobody there any more. No traceback in the log for either."""

from __future__ import annotations

import errno
import logging

from starlette.requests import ClientDisconnect
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fer.web.middleware import request_language
from fer.web.texts import Texts

_LOG = logging.getLogger(__name__)

_FULL = (errno.ENOSPC, errno.EDQUOT)


class UploadFaults:
    """Answers 507 where the disk under the uploads is full, and nothing to those who hung up.

    Args:
        routes: ends of the paths of those that write what they are sent.
    """

    def __init__(self, app: ASGIApp, routes: tuple[str, ...]) -> None:
        self.app = app
        self.routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].rstrip("/").endswith(self.routes):
            await self.app(scope, receive, send)
            return
        failed: list[Message] = []

        async def holding(message: Message) -> None:
            # Gradio answers 500 before it lets the error through: that answer waits.
            if failed or (message["type"] == "http.response.start" and message["status"] >= 500):
                failed.append(message)
                return
            await send(message)

        try:
            await self.app(scope, receive, holding)
        except OSError as error:
            if error.errno not in _FULL:
                raise
            _LOG.warning("an upload was refused: the disk for temporary files is full")
            sentence = Texts(request_language(scope))("error.upload_full")
            await PlainTextResponse(sentence, 507)(scope, receive, send)
            return
        except ClientDisconnect:
            _LOG.info("an upload ended early: the visitor hung up")
            return
        for message in failed:
            await send(message)
