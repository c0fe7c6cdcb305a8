"""Does it learn from corrections, and does it forget? Visitors and operators, played.

Photographs go through the real pipeline (detect, classify, store, decide), then the real retraining
job runs in a process of its own. Measured before and after on people who were in neither, and on
the base data: the challenger, and what serves after the gate.

    python benchmarks/learning_loop.py                       # the full grid
    python benchmarks/learning_loop.py --all                 # and wrong labels, and poisons
    python benchmarks/learning_loop.py --corrections 400 --orders queue --seeds 1
    python benchmarks/learning_loop.py --corrections 400 --orders queue --noise 0.3
    python benchmarks/learning_loop.py --corrections 400 --orders queue --knobs '{"copies": 0}'

Each cell of the grid is written to `--out` when it is done; `--resume` goes on from there.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.loop.apart import retrain_apart  # noqa: E402
from benchmarks.loop.cells import POISONS, Cell, grid, read_rows  # noqa: E402
from benchmarks.loop.deciding import review, visit  # noqa: E402
from benchmarks.loop.judge import Judge  # noqa: E402
from benchmarks.loop.people import (  # noqa: E402
    Face,
    at_most,
    read_photographs,
    split_by_person,
)
from benchmarks.loop.report import plot, said, table  # noqa: E402
from fer.config import Settings  # noqa: E402
from fer.registry import Registry  # noqa: E402
from fer.vision.classifier import Classifier  # noqa: E402
from fer.vision.recogniser import Recogniser  # noqa: E402

SHARED = ROOT.parent / "shared" / "data"


class Town:
    """The people of the benchmark, for each seed some of them visitors.

    Args:
        stream: photographs of visitors; without `test` also of the people who are never seen.
        folder: where each seed's kept faces and models lie.
    """

    def __init__(
        self, stream: Sequence[Face], test: Sequence[Face] | None, models: Path, folder: Path
    ) -> None:
        self.stream, self.test, self.models, self.folder = stream, test, models, folder
        self._visited: dict[int, tuple[Path, dict[str, str], Sequence[Face]]] = {}
        self._lock = Lock()

    def visited(self, seed: int) -> tuple[Path, dict[str, str], Sequence[Face]]:
        """Folder with what the visitors left, the true labels, and faces never seen."""
        with self._lock:
            if seed not in self._visited:
                self._visited[seed] = self._visit(seed)
            return self._visited[seed]

    def _visit(self, seed: int) -> tuple[Path, dict[str, str], Sequence[Face]]:
        rng = np.random.default_rng((seed, 5))
        faces = at_most(self.stream, rng)
        test = self.test
        seen, unseen = (faces, test) if test is not None else split_by_person(faces, rng)
        kept = self.folder / f"seed-{seed}"
        shutil.copytree(self.models, kept / "models")
        return kept, visit(kept / "data", kept / "models", seen), unseen


def play(cell: Cell, town: Town, judge: Judge, threads: int) -> dict[str, Any]:
    """One cell: decide, retrain, measure."""
    kept, truth, unseen = town.visited(cell.seed)
    manifest = judge.champion.manifest
    with tempfile.TemporaryDirectory() as temporary:
        folder, models = Path(temporary, "data"), Path(temporary, "models")
        shutil.copytree(kept / "data", folder)
        shutil.copytree(kept / "models", models)
        row: dict[str, Any] = {**cell.__dict__}
        measured = judge.measure(judge.champion, unseen)
        if not cell.corrections:
            return row | {"challenger": measured, "served": measured, "outcome": "none"}
        row["decided"] = review(folder, models, cell, truth, manifest.labels)
        outcome, cost = retrain_apart(folder, models, cell.knobs, threads)
        row |= {"outcome": outcome["outcome"], "reason": outcome["reason"], **cost}
        row["gate"] = of_the_gate(outcome["metrics"])
        file = models / "challenger.tflite"
        challenger = judge.measure(Classifier(manifest, file, 1), unseen) if file.exists() else None
        row["challenger"] = challenger
        row["served"] = challenger if outcome["outcome"] == "promoted" else measured
        return row


def of_the_gate(metrics: dict[str, Any]) -> dict[str, Any]:
    """What of a verdict's figures is kept: the whole is several pages for each cell."""
    kept = {
        k: metrics[k] for k in ("collected", "audit", "base", "trained_on", "mix") if k in metrics
    }
    lines = metrics.get("lines", [])
    return kept | {"refused_by": [line["name"] for line in lines if line["passed"] is False]}


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--stream", type=Path, default=SHARED / "press_photos.zip")
    parser.add_argument("--test", type=Path, help="other people; else the stream is split")
    parser.add_argument("--base", type=Path, default=SHARED / "fer2013.zip")
    parser.add_argument("--votes", type=Path, help="FER+ votes, to judge the base by")
    parser.add_argument("--model", help="starting version; the champion if not given")
    parser.add_argument("--models-dir", type=Path, default=ROOT / "models")
    parser.add_argument("--corrections", default="0,50,100,200,400")
    parser.add_argument("--orders", default="queue,random")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0, help="knobs are chosen on other seeds")
    parser.add_argument("--noise", type=float, default=0.0)
    parser.add_argument("--poison", choices=("", *POISONS), default="")
    parser.add_argument("--all", action="store_true", help="the grid, wrong labels and poisons")
    parser.add_argument("--knobs", default="{}", help="JSON that changes the fine-tuning")
    parser.add_argument("--ablate", action="store_true", help="take each step away in turn")
    parser.add_argument("--threads", type=int, default=2, help="of each retraining")
    parser.add_argument("--jobs", type=int, default=1, help="cells at a time; 1 to measure time")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "learning_loop.jsonl")
    parser.add_argument("--plot", type=Path, help="draw the curves of all rows in --out")
    parser.add_argument("--resume", action="store_true", help="leave out what --out has")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def main() -> None:
    """Play the grid."""
    arguments = parse()
    source = Registry(arguments.models_dir)
    model = arguments.model or source.champion()
    rows = read_rows(arguments.out) if arguments.resume else []
    have = {Cell.of(row).key() for row in rows}
    wanted = [cell for cell in grid(arguments, model) if cell.key() not in have]
    if not arguments.resume:
        arguments.out.unlink(missing_ok=True)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    if wanted:
        with tempfile.TemporaryDirectory() as temporary:
            models = Path(temporary, "models")
            shutil.copytree(source.path(model), models / model)
            (models / "default").write_text(model + "\n", encoding="utf-8")
            registry = Registry(models)
            settings = Settings(_env_file=None, models_dir=models)
            recogniser = Recogniser(registry, settings)
            champion = Classifier.load(registry, model, threads=1)
            judge = Judge(champion, arguments.base, arguments.votes)
            stream = read_photographs(arguments.stream, recogniser, champion.manifest.labels)
            test = None
            if arguments.test is not None:
                test = read_photographs(arguments.test, recogniser, champion.manifest.labels)
            town = Town(stream, test, models, Path(temporary))
            with ThreadPoolExecutor(arguments.jobs) as pool:
                played = [
                    pool.submit(play, cell, town, judge, arguments.threads) for cell in wanted
                ]
                for done in as_completed(played):
                    rows.append(done.result())
                    with arguments.out.open("a", encoding="utf-8") as out:
                        out.write(json.dumps(rows[-1]) + "\n")
                    print(said(rows[-1]), file=sys.stderr, flush=True)
    if arguments.plot is not None:
        plot([row for row in rows if row["model"] == model], arguments.plot)
    print(json.dumps(rows) if arguments.json else table(rows))


if __name__ == "__main__":
    main()
