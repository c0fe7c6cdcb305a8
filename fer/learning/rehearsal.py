"""Rehearsal on the original data, where `FER_BASE_DATA` says that it is there.

Instead of the two thousand activations that a version carries, several thousand real pictures are
replayed, a varied copy of each included, and a new `replay.npz` is drawn from them. The base
hold-out stays the version's own, so that the same gate judges.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fer.learning.assessment import in_model_order
from fer.learning.augmentation import Augmentation
from fer.learning.datasets import assign_splits, load_faces, open_dataset
from fer.learning.evaluation import softmax
from fer.learning.job import Workplace
from fer.learning.layouts import TRAIN
from fer.learning.material import Champion
from fer.learning.newfaces import varied_activations
from fer.learning.replay import Replay, balanced_choice, cut

#: Pictures that are rehearsed on; activations of twice as many are held in memory.
PICTURES = 6000


def rehearse(work: Workplace, champion: Champion, pictures: int = PICTURES) -> Replay | None:
    """The champion's replay with its base faces taken from the original data, or None without it.

    Raises:
        DataError: the data cannot be read, or has labels that the champion lacks.
    """
    if work.settings.base_data is None:
        return None
    manifest = champion.manifest
    dataset = in_model_order(open_dataset(work.settings.base_data), manifest.label_set)
    dataset = assign_splits(dataset)
    train = dataset.split(TRAIN)
    labels = np.array([dataset.labels.index(picture.label) for picture in train], np.int64)
    rows = balanced_choice(labels, pictures, seed=0)
    work.journal.say(f"Rehearsing on {len(rows)} pictures of {dataset.path.name}.")
    faces = load_faces(dataset, [train[row] for row in rows], manifest.crop_size)
    frozen, tail = cut(champion.model, champion.replay.freeze_point)
    stacked = varied_activations(frozen, faces.crops, 1, Augmentation(), seed=0)
    # The champion's own answers: a data set's labels may not be what it was trained towards.
    logits = [
        tail.predict_on_batch(stacked[start : start + 512, 0].astype(np.float32))
        for start in range(0, len(stacked), 512)
    ]
    targets = np.asarray(softmax(np.concatenate(logits)), np.float32)
    return replace(
        champion.replay,
        activations=np.concatenate([stacked[:, 0], stacked[:, 1]]),
        targets=np.concatenate([targets, targets]),
    )


def for_keeping(rehearsed: Replay, kept: Replay) -> Replay:
    """What goes into the new version's `replay.npz`: as many unvaried faces as it held before."""
    half = len(rehearsed.activations) // 2
    labels = rehearsed.targets[:half].argmax(axis=1).astype(np.int64)
    rows = balanced_choice(labels, len(kept.activations), seed=0)
    return replace(
        rehearsed, activations=rehearsed.activations[rows], targets=rehearsed.targets[rows]
    )
