"""A run's journal: bars in a terminal, plain lines in a log, JSON lines for the console page."""

from __future__ import annotations

import json
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from fer.learning.job import Journal


class ConsoleJournal(Journal):
    """Tells people what a run does."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars: Progress | None = None
        self._tasks: dict[str, TaskID] = {}

    def say(self, text: str) -> None:
        """Print a line."""
        self._console.print(text, markup=False)

    def progress(self, step: str, done: int, total: int) -> None:
        """Move a step's bar; in a log, a line when the step is done."""
        if not self._console.is_terminal:
            if done == total:
                self.say(f"{step}: {done} of {total} done.")
            return
        if self._bars is None:
            self._bars = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                console=self._console,
            )
            self._bars.start()
        if step not in self._tasks:
            self._tasks[step] = self._bars.add_task(step, total=total)
        self._bars.update(self._tasks[step], completed=done, total=total)

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._bars is not None:
            self._bars.stop()
            self._bars = None


#: Where each step begins and ends in the whole of a run, 0…1, by what they take.
_SPANS = {"activations": (0.05, 0.25), "cross-fit": (0.25, 0.80), "fine-tune": (0.80, 0.92)}


class JsonJournal(Journal):
    """Tells programs: a line of JSON with `message`, and `share` of the run where it is known."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def say(self, text: str) -> None:
        """Write `{"message": text}`."""
        self._write({"message": text})

    def progress(self, step: str, done: int, total: int) -> None:
        """Write how far the step and the whole run are."""
        start, end = _SPANS.get(step, (0.0, 0.0))
        share = start + (end - start) * done / max(total, 1)
        self._write({"message": f"{step}: {done} of {total}", "share": round(share, 3)})

    def _write(self, value: dict[str, object]) -> None:
        print(json.dumps(value), file=self._stream, flush=True)
