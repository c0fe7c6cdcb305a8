"""Ways to train that `fer train` does not offer, for the ablation to say what they would be worth.

Each trains once, or several times, and gives the trainer that is measured.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from fer.learning.evaluation import softmax
from fer.learning.recipe import Recipe
from fer.learning.runs import Splits, network_of, scorer
from fer.learning.training import Trainer

Floats = npt.NDArray[np.float32]

#: Share of the training faces that cleaning leaves out.
CONTRADICTED = 0.1

#: How many other networks teach, and their share of the targets.
TEACHERS = 2
TAUGHT = 0.5

#: Length of the step that sharpness-aware training takes uphill before it looks at the gradient.
UPHILL = 0.05


def train(
    splits: Splits,
    recipe: Recipe,
    weights: str | None,
    targets: Floats | None = None,
    kind: type[Trainer] = Trainer,
) -> Trainer:
    """Train once, towards `targets` or what the recipe makes of votes and labels."""
    keras.utils.clear_session()
    if targets is None:
        targets = splits.targets(splits.train, recipe)
    network = network_of(recipe, len(splits.dataset.labels))
    with tempfile.TemporaryDirectory() as folder:
        trainer = kind(network, recipe, Path(folder), weights, say=lambda text: None)
        trainer.fit(splits.train, targets, splits.validation, scorer(splits))
    return trainer


def serving(trainer: Trainer) -> keras.Model:
    """What a trainer has trained, from crops to logits."""
    trainer.vary.size = trainer.network.image_size
    return keras.Model(trainer.inputs, trainer.core(trainer.vary(trainer.inputs)))


def answers(trainer: Trainer, crops: npt.NDArray[np.uint8]) -> Floats:
    """Probabilities (n, classes) for crops (n, s, s, 3)."""
    return softmax(serving(trainer).predict(crops, batch_size=256, verbose=0))


class EveryPixel(Trainer):
    """The first convolution goes by one pixel rather than by two: twice the size of every map."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        whole = self.core

        def slower(layer: keras.layers.Layer) -> keras.layers.Layer:
            config = layer.get_config()
            if layer.name == "Conv1":
                config["strides"] = (1, 1)
            return type(layer).from_config(config)

        self.core = keras.models.clone_model(whole, clone_function=slower)
        self.core.set_weights(whole.get_weights())


class SharpnessAware(Trainer):
    """Sharpness-aware minimisation (Foret et al. 2021), under TensorFlow alone."""

    def _training_model(self, size: int, optimizer: Any) -> keras.Model:
        plain = super()._training_model(size, optimizer)
        model = UphillFirst(plain.inputs, plain.outputs)
        model.core, model.vary = self.core, self.vary
        model.compile(optimizer=optimizer, loss=plain.loss, jit_compile=False)
        return model


class UphillFirst(keras.Model):
    """Steps along the gradient from where the loss is highest nearby."""

    core: keras.Model
    vary: keras.layers.Layer

    def train_step(self, data: Any) -> Any:
        import tensorflow as tf  # the other variants train on any backend

        x, y, weight = keras.utils.unpack_x_y_sample_weight(data)
        # Varied once, so that both gradients are of the same pictures.
        pixels = self.vary(x, training=True)

        def gradients() -> Any:
            with tf.GradientTape() as tape:
                answer = self.core(pixels, training=True)
                loss = self.compute_loss(x, y, answer, weight)
            values = [variable.value for variable in self.trainable_variables]
            return loss, answer, tape.gradient(loss, values)

        loss, answer, first = gradients()
        length = UPHILL / (tf.linalg.global_norm(first) + 1e-12)
        steps = [length * gradient for gradient in first]
        for variable, step in zip(self.trainable_variables, steps, strict=True):
            variable.assign_add(step)
        _, _, second = gradients()
        for variable, step in zip(self.trainable_variables, steps, strict=True):
            variable.assign_sub(step)
        self.optimizer.apply(second, self.trainable_variables)
        self._loss_tracker.update_state(loss)
        return self.compute_metrics(x, y, answer, weight)


def every_pixel(splits: Splits, recipe: Recipe, weights: str | None) -> Trainer:
    """At 48 px, a first stride of 1."""
    return train(splits, recipe, weights, kind=EveryPixel)


def sharpness_aware(splits: Splits, recipe: Recipe, weights: str | None) -> Trainer:
    """Two gradients a step, the second one from uphill."""
    return train(splits, recipe, weights, kind=SharpnessAware)


def cleaned(splits: Splits, recipe: Recipe, weights: str | None) -> Trainer:
    """Without the faces whose targets a network that never saw them contradicts most.

    Two networks, each trained on half of the faces, answer the other half. What is left out has
    the largest divergence of the answer from the target (Kullback and Leibler), not the largest
    cross entropy: annotators who disagree are not a mistake.
    """
    targets = splits.targets(splits.train, recipe)
    rng = np.random.default_rng((recipe.seed, 10))
    half = rng.permutation(len(targets)) % 2
    found = np.zeros_like(targets)
    for one in (0, 1):
        own, others = np.flatnonzero(half == one), np.flatnonzero(half != one)
        part = replace(splits, train=splits.train.take(own.tolist()))
        found[others] = answers(train(part, recipe, weights), splits.train.crops[others])
    least = np.float32(1e-7)
    divergence = (targets * np.log((targets + least) / (found + least))).sum(axis=1)
    kept = np.sort(np.argsort(divergence)[: round((1 - CONTRADICTED) * len(targets))])
    return train(replace(splits, train=splits.train.take(kept.tolist())), recipe, weights)


def taught(splits: Splits, recipe: Recipe, weights: str | None) -> Trainer:
    """Half of the targets are what others of the same recipe, by other seeds, answer."""
    found = np.mean(
        [
            answers(
                train(splits, replace(recipe, seed=recipe.seed + 100 * (1 + i)), weights),
                splits.train.crops,
            )
            for i in range(TEACHERS)
        ],
        axis=0,
    )
    targets = splits.targets(splits.train, recipe)
    return train(splits, recipe, weights, np.float32(1 - TAUGHT) * targets + TAUGHT * found)


#: What trains a row, by its name, where it is no knob.
VARIANTS = {
    "a first stride of 1 at 48 px": every_pixel,
    "sharpness-aware steps": sharpness_aware,
    "a tenth of the faces left out as contradicted": cleaned,
    "taught by two others of the same recipe": taught,
}
