"""A visitor of the running server, over plain HTTP: by the named endpoint, or as the page does.

Three requests make one reading, as the page's script and `gradio_client` make them: the upload,
the call, and the stream in which the answer comes.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import httpx

from benchmarks.soak.completing import complete

FILE = {"_type": "gradio.FileData"}


class RefusedError(Exception):
    """The server did not give a reading.

    Attributes:
        status: of the HTTP answer; 200 where the stream said no.
        text: what it said.
    """

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{status}: {text}")
        self.status = status
        self.text = text


@dataclass
class Visitor:
    """One visitor.

    Args:
        url: of the server, without a slash at the end.
        address: that a trusted proxy says the visitor has.
        page: whether the answer comes by way of the page's own button, not of `/classify`.
    """

    url: str
    address: str = ""
    page: bool = False
    client: httpx.AsyncClient = field(init=False)

    def __post_init__(self) -> None:
        headers = {"X-Forwarded-For": self.address} if self.address else {}
        self.client = httpx.AsyncClient(
            base_url=self.url, headers=headers, timeout=60, trust_env=False
        )
        self._button = -1
        # A page has one session for as long as it is open.
        self._session = uuid.uuid4().hex[:11]

    async def __aenter__(self) -> Visitor:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.aclose()

    async def open(self) -> None:
        """Fetch the page, which gives the session cookie, and learn the number of its button."""
        await self._get("/")
        config = (await self._get("/config")).json()
        self._button = next(
            entry["id"] for entry in config["dependencies"] if entry["api_name"] == "read"
        )

    async def read(
        self, picture: bytes, keep: bool = False, *, over: float = 0.0, hang_up: float = 0.0
    ) -> Any:
        """One reading.

        Args:
            over: seconds that the upload takes, dribbled.
            hang_up: share of the exchange after which the visitor is gone: within the upload
                below 0.5, within the stream from there on; 0 is never.

        Returns:
            What `/classify` answers, or the updates of the page; None after hanging up.

        Raises:
            RefusedError: no reading.
        """
        if hang_up:
            # Who comes back after hanging up opens the page anew.
            self._session = uuid.uuid4().hex[:11]
        path = await self._upload(picture, over, hang_up)
        if path is None:
            return None
        payload = {"path": path, "meta": FILE}
        if self.page:
            return await self._by_page(payload, keep, hang_up >= 0.5)
        return await self._by_name(payload, keep, hang_up >= 0.5)

    async def call(self, name: str, *data: Any) -> Any:
        """Any named endpoint; errors as for `read`."""
        return await self._by_call(name, list(data), False)

    async def _upload(self, picture: bytes, over: float, hang_up: float) -> str | None:
        edge = uuid.uuid4().hex
        head = (
            f"--{edge}\r\n"
            'Content-Disposition: form-data; name="files"; filename="picture.jpg"\r\n'
            "Content-Type: image/jpeg\r\n\r\n"
        )
        body = head.encode() + picture + f"\r\n--{edge}--\r\n".encode()
        gone_at = int(len(body) * 2 * hang_up) if 0 < hang_up < 0.5 else None

        async def pieces() -> AsyncIterator[bytes]:
            count = 20 if over else 1
            size = len(body) // count + 1
            for start in range(0, len(body), size):
                if gone_at is not None and start + size > gone_at:
                    yield body[start:gone_at]
                    raise _Gone
                yield body[start : start + size]
                if over:
                    await asyncio.sleep(over / count)

        headers = {
            "Content-Type": f"multipart/form-data; boundary={edge}",
            "Content-Length": str(len(body)),
        }
        try:
            answer = await self.client.post("/gradio_api/upload", content=pieces(), headers=headers)
        except _Gone:
            return None
        _check(answer)
        return str(answer.json()[0])

    async def _by_name(self, payload: dict[str, Any], keep: bool, hang_up: bool) -> Any:
        return await self._by_call("classify", [payload, keep, None, "largest"], hang_up)

    async def _by_call(self, name: str, data: list[Any], hang_up: bool) -> Any:
        answer = await self.client.post(f"/gradio_api/call/{name}", json={"data": data})
        _check(answer)
        stream = f"/gradio_api/call/{name}/{answer.json()['event_id']}"
        async for event, content in self._events(stream, hang_up):
            if event == "complete":
                return content[0]
            if event == "error":
                raise RefusedError(200, str(content))
        if hang_up:
            return None
        raise RefusedError(200, "the stream ended without an answer")

    async def _by_page(self, payload: dict[str, Any], keep: bool, hang_up: bool) -> Any:
        session = self._session
        body = {"data": [payload, keep, None], "fn_index": self._button, "session_hash": session}
        answer = await self.client.post("/gradio_api/queue/join", json=body)
        _check(answer)
        stream = f"/gradio_api/queue/data?session_hash={session}"
        async for _, message in self._events(stream, hang_up):
            if message["msg"] == "process_completed":
                if not message["success"]:
                    raise RefusedError(200, str(message["output"]))
                return message["output"]["data"]
            if message["msg"] in ("queue_full", "unexpected_error"):
                raise RefusedError(200, str(message))
        if hang_up:
            return None
        raise RefusedError(200, "the stream ended without an answer")

    async def _events(self, path: str, hang_up: bool) -> AsyncIterator[tuple[str, Any]]:
        async with self.client.stream("GET", path) as answer:
            if answer.status_code != 200:
                await answer.aread()
                _check(answer)
            if hang_up:
                return
            event = ""
            async for line in answer.aiter_lines():
                name, _, rest = line.partition(": ")
                if name == "event":
                    event = rest
                elif name == "data":
                    yield event, json.loads(rest)

    async def _get(self, path: str) -> httpx.Response:
        answer = await self.client.get(path, follow_redirects=True)
        _check(answer)
        return answer


class _Gone(Exception):
    """The visitor hung up."""


def _check(answer: httpx.Response) -> None:
    if answer.status_code != 200:
        raise RefusedError(answer.status_code, answer.text[:300])


def read_once(url: str, picture: bytes, keep: bool = False) -> Any:
    """One reading by `/classify`, for those who have nothing else to wait for."""

    async def once() -> Any:
        async with Visitor(url) as visitor:
            return await visitor.read(picture, keep)

    return complete(once())
