"""A run's journal on a console: bars in a terminal, plain lines in a log."""

from __future__ import annotations

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
