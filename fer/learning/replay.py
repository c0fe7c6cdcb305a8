"""Latent replay: what a model needs to learn more without forgetting, and without its old data.

A network is cut at a freeze point. The frozen part below it turns a face into an activation; the
tail above it is what retraining changes. Beside each model lies `replay.npz`: activations of base
training faces, mixed with new ones in retraining, and of a hold-out of base faces that were never
trained on, which measures forgetting. Activations hold no pixels, and are bound to the frozen part
by a hash. Method: Pellegrini et al., "Latent Replay for Real-Time Continual Learning", 2020.
"""

from __future__ import annotations

import hashlib
import math
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import keras
import numpy as np
import numpy.typing as npt

from fer.errors import DamagedModelError
from fer.learning.architectures import FREEZE_POINTS

Halves = npt.NDArray[np.float16]
Floats = npt.NDArray[np.float32]

#: Crops that go through the network at a time: 256 of them need half a gigabyte more at 96 px.
AT_ONCE = 64

#: Largest replay file; a version must stay under 40 MB.
LARGEST_REPLAY = 16_000_000

#: Fewest base training faces and faces of the hold-out for which a cut is early enough. Below these
#: a later one is taken, where activations are smaller.
FEWEST_FACES, FEWEST_HELD = 1600, 1400


@dataclass(frozen=True)
class Replay:
    """Stored activations with their targets.

    Attributes:
        freeze_point: name of the layer whose output they are.
        frozen_sha256: digest of the frozen part that made them.
        activations: float16 (n, ...), class-balanced base training faces.
        targets: float32 (n, classes), what those faces were trained towards.
        holdout_activations: float16 (m, ...), base faces never trained on.
        holdout_targets: float32 (m, classes).
        holdout_accepted: bool (m, classes), the labels that count as right (a tie marks several).
    """

    freeze_point: str
    frozen_sha256: str
    activations: Halves
    targets: Floats
    holdout_activations: Halves
    holdout_targets: Floats
    holdout_accepted: npt.NDArray[np.bool_]

    def save(self, path: Path | BinaryIO) -> None:
        """Write `replay.npz`."""
        np.savez_compressed(path, **self.__dict__)


