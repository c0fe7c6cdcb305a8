"""One training from a data set to a version in the registry, kept as a run folder.

What the folder holds stands in `fer.learning.runfolder`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from fer import __version__
from fer.learning.architectures import Network, build
from fer.learning.batches import soft_targets
from fer.learning.cards import NOT_FOR, make_card
from fer.learning.datasets import (
    Dataset,
    FaceArrays,
    Votes,
    assign_splits,
    load_faces,
    read_votes,
    shortest_sides,
)
from fer.learning.evaluation import softmax
from fer.learning.layouts import TEST, TRAIN, VALIDATION
from fer.learning.measuring import (
    add_int8,
    assess_faces,
    fitted_temperature,
    latency,
    write_plots,
)
from fer.learning.recipe import Recipe
from fer.learning.replay import make_replay
from fer.learning.runfolder import RESULT_FILE, TEACHER_FILE, Request, open_request, read_run
from fer.learning.teaching import checked_teachers, taught, teacher_answers
from fer.learning.tracking import open_tracker
from fer.learning.training import Trainer
from fer.learning.tuning import TUNING_FILE, search
from fer.learning.versions import VersionFolder
from fer.manifest import DataSource, Manifest
from fer.registry import CARD_FILE, REPLAY_FILE, Registry, new_version_name
from fer.vision.classifier import Classifier

Say = Callable[[str], None]


@dataclass(frozen=True)
class Splits:
    """The decoded faces of a data set, and what they are trained towards."""

    dataset: Dataset
    train: FaceArrays
    validation: FaceArrays
    test: FaceArrays | None
    votes: Votes | None
    taught: npt.NDArray[np.float32] | None = None

    def accepted(self, faces: FaceArrays) -> npt.NDArray[np.bool_]:
        """Labels that count as right, (n, k): the most voted, or the data set's own."""
        if self.votes is not None:
            return self.votes.accepted(faces.names, self.dataset.labels)
        return np.eye(len(self.dataset.labels), dtype=bool)[faces.labels]

    def targets(self, faces: FaceArrays, recipe: Recipe) -> npt.NDArray[np.float32]:
        """Soft targets, (n, k)."""
        labels = self.dataset.labels
        shares = self.votes.distribution(faces.names, labels) if self.votes else None
        return soft_targets(faces.labels, len(labels), recipe, shares)

    def training_targets(self, recipe: Recipe) -> npt.NDArray[np.float32]:
        """Soft targets of the training faces, (n, k), the teacher's share among them."""
        targets = self.targets(self.train, recipe)
        if self.taught is None:
            return targets
        weight = np.float32(recipe.teacher_weight)
        return (1 - weight) * targets + weight * self.taught


