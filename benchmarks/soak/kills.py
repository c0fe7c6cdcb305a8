"""`kill -9` of the whole server while visitors send pictures, again and again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import statistics
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from benchmarks.soak.completing import complete
from benchmarks.soak.visitors import RefusedError, Visitor
from fer.collection.database import Database
from fer.collection.samples import SampleStore
from fer.collection.storage import FolderStorage
from fer.config import Settings
from fer.errors import UnknownReceiptError
from tests.support import make_version
from tests.web.serving import Server, start

#: Visitors who send pictures at the same time.
VISITORS = 6


@dataclass
class Outcome:
    """What a run came to.

    Attributes:
        kills: of the server.
        receipts: answers that carried one and were not asked to be forgotten.
        forgotten: answers to a deletion.
        mended: how often `verify` found something, all of it mended.
        starts_orderly_s: seconds of each start after an orderly end.
        starts_after_s: seconds of each start after a kill.
        wrong: sentences about what may not happen.
    """

    kills: int = 0
    receipts: int = 0
    forgotten: int = 0
    mended: int = 0
    starts_orderly_s: list[float] = field(default_factory=list)
    starts_after_s: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    @property
    def slower(self) -> float:
        """Median start after a kill, as a multiple of the median one after an orderly end."""
        before, after = self.starts_orderly_s, self.starts_after_s
        return statistics.median(after) / statistics.median(before)


@dataclass
class Said:
    """What visitors were told before a kill.

    Attributes:
        kept: sample ids by receipt.
        asked: receipts whose deletion was asked for, answered or not.
        forgotten: receipts whose deletion was answered.
        errors: refusals that were no broken connections.
    """

    kept: dict[str, list[str]] = field(default_factory=dict)
    asked: set[str] = field(default_factory=set)
    forgotten: set[str] = field(default_factory=set)
    errors: list[str] = field(default_factory=list)


def run(folder: Path, picture: bytes, kills: int, *, starts: int = 5, seed: int = 1) -> Outcome:
    """Kill the server `kills` times at random moments under load.

    Args:
        folder: an empty one.
        picture: with one face.
        starts: orderly starts that are timed first; another follows every second kill.
    """
    make_version(folder / "models", favourite="happy", default=True)
    moments = random.Random(seed)
    outcome = Outcome()
    for number in range(starts):
        server, seconds = _timed_start(folder)
        if number:  # The first one makes the database, and fills the system's caches.
            outcome.starts_orderly_s.append(seconds)
        server.stop()
    server, _ = _timed_start(folder)
    receipts: dict[str, list[str]] = {}
    for number in range(kills):
        # A short run is to have both: pictures to find again, and pictures to find gone.
        said = complete(_load_until_killed(server, picture, moments, both=number == 0))
        outcome.kills += 1
        outcome.wrong += said.errors
        _check(server.data, said, receipts, outcome)
        server, seconds = _timed_start(folder)
        outcome.starts_after_s.append(seconds)
        if outcome.kills % 2 == 0:
            # In turns, or a machine that grows slower would seem to be the kills' doing.
            server.stop()
            server, seconds = _timed_start(folder)
            outcome.starts_orderly_s.append(seconds)
    server.stop()
    # Every answer of the whole run, not only of the last stretch.
    _check(server.data, Said(kept=receipts), {}, outcome)
    outcome.receipts = len(receipts)
    if "Traceback" in server.log:
        outcome.wrong.append("the log holds a traceback")
    return outcome


def _timed_start(folder: Path) -> tuple[Server, float]:
    begin = time.monotonic()
    server = start(folder, own_group=True)
    httpx.get(server.url + "/readyz", timeout=60).raise_for_status()
    return server, round(time.monotonic() - begin, 2)


async def _load_until_killed(
    server: Server, picture: bytes, moments: random.Random, *, both: bool
) -> Said:
    """Send pictures until a few were answered, and where `both`, one of each kind of answer."""
    said = Said()
    work = [_busy_visitor(server.url, picture, said, number) for number in range(VISITORS)]
    tasks = [asyncio.create_task(one) for one in work]
    # On a busy machine nothing is answered for long; what counts are moments between answers.
    answers, deadline = moments.randrange(1, 12), time.monotonic() + 60
    while time.monotonic() < deadline:
        settled = bool(said.forgotten) and bool(said.kept.keys() - said.asked)
        if len(said.kept) >= answers and (settled or not both):
            break
        await asyncio.sleep(0.01)
    await asyncio.sleep(moments.uniform(0, 0.3))
    os.killpg(server.process.pid, signal.SIGKILL)
    server.process.wait()
    await asyncio.gather(*tasks)
    return said


def _until_the_line_breaks(
    work: Coroutine[Any, Any, None],
) -> Coroutine[Any, Any, None]:
    async def guarded() -> None:
        with contextlib.suppress(httpx.TransportError):
            await work

    return guarded()


def _busy_visitor(url: str, picture: bytes, said: Said, number: int) -> Coroutine[Any, Any, None]:
    async def busy() -> None:
        async with Visitor(url) as visitor:
            for turn in range(100_000):
                try:
                    answer = await visitor.read(picture, keep=True)
                    receipt = answer["receipt"]
                    if receipt is None:
                        said.errors.append(f"nothing was kept: {answer.get('warning')}")
                        continue
                    said.kept[receipt] = answer["sample_ids"]
                    if (turn + number) % 3 == 0:
                        await visitor.call("feedback", receipt, "sad", answer["sample_ids"][0])
                    if (turn + number) % 4 == 0:
                        said.asked.add(receipt)
                        await visitor.call("forget", receipt)
                        said.forgotten.add(receipt)
                except RefusedError as error:
                    # A stream that ends early is the kill; anything else is the server's word.
                    if "ended without" not in error.text:
                        said.errors.append(f"refused: {error}")

    return _until_the_line_breaks(busy())


def _check(data: Path, said: Said, receipts: dict[str, list[str]], outcome: Outcome) -> None:
    """Compare what was said with what is there, before the server starts again."""
    settings = Settings(_env_file=None, data_dir=data)
    database = Database(settings.effective_database_url)
    store = SampleStore(database, FolderStorage(data), settings)
    wrong = outcome.wrong
    try:
        found = store.verify(repair=True)
        outcome.mended += not found.clean
        if not found.mendable or found.missing:
            wrong.append(f"kill {outcome.kills}: {found}")
        if not store.verify().clean:
            wrong.append(f"kill {outcome.kills}: not clean after the repair")
        for receipt, ids in said.kept.items():
            if receipt in said.asked:
                continue
            receipts[receipt] = ids
            try:
                there = {view.id for view in store.of_receipt(receipt)}
                pictures = [store.picture(sample_id) for sample_id in ids]
            except UnknownReceiptError:
                there, pictures = set(), []
            if there != set(ids) or not all(pictures):
                wrong.append(f"kill {outcome.kills}: an answered receipt has no file or row")
        for receipt in said.forgotten:
            outcome.forgotten += 1
            with contextlib.suppress(UnknownReceiptError):
                store.of_receipt(receipt)
                wrong.append(f"kill {outcome.kills}: what was forgotten is still there")
    finally:
        database.close()
