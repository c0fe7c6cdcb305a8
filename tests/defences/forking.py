"""Runs pytest again and again in forks of one process that has imported the libraries already.

A program of its own, run as a script so that nothing of the project is imported before a fork:
importing takes longer than most tests. It reads a job in JSON from each line of standard input,
and answers each with a line that holds the exit code.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import sys
import tempfile
import time

#: What the tests import besides the project. One that is missing is imported, or not, by the test.
_LIBRARIES = (
    "_pytest.assertion.rewrite",
    "pytest",
    "hypothesis.strategies",
    "numpy",
    "PIL.Image",
    "pillow_heif",
    "skimage.data",
    "httpx",
    "gradio",
    "gradio_client",
    "sqlalchemy.orm",
    "alembic.command",
    "argon2",
    "fastapi",
    "starlette.testclient",
    "uvicorn",
    "pydantic_settings",
    "limits.strategies",
    "prometheus_client",
    "imagehash",
    "flatbuffers",
    "typer",
)


def child(job: dict[str, object]) -> None:
    """Be the process that tests: in the folder of the job, with its environment; never returns."""
    os.setsid()
    folder, output = str(job["folder"]), str(job["output"])
    out = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    for descriptor in (1, 2):
        os.dup2(out, descriptor)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ.clear()
    os.environ.update(job["env"])  # type: ignore[call-overload]
    tempfile.tempdir = None
    os.chdir(folder)
    sys.path.insert(0, folder)
    sys.dont_write_bytecode = True
    import pytest

    code = 70
    try:
        code = int(pytest.main(job["arguments"]))  # type: ignore[arg-type]
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def run(job: dict[str, object]) -> int | None:
    """The exit code of a job; None where its time was over, and everything of it was ended."""
    started = os.fork()
    if started == 0:
        child(job)
    deadline = time.monotonic() + float(job["seconds"])  # type: ignore[arg-type]
    code: int | None = None
    while time.monotonic() < deadline:
        done, status = os.waitpid(started, os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(status)
            break
        time.sleep(0.05)
    # The whole group: a test that was cut short may have left a server.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(started, signal.SIGKILL)
    if code is None:
        os.waitpid(started, 0)
    return code


def main() -> None:
    """Answer jobs until standard input ends."""
    sys.path.pop(0)
    for name in _LIBRARIES:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    for line in sys.stdin:
        print(json.dumps(run(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
