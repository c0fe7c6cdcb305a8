"""Keep retraining running on a cron schedule.

Each run is a process of its own: what it loads is gone when it ends, and a run that dies does not
take the schedule with it. Nothing heavy is imported here.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Sequence
from datetime import datetime
from types import FrameType

from apscheduler.schedulers.blocking import BlockingScheduler
from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.cron import CronTrigger

from fer.errors import ConfigError

#: A run that could not start in time, because the machine slept, still starts so much later.
GRACE_SECONDS = 6 * 3600

#: How often a schedule that belongs to a page looks whether the page is still there.
PARENT_SECONDS = 5


def trigger_of(schedule: str) -> CronTrigger:
    """A cron expression of five fields, in local time.

    Raises:
        ConfigError: it is none.
    """
    try:
        return CronTrigger.from_crontab(schedule)
    except ValueError as error:
        raise ConfigError(
            f"{schedule!r} is no cron expression of five fields such as '0 3 * * *'.",
            schedule=schedule,
        ) from error


def next_run(schedule: str, now: datetime) -> datetime | None:
    """When a schedule is due next after `now` (aware), or None where it never is or is off.

    Raises:
        ConfigError: it is no cron expression.
    """
    if schedule.strip().casefold() == "off":
        return None
    due: datetime | None = trigger_of(schedule).get_next_fire_time(None, now)
    return due


def keep_running(
    trigger: BaseTrigger,
    command: Sequence[str],
    say: Callable[[str], None],
    *,
    with_parent: bool = False,
) -> None:
    """Start `command` whenever `trigger` is due, until SIGTERM or SIGINT; blocks.

    Args:
        with_parent: stop as well when the process that started this one is gone.

    A run that goes on when the next is due is not joined by a second one. On the way out a
    running one is asked to stop; what it leaves, the next run cleans up.
    """
    scheduler = BlockingScheduler()
    running: list[subprocess.Popen[bytes]] = []

    def run() -> None:
        with subprocess.Popen(command) as child:
            running.append(child)
            child.wait()
            running.remove(child)
        if child.returncode:
            say(f"The retraining ended with exit code {child.returncode}.")
        announce()

    def announce() -> None:
        due = trigger.get_next_fire_time(None, datetime.now().astimezone())
        say(f"The next retraining is at {due:%Y-%m-%d %H:%M}." if due else "No run is due.")

    def stop(number: int, frame: FrameType | None) -> None:
        for child in list(running):
            child.terminate()
        scheduler.shutdown(wait=False)

    scheduler.add_job(
        run, trigger, max_instances=1, coalesce=True, misfire_grace_time=GRACE_SECONDS
    )
    parent = os.getppid()

    def look_at_parent() -> None:
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGTERM)

    if with_parent:
        scheduler.add_job(look_at_parent, "interval", seconds=PARENT_SECONDS)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    announce()
    scheduler.start()
