"""A server that answers with what it was sent, for a proxy to stand in front of."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

#: What a visitor may claim about himself and no proxy may pass on.
LIES = {
    "X-Forwarded-For": "203.0.113.7",
    "X-Forwarded-Proto": "http",
    "X-Forwarded-Host": "evil.example",
    "X-Forwarded-Port": "81",
    "X-Forwarded-Prefix": "/evil",
    "X-Real-IP": "203.0.113.7",
    "Forwarded": "for=203.0.113.7;host=evil.example",
}


class Echo(BaseHTTPRequestHandler):
    """Answers with what it was sent; under /events with an event, then another when let go."""

    protocol_version = "HTTP/1.1"
    let_go = threading.Event()

    def do_GET(self) -> None:
        if self.path == "/events":
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self._chunk(b"data: first\n\n")
            self.let_go.wait(60)
            self._chunk(b"data: second\n\n")
            self._chunk(b"")
            return
        self._tell(0)

    def do_POST(self) -> None:
        left = length = int(self.headers["Content-Length"])
        while left:
            left -= len(self.rfile.read(min(left, 65536)))
        self._tell(length)

    def log_message(self, format: str, *args: object) -> None:
        """Not on the console."""

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def _tell(self, length: int) -> None:
        headers = [[name.lower(), value] for name, value in self.headers.items()]
        told = json.dumps({"path": self.path, "headers": headers, "length": length}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(told)))
        self.end_headers()
        self.wfile.write(told)


@contextmanager
def echoing() -> Iterator[int]:
    """The port of an `Echo` on 127.0.0.1."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
