"""Retraining on a schedule, as a child process of the page's."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fer.config import Settings

#: The composition root of the job, beside `app.py`.
SCRIPT = Path(__file__).parents[2] / "retrain.py"

#: Seconds that the child has to stop a run; what it leaves, the next run cleans up.
_PATIENCE = 5


@contextmanager
def scheduled_retraining(
    settings: Settings, script: Path = SCRIPT
) -> Iterator[subprocess.Popen[bytes] | None]:
    """`retrain.py --schedule` while the context lasts; None where the schedule is off.

    The child says on the console when the next run is. It ends with this process, however that
    ends: it looks whether its parent is still there.
    """
    schedule = settings.retrain_schedule.strip()
    if schedule.casefold() == "off" or not script.is_file():
        yield None
        return
    # A session of its own: Ctrl-C at the console reaches it through us, once.
    child = subprocess.Popen(
        [sys.executable, str(script), "--schedule", schedule, "--with-parent"],
        stdin=subprocess.DEVNULL,
        env={**os.environ, **_environment(settings)},
        start_new_session=True,
    )
    try:
        yield child
    finally:
        child.terminate()
        try:
            child.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _environment(settings: Settings) -> dict[str, str]:
    return {
        "FER_DATA_DIR": str(settings.data_dir.absolute()),
        "FER_MODELS_DIR": str(settings.models_dir.absolute()),
        "FER_DATABASE_URL": settings.effective_database_url,
        "PYTHONUNBUFFERED": "1",
    }
