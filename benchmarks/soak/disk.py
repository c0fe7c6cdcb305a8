"""Disks that fill up, turn read-only or go away under the running server."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.soak.malformed import is_sentence
from benchmarks.soak.visitors import RefusedError, read_once
from tests.support import make_version
from tests.web.serving import ROOT, Server, environment, start


@dataclass
class Outcome:
    """What one fault came to.

    Attributes:
        fault: its name.
        said: the answer's sentence while the fault lasted.
        wrong: sentences about what may not happen.
    """

    fault: str
    said: str = ""
    wrong: list[str] = field(default_factory=list)


@contextlib.contextmanager
def small_disk(folder: Path, megabytes: int = 6) -> Iterator[Path]:
    """A disk in memory at `folder`.

    Raises:
        PermissionError: mounting is not allowed here.
    """
    folder.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=700", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        raise PermissionError("mounting a tmpfs is not allowed here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)


@contextlib.contextmanager
def filled(disk: Path) -> Iterator[None]:
    """Not a byte is left on `disk`."""
    ballast = disk / ".ballast"
    try:
        with ballast.open("wb", buffering=0) as stream:
            for size in (65_536, 4096, 1):
                with contextlib.suppress(OSError):
                    while True:
                        stream.write(bytes(size))
        try:
            (disk / ".one-more").write_bytes(b"x" * 4096)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
        finally:
            (disk / ".one-more").unlink(missing_ok=True)
        yield
    finally:
        ballast.unlink(missing_ok=True)


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Nothing may be written in `folder` and the folders in it, by those who obey modes.

    Root does not, unless it gave up CAP_DAC_OVERRIDE: see `OBEDIENT`.
    """
    folders = [folder, *(path for path in folder.iterdir() if path.is_dir())]
    files = [path for path in folder.iterdir() if path.is_file()]
    modes = {path: path.stat().st_mode & 0o777 for path in (*folders, *files)}
    for path, mode in modes.items():
        path.chmod(mode & 0o555)
    try:
        yield
    finally:
        for path, mode in modes.items():
            path.chmod(mode)


#: A command that runs what follows without root's right to write anywhere.
OBEDIENT = (
    "setpriv",
    "--bounding-set=-dac_override,-dac_read_search,-fowner",
    "--inh-caps=-dac_override,-dac_read_search,-fowner",
    "--",
)


@contextlib.contextmanager
def removed(folder: Path) -> Iterator[None]:
    """What `folder` leads to is not there, as when someone moved it; then it is again."""
    place = folder.resolve()
    aside = place.with_name("aside")
    place.rename(aside)
    try:
        yield
    finally:
        aside.rename(place)


@contextlib.contextmanager
def unmounted(folder: Path) -> Iterator[None]:
    """The disk that holds `folder` is not mounted, and an empty folder is seen in its place."""
    place = folder.resolve().parent
    aside = place.with_name(place.name + ".aside")
    aside.mkdir()
    subprocess.run(["mount", "--bind", str(place), str(aside)], check=True)
    subprocess.run(["umount", "-l", str(place)], check=True)
    try:
        yield
    finally:
        subprocess.run(["mount", "--bind", str(aside), str(place)], check=True)
        subprocess.run(["umount", "-l", str(aside)], check=True)
        aside.rmdir()


@contextlib.contextmanager
def server_on_small_disks(folder: Path) -> Iterator[Server]:
    """A server below `folder`, its data on one small disk and its uploads on another.

    Raises:
        PermissionError: mounting is not allowed here.
    """
    make_version(folder / "models", favourite="happy", default=True)
    place = folder / "disk"
    # Under the disk, too, there is an empty folder: what is seen when it is not mounted.
    (place / "data").mkdir(parents=True)
    with small_disk(place), small_disk(folder / "tmp"):
        (place / "data").mkdir()
        (folder / "data").symlink_to(place / "data")
        server = start(folder, by=OBEDIENT)
        try:
            yield server
        finally:
            server.stop()


