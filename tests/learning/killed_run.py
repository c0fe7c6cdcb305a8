"""A retraining that kills itself, as a power cut would, at a point given on the command line.

python -m tests.learning.killed_run DATA MODELS POINT
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import retrain
from fer.learning.job import Options
from tests.learning.small import World


def main() -> None:
    """Run until `POINT`; a point that is never reached prints the outcome."""
    data, models, point = sys.argv[1:]
    world = World.at(Path(data), Path(models))

    def reached(name: str) -> None:
        if name == point:
            os.kill(os.getpid(), signal.SIGKILL)

    print(retrain.run_once(world.workplace(reached=reached), Options(min_new=1)).as_line())


if __name__ == "__main__":
    main()
