"""Composition root of the retraining job; reads as the procedure.

Once:      python retrain.py
For ever:  python retrain.py --schedule "0 3 * * *"
"""

from __future__ import annotations

import os
import signal
import sys
import time
from types import FrameType
from typing import Annotated

import typer
from rich.console import Console

from fer.collection.database import Database
from fer.collection.runs import start_run
from fer.collection.storage import FolderStorage
from fer.collection.training_data import read_reviews, update_run
from fer.config import Settings, load_settings
from fer.errors import FerError, StorageError
from fer.learning.job import (
    BusyError,
    Journal,
    Options,
    Outcome,
    Workplace,
    mend_interrupted,
    one_at_a_time,
)
from fer.learning.journal import ConsoleJournal, JsonJournal
from fer.learning.selection import select, why_not_enough
from fer.registry import Registry

#: Below the page that serves on the same machine.
NICENESS = 10


def run_once(work: Workplace, options: Options) -> Outcome:
    """One run from the lock to the verdict; never raises for what can go wrong on a machine."""
    try:
        with one_at_a_time(work.settings):
            work.reached("locked")
            work.database.migrate()
            mend_interrupted(work)
            return learn(work, options)
    except BusyError as error:
        return Outcome("skipped", error.message)
    except (FerError, OSError, MemoryError) as error:
        return Outcome("failed", sentence_of(error))


def learn(work: Workplace, options: Options) -> Outcome:
    """Select, and where there is enough, retrain; the run's row says how it ended."""
    champion = work.registry.champion()
    labels = work.registry.manifest(champion).label_set
    reviews = read_reviews(work.database)
    selection = select(reviews.samples, labels, options.min_per_class)
    work.journal.say(
        f"{len(reviews.samples)} reviewed samples, {selection.new} decided since the last "
        f"retraining; {len(selection.training)} to train on."
    )
    lacking = why_not_enough(selection, options.min_new, options.force)
    if lacking is not None:
        return Outcome("skipped", lacking, champion=champion, new_samples=selection.new)

    run_id = start_run(work.database, champion, work.clock)
    work.reached("begun")
    started = time.monotonic()
    try:
        # Only now: it takes seconds and hundreds of megabytes.
        from fer.learning.retraining import retrain

        outcome = retrain(work, run_id, reviews, selection, options)
    except (FerError, OSError, MemoryError) as error:
        outcome = Outcome(
            "failed",
            sentence_of(error),
            champion=champion,
            new_samples=selection.new,
            seconds=round(time.monotonic() - started, 1),
        )
    try:
        update_run(
            work.database,
            run_id,
            outcome=outcome.outcome,
            reason=outcome.reason,
            ended_at=work.clock(),
        )
    except StorageError as error:
        work.journal.say(f"The run could not be noted as {outcome.outcome}: {error.message}")
    work.reached("finished")
    return outcome


def sentence_of(error: FerError | OSError | MemoryError) -> str:
    """What went wrong, in a sentence."""
    if isinstance(error, FerError):
        return error.message
    if isinstance(error, MemoryError):
        return "There is not enough memory."
    return f"The disk refused: {error.strerror or error}."


def workplace(settings: Settings, journal: Journal) -> Workplace:
    """The parts that a run works with.

    Raises:
        FerError: one of them cannot be made.
    """
    return Workplace(
        settings=settings,
        registry=Registry(settings.models_dir),
        database=Database(settings.effective_database_url, settings.data_dir / ".backups"),
        storage=FolderStorage(settings.data_dir),
        journal=journal,
    )


def main(
    min_new: Annotated[int, typer.Option(min=0, help="New decisions that a run needs.")] = 50,
    min_per_class: Annotated[
        int, typer.Option(min=1, help="Decisions that a label needs to be trained on.")
    ] = 5,
    alpha: Annotated[
        float, typer.Option(min=0.0001, max=0.5, help="Level of the gate's tests.")
    ] = 0.05,
    force: Annotated[bool, typer.Option("--force", help="Run without --min-new.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Judge, but write no version and promote nothing.")
    ] = False,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json",
            help="Nothing but the JSON line on standard output.",
        ),
    ] = False,
    schedule: Annotated[
        str | None, typer.Option(help='Keep running on a cron schedule, such as "0 3 * * *".')
    ] = None,
    with_parent: Annotated[
        bool, typer.Option("--with-parent", help="End the schedule with the starting process.")
    ] = False,
) -> None:
    """Fine-tune the champion on what operators put right; promote it only if it is better."""
    journal: ConsoleJournal | JsonJournal = JsonJournal(sys.stderr)
    if not as_json:
        journal = ConsoleJournal(Console(highlight=False, soft_wrap=True))
    options = Options(min_new, min_per_class, alpha, force, dry_run)
    if schedule is not None:
        keep_schedule(schedule, options, journal, with_parent)
        return
    os.nice(NICENESS)
    # TensorFlow reads it when it is imported, which is later and only where it is needed.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    signal.signal(signal.SIGTERM, _leave)
    try:
        outcome = run_once(workplace(load_settings(), journal), options)
    except FerError as error:
        outcome = Outcome("failed", error.message)
    journal.close()
    print(outcome.as_line(), flush=True)
    raise typer.Exit(outcome.exit_code)


def keep_schedule(schedule: str, options: Options, journal: Journal, with_parent: bool) -> None:
    """Start this program again, without the schedule, whenever it is due."""
    from fer.learning.schedule import keep_running, trigger_of

    command = [sys.executable, os.path.abspath(__file__)]
    command += ["--min-new", str(options.min_new), "--min-per-class", str(options.min_per_class)]
    command += ["--alpha", str(options.alpha)]
    command += ["--force"] * options.force + ["--dry-run"] * options.dry_run
    try:
        keep_running(trigger_of(schedule), command, journal.say, with_parent=with_parent)
    except FerError as error:
        print(error.message, file=sys.stderr)
        raise typer.Exit(1) from None


def _leave(number: int, frame: FrameType | None) -> None:
    # Contexts are left in order, so that nothing half-written stays.
    raise SystemExit(128 + number)


if __name__ == "__main__":
    typer.run(main)
