"""A real server: `app.py` as a process of its own, on a port that was free."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from gradio_client import Client, handle_file

ROOT = Path(__file__).parent.parent.parent

#: Tests ask more often than visitors do; those of the rates themselves set their own.
UNHURRIED = {
    f"FER_RATE_{kind}": "1000000/minute"
    for kind in ("CLASSIFY", "FEEDBACK", "FORGET", "SIGN_IN", "OTHER")
}

#: Seconds that a start may take; this machine may be busy with a training.
START = 280


@dataclass
class Server:
    """A running server.

    Attributes:
        url: without a slash at the end.
        process: the server's.
        folder: holds models/, data/, tmp/ and the log.
    """

    url: str
    process: subprocess.Popen[bytes]
    folder: Path
    clients: dict[str, Client] = field(default_factory=dict)

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def models(self) -> Path:
        return self.folder / "models"

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(encoding="utf-8", errors="replace")

    def uploaded(self) -> list[Path]:
        """Every file in folders for uploads, locks aside."""
        return [p for p in (self.folder / "tmp").rglob("*") if p.is_file() and p.name != ".lock"]

    def kept(self) -> list[Path]:
        return sorted(self.data.rglob("*.jpg"))

    def client(self, path: str = "/") -> Client:
        """A program's client; the same one each time, as it takes seconds to make."""
        if path not in self.clients:
            self.clients[path] = Client(self.url + path, verbose=False)
        return self.clients[path]

    def classify(self, picture: bytes | Path, *arguments: Any, **options: Any) -> dict[str, Any]:
        """Send a picture through `gradio_client`, as any program would."""
        if isinstance(picture, bytes):
            path = self.folder / f"picture-{time.monotonic_ns()}.bin"
            path.write_bytes(picture)
        else:
            path = picture
        answer: dict[str, Any] = self.client().predict(
            handle_file(path), *arguments, api_name="/classify", **options
        )
        return answer

    def stop(self, how: int = signal.SIGTERM) -> None:
        if self.process.poll() is None:
            self.process.send_signal(how)
        self.process.wait(timeout=60)


def start(
    folder: Path,
    models: Path | None = None,
    *,
    by: Sequence[str] = (),
    own_group: bool = False,
    **settings: str,
) -> Server:
    """Start `app.py` with its data below `folder` and wait until it answers.

    Args:
        models: the models folder; by default below `folder`.
        by: a command, such as `setpriv …`, that becomes the server.
        own_group: whether it leads a process group, which can then be killed as a whole.
    """
    for name in ("data", "tmp"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    env = environment(
        FER_PORT="0",
        FER_DATA_DIR=str(folder / "data"),
        FER_MODELS_DIR=str(models or folder / "models"),
        FER_RETRAIN_SCHEDULE="off",
        TMPDIR=str(folder / "tmp"),
        **(UNHURRIED | settings),
    )
    with (folder / "log").open("ab") as log:
        begin = log.tell()
        process = subprocess.Popen(
            [*by, sys.executable, str(ROOT / "app.py")],
            cwd=folder,
            env=env,
            stdout=log,
            stderr=log,
            start_new_session=own_group,
        )
    server = Server("", process, folder)
    deadline = time.monotonic() + START
    while time.monotonic() < deadline:
        said = (folder / "log").read_bytes()[begin:].decode("utf-8", "replace")
        found = re.search(r"Open (http://\S+?)/ in a browser", said)
        if process.poll() is not None:
            raise AssertionError(f"the server ended with {process.returncode}:\n{said}")
        if found:
            # Behind a proxy the sub-path is the proxy's; the server itself answers without it.
            server.url = found.group(1).removesuffix(settings.get("FER_ROOT_PATH", ""))
            try:
                httpx.get(server.url + "/healthz", timeout=5).raise_for_status()
                return server
            except httpx.HTTPError:
                pass
        time.sleep(0.1)
    server.stop(signal.SIGKILL)
    raise AssertionError(f"the server did not answer within {START} s:\n{server.log}")


def environment(**settings: str) -> Mapping[str, str]:
    """This process's environment without settings of its own, and with `settings`."""
    plain = {k: v for k, v in os.environ.items() if not k.startswith(("FER_", "GRADIO_"))}
    return {**plain, "PYTHONPATH": str(ROOT), **settings}
