"""Sixty-four visitors, one picture each per five seconds, some slow, some who hang up.

    python -m benchmarks.soak.load --seconds 600

Each visitor has an address of its own, as a trusted proxy says; half of them use the page, half
the named endpoint. The rates that limit them are those of a plain installation.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
from PIL import Image
from skimage import data

from benchmarks.soak.completing import complete
from benchmarks.soak.visitors import RefusedError, Visitor
from fer.config import Settings
from tests.support import make_version
from tests.web.serving import ROOT, Server, start

#: Seconds between two pictures of a visitor.
EVERY = 5.0

#: Of each eight visitors, one dribbles its uploads and one hangs up in the middle.
KINDS = ("plain", "plain", "slow", "plain", "plain", "gone", "plain", "plain")

#: Seconds that a dribbled upload takes.
DRIBBLE = 3.0

#: Seconds of load after which memory is compared; before, pools and caches fill.
SETTLING = 60.0

RATES = ("rate_classify", "rate_feedback", "rate_forget", "rate_other")


@dataclass
class Outcome:
    """What a run came to.

    Attributes:
        visitors, seconds: how many, for how long.
        answered: readings that came back whole.
        hung_up: pictures whose visitor left in the middle.
        late: pictures that were sent more than a second late, for the one before took so long.
        too_many: answers 429, or the queue's that it is full.
        errors: everything else, by what was said.
        idle_ms: median and 95th percentile of one visitor alone, in milliseconds.
        load_ms: median, 95th and 99th percentile of the plain visitors under load.
        memory_mb: of the server's processes, median of each half minute of load.
        cpu_ms: the server's time on a processor for each picture under load.
        load_average: of the machine, before and after; the load itself is in the latter.
    """

    visitors: int
    seconds: float
    answered: int = 0
    hung_up: int = 0
    late: int = 0
    too_many: int = 0
    errors: dict[str, int] = field(default_factory=dict)
    idle_ms: list[float] = field(default_factory=list)
    load_ms: list[float] = field(default_factory=list)
    memory_mb: list[float] = field(default_factory=list)
    cpu_ms: float = 0.0
    load_average: list[float] = field(default_factory=list)

    @property
    def slower(self) -> float:
        """95th percentile under load, as a multiple of the idle one."""
        return self.load_ms[1] / self.idle_ms[1]

    @property
    def refused_share(self) -> float:
        """Share of the pictures that were answered 429."""
        return self.too_many / max(1, self.answered + self.too_many + sum(self.errors.values()))

    @property
    def growth(self) -> float:
        """Largest memory after the first minute, as a multiple of that at its end."""
        settled = self.memory_mb[int(SETTLING // 30) :]
        return max(settled) / settled[0] if settled else 1.0


@dataclass
class _Run:
    url: str
    pictures: Sequence[bytes]
    outcome: Outcome
    times: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)


def camera_pictures(count: int = 16) -> list[bytes]:
    """Pictures of a camera, 640 × 480 JPEG, each with one face and each a little different."""
    face = np.asarray(Image.fromarray(data.astronaut()).resize((640, 640)))
    made = []
    for number in range(count):
        stream = io.BytesIO()
        top = 4 * (number % 8)
        frame = np.roll(face[top : top + 480], 3 * number, axis=1)
        Image.fromarray(frame).save(stream, "JPEG", quality=90)
        made.append(stream.getvalue())
    return made


def serve(folder: Path, models: Path | None = None) -> Server:
    """A server as a plain installation has it, behind a proxy on this machine."""
    settings: dict[str, Any] = {
        f"FER_{name.upper()}": str(Settings.model_fields[name].default) for name in RATES
    }
    return start(folder, models, FER_TRUSTED_PROXIES="127.0.0.1", **settings)


def run(server: Server, *, visitors: int = 64, seconds: float = 600, idle: int = 40) -> Outcome:
    """Measure the server idle, then under load.

    Args:
        visitors: at the same time.
        seconds: of load.
        idle: pictures of the one visitor before.
    """
    outcome = Outcome(visitors, seconds)
    work = _Run(server.url, camera_pictures(), outcome)
    outcome.load_average.append(round(os.getloadavg()[0], 2))
    complete(_idle(work, idle))
    outcome.idle_ms = _percentiles(work.times, 50, 95)
    work.times.clear()
    work.errors.clear()
    tree = psutil.Process(server.process.pid)
    before = _cpu_seconds(tree)
    complete(_load(work, tree))
    outcome.load_ms = _percentiles(work.times, 50, 95, 99)
    pictures = outcome.answered + outcome.hung_up
    outcome.cpu_ms = round(1000 * (_cpu_seconds(tree) - before) / max(1, pictures), 1)
    outcome.load_average.append(round(os.getloadavg()[0], 2))
    outcome.errors = dict(work.errors.most_common(10))
    if "Traceback" in server.log:
        outcome.errors["a traceback in the server's log"] = server.log.count("Traceback")
    return outcome


async def _idle(work: _Run, count: int) -> None:
    for number in range(0, count, 10):
        # Ten pictures each, so that no rate is reached.
        page = number % 20 == 0
        async with Visitor(work.url, f"10.9.0.{number + 1}", page) as visitor:
            if page:
                await visitor.open()
            await visitor.read(work.pictures[0])
            for turn in range(10):
                begin = time.monotonic()
                await visitor.read(work.pictures[turn % len(work.pictures)])
                work.times.append(time.monotonic() - begin)


async def _load(work: _Run, tree: psutil.Process) -> None:
    end = time.monotonic() + work.outcome.seconds
    watching = asyncio.create_task(_watch(work, tree))
    await asyncio.gather(*(_visit(work, number, end) for number in range(work.outcome.visitors)))
    watching.cancel()


async def _watch(work: _Run, tree: psutil.Process) -> None:
    while True:
        held = []
        for _ in range(15):
            held.append(_memory_mb(tree))
            await asyncio.sleep(2)
        work.outcome.memory_mb.append(round(statistics.median(held), 1))


async def _visit(work: _Run, number: int, end: float) -> None:
    chance = random.Random(number)
    kind, outcome = KINDS[number % len(KINDS)], work.outcome
    # Spread over the first five seconds, as people are.
    due = time.monotonic() + EVERY * number / work.outcome.visitors
    address = f"10.1.{number // 200}.{number % 200 + 1}"
    async with Visitor(work.url, address, page=number % 2 == 0) as visitor:
        opened = not visitor.page
        while due < end:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            outcome.late += time.monotonic() - due > 1
            begin = time.monotonic()
            try:
                if not opened:
                    await visitor.open()
                    opened, begin = True, time.monotonic()
                answer = await visitor.read(
                    work.pictures[(number + int(due)) % len(work.pictures)],
                    keep=number % 4 < 2,
                    over=DRIBBLE if kind == "slow" else 0.0,
                    hang_up=chance.uniform(0.05, 0.95) if kind == "gone" else 0.0,
                )
            except RefusedError as error:
                if error.status == 429 or "queue_full" in error.text:
                    outcome.too_many += 1
                else:
                    work.errors[str(error)[:200]] += 1
            except httpx.HTTPError as error:
                work.errors[f"{type(error).__name__}: {error}"[:200]] += 1
            else:
                outcome.answered += answer is not None
                outcome.hung_up += answer is None
                if kind == "plain":
                    work.times.append(time.monotonic() - begin)
            due = max(due + EVERY, time.monotonic())


def _percentiles(times: Sequence[float], *which: int) -> list[float]:
    return [round(1000 * float(np.percentile(times, one)), 1) for one in which]


def _memory_mb(tree: psutil.Process) -> float:
    return sum(one.memory_info().rss for one in _tree(tree)) / 1e6


def _cpu_seconds(tree: psutil.Process) -> float:
    return sum(sum(one.cpu_times()[:2]) for one in _tree(tree))


def _tree(root: psutil.Process) -> list[psutil.Process]:
    return [one for one in (root, *root.children(recursive=True)) if one.is_running()]


def main() -> int:
    """Run and print the outcome as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--visitors", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=600)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        shipped = ROOT / "models"
        models = shipped if (shipped / "default").exists() else None
        if models is None:
            make_version(Path(folder) / "models", favourite="happy", default=True)
        server = serve(Path(folder), models)
        try:
            outcome = run(server, visitors=asked.visitors, seconds=asked.seconds)
        finally:
            server.stop()
    print(json.dumps(asdict(outcome)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
