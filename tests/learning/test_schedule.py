"""The schedule: when it is due, that it runs, and that it ends with whoever started it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import psutil
import pytest

from fer.errors import ConfigError
from fer.learning.schedule import next_run
from tests.support import wait_for

ROOT = Path(__file__).parent.parent.parent
BERLIN = ZoneInfo("Europe/Berlin")

#: Runs a command every second; its arguments are the command.
EVERY_SECOND = """
import sys
from apscheduler.triggers.interval import IntervalTrigger
from fer.learning.schedule import keep_running
keep_running(IntervalTrigger(seconds=1), sys.argv[1:], lambda text: print(text, flush=True))
"""


def test_the_next_run_is_the_next_time_that_fits() -> None:
    now = datetime(2025, 6, 1, 2, 59, tzinfo=BERLIN)
    due = next_run("0 3 * * *", now)
    assert due is not None
    assert due.replace(tzinfo=None) == datetime(2025, 6, 1, 3, 0)
    assert next_run("off", now) is None
    assert next_run(" OFF ", now) is None


@pytest.mark.parametrize("schedule", ["", "3", "every night", "61 3 * * *", "0 3 * *"])
def test_what_is_no_cron_expression_is_refused(schedule: str) -> None:
    with pytest.raises(ConfigError, match="no cron expression"):
        next_run(schedule, datetime(2025, 6, 1, tzinfo=BERLIN))


def has_ended(pid: int) -> bool:
    """Whether a process is over; where nobody collects orphans, one stays as a zombie."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_it_runs_again_and_again_and_stops_when_asked(tmp_path: Path) -> None:
    mark = tmp_path / "marks"
    command = [sys.executable, "-c", f"open({str(mark)!r}, 'a').write('x')"]
    process = subprocess.Popen([sys.executable, "-c", EVERY_SECOND, *command], cwd=ROOT)
    try:
        wait_for(lambda: mark.exists() and len(mark.read_text()) >= 2)
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def test_a_run_under_way_is_stopped_too(tmp_path: Path) -> None:
    mark = tmp_path / "pid"
    script = f"import os, time; open({str(mark)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    process = subprocess.Popen(
        [sys.executable, "-c", EVERY_SECOND, sys.executable, "-c", script], cwd=ROOT
    )
    wait_for(lambda: mark.exists() and mark.read_text())
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    assert has_ended(int(mark.read_text()))


def test_the_command_says_when_it_is_due_and_ends_with_its_parent(tmp_path: Path) -> None:
    log, child = tmp_path / "log", tmp_path / "child"
    parent_script = (
        "import subprocess, sys, time\n"
        f"log = open({str(log)!r}, 'w')\n"
        "p = subprocess.Popen([sys.executable, 'retrain.py', '--schedule', '0 3 * * *', "
        "'--with-parent'], stdout=log, stderr=log)\n"
        f"open({str(child)!r}, 'w').write(str(p.pid))\n"
        "time.sleep(600)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", parent_script], cwd=ROOT)
    wait_for(lambda: log.exists() and "The next retraining is at" in log.read_text(), 120)
    assert " 03:00" in log.read_text()
    pid = int(child.read_text())
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    wait_for(lambda: has_ended(pid), 120)


def test_a_schedule_that_is_none_ends_with_a_sentence() -> None:
    done = subprocess.run(
        [sys.executable, "retrain.py", "--schedule", "nightly"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    assert "'nightly' is no cron expression" in done.stderr
    assert "Traceback" not in done.stderr