def load_replay(path: Path, model: keras.Model) -> Replay:
    """Read `replay.npz` and make sure that it belongs to `model`.

    Raises:
        DamagedModelError: it cannot be read, or was made by another frozen part.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            values = {name: stored[name] for name in Replay.__dataclass_fields__}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DamagedModelError(f"{path} cannot be read as replay activations.") from error
    values["freeze_point"] = str(values["freeze_point"])
    values["frozen_sha256"] = str(values["frozen_sha256"])
    replay = Replay(**values)
    if replay.freeze_point not in {layer.name for layer in model.layers}:
        raise DamagedModelError(f"{path} belongs to a network with other layers.")
    frozen, _ = cut(model, replay.freeze_point)
    if frozen_digest(frozen) != replay.frozen_sha256:
        raise DamagedModelError(f"{path} was made by another network than the one beside it.")
    return replay


def cut(model: keras.Model, freeze_point: str) -> tuple[keras.Model, keras.Model]:
    """The frozen part (crops to activations) and the tail (activations to logits).

    Both share their layers with `model`: what is trained in the tail is trained in the model.
    """
    activation = model.get_layer(freeze_point).output
    return (
        keras.Model(model.inputs[0], activation, name="frozen"),
        keras.Model(activation, model.outputs[0], name="tail"),
    )


def frozen_digest(frozen: keras.Model) -> str:
    """SHA-256 over the names, shapes and values of all weights of the frozen part."""
    digest = hashlib.sha256(str(tuple(frozen.input_shape)).encode())
    for layer in frozen.layers:
        for weight in layer.weights:
            value = np.ascontiguousarray(keras.ops.convert_to_numpy(weight))
            digest.update(f"{layer.name}/{weight.name}{value.shape}{value.dtype}".encode())
            digest.update(value.tobytes())
    return digest.hexdigest()


def choose_freeze_point(model: keras.Model, architecture: str, faces: int) -> str:
    """The earliest freeze point at which `faces` activations fit into `LARGEST_REPLAY` bytes."""
    points = FREEZE_POINTS[architecture]
    for name in points:
        if faces <= room_for(model, name):
            return name
    return points[-1]


def room_for(model: keras.Model, freeze_point: str) -> int:
    """How many activations of a layer fit into `LARGEST_REPLAY` bytes."""
    numbers: int = math.prod(model.get_layer(freeze_point).output.shape[1:])
    return LARGEST_REPLAY // (2 * numbers)


def activations(frozen: keras.Model, crops: npt.NDArray[np.uint8]) -> Halves:
    """Output of the frozen part for crops (n, s, s, 3), in half precision."""
    # As a compiled graph, which costs half of what the layers cost one by one.
    batches = [
        keras.ops.convert_to_numpy(frozen.predict_on_batch(crops[start : start + AT_ONCE]))
        for start in range(0, len(crops), AT_ONCE)
    ]
    if not batches:
        return np.empty((0, *frozen.output_shape[1:]), np.float16)
    return np.asarray(np.concatenate(batches), np.float16)


def balanced_choice(labels: npt.NDArray[np.int64], count: int, seed: int) -> npt.NDArray[np.int64]:
    """Rows of up to `count` faces, as evenly spread over the classes as they allow."""
    rng = np.random.default_rng(seed)
    waiting = {
        int(c): list(rng.permutation(np.flatnonzero(labels == c))) for c in np.unique(labels)
    }
    chosen: list[int] = []
    while len(chosen) < count and any(waiting.values()):
        for rows in waiting.values():
            if rows and len(chosen) < count:
                chosen.append(int(rows.pop()))
    return np.array(sorted(chosen), np.int64)


def make_replay(
    model: keras.Model,
    architecture: str,
    train: tuple[npt.NDArray[np.uint8], Floats],
    holdout: tuple[npt.NDArray[np.uint8], Floats, npt.NDArray[np.bool_]],
    *,
    train_faces: int = 1950,
    holdout_faces: int = 1500,
    seed: int = 0,
) -> Replay:
    """Choose faces, run them through the frozen part and keep the activations.

    Where fewer fit than are asked for, the hold-out gives way first, then the training faces, each
    down to `FEWEST_HELD` and `FEWEST_FACES`.

    Args:
        model: the serving graph.
        train: crops and targets of the base training faces.
        holdout: crops, targets and accepted labels of base faces that were never trained on;
            a random part of them is kept, in the proportions of life, not balanced.
    """
    crops, targets = train
    held_crops, held_targets, accepted = holdout
    usable = np.flatnonzero(accepted.any(axis=1))
    faces, held_faces = min(train_faces, len(crops)), min(holdout_faces, len(usable))
    fewest, fewest_held = min(faces, FEWEST_FACES), min(held_faces, FEWEST_HELD)
    point = choose_freeze_point(model, architecture, fewest + fewest_held)
    room = room_for(model, point)
    held_faces = min(held_faces, max(fewest_held, room - faces))
    faces = min(faces, max(fewest, room - held_faces))
    rows = balanced_choice(targets.argmax(axis=1).astype(np.int64), faces, seed)
    held = np.random.default_rng(seed).permutation(usable)[:held_faces]
    frozen, _ = cut(model, point)
    return Replay(
        freeze_point=point,
        frozen_sha256=frozen_digest(frozen),
        activations=activations(frozen, crops[rows]),
        targets=targets[rows].astype(np.float32),
        holdout_activations=activations(frozen, held_crops[held]),
        holdout_targets=held_targets[held].astype(np.float32),
        holdout_accepted=accepted[held],
    )
