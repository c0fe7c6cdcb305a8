"""How much slower does the page answer while a retraining runs?

Real photographs are kept and decided, then the real server is asked through `gradio_client`, one
picture after the other: first idle, then for as long as `retrain.py` runs beside it at its low
priority, then idle again. One run, one machine, so that the ratio means something. Where the
challenger is promoted, also how long it takes until it answers; a request that fails ends it all.

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
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Answer:
    """When an answer came (Unix time), after how many milliseconds, from which version."""

    at: float
    took_ms: float
    version: str


def ask(server: Server, picture: Path, until: Callable[[int], bool]) -> list[Answer]:
    """Answers, asked for one after the other until `until(count)`."""
    client = server.client()
    answers: list[Answer] = []
    while not until(len(answers)):
        before = time.perf_counter()
        said = client.predict(handle_file(picture), False, api_name="/classify")
        took = 1000 * (time.perf_counter() - before)
        answers.append(Answer(time.time(), took, said["model"]))
    return answers


def figures(answers: list[Answer]) -> dict[str, float]:
    """Median, 95th percentile and number of answers."""
    p50, p95 = np.percentile([answer.took_ms for answer in answers], [50, 95])
    return {"n": len(answers), "p50_ms": round(float(p50), 1), "p95_ms": round(float(p95), 1)}


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
                [sys.executable, str(ROOT / "retrain.py"), "--json"],
                env=environment(
                    FER_DATA_DIR=str(folder / "data"), FER_MODELS_DIR=str(folder / "models")
                ),
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            during = ask(server, picture, lambda n: retraining.poll() is not None)
            said = retraining.communicate()[0].splitlines()[-1]
            result = json.loads(said)
            if result["outcome"] == "failed":
                raise SystemExit(result["reason"])
            after = ask(server, picture, lambda n: n == arguments.calls)
            swap = None
            if result["outcome"] == "promoted":
                promoted = (folder / "models" / "champion").stat().st_mtime
                new = [a.at for a in (*during, *after) if a.version == result["challenger"]]
                swap = round(min(new) - promoted, 1)
        finally:
            server.stop()
    idle = figures(before + after)
    busy = figures(during)
    ratio = round(busy["p95_ms"] / idle["p95_ms"], 2)
    row = {"idle": idle, "while_training": busy, "p95_ratio": ratio}
    row |= {"retraining_seconds": result["seconds"], "outcome": result["outcome"]}
    print(json.dumps(row | {"seconds_until_it_answers": swap}))


if __name__ == "__main__":
    main()
