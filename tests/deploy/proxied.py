"""The server behind Debian's nginx, set up by the project's own file."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.web.serving import ROOT, Server, start

SITE = ROOT / "deploy" / "nginx.conf"

#: The name in the file's certificate paths and server blocks, which an administrator replaces.
NAME = "faces.example.org"

_MAIN = """\
{user}
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log info;
events {{ worker_connections 256; }}
http {{
    include /etc/nginx/mime.types;
    default_type application/octet-stream;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    scgi_temp_path {folder}/scgi;
    uwsgi_temp_path {folder}/uwsgi;
    access_log off;
    gzip on;
    include {folder}/site.conf;
}}
"""


def nginx() -> str:
    """Path of nginx, or a skip that says so; with FER_REQUIRE_NGINX=1 a failure instead."""
    path = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin")
    if path is not None:
        return path
    if os.environ.get("FER_REQUIRE_NGINX") == "1":
        pytest.fail("FER_REQUIRE_NGINX=1, but there is no nginx")
    pytest.skip("no nginx on this machine")


def certificate(folder: Path) -> Path:
    """A self-made certificate for localhost: fullchain.pem, and privkey.pem beside it."""
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"),
            *("-keyout", str(folder / "privkey.pem"), "-out", str(folder / "fullchain.pem")),
        ],
        check=True,
        capture_output=True,
    )
    return folder / "fullchain.pem"


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on."""
    with_sockets = [socket.socket() for _ in range(count)]
    for each in with_sockets:
        each.bind(("127.0.0.1", 0))
    ports = [int(each.getsockname()[1]) for each in with_sockets]
    for each in with_sockets:
        each.close()
    return ports


def configure(folder: Path, *, page: int, plain: int, secure: int) -> Path:
    """Write the project's site with only name, ports and paths replaced; the main file's path.

    Args:
        page: port of the page.
        plain, secure: ports for HTTP and HTTPS.
    """
    site = SITE.read_text(encoding="utf-8")
    for old, new in (
        (r"^ *listen \[::\]:.*\n", ""),  # a machine for tests may have no IPv6
        (r"listen 80;", f"listen 127.0.0.1:{plain};"),
        (r"listen 443 ", f"listen 127.0.0.1:{secure} "),
        (r"server 127\.0\.0\.1:7860;", f"server 127.0.0.1:{page};"),
        (r"/etc/ssl/fer/", f"{folder}/"),
        (r"/var/log/nginx/", f"{folder}/"),
        (re.escape(NAME), "localhost"),
    ):
        site, count = re.subn(old, new, site, flags=re.M)
        assert count, f"{SITE.name} has nothing like {old!r}"
    (folder / "site.conf").write_text(site, encoding="utf-8")
    # Started by root, the workers would be `nobody`, who may not enter a test's folder.
    user = "user root;" if os.getuid() == 0 else ""
    (folder / "nginx.conf").write_text(_MAIN.format(folder=folder, user=user), encoding="utf-8")
    return folder / "nginx.conf"


@dataclass
class Proxied:
    """A server behind nginx.

    Attributes:
        url: of the page from outside, without a slash at the end.
        plain: the same machine's address without TLS.
        server: the page's process.
        folder: holds nginx's log files, temporary files and certificate.
    """

    url: str
    plain: str
    server: Server
    folder: Path

    @property
    def trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.folder / "fullchain.pem"))

    def browse(self, **options: object) -> httpx.Client:
        """A browser's part of HTTP: keeps cookies, follows nothing."""
        return httpx.Client(verify=self.trust, timeout=60, **options)  # type: ignore[arg-type]


@contextmanager
def running_nginx(folder: Path, page: int) -> Iterator[tuple[int, int]]:
    """nginx by the project's site in front of a port; its ports for HTTP and HTTPS."""
    program = nginx()
    certificate(folder)
    # Another process may take a port before nginx does.
    for _ in range(3):
        plain, secure = free_ports(2)
        main = configure(folder, page=page, plain=plain, secure=secure)
        process = subprocess.Popen([program, "-p", str(folder), "-c", str(main)])
        if _answers(process, plain):
            break
    else:
        raise AssertionError((folder / "error.log").read_text(encoding="utf-8"))
    try:
        yield plain, secure
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)


@contextmanager
def behind_nginx(folder: Path, models: Path, **settings: str) -> Iterator[Proxied]:
    """The page and nginx before it, with the settings of `deploy/fer.env`."""
    nginx()
    own = {"FER_ROOT_PATH": "/fer", "FER_TRUSTED_PROXIES": "127.0.0.1", "FER_COLLECT": "opt-in"}
    server = start(folder, models, **own, **settings)
    try:
        with running_nginx(folder, int(server.url.rsplit(":", 1)[1])) as (plain, secure):
            yield Proxied(
                f"https://localhost:{secure}/fer", f"http://127.0.0.1:{plain}", server, folder
            )
    finally:
        server.stop()


def _answers(process: subprocess.Popen[bytes], port: int) -> bool:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return True
        time.sleep(0.05)
    return False
