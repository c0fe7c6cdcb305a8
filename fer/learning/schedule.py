"""Keep retraining running on a cron schedule.

Each run is a process of its own: what it loads is gone when it ends, and a run that dies does not
take the schedule with it. Nothing heavy is imported here.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from types import FrameType

from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.cron import CronTrigger

from fer.errors import ConfigError

#: A run that could not start in time, because the machine slept, still starts so much later.
GRACE_SECONDS = 6 * 3600

#: How often a schedule that belongs to a page looks whether the page is still there.
PARENT_SECONDS = 2


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
    scheduler = BackgroundScheduler()
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

    scheduler.add_job(
        run, trigger, max_instances=1, coalesce=True, misfire_grace_time=GRACE_SECONDS
    )
    parent = os.getppid()
    # The handlers only raise: a lock that the main thread holds must not be waited for in them.
    for number in _STOPPING:
        signal.signal(number, _stop)
    try:
        announce()
        scheduler.start()
        while not with_parent or os.getppid() == parent:
            time.sleep(PARENT_SECONDS)
    except _Stopped:
        pass
    finally:
        for number in _STOPPING:
            signal.signal(number, signal.SIG_IGN)
        for child in list(running):
            child.terminate()
        scheduler.shutdown(wait=False)


_STOPPING = (signal.SIGTERM, signal.SIGINT)


class _Stopped(Exception):
    """Somebody asked the schedule to end."""


def _stop(number: int, frame: FrameType | None) -> None:
    raise _Stopped
