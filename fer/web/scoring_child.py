"""Refreshing the review queue's scores, as a child process: the server never loads cleanlab."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

from fer.config import Settings

#: Seconds between two beginnings; the command itself refuses to work more often.
EVERY = 3600.0

#: Below the page that serves on the same machine.
_NICENESS = 10

COMMAND = (sys.executable, "-c", "from fer.cli import main; main()", "samples", "score")


class ScoringChild:
    """Starts `fer samples score` now and then, one at a time, and never waits for it."""

    def __init__(self, settings: Settings, command: Sequence[str] = COMMAND) -> None:
        self._command = list(command)
        self._environment = {
            **os.environ,
            "FER_DATA_DIR": str(settings.data_dir.absolute()),
            "FER_MODELS_DIR": str(settings.models_dir.absolute()),
            "FER_DATABASE_URL": settings.effective_database_url,
        }
        self.child: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, unless the last one is still at work."""
        if self.child is not None and self.child.poll() is None:
            return
        # `nice` is found by the PATH of whoever started the server.
        self.child = subprocess.Popen(
            ["nice", "-n", str(_NICENESS), *self._command],  # nosec B607
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env=self._environment,
        )

    def stop(self) -> None:
        """End it; what it had not written yet, the next one writes."""
        if self.child is not None and self.child.poll() is None:
            self.child.terminate()
            self.child.wait()