def load_splits(
    request: Request, recipe: Recipe, say: Say, progress: Callable[[int, int], None] | None = None
) -> tuple[Splits, Recipe]:
    """Read the data; the recipe comes back with what it left to the data filled in.

    Raises:
        DataError: the data or the votes cannot be used.
    """
    dataset = open_request(request, recipe.seed)
    votes = read_votes(Path(request.votes)) if request.votes else None
    if not recipe.crop_size:
        sides = shortest_sides(dataset)
        side = int(np.median(sides)) if len(sides) else recipe.image_size
        recipe = Recipe(**recipe.as_dict() | {"crop_size": min(side, recipe.image_size)})

    def report(done: int) -> None:
        if progress is not None:
            progress(done, len(dataset))

    faces = load_faces(dataset, dataset.pictures, recipe.crop_size, progress=report)
    for file, reason in faces.unreadable:
        say(f"Left out {file}: {reason}")
    # Split only what can be read: a label with few pictures must not lose its only one.
    readable = set(faces.names)
    dataset = assign_splits(
        replace(dataset, pictures=tuple(p for p in dataset.pictures if p.name in readable)),
        validation_share=request.validation_share,
        test_share=request.test_share,
        seed=recipe.seed,
    )
    row_of = {name: row for row, name in enumerate(faces.names)}
    arrays = {
        name: faces.take([row_of[picture.name] for picture in dataset.split(name)])
        for name in dataset.splits()
    }
    if recipe.grey == "auto":
        sample = arrays[TRAIN].crops[:: max(1, len(arrays[TRAIN]) // 500)].astype(int)
        colourless = bool(np.abs(sample - sample[..., :1]).max() <= 2)
        recipe = Recipe(**recipe.as_dict() | {"grey": "yes" if colourless else "no"})
    splits = Splits(dataset, arrays[TRAIN], arrays[VALIDATION], arrays.get(TEST), votes)
    counts = ", ".join(f"{name} {len(faces)}" for name, faces in arrays.items())
    say(f"{len(dataset.labels)} labels ({', '.join(dataset.labels)}); faces: {counts}.")
    return splits, recipe


def run_training(
    folder: Path,
    registry: Registry,
    say: Say,
    progress: Callable[[int, int], None] | None = None,
) -> Manifest:
    """Train, or go on training, in a run folder, and write the version.

    Raises:
        DataError, TrainingError: the data or the recipe cannot be used.
    """
    # Without it, names of layers would depend on what this process built before.
    keras.utils.clear_session()
    request, recipe = read_run(folder)
    tracker = open_tracker(folder, say)
    splits, recipe = load_splits(request, recipe, say, progress)
    (folder / "recipe.toml").write_text(recipe.as_toml(), encoding="utf-8")
    splits = replace(splits, taught=_taught(folder, registry, request, splits, say))
    if request.tune:
        recipe = _tuned(folder, request, recipe, splits, say)
    tracker.begin(asdict(request) | recipe.as_dict())
    network = network_of(recipe, len(splits.dataset.labels))
    start = Path(request.start) if request.start else None
    trainer = Trainer(network, recipe, folder, request.weights, start, say, tracker.epoch)
    targets = splits.training_targets(recipe)
    trainer.fit(splits.train, targets, splits.validation, scorer(splits))
    model = build(network)
    model.set_weights(trainer.core.get_weights())
    say("Writing the version: conversion, calibration, replay, figures.")
    history = trainer.progress.history or []
    manifest = _write_version(
        folder, registry, request, recipe, network, model, splits, history, say
    )
    result = {"version": manifest.version, "labels": list(manifest.labels)}
    (folder / RESULT_FILE).write_text(json.dumps(result) + "\n", encoding="utf-8")
    tracker.end(manifest.version, manifest.metrics)
    return manifest


def _taught(
    folder: Path, registry: Registry, request: Request, splits: Splits, say: Say
) -> npt.NDArray[np.float32] | None:
    """What the teacher says of the training faces, (n, k); None without one."""
    if not (request.teachers or request.teacher_votes):
        return None
    kept = folder / TEACHER_FILE
    if kept.is_file():
        return np.asarray(np.load(kept))
    faces, labels = splits.train, splits.dataset.labels
    checked_teachers(registry, request.teachers, labels)
    answers = [teacher_answers(registry, version, faces, say) for version in request.teachers]
    votes = None
    if request.teacher_votes:
        votes = read_votes(Path(request.teacher_votes)).distribution(faces.names, labels)
    found = taught(faces.labels, len(labels), answers, votes)
    right = float((found.argmax(axis=1) == faces.labels).mean())
    say(f"The teacher agrees with {100 * right:.1f} % of the training labels.")
    partial = kept.with_suffix(".part.npy")
    np.save(partial, found)
    partial.replace(kept)
    return found


def network_of(recipe: Recipe, classes: int) -> Network:
    """The network that a recipe asks for, its crop size and greyness settled."""
    return Network(
        recipe.architecture,
        classes,
        recipe.crop_size,
        recipe.image_size,
        recipe.grey == "yes",
        recipe.dropout,
    )


def _tuned(folder: Path, request: Request, recipe: Recipe, splits: Splits, say: Say) -> Recipe:
    """The recipe with the best settings found; it is written back, so a resumed run skips this."""
    if (folder / TUNING_FILE).is_file():
        return recipe

    def fit(tried: Recipe, trial: Path) -> float:
        network = network_of(tried, len(splits.dataset.labels))
        start = Path(request.start) if request.start else None
        trainer = Trainer(network, tried, trial, request.weights, start, say)
        targets = splits.training_targets(tried)
        trainer.fit(splits.train, targets, splits.validation, scorer(splits))
        return trainer.progress.best

    best = search(recipe, fit, folder, request.tune, request.tune_epochs, say)
    (folder / "recipe.toml").write_text(best.as_toml(), encoding="utf-8")
    return best


def scorer(splits: Splits) -> Callable[[npt.NDArray[np.float32]], dict[str, float]]:
    """Figures on the validation faces; "score" is right answers among those that any count for."""
    accepted = splits.accepted(splits.validation)
    counted = accepted.any(axis=1)
    truth = splits.validation.labels

    def score(logits: npt.NDArray[np.float32]) -> dict[str, float]:
        answers = logits.argmax(axis=1)
        right = accepted[np.arange(len(answers)), answers][counted]
        figures = {"accuracy": float((answers == truth).mean())}
        if splits.votes is not None:
            figures["ferplus_accuracy"] = float(right.mean()) if len(right) else 0.0
        likelihood = np.where(accepted, softmax(logits), 0).sum(axis=1)[counted]
        figures["val_loss"] = float(-np.log(np.maximum(likelihood, 1e-7)).mean())
        figures["score"] = float(right.mean()) if len(right) else 0.0
        return figures

    return score


def _write_version(
    folder: Path,
    registry: Registry,
    request: Request,
    recipe: Recipe,
    network: Network,
    model: keras.Model,
    splits: Splits,
    history: list[dict[str, Any]],
    say: Say,
) -> Manifest:
    labels = splits.dataset.labels
    created = datetime.now(UTC)
    version = new_version_name(request.name, created)
    validation = splits.validation
    accepted = splits.accepted(validation)
    with VersionFolder(registry, version) as new:
        litert = new.add_model(model)
        draft = Manifest(
            version=version,
            name=request.name,
            title=request.title or request.name,
            created_at=created,
            architecture=network.architecture,
            labels=labels.names,
            crop_size=network.crop_size,
            image_size=network.image_size,
            parameters=model.count_params(),
            settings=recipe.as_dict(),
            seed=recipe.seed,
            code_version=__version__,
            data=_sources(request, splits),
            not_for=NOT_FOR,
            files={},
        )
        classifier = Classifier(draft, litert, threads=1)
        temperature = fitted_temperature(classifier, validation, accepted)
        draft = draft.model_copy(update={"temperature": temperature})
        classifier = Classifier(draft, litert, threads=1)
        found = assess_faces(classifier, validation, splits.votes)
        metrics = found.figures
        metrics["on"] = measured_on(splits.dataset.path.name)
        if request.notes:
            metrics["notes"] = request.notes
        if splits.test is not None and len(splits.test):
            metrics["test"] = assess_faces(classifier, splits.test, splits.votes).figures
        metrics["latency"] = latency(classifier, litert)
        metrics["int8"] = add_int8(
            new.path, draft, model, splits.train.crops, validation, splits.votes, metrics, say
        )
        replay = make_replay(
            model,
            network.architecture,
            (splits.train.crops, splits.training_targets(recipe)),
            (validation.crops, splits.targets(validation, recipe), accepted),
            seed=recipe.seed,
        )
        replay.save(new.path / REPLAY_FILE)
        new.add_json("metrics.json", {"metrics": metrics, "history": history})
        write_plots(new.path, found, history)
        write_plots(folder, found, history)
        (folder / "metrics.json").write_text(json.dumps(metrics, indent=1), encoding="utf-8")
        fields = draft.model_dump(exclude={"version", "files", "metrics", "temperature"})
        fields |= {"metrics": metrics, "temperature": temperature}
        fields["freeze_point"] = replay.freeze_point
        card = make_card(draft.model_copy(update={"metrics": metrics}))
        (new.path / CARD_FILE).write_text(card, encoding="utf-8")
        return new.commit(**fields)


def measured_on(data: str) -> str:
    """What the figures of a version that was trained on `data` are measured on."""
    return (
        f"the validation split of {data}, on which the epoch was chosen and the temperature fitted"
    )


def _sources(request: Request, splits: Splits) -> tuple[DataSource, ...]:
    data = splits.dataset
    sources = [
        DataSource(
            name=data.path.name,
            terms=request.terms,
            sha256=data.sha256(),
            split=TRAIN,
            pictures=len(splits.train),
        )
    ]
    for votes in sorted({Path(v).name for v in (request.votes, request.teacher_votes) if v}):
        sources.append(DataSource(name=f"{votes} (votes of ten annotators)"))
    return tuple(sources)