#: Each fault: what makes it happen to the data folder, and a word of what must be said.
FAULTS: dict[str, tuple[Callable[[Path], AbstractContextManager[None]], str]] = {
    "disk full": (filled, "full"),
    "read-only folder": (read_only, "written to"),
    "folder removed": (removed, "gone"),
    "disk unmounted": (unmounted, "gone"),
}


def survive(server: Server, fault: str, picture: bytes) -> Outcome:
    """Let a fault happen to the server's data, and see what it answers before, during and after.

    Args:
        server: with its data folder on a small disk, started by `OBEDIENT`.
        fault: one of `FAULTS`.
        picture: with one face.
    """
    happening, about = FAULTS[fault]
    outcome = Outcome(fault)
    wrong = outcome.wrong
    _saved(server, picture, wrong, "before")
    before = {path: path.read_bytes() for path in server.kept()}
    with happening(server.data):
        for _ in range(3):
            answer = _asked(server, picture, wrong, "during")
            if answer is None:
                continue
            outcome.said = answer.get("warning", "")
            if len(answer["faces"]) != 1:
                wrong.append(f"during: {len(answer['faces'])} faces were read")
            if answer["receipt"] is not None or answer["sample_ids"]:
                wrong.append("during: a receipt was given for what could not be saved")
            if about not in outcome.said:
                wrong.append(f"during: it said {outcome.said!r}, not why nothing was saved")
    after = {path: path.read_bytes() for path in server.kept()}
    if after != before:
        wrong.append(f"after: {len(before)} pictures became {len(after)}, or other ones")
    wrong += [f"half-written: {path.name}" for path in server.data.rglob(".tmp-*")]
    found = verified(server.data)
    if not found["clean"]:
        wrong.append(f"after: fer samples verify found {found}")
    _saved(server, picture, wrong, "after")
    if "Traceback" in server.log:
        wrong.append("the log holds a traceback")
    return outcome


def survive_full_uploads(server: Server, picture: bytes) -> Outcome:
    """The disk that takes uploads is full: no picture can be read, which must be said.

    Args:
        server: with its folder for temporary files on a small disk.
        picture: with one face.
    """
    outcome = Outcome("no room for uploads")
    _asked(server, picture, outcome.wrong, "before")
    with filled(server.folder / "tmp"):
        try:
            read_once(server.url, picture)
            outcome.wrong.append("during: a picture was read that had no room")
        except RefusedError as error:
            outcome.said = error.text
            if error.status != 507 or not is_sentence(error.text):
                outcome.wrong.append(f"during: it answered {error}")
    # What had been written of it stays until the janitor comes, ten minutes later.
    if [path for path in server.uploaded() if not path.name.startswith("tmp")]:
        outcome.wrong.append("after: a refused upload looks like a whole one")
    _asked(server, picture, outcome.wrong, "after")
    if "Traceback" in server.log:
        outcome.wrong.append("the log holds a traceback")
    return outcome


def _saved(server: Server, picture: bytes, wrong: list[str], when: str) -> None:
    answer = _asked(server, picture, wrong, when)
    if answer is None:
        return
    paths = [path for path in server.kept() if path.stem in answer["sample_ids"]]
    if answer["receipt"] is None or len(paths) != 1:
        wrong.append(f"{when}: nothing was saved: {answer.get('warning')}")


def _asked(server: Server, picture: bytes, wrong: list[str], when: str) -> dict[str, Any] | None:
    try:
        answer: dict[str, Any] = read_once(server.url, picture, keep=True)
    except RefusedError as error:
        wrong.append(f"{when}: no reading, {error}")
        return None
    return answer


def verified(data: Path, *options: str, models: Path | None = None) -> dict[str, Any]:
    """What `fer samples verify` finds, with `clean` and `mendable`."""
    settings = {"FER_DATA_DIR": str(data)} | ({"FER_MODELS_DIR": str(models)} if models else {})
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import fer.cli; fer.cli.main()",
            "samples",
            "verify",
            "--json",
            *options,
        ],
        cwd=ROOT,
        env=environment(**settings),
        capture_output=True,
        text=True,
    )
    if not done.stdout.strip():
        raise AssertionError(f"fer samples verify: {done.stderr}")
    report: dict[str, Any] = json.loads(done.stdout)
    return report
