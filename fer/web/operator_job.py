"""Starts the retraining job beside the server and follows what it says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from fer.config import Settings
from fer.errors import RetrainingError

#: The composition root of the job, beside `app.py`.
SCRIPT = Path(__file__).parents[2] / "retrain.py"

_NICE = 10
_TAIL_BYTES = 16_384
_TAIL_LINES = 40


class RetrainingJob:
    """At most one run at a time, started here; its output lies in the data folder.

    The job itself holds a lock against runs that a schedule or a shell started.

    Args:
        settings: the job gets the same folders and database.
        script: what is run with `--json`.
    """

    def __init__(self, settings: Settings, script: Path = SCRIPT) -> None:
        self._settings = settings
        self._script = script
        self._folder = settings.data_dir / ".retrain"
        self._turn = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Begin a run.

        Raises:
            RetrainingError: there is no such script, or a run is under way.
        """
        if not self._script.is_file():
            raise RetrainingError("The retraining job is not installed.", reason="missing")
        with self._turn:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                # Between servers that share the folder, too.
                with FileLock(self._folder / "start.lock", timeout=0):
                    self._begin()
            except Timeout as error:
                raise RetrainingError("A retraining is under way.", reason="running") from error

    def state(self) -> dict[str, Any]:
        """Whether a run is under way, when it began, how far it is, and its last lines."""
        note = self._note()
        running = self._running(note)
        lines, share = self._output()
        code = None
        if self._process is not None and not running:
            code = self._process.poll()
        return {
            "available": self._script.is_file(),
            "running": running,
            "started_at": note.get("started_at"),
            "exit_code": code if code is not None else note.get("exit_code"),
            "share": share if running else None,
            "lines": lines,
        }

    def _begin(self) -> None:
        if self._running(self._note()):
            raise RetrainingError("A retraining is under way.", reason="running")
        with (self._folder / "output.jsonl").open("wb") as output:
            os.chmod(output.fileno(), 0o600)
            # The script is ours and the arguments are fixed: nothing comes from a request.
            self._process = subprocess.Popen(
                [sys.executable, str(self._script), "--json"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self._script.parent,
                env={**os.environ, **self._environment()},
                start_new_session=True,
            )
        _lower_priority(self._process.pid)
        note = {"pid": self._process.pid, "started_at": datetime.now(UTC).isoformat()}
        (self._folder / "job.json").write_text(json.dumps(note), encoding="utf-8")

    def _environment(self) -> dict[str, str]:
        settings = self._settings
        return {
            "FER_DATA_DIR": str(settings.data_dir.absolute()),
            "FER_MODELS_DIR": str(settings.models_dir.absolute()),
            "FER_DATABASE_URL": settings.effective_database_url,
            "PYTHONUNBUFFERED": "1",
        }

    def _note(self) -> dict[str, Any]:
        try:
            note = json.loads((self._folder / "job.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return note if isinstance(note, dict) else {}

    def _running(self, note: dict[str, Any]) -> bool:
        if self._process is not None and self._process.pid == note.get("pid"):
            return self._process.poll() is None
        pid = note.get("pid")
        # Started by a server before this one: ours if that process still runs our script.
        if not isinstance(pid, int):
            return False
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            return False
        return os.fsencode(str(self._script)) in words

    def _output(self) -> tuple[list[str], float | None]:
        try:
            with (self._folder / "output.jsonl").open("rb") as stream:
                stream.seek(0, os.SEEK_END)
                stream.seek(max(0, stream.tell() - _TAIL_BYTES))
                text = stream.read().decode("utf-8", "replace")
        except OSError:
            return [], None
        lines, share = [], None
        for line in text.splitlines()[-_TAIL_LINES:]:
            shown, found = _readable(line)
            share = found if found is not None else share
            if shown:
                lines.append(shown)
        return lines, share


def _readable(line: str) -> tuple[str, float | None]:
    """A line of the job as people read it, and the share of the work that it says is done."""
    try:
        value = json.loads(line)
    except ValueError:
        return line[:400], None
    if not isinstance(value, dict):
        return line[:400], None
    share = value.get("share", value.get("progress"))
    share = float(share) if isinstance(share, int | float) and 0 <= share <= 1 else None
    for name in ("message", "text", "step", "reason"):
        if isinstance(value.get(name), str):
            return value[name][:400], share
    return line[:400], share


def _lower_priority(pid: int) -> None:
    try:
        os.setpriority(os.PRIO_PROCESS, pid, _NICE)
    except OSError:
        return  # it ended already
