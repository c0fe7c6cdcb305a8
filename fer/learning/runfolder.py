"""Run folders: what a training was asked for, how far it is, what came of it. Without Keras.

A run folder holds `run.json` (what was asked for), `recipe.toml` (every knob), the state that a
stopped training goes on from, `history.json`, the best weights, plots and figures, and in the end
`result.json`, which names the version.
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fer.errors import TrainingError
from fer.labels import LabelSet
from fer.learning.datasets import Dataset, open_dataset, thinned
from fer.learning.recipe import Recipe, read_recipe
from fer.registry import new_version_name

#: Everything that a stopped training needs, replaced as one file after each epoch.
STATE_FILE = "state.npz"

#: Weights of the epoch with the best validation score, where the recipe asks for it averaged ones.
BEST_FILE = "best.weights.h5"

#: What the teacher says of each training face, kept so that a resumed training need not ask again.
TEACHER_FILE = "teacher.npy"

#: Written last: a run that has it is finished.
RESULT_FILE = "result.json"


@dataclass(frozen=True)
class Request:
    """What a training is asked to do, beside its recipe.

    Attributes:
        data: ImageFolder folder or zip.
        name: last part of the version's name.
        title: what people read in the model picker; the name if empty.
        votes: FER+ votes, or None.
        classes: as in `open_dataset`.
        weights: "imagenet", a weights file, or None.
        start: weights of a whole network of this kind to start from, or None.
        validation_share, test_share: as in `assign_splits`.
        terms: terms of use of the data, for the manifest and the card.
        notes: anything else that a reader of the card should know.
        share: part of each label's pictures that is taken, 0…1.
        teachers: versions whose answers make part of the targets.
        teacher_votes: FER+ votes that only the teacher sees, or None.
        tune: settings to try before the training; 0 for none.
        tune_epochs: epochs of fine-tuning of each; 0 for the recipe's.
    """

    data: str
    name: str
    title: str = ""
    votes: str | None = None
    classes: str | None = None
    weights: str | None = "imagenet"
    start: str | None = None
    validation_share: float = 0.2
    test_share: float = 0.4
    terms: str = ""
    notes: str = ""
    share: float = 1.0
    teachers: tuple[str, ...] = ()
    teacher_votes: str | None = None
    tune: int = 0
    tune_epochs: int = 0

    def __post_init__(self) -> None:
        for name in ("validation_share", "test_share"):
            if not 0 <= getattr(self, name) < 1:
                raise TrainingError(f"{name} must lie in 0…1, got {getattr(self, name)}.")
        if not 0 < self.share <= 1:
            raise TrainingError(f"share must lie above 0 and up to 1, got {self.share}.")
        if self.tune < 0 or self.tune_epochs < 0:
            raise TrainingError("tune and tune_epochs must not be negative.")


def default_name(architecture: str, data: str) -> str:
    """What a version is called that nobody named."""
    return f"{architecture.replace('_', '')}-{Path(data).stem}"


def version_name(wanted: str) -> str:
    """`wanted` in the letters that a version's name may have.

    Raises:
        TrainingError: none of its letters may be in one.
    """
    name = re.sub(r"[^a-z0-9._-]+", "-", wanted.lower()).strip("-._")[:60]
    if not name:
        raise TrainingError(f"{wanted!r} cannot name a version: use letters a to z and digits.")
    return name


def open_request(request: Request, seed: int) -> Dataset:
    """The pictures that a request asks for, before any is decoded.

    Raises:
        DataError: they cannot be used.
    """
    dataset = open_dataset(Path(request.data), request.classes)
    return thinned(dataset, request.share, seed)


def labels_of(request: Request) -> LabelSet:
    """The labels that a version trained on request will have."""
    return open_dataset(Path(request.data), request.classes).labels


def start_run(request: Request, recipe: Recipe, runs: Path) -> Path:
    """Make a run folder; returns it."""
    folder = runs / new_version_name(request.name)
    folder.mkdir(parents=True)
    text = json.dumps(asdict(request), indent=1) + "\n"
    (folder / "run.json").write_text(text, encoding="utf-8")
    (folder / "recipe.toml").write_text(recipe.as_toml(), encoding="utf-8")
    return folder


def read_run(folder: Path) -> tuple[Request, Recipe]:
    """What a run folder was asked to do.

    Raises:
        TrainingError: it is no run folder.
    """
    try:
        values = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        values["teachers"] = tuple(values.get("teachers", ()))
        return Request(**values), Recipe(**read_recipe(folder / "recipe.toml"))
    except (OSError, ValueError, TypeError) as error:
        raise TrainingError(f"{folder} is not the folder of a training: {error}.") from error


def keep_checkpoint(folder: Path, target: Path) -> None:
    """Copy what a stopped training needs to go on elsewhere, without the optimizer's moments.

    A whole state holds four copies of the weights. This keeps one, that of the best epoch: a
    training that goes on from it takes up the learning rate where it was, and gathers moments and
    averages anew.

    Args:
        folder: a run folder with at least one epoch at the recipe's image size.
        target: a folder that does not exist yet.

    Raises:
        TrainingError: there is nothing to copy, or `target` exists.
    """
    read_run(folder)
    if target.exists():
        raise TrainingError(f"{target} exists already.")
    try:
        with np.load(folder / STATE_FILE) as state:
            kept = {"progress": state["progress"], "iterations": state["optimizer_0"]}
    except (OSError, KeyError) as error:
        raise TrainingError(f"{folder} holds no state of a training yet.") from error
    if not (folder / BEST_FILE).is_file():
        raise TrainingError(f"{folder} holds no epoch at its recipe's image size yet.")
    target.mkdir(parents=True)
    for name in ("run.json", "recipe.toml", "history.json", BEST_FILE):
        shutil.copyfile(folder / name, target / name)
    np.savez_compressed(target / STATE_FILE, **kept)


def resumable(folder: Path, runs: Path) -> Path:
    """The run folder in which to go on with `folder`: a checkpoint is copied first, and stays.

    Raises:
        TrainingError: `folder` is no run folder.
    """
    request, _ = read_run(folder)
    state = folder / STATE_FILE
    if not state.is_file():
        return folder
    with np.load(state) as arrays:
        if "iterations" not in arrays:
            return folder
    return Path(shutil.copytree(folder, runs / new_version_name(request.name)))


@dataclass(frozen=True)
class Run:
    """One run folder, for a list.

    Attributes:
        name: of the folder.
        state: `finished`, `stopped` (it has epochs, and may be running), or `begun`.
        data, architecture: what was trained on what.
        epochs: epochs done, of all stages.
        seconds: time that they took.
        best: best validation score so far, None before the first epoch.
        version: of the model that came of it.
        accuracy: on the validation split, when finished.
    """

    name: str
    state: str
    data: str
    architecture: str
    epochs: int
    seconds: float
    best: float | None
    version: str | None
    accuracy: float | None


def list_runs(folder: Path) -> list[Run]:
    """Every run below `folder`, by name, which for runs of `fer train` is oldest first."""
    if not folder.is_dir():
        return []
    return [_read(path) for path in sorted(folder.iterdir()) if (path / "run.json").is_file()]


def _read(folder: Path) -> Run:
    asked: dict[str, Any] = _json(folder / "run.json", {})
    history: list[dict[str, Any]] = _json(folder / "history.json", [])
    result: dict[str, Any] = _json(folder / RESULT_FILE, {})
    metrics: dict[str, Any] = _json(folder / "metrics.json", {})
    try:
        architecture = str(read_recipe(folder / "recipe.toml").get("architecture", ""))
    except TrainingError:
        architecture = ""
    state = "finished" if result or metrics else "stopped" if history else "begun"
    return Run(
        name=folder.name,
        state=state,
        data=str(asked.get("data", "")),
        architecture=architecture,
        epochs=len(history),
        seconds=round(sum(float(row.get("seconds", 0)) for row in history), 1),
        best=max((float(row["score"]) for row in history if "score" in row), default=None),
        version=result.get("version"),
        accuracy=metrics.get("accuracy"),
    )


def _json(path: Path, otherwise: Any) -> Any:
    # A run that is being written, or was copied by halves, still gets its line.
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return otherwise
    return value if isinstance(value, type(otherwise)) else otherwise
