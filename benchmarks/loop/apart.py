"""The retraining job in a process of its own, as it runs in service."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from fer.collection.database import Database
from fer.collection.storage import FolderStorage
from fer.registry import LITERT_FILE, Registry

ROOT = Path(__file__).resolve().parent.parent.parent


def retrain_apart(
    folder: Path, models: Path, knobs: str, threads: int
) -> tuple[dict[str, Any], dict[str, float]]:
    """The retraining job in a process of its own: its outcome, and what it cost.

    The cost is `seconds` by the clock, `cpu_seconds` of all its threads and `peak_mb`.
    """
    env = {k: v for k, v in os.environ.items() if not k.startswith("FER_")}
    env |= {"FER_DATA_DIR": str(folder), "FER_MODELS_DIR": str(models)}
    env |= {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_NUM_INTRAOP_THREADS": str(threads)}
    env |= {"TF_NUM_INTEROP_THREADS": str(threads), "PYTHONPATH": str(ROOT)}
    started = time.monotonic()
    child = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.loop.apart", knobs],
        cwd=ROOT,
        env=env,
        stdout=subprocess.PIPE,
        text=True,
    )
    if child.stdout is None:
        raise SystemExit("The retraining has no output.")
    lines = child.stdout.read().splitlines()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode or not lines:
        raise SystemExit(f"The retraining ended with {child.returncode}: {lines[-1:]}")
    cost = {
        "seconds": round(time.monotonic() - started, 1),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_mb": round(usage.ru_maxrss / 1024),  # kilobytes on Linux
    }
    return json.loads(lines[-1]), cost


def run_child(knobs: str) -> None:
    """In the child: retrain, and set aside the challenger's file before the gate decides."""
    from rich.console import Console

    import retrain
    from fer.config import load_settings
    from fer.learning.job import Options, Workplace
    from fer.learning.journal import ConsoleJournal
    from fer.learning.knobs import FineTuning

    settings = load_settings()

    def reached(point: str) -> None:
        if point == "judged":
            (folder,) = settings.models_dir.glob(".new-*")
            shutil.copy(folder / LITERT_FILE, settings.models_dir / "challenger.tflite")

    work = Workplace(
        settings=settings,
        registry=Registry(settings.models_dir),
        database=Database(settings.effective_database_url),
        storage=FolderStorage(settings.data_dir),
        journal=ConsoleJournal(Console(stderr=True)),
        knobs=FineTuning(**json.loads(knobs)),
        reached=reached,
    )
    print(retrain.run_once(work, Options(min_new=1)).as_line(), flush=True)


if __name__ == "__main__":
    run_child(sys.argv[1])
