"""What a retraining works on: the champion opened up, and the reviewed faces below it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import keras
import numpy as np
import numpy.typing as npt

from fer.collection.training_data import Reviewed, still_there
from fer.errors import DamagedModelError, RetrainingError
from fer.learning.finetuning import Tuner
from fer.learning.job import Workplace
from fer.learning.newfaces import NewFaces
from fer.learning.replay import Replay, load_replay
from fer.learning.selection import Selection, read_crops, target_of
from fer.manifest import Manifest
from fer.registry import KERAS_FILE, REPLAY_FILE, Registry

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

#: Called with a step's name, how much of it is done, and how much there is.
Tell = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Champion:
    """The version that serves, opened up for learning."""

    manifest: Manifest
    model: keras.Model
    replay: Replay


@dataclass(frozen=True)
class Material:
    """Reviewed faces of one run.

    Attributes:
        samples: outside the audit slice, in the order of `crops` and `faces`.
        crops: uint8 (n, s, s, 3).
        faces: their activations, targets, labels and groups.
        trainable: bool (n,), whether a sample's label has enough samples to train on.
        unseen: bool (n,), whether the champion and its forebears never trained on the sample.
        audit_crops: uint8 (m, s, s, 3).
        audit_labels, audit_groups: int64 (m,).
    """

    samples: tuple[Reviewed, ...]
    crops: npt.NDArray[np.uint8]
    faces: NewFaces
    trainable: Bools
    unseen: Bools
    audit_crops: npt.NDArray[np.uint8]
    audit_labels: Ints
    audit_groups: Ints


def open_champion(registry: Registry) -> Champion:
    """Load the version that serves, every file of it verified.

    Raises:
        NoModelError, ManifestError, DamagedModelError: it cannot be loaded.
        RetrainingError: it came without a replay file.
    """
    version = registry.champion()
    manifest = registry.manifest(version)
    if REPLAY_FILE not in manifest.files:
        raise RetrainingError(f"{version} has no {REPLAY_FILE}: it cannot be retrained.")
    replay_file = registry.verified_file(version, REPLAY_FILE)
    model = open_model(registry, version)
    return Champion(manifest, model, load_replay(replay_file, model))


def open_model(registry: Registry, version: str) -> keras.Model:
    """The Keras graph of a version, its file verified.

    Raises:
        NoModelError, ManifestError, DamagedModelError: it cannot be loaded.
    """
    path = registry.verified_file(version, KERAS_FILE)
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except (ValueError, OSError, TypeError, KeyError) as error:
        raise DamagedModelError(
            f"Model {version}: {KERAS_FILE} cannot be loaded.", model=version
        ) from error


def gather(
    work: Workplace, manifest: Manifest, tuner: Tuner, selection: Selection, tell: Tell
) -> Material:
    """Read the reviewed pictures, cut their faces and run them through the frozen part, once.

    Raises:
        RetrainingError: a picture is missing or damaged.
    """
    labels = manifest.label_set

    def there(sample_id: str) -> bool:
        return still_there(work.database, sample_id)

    chosen = (*selection.training, *selection.judged_only)
    samples, crops = read_crops(chosen, work.storage, manifest, there)
    audit, audit_crops = read_crops(selection.audit, work.storage, manifest, there)
    trainable = {sample.id for sample in selection.training}
    work.journal.say(
        f"{len(samples)} reviewed faces, {len(audit)} audited ones; "
        f"{len(tuner.replay.activations)} replayed."
    )
    faces = tuner.new_faces(
        crops,
        np.stack([target_of(sample, labels) for sample in samples]),
        label_positions(samples, manifest),
        group_numbers(samples),
        report=lambda done, total: tell("activations", done, total),
    )
    seen = set(manifest.samples_used)
    return Material(
        samples=tuple(samples),
        crops=crops,
        faces=faces,
        trainable=np.array([sample.id in trainable for sample in samples]),
        unseen=np.array([sample.id not in seen for sample in samples]),
        audit_crops=audit_crops,
        audit_labels=label_positions(audit, manifest),
        audit_groups=group_numbers(audit),
    )


def label_positions(samples: Sequence[Reviewed], manifest: Manifest) -> Ints:
    """Position of each sample's label in the model's outputs, (n,)."""
    labels = manifest.label_set
    return np.array([labels.index(sample.label) for sample in samples], np.int64)


def group_numbers(samples: Sequence[Reviewed]) -> Ints:
    """A number for each sample's group, (n,)."""
    numbers: dict[str, int] = {}
    for sample in samples:
        numbers.setdefault(sample.group, len(numbers))
    return np.array([numbers[sample.group] for sample in samples], np.int64)
