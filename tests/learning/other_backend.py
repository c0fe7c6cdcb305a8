"""A small training to the end, for a process of its own: a backend cannot be changed in one."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import numpy.typing as npt

from fer.learning.architectures import Network
from fer.learning.batches import soft_targets
from fer.learning.datasets import FaceArrays
from fer.learning.recipe import Recipe
from fer.learning.training import Trainer
from tests.learning.conftest import draw


def faces(seeds: range) -> FaceArrays:
    """One face of each of three labels for each seed."""
    crops = np.stack([draw(label, seed, 24) for seed in seeds for label in range(3)])
    labels = np.tile(np.arange(3, dtype=np.int64), len(seeds))
    return FaceArrays(crops, labels, tuple(str(row) for row in range(len(labels))))


def main(folder: Path) -> None:
    """Train two epochs and two more from the state that they left; print what came of it."""
    recipe = Recipe(
        architecture="cnn",
        image_size=24,
        crop_size=24,
        grey="yes",
        head_epochs=0,
        batch_size=8,
        learning_rate=3e-3,
        average=0.9,
        seed=1,
    )
    train, validation = faces(range(16)), faces(range(20, 28))

    def score(logits: npt.NDArray[np.float32]) -> dict[str, float]:
        return {"score": float((logits.argmax(axis=1) == validation.labels).mean())}

    for epochs in (2, 4):
        going = replace(recipe, epochs=epochs)
        network = Network("cnn", 3, 24, 24, True, going.dropout)
        trainer = Trainer(network, going, folder, say=lambda text: None)
        trainer.fit(train, soft_targets(train.labels, 3, going), validation, score)
    history = trainer.progress.history or []
    print(json.dumps({"backend": keras.backend.backend(), "losses": [r["loss"] for r in history]}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
