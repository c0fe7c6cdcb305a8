"""Fit one network to faces: head first, then fine-tuning, with checkpoints that resume.

Keras and NumPy only, so that it runs under `KERAS_BACKEND=jax` or `torch` as it stands.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import keras
import numpy as np

from fer.errors import TrainingError
from fer.learning.architectures import Network, build_core, head_layers
from fer.learning.augmentation import Augmentation, RandomFace
from fer.learning.batches import FaceBatches, Floats, class_weights
from fer.learning.datasets import FaceArrays
from fer.learning.recipe import Recipe
from fer.learning.runfolder import BEST_FILE, STATE_FILE


class AveragedAdamW(keras.optimizers.AdamW):
    """AdamW that keeps a running average of the weights without ever training on it."""

    def finalize_variable_values(self, var_list: Any) -> None:
        """Do nothing: `fit` calls this after each epoch, and would replace the weights."""

    def put_averages(self, variables: Any) -> None:
        """Put the averages in the place of the weights."""
        _copy(self._model_variables_moving_average, variables)

    def begin_averages(self, variables: Any) -> None:
        """Let the averages begin at the weights as they are."""
        _copy(variables, self._model_variables_moving_average)


def _copy(sources: Any, targets: Any) -> None:
    """Assign values of their own: on JAX two variables that share an array lose it together."""
    for source, target in zip(sources, targets, strict=True):
        target.assign(keras.ops.convert_to_numpy(source))


@dataclass(frozen=True)
class Stage:
    """Epochs that belong together.

    Attributes:
        name: `head` or `fine-tune`.
        epochs: how many.
        size: image size of each of them, by epoch.
    """

    name: str
    epochs: int
    size: Callable[[int], int]


def stages(recipe: Recipe) -> list[Stage]:
    """The stages that a recipe asks for, in order."""
    early = recipe.early_size or recipe.image_size
    found = []
    whole = recipe.epochs > 0 and recipe.unfreeze != 0
    # The base CNN has no pretrained base to spare: a head trained on random features first, at
    # its higher rate, left the dense layer's units dead on FER2013.
    if recipe.head_epochs and not (recipe.architecture == "cnn" and whole):
        found.append(Stage("head", recipe.head_epochs, lambda epoch: early))
    if whole:
        found.append(
            Stage(
                "fine-tune",
                recipe.epochs,
                lambda epoch: early if epoch < recipe.early_epochs else recipe.image_size,
            )
        )
    if not found:
        raise TrainingError("Nothing to train: there are no epochs.")
    return found


#: Scores validation logits (n, classes): figures by name; "score" is what is selected on.
Scorer = Callable[[Floats], dict[str, float]]


@dataclass
class Progress:
    """Where a training stands; saved after each epoch."""

    stage: int = 0
    epoch: int = 0
    best: float = -math.inf
    best_epoch: int = 0
    history: list[dict[str, Any]] | None = None

    def __post_init__(self) -> None:
        self.history = self.history or []


class Trainer:
    """Trains one network in one run folder.

    Args:
        network, recipe: what and how.
        folder: the run folder; a state or a checkpoint found in it is gone on from.
        weights: weights of the backbone to start from, as `build_core` takes them.
        start: weights of the whole core to start from instead (a Keras weights file).
        say: called with a line of text now and then.
        on_epoch: called with the row of the history that an epoch adds, once it is saved.
    """

    def __init__(
        self,
        network: Network,
        recipe: Recipe,
        folder: Path,
        weights: str | Path | None = None,
        start: Path | None = None,
        say: Callable[[str], None] = print,
        on_epoch: Callable[[dict[str, Any]], None] = lambda row: None,
    ) -> None:
        self.network, self.recipe, self.folder, self.say = network, recipe, folder, say
        self.on_epoch = on_epoch
        keras.utils.set_random_seed(recipe.seed)
        state = folder / STATE_FILE
        resumed = state.is_file()
        grows = recipe.early_size not in (0, recipe.image_size)
        begins = None if resumed or start else weights
        self.core = build_core(network, begins, any_size=grows)
        if start is not None and not resumed:
            self.core.load_weights(start)
        # Keras' MobileNets average batch moments over a thousand steps, more than an epoch of a
        # small data set has.
        for layer in self.core.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.momentum = min(layer.momentum, 0.99)
        names = [field.name for field in fields(Augmentation)]
        augmentation = Augmentation(**{name: getattr(recipe, name) for name in names})
        self.vary = RandomFace(augmentation, network.image_size, network.grey, recipe.seed)
        inputs = keras.Input((network.crop_size, network.crop_size, 3), dtype="float32")
        self.inputs = inputs
        self.progress = Progress()
        self._saved = dict(np.load(state)) if resumed else {}
        if resumed:
            self.progress = Progress(**json.loads(str(self._saved["progress"])))
            if self._light:
                self.core.load_weights(folder / BEST_FILE)
            self._load("core", self.core.weights)
            self.say(
                f"Going on from {folder}: stage {self.progress.stage + 1}, "
                f"{self.progress.epoch} epochs of it done."
            )

    def fit(
        self, train: FaceArrays, targets: Floats, validation: FaceArrays, score: Scorer
    ) -> None:
        """Train to the end; the core then holds the weights with the best validation score."""
        plan = stages(self.recipe)
        weights = class_weights(targets, self.recipe.class_weights)
        while self.progress.stage < len(plan):
            self._fit_stage(plan[self.progress.stage], train, targets, weights, validation, score)
            self.progress.stage += 1
            self.progress.epoch = 0
            self._saved = {}
        best = self.folder / BEST_FILE
        if best.is_file():
            self.core.load_weights(best)

    def _fit_stage(
        self,
        stage: Stage,
        train: FaceArrays,
        targets: Floats,
        weights: Floats,
        validation: FaceArrays,
        score: Scorer,
    ) -> None:
        self._set_trainable(stage.name)
        batches = FaceBatches(train.crops, targets, weights, self.recipe)
        optimizer = self._optimizer(stage, len(batches))
        optimizer.build(self.core.trainable_variables)
        self._load("optimizer", optimizer.variables)
        if self._light:
            optimizer.iterations.assign(self._saved["iterations"])
            if optimizer.use_ema:
                optimizer.begin_averages(self.core.trainable_variables)
        model: keras.Model | None = None
        size = 0
        waited = 0
        for epoch in range(self.progress.epoch, stage.epochs):
            if stage.size(epoch) != size:
                size = stage.size(epoch)
                model = self._training_model(size, optimizer)
            assert model is not None  # noqa: S101 - the first epoch always has a size
            started = time.monotonic()
            batches.begin(epoch + 1)
            fitted = model.fit(
                batches,
                initial_epoch=epoch,
                epochs=epoch + 1,
                shuffle=False,
                verbose=1 if sys.stderr.isatty() else 0,
            )
            figures = {name: float(values[-1]) for name, values in fitted.history.items()}
            figures |= self._validate(model, optimizer, validation, score, size)
            seconds = time.monotonic() - started
            row = {"stage": stage.name, "epoch": epoch + 1, "size": size, "seconds": seconds}
            row["learning_rate"] = float(keras.ops.convert_to_numpy(optimizer.learning_rate))
            assert self.progress.history is not None  # noqa: S101 - made in __post_init__
            self.progress.history.append(row | figures)
            text = ", ".join(f"{name} {value:.4f}" for name, value in figures.items())
            self.say(f"{stage.name} {epoch + 1}/{stage.epochs}, {size} px, {seconds:.0f} s: {text}")
            waited = waited + 1 if figures["score"] < self.progress.best else 0
            self.progress.epoch = epoch + 1
            self._save(optimizer)
            self.on_epoch({"step": len(self.progress.history)} | self.progress.history[-1])
            if self.recipe.schedule == "plateau" and waited and waited % 3 == 0:
                optimizer.learning_rate.assign(optimizer.learning_rate * 0.3)
            if self.recipe.patience and waited >= self.recipe.patience:
                self.say(f"No better validation for {waited} epochs: stopping here.")
                break

    @property
    def _light(self) -> bool:
        """Whether this goes on from a checkpoint of `keep_checkpoint`, not from a whole state."""
        return "iterations" in self._saved

    def _set_trainable(self, stage: str) -> None:
        if stage == "head":
            chosen = head_layers(self.core)
        elif self.recipe.unfreeze < 0:
            chosen = list(self.core.layers)
        else:
            chosen = [layer for layer in self.core.layers if layer.weights]
            chosen = chosen[-self.recipe.unfreeze :]
        for layer in self.core.layers:
            layer.trainable = layer in chosen

    def _optimizer(self, stage: Stage, steps: int) -> AveragedAdamW:
        recipe = self.recipe
        rate: Any = recipe.head_learning_rate
        if stage.name != "head":
            rate = recipe.learning_rate
            if recipe.schedule == "cosine":
                total = steps * stage.epochs
                rising = max(1, round(total * recipe.warmup))
                rate = keras.optimizers.schedules.CosineDecay(
                    recipe.learning_rate * 0.05,
                    max(1, total - rising),
                    alpha=0.01,
                    warmup_target=recipe.learning_rate,
                    warmup_steps=rising,
                )
        average = recipe.average if stage.name != "head" else 0.0
        optimizer = AveragedAdamW(
            rate,
            weight_decay=recipe.weight_decay,
            use_ema=bool(average),
            ema_momentum=average or None,
            global_clipnorm=5.0,
        )
        optimizer.exclude_from_weight_decay(var_names=["bias", "beta", "gamma"])
        return optimizer

    def _training_model(self, size: int, optimizer: Any) -> keras.Model:
        self.vary.size = size
        model = keras.Model(self.inputs, self.core(self.vary(self.inputs)))
        backend = keras.backend.backend()
        model.compile(
            optimizer=optimizer,
            loss=keras.losses.CategoricalCrossentropy(from_logits=True),
            # XLA makes depthwise convolutions six times slower on a CPU.
            jit_compile=False if backend == "tensorflow" else "auto",
        )
        return model

    def _validate(
        self,
        model: keras.Model,
        optimizer: Any,
        validation: FaceArrays,
        score: Scorer,
        size: int,
    ) -> dict[str, float]:
        """Score the averaged weights, keep them if they are the best, put the others back."""
        current = self.core.get_weights()
        if optimizer.use_ema:
            optimizer.put_averages(self.core.trainable_variables)
        logits = model.predict(validation.crops, batch_size=256, verbose=0)
        figures = score(logits)
        # A smaller early size is only a way there: its scores are not those of the final graph.
        if size == self.network.image_size and figures["score"] >= self.progress.best:
            self.progress.best = figures["score"]
            self.progress.best_epoch = len(self.progress.history or []) + 1
            self._replace(BEST_FILE, lambda path: self.core.save_weights(path))
        self.core.set_weights(current)
        return figures

    def _save(self, optimizer: Any) -> None:
        arrays: dict[str, Any] = {"progress": json.dumps(self.progress.__dict__)}
        for kind, variables in (("core", self.core.weights), ("optimizer", optimizer.variables)):
            for index, variable in enumerate(variables):
                arrays[f"{kind}_{index}"] = keras.ops.convert_to_numpy(variable)
        self._replace(STATE_FILE, lambda path: np.savez(path, **arrays))
        text = json.dumps(self.progress.history, indent=1)
        self._replace("history.json", lambda path: path.write_text(text, encoding="utf-8"))

    def _replace(self, name: str, write: Callable[[Path], Any]) -> None:
        # The suffix stays: Keras and NumPy choose the format by it.
        temporary = self.folder / f"new-{name}"
        write(temporary)
        os.replace(temporary, self.folder / name)

    def _load(self, kind: str, variables: list[Any]) -> None:
        if f"{kind}_0" not in self._saved:
            return
        for index, variable in enumerate(variables):
            value = self._saved.get(f"{kind}_{index}")
            if value is None or value.shape != tuple(variable.shape):
                raise TrainingError(
                    f"The state in {self.folder} belongs to another recipe; use a new folder."
                )
            variable.assign(value)
