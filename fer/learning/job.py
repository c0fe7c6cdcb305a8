"""Around a retraining: one at a time, what a killed one left, what it tells and how it ends."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from filelock import FileLock, Timeout

from fer.collection.database import Database
from fer.collection.storage import ImageStorage
from fer.collection.training_data import open_runs, update_run
from fer.config import Settings
from fer.errors import ModelError, RetrainingError
from fer.learning.knobs import FineTuning
from fer.registry import UNFINISHED, Registry

Ending = Literal["promoted", "kept", "skipped", "failed"]

#: Lies in the data folder; the operating system frees it when its process dies.
LOCK_FILE = ".retrain.lock"


@dataclass(frozen=True)
class Options:
    """What a run is asked for.

    Attributes:
        min_new: decisions since the last run that trained, below which a run is skipped.
        min_per_class: decisions that a label needs to be trained on.
        alpha: level of the gate's tests.
        force: run however few new decisions there are.
        dry_run: judge, but neither write a version nor promote.
    """

    min_new: int = 50
    min_per_class: int = 5
    alpha: float = 0.05
    force: bool = False
    dry_run: bool = False


@dataclass(frozen=True)
class Outcome:
    """How a run ended; its last line of output."""

    outcome: Ending
    reason: str
    champion: str | None = None
    challenger: str | None = None
    new_samples: int = 0
    metrics: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    def as_line(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self))

    @property
    def exit_code(self) -> int:
        """0 unless it failed."""
        return 1 if self.outcome == "failed" else 0


class Journal:
    """Where a run tells what it does; the base tells nobody."""

    def say(self, text: str) -> None:
        """A sentence about what was done or found."""

    def progress(self, step: str, done: int, total: int) -> None:
        """How far a step is."""

    def close(self) -> None:
        """Leave the terminal as it was."""


def utc_now() -> datetime:
    """The time now, in UTC."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class Workplace:
    """What a run works with.

    Attributes:
        knobs: of the fine-tuning.
        reached: called with the name of each point that a run reaches; the tests kill it there.
    """

    settings: Settings
    registry: Registry
    database: Database
    storage: ImageStorage
    journal: Journal = field(default_factory=Journal)
    clock: Callable[[], datetime] = utc_now
    knobs: FineTuning = field(default_factory=FineTuning)
    reached: Callable[[str], None] = lambda point: None


class BusyError(RetrainingError):
    """Another retraining is running."""


@contextmanager
def one_at_a_time(settings: Settings) -> Iterator[None]:
    """Held while a run lasts.

    Raises:
        BusyError: another process holds it.
    """
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = FileLock(settings.data_dir / LOCK_FILE)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise BusyError("Another retraining is running.") from None
    try:
        yield
    finally:
        lock.release()


def mend_interrupted(work: Workplace) -> None:
    """Clean up after runs that were killed; call it under `one_at_a_time` only.

    A run that was killed after its promotion is noted as promoted; a version that was written and
    never promoted is removed.
    """
    history = work.registry.history()
    for run_id, challenger in open_runs(work.database):
        outcome, reason = "failed", "It was interrupted; nothing was changed."
        if challenger is not None and challenger in history:
            outcome, reason = "promoted", "It passed; the run was interrupted just after."
        elif challenger is not None:
            _remove(work, challenger)
        update_run(work.database, run_id, outcome=outcome, reason=reason, ended_at=work.clock())
        work.journal.say(f"An earlier run was interrupted; it is noted as {outcome}.")


def _remove(work: Workplace, version: str) -> None:
    """Remove a version that was half-written, or written and never promoted."""
    shutil.rmtree(work.registry.folder / f"{UNFINISHED}{version}", ignore_errors=True)
    if version not in work.registry.versions():
        return
    try:
        work.registry.remove(version)
    except ModelError as error:
        work.journal.say(f"{version} stays: {error.message}")
