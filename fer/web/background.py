"""What the server does beside answering: new champions, expiry, abandoned uploads."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from fer.errors import FerError

_LOG = logging.getLogger(__name__)


@dataclass
class Chore:
    """Something done again and again.

    Attributes:
        name: for the log.
        every: seconds between two beginnings.
        work: what is done; a `FerError` of it is logged and the chore goes on.
    """

    name: str
    every: float
    work: Callable[[], object]
    due: float = field(default=0.0)


class Background:
    """Runs chores one after the other in one thread, until stopped."""

    def __init__(self, chores: list[Chore], clock: Callable[[], float] = time.monotonic) -> None:
        self._chores = chores
        self._clock = clock
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fer-background", daemon=True)
        self._said: dict[str, str] = {}

    def start(self) -> None:
        """Begin; each chore is first done after its interval."""
        now = self._clock()
        for chore in self._chores:
            chore.due = now + chore.every
        self._thread.start()

    def stop(self) -> None:
        """Ask for the end and wait for the chore that is being done."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=30)

    def run_due(self) -> float:
        """Do what is due; seconds until the next is."""
        for chore in self._chores:
            if self._clock() >= chore.due:
                self._do(chore)
                chore.due = self._clock() + chore.every
        return max(0.0, min(chore.due for chore in self._chores) - self._clock())

    def _run(self) -> None:
        while not self._stop.wait(self.run_due()):
            continue

    def _do(self, chore: Chore) -> None:
        try:
            chore.work()
            self._said.pop(chore.name, None)
        except (FerError, OSError) as error:
            # The same trouble every two seconds is said once.
            if self._said.get(chore.name) != str(error):
                self._said[chore.name] = str(error)
                _LOG.warning("%s: %s", chore.name, error)
