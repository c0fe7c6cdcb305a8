"""How much slower does the page answer while a retraining runs?

Real photographs are kept and decided, then the real server is asked through `gradio_client`, one
picture after the other: first idle, then for as long as `retrain.py` runs beside it at its low
priority, then idle again. One run, one machine, so that the ratio means something.

    python benchmarks/latency_while_training.py --photographs 300
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from gradio_client import handle_file

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.loop.cells import Cell  # noqa: E402
from benchmarks.loop.deciding import review, visit  # noqa: E402
from benchmarks.loop.people import read_photographs  # noqa: E402
from fer.config import Settings  # noqa: E402
from fer.learning.datasets import open_dataset  # noqa: E402
from fer.registry import Registry  # noqa: E402
from fer.vision.recogniser import Recogniser  # noqa: E402
from tests.web.serving import Server, environment, start  # noqa: E402

SHARED = ROOT.parent / "shared" / "data"


def ask(server: Server, picture: Path, until: Callable[[int], bool]) -> list[float]:
    """Milliseconds of each answer, asked for one after the other until `until(count)`."""
    client = server.client()
    taken: list[float] = []
    while not until(len(taken)):
        before = time.perf_counter()
        client.predict(handle_file(picture), False, api_name="/classify")
        taken.append(1000 * (time.perf_counter() - before))
    return taken


def figures(taken: list[float]) -> dict[str, float]:
    """Median, 95th percentile and number of answers."""
    p50, p95 = np.percentile(taken, [50, 95])
    return {"n": len(taken), "p50_ms": round(float(p50), 1), "p95_ms": round(float(p95), 1)}


def prepare(folder: Path, stream: Path, count: int) -> None:
    """Keep `count` photographs and decide on each, in `folder`/data, for `folder`/models."""
    source, models = Registry(ROOT / "models"), folder / "models"
    version = source.default() or source.champion()
    shutil.copytree(source.path(version), models / version)
    (models / "default").write_text(version + "\n", encoding="utf-8")
    registry = Registry(models)
    labels = registry.manifest(version).labels
    recogniser = Recogniser(registry, Settings(_env_file=None, models_dir=models))
    faces = read_photographs(stream, recogniser, labels, most=count)
    truth = visit(folder / "data", models, faces)
    cell = Cell(version, "random", len(truth), 0, 0.0, "", "{}")
    review(folder / "data", models, cell, truth, labels)


def main() -> None:
    """Measure and print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--stream", type=Path, default=SHARED / "press_photos.zip")
    parser.add_argument("--photographs", type=int, default=300)
    parser.add_argument("--calls", type=int, default=200, help="answers before and after, each")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "data").mkdir(mode=0o700)
        prepare(folder, arguments.stream, arguments.photographs)
        dataset = open_dataset(arguments.stream)
        picture = folder / "picture.jpg"
        picture.write_bytes(next(iter(dataset.read_all(dataset.pictures[:1])))[1])
        server = start(folder)
        try:
            ask(server, picture, lambda n: n == 20)
            before = ask(server, picture, lambda n: n == arguments.calls)
            retraining = subprocess.Popen(
                [sys.executable, str(ROOT / "retrain.py"), "--json", "--dry-run"],
                env=environment(
                    FER_DATA_DIR=str(folder / "data"), FER_MODELS_DIR=str(folder / "models")
                ),
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            during = ask(server, picture, lambda n: retraining.poll() is not None)
            said = retraining.communicate()[0].splitlines()[-1]
            after = ask(server, picture, lambda n: n == arguments.calls)
        finally:
            server.stop()
    result = json.loads(said)
    if result["outcome"] == "failed":
        raise SystemExit(result["reason"])
    idle = figures(before + after)
    busy = figures(during)
    ratio = round(busy["p95_ms"] / idle["p95_ms"], 2)
    row = {"idle": idle, "while_training": busy, "p95_ratio": ratio}
    print(json.dumps(row | {"retraining_seconds": result["seconds"]}))


if __name__ == "__main__":
    main()
