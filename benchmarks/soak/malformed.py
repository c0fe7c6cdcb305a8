"""Malformed pictures through `fer.vision.images.decode`, in a process of their own.

    python -m benchmarks.soak.malformed --count 1000

A crash of a C library ends that process, not the run: the parent says at which picture.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.soak.mutations import seedlings, spoiled

ROOT = Path(__file__).parent.parent.parent

#: Seconds of a processor that a picture may take: a decoder that hangs is a crash by another name.
SLOW = 5.0


@dataclass
class Outcome:
    """What a run came to.

    Attributes:
        tried: pictures that were given to `decode`.
        read: those that it read, damage notwithstanding.
        refused: how many it refused, by the code of the error.
        wrong: sentences about what may not happen.
        extra_mb: peak of the process's memory above what it held before the first picture.
        peak_at: the picture at which the peak was reached.
        slowest_s: longest time of a processor for one picture, in seconds.
        slowest: which it was.
        seconds: the run's.
    """

    tried: int = 0
    read: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    extra_mb: float = 0.0
    peak_at: str = ""
    slowest_s: float = 0.0
    slowest: str = ""
    seconds: float = 0.0


def run(count: int, seed: int = 20250615) -> Outcome:
    """Run `count` malformed pictures in a child process and say what came of it."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "at"
        command = [sys.executable, "-m", "benchmarks.soak.malformed", "--child", str(place)]
        command += ["--count", str(count), "--seed", str(seed)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        if done.returncode != 0:
            at = place.read_text() if place.exists() else "the start"
            said = done.stderr.strip().splitlines()[-1:] or [""]
            return Outcome(wrong=[f"the process ended with {done.returncode} at {at}: {said[0]}"])
        return Outcome(**json.loads(done.stdout.splitlines()[-1]))


def child(count: int, seed: int, place: Path) -> Outcome:
    """The run itself; `place` always holds the picture at hand."""
    from fer.errors import PictureError
    from fer.vision.images import ImageLimits, decode

    warnings.simplefilter("ignore")
    limits = ImageLimits()
    outcome, refused = Outcome(), Counter[str]()
    for good in seedlings():
        decode(good.data, limits)  # The decoders' own libraries are loaded, and each works.
    before = peak = peak_mb(forget=True)
    begin = time.monotonic()
    for one in spoiled(count, seed):
        place.write_text(f"picture {one.number} ({one.origin})")
        start = time.process_time()
        outcome.tried += 1
        try:
            read = decode(one.data, limits)
        except PictureError as error:
            refused[error.code] += 1
            if not is_sentence(error.message):
                outcome.wrong.append(f"{one.number} ({one.origin}): no sentence: {error.message}")
        except Exception as error:
            name = type(error).__name__
            outcome.wrong.append(f"{one.number} ({one.origin}) raised {name}: {error}")
        else:
            outcome.read += 1
            height, width = read.shape[:2]
            if height * width > limits.max_pixels or min(height, width) < limits.min_side:
                outcome.wrong.append(f"{one.number} ({one.origin}) was read as {read.shape}")
        took = time.process_time() - start
        if took > outcome.slowest_s:
            outcome.slowest_s, outcome.slowest = round(took, 3), f"{one.number} ({one.origin})"
        if took > SLOW:
            outcome.wrong.append(f"{one.number} ({one.origin}) took {took:.1f} s")
        now = peak_mb()
        if now > peak:
            peak, outcome.peak_at = now, f"{one.number} ({one.origin})"
    outcome.refused = dict(sorted(refused.items()))
    outcome.extra_mb = round(peak - before, 1)
    outcome.seconds = round(time.monotonic() - begin, 1)
    return outcome


def is_sentence(text: str) -> bool:
    """Whether a visitor can read it: one line that begins with a capital and ends with a stop."""
    return bool(text) and text[0].isupper() and text.endswith(".") and "\n" not in text


def peak_mb(forget: bool = False) -> float:
    """Most memory that this process ever held, in MB; from now on where `forget`."""
    # Not `ru_maxrss`, in which a child begins with the peak of the process that started it.
    if forget:
        Path("/proc/self/clear_refs").write_text("5")
    line = next(
        line
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith("VmHWM")
    )
    return int(line.split()[1]) / 1024


def main() -> int:
    """Run and print the outcome as JSON; 1 where something went wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=20250615)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        outcome = child(asked.count, asked.seed, asked.child)
    else:
        outcome = run(asked.count, asked.seed)
    print(json.dumps(asdict(outcome)))
    return 0 if asked.child or not outcome.wrong else 1


if __name__ == "__main__":
    sys.exit(main())
