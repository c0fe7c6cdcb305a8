"""The rows of the soak: each makes its fault happen and says what it came to."""

from __future__ import annotations

import importlib.util
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from benchmarks.soak import disk, kills, load, malformed
from benchmarks.soak.table import Row
from tests.support import make_version
from tests.web.serving import ROOT

#: How much slower the median start may be after kills; single starts differ by more than that.
SLOWER_START = 1.25

EXTRA_MB = 300.0
TOO_MANY = 0.01
GROWTH = 1.10
SLOWER = 5.0

FUZZ_SECONDS = 180


def kills_without_the_page(folder: Path, short: bool) -> Row:
    """The test of the collection, as it stands."""
    name = "test_kill_9_loses_nothing_acknowledged"
    number = 20 if short else 280
    which = f"tests/collection/test_verification.py::{name}"
    which += "" if short else "_280_times"
    command = [sys.executable, "-m", "pytest", "-n0", "-q", which, "-m", "long or not long"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    wrong = [] if done.returncode == 0 else [done.stdout.strip().splitlines()[-1]]
    databases = "SQLite" if "skipped" in done.stdout else "SQLite and PostgreSQL"
    return Row(
        f"kill -9 at {number} random moments of a process that keeps samples",
        f"{number} kills on {databases}: every acknowledged sample has file and row",
        wrong,
        {"kills": number, "databases": databases},
    )


def kills_of_the_server(folder: Path, short: bool) -> Row:
    """The whole server under load."""
    outcome = kills.run(folder, load.camera_pictures(1)[0], 2 if short else 20)
    wrong = list(outcome.wrong)
    if not short and outcome.slower > SLOWER_START:
        wrong.append(f"a start takes {outcome.slower:.2f} times as long after a kill")
    before, after = outcome.starts_orderly_s, outcome.starts_after_s
    return Row(
        f"kill -9 of the whole server under load, {outcome.kills} times",
        f"{outcome.receipts} receipts answered, all with file and row; {outcome.forgotten} "
        f"deletions answered, all gone; `verify` had something to mend after {outcome.mended} "
        f"kills, nothing that it could not mend; median start {statistics.median(after):.1f} s "
        f"after a kill, {statistics.median(before):.1f} s after an orderly end: "
        f"{outcome.slower:.2f} times",
        wrong,
        {**asdict(outcome), "slower": outcome.slower},
    )


def disks(folder: Path, short: bool) -> Row:
    """Full, read-only, removed, unmounted."""
    picture = load.camera_pictures(1)[0]
    with disk.server_on_small_disks(folder) as server:
        outcomes = [disk.survive(server, fault, picture) for fault in disk.FAULTS]
        outcomes.append(disk.survive_full_uploads(server, picture))
    said = "; ".join(f"{one.fault}: “{one.said}”" for one in outcomes)
    return Row(
        "disk full, read-only folder, folder removed, disk unmounted, no room for uploads",
        said,
        [f"{one.fault}: {wrong}" for one in outcomes for wrong in one.wrong],
        {one.fault: one.said for one in outcomes},
    )


def visitors(folder: Path, short: bool) -> Row:
    """Sixty-four of them."""
    shipped = ROOT / "models"
    models = shipped if (shipped / "default").exists() else None
    if models is None:
        make_version(folder / "models", favourite="happy", default=True)
    server = load.serve(folder, models)
    try:
        outcome = load.run(server, seconds=45 if short else 600)
    finally:
        server.stop()
    return visitors_row(outcome, short)


def visitors_row(outcome: load.Outcome, short: bool = False) -> Row:
    """What a measured run came to."""
    wrong = [f"{count} times {what}" for what, count in outcome.errors.items()]
    if outcome.refused_share > TOO_MANY:
        wrong.append(f"{outcome.refused_share:.1%} answered 429")
    if not short and outcome.growth > GROWTH:
        wrong.append(f"memory grew to {outcome.growth:.2f} times")
    if not short and outcome.slower > SLOWER:
        wrong.append(f"the 95th percentile is {outcome.slower:.1f} times the idle one")
    memory, averages = outcome.memory_mb or [0.0], outcome.load_average
    errors, p95, alone = sum(outcome.errors.values()), outcome.load_ms[1], outcome.idle_ms[1]
    settled = memory[min(2, len(memory) - 1)]
    return Row(
        f"{outcome.visitors} visitors, a picture each per 5 s, for {outcome.seconds / 60:g} min",
        f"{outcome.answered} answered, {outcome.hung_up} hung up, {outcome.too_many} answered 429, "
        f"{errors} other errors; 95th percentile {p95:.0f} ms, idle {alone:.0f} ms: "
        f"{outcome.slower:.1f} times; memory after the first minute {settled:.0f} MB, at most "
        f"{outcome.growth:.2f} times that; {outcome.cpu_ms:.0f} ms of a processor for each "
        f"picture; {outcome.late} sent late; load average {averages[0]:.1f} before, "
        f"{averages[-1]:.1f} after",
        wrong,
        {**asdict(outcome), "slower": outcome.slower, "growth": outcome.growth},
    )


def malformed_pictures(folder: Path, short: bool) -> Row:
    """Twenty thousand of them."""
    outcome = malformed.run(1000 if short else 20_000)
    wrong = outcome.wrong[:10]
    if outcome.extra_mb > EXTRA_MB:
        wrong.append(f"{outcome.extra_mb:.0f} MB more than before at {outcome.peak_at}")
    refused = ", ".join(f"{count} {code}" for code, count in outcome.refused.items())
    return Row(
        f"{outcome.tried} malformed pictures",
        f"{outcome.read} read, the rest refused with a sentence ({refused}); no crash; at most "
        f"{outcome.extra_mb:.0f} MB more than before; slowest {outcome.slowest_s:.1f} s of a "
        "processor",
        wrong,
        asdict(outcome),
    )


def fuzzing(folder: Path, short: bool) -> Row:
    """Coverage-guided, with atheris."""
    fault = "`images.decode`, fuzzed with atheris"
    if importlib.util.find_spec("atheris") is None:
        return Row(fault, "atheris is not installed", ["atheris is not installed"])
    seconds = 30 if short else FUZZ_SECONDS
    target = ROOT / "tests" / "survival" / "fuzz_images.py"
    options = [f"-max_total_time={seconds}", "-timeout=30", "-rss_limit_mb=3000"]
    begin = time.monotonic()
    (folder / "corpus").mkdir()
    done = subprocess.run(
        [sys.executable, str(target), *options, str(folder / "corpus")],
        cwd=folder,
        capture_output=True,
        text=True,
        errors="replace",
    )
    cover = re.findall(r"cov: (\d+) ft: (\d+)", done.stderr)
    runs = re.findall(r"Done (\d+) runs", done.stderr)
    crashes = [path.name for path in folder.glob("*-*") if path.is_file()]
    wrong = [f"found {name}" for name in crashes]
    if done.returncode or not runs or not cover:
        wrong.append(f"ended with {done.returncode}")
    edges, features = cover[-1] if cover else ("0", "0")
    return Row(
        fault,
        f"{runs[-1] if runs else 0} pictures in {time.monotonic() - begin:.0f} s, {edges} edges "
        f"and {features} features of the Python code covered, {len(crashes)} findings",
        wrong,
        {"runs": int(runs[-1]) if runs else 0, "edges": int(edges), "features": int(features)},
    )


ROWS: dict[str, Callable[[Path, bool], Row]] = {
    "kills": kills_without_the_page,
    "server-kills": kills_of_the_server,
    "disks": disks,
    "visitors": visitors,
    "malformed": malformed_pictures,
    "fuzz": fuzzing,
}
