"""Select what is trained on: which reviewed samples, at most how many of one visitor, their crops.

No Keras here: whether there is enough to train on is known before anything heavy is loaded.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fer.collection.storage import ImageStorage
from fer.collection.training_data import Reviewed
from fer.errors import PictureError, RetrainingError
from fer.labels import LabelSet
from fer.manifest import Manifest
from fer.vision.faces import crop_face
from fer.vision.images import ImageLimits, decode

#: Most samples of one group that are trained on: one visitor must not outweigh the others.
GROUP_CAP = 10

#: Perceptual hashes that differ in at most a tenth of their 256 bits are one picture.
NEAR_BITS = 25

#: What was kept went through the limits when it came; these only stop a damaged file.
_LIMITS = ImageLimits(max_bytes=50_000_000, max_pixels=80_000_000, min_side=8)


@dataclass(frozen=True)
class Selection:
    """What a run works with.

    Attributes:
        training: samples that are trained on, oldest first.
        judged_only: reviewed samples outside the audit slice whose label has too few to train on:
            the gate asks about them all the same.
        audit: samples of the audit slice, which nothing trains on.
        new: how many outside the audit slice were decided since the last run that trained.
        trained_labels: labels with enough samples.
        replayed_labels: how many samples each of the others has; replay alone trains them.
        outside: how many decisions named a label that the champion does not know, by label.
        folded: near-duplicates of another sample that were left out.
        capped: samples beyond the most that one group may bring.
    """

    training: tuple[Reviewed, ...]
    judged_only: tuple[Reviewed, ...]
    audit: tuple[Reviewed, ...]
    new: int
    trained_labels: tuple[str, ...]
    replayed_labels: dict[str, int]
    outside: dict[str, int]
    folded: int
    capped: int

    def notes(self) -> list[str]:
        """What a verdict should say about the selection, a sentence each."""
        notes = []
        if self.replayed_labels:
            named = _counted(self.replayed_labels)
            notes.append(f"Trained by replay alone, with too few decisions: {named}.")
        if self.outside:
            notes.append(f"Left out, none of the champion's labels: {_counted(self.outside)}.")
        if self.folded or self.capped:
            notes.append(
                f"Left out: {self.folded} near-duplicates, and {self.capped} samples beyond "
                f"{GROUP_CAP} of one visitor."
            )
        return notes


def select(samples: Sequence[Reviewed], labels: LabelSet, min_per_class: int) -> Selection:
    """Choose among reviewed samples.

    Args:
        labels: the champion's.
        min_per_class: samples that a label needs to be trained on.
    """
    known = [sample for sample in samples if sample.label in labels]
    outside = Counter(sample.label for sample in samples if sample.label not in labels)
    usable = [sample for sample in known if not sample.audit]
    distinct = fold(usable)
    kept = cap(distinct)
    counts = Counter(labels.spelling(sample.label) for sample in kept)
    enough = {name for name in labels if counts[name] >= min_per_class}
    training = tuple(s for s in kept if labels.spelling(s.label) in enough)
    return Selection(
        training=training,
        judged_only=tuple(s for s in kept if labels.spelling(s.label) not in enough),
        audit=tuple(sample for sample in known if sample.audit),
        new=sum(sample.new for sample in usable),
        trained_labels=tuple(name for name in labels if name in enough),
        replayed_labels={name: counts[name] for name in labels if name not in enough},
        outside=dict(sorted(outside.items())),
        folded=len(usable) - len(distinct),
        capped=len(distinct) - len(kept),
    )


def why_not_enough(selection: Selection, min_new: int, force: bool) -> str | None:
    """Why a run is skipped, or None when there is enough to train on."""
    if not force and selection.new < min_new:
        return (
            f"Not enough new decisions: {selection.new} since the last retraining, "
            f"{min_new} are needed."
        )
    if len(selection.trained_labels) < 2:
        have = ", ".join(selection.trained_labels) or "none"
        return f"Not enough labels with decisions to train on: two are needed, there is {have}."
    return None


def fold(samples: Sequence[Reviewed]) -> list[Reviewed]:
    """Without near-duplicates: of each cluster within one group or one import, the latest decided.

    The perceptual hash never joins strangers: most close pairs of different visitors show
    different people.
    """
    order = sorted(samples, key=lambda s: (s.decided_at is not None, s.decided_at, s.id))
    kept_bits: dict[str, list[npt.NDArray[np.uint8]]] = defaultdict(list)
    chosen = set()
    for sample in reversed(order):
        bits = np.frombuffer(bytes.fromhex(sample.phash), np.uint8)
        places = [f"group {sample.group}"]
        if sample.import_id is not None:
            places.append(f"import {sample.import_id}")
        if any(_near(bits, kept_bits[place]) for place in places):
            continue
        chosen.add(sample.id)
        for place in places:
            kept_bits[place].append(bits)
    return [sample for sample in samples if sample.id in chosen]


def cap(samples: Sequence[Reviewed], most: int = GROUP_CAP) -> list[Reviewed]:
    """At most `most` samples of each group, its labels in turn, the latest of each first."""
    by_group: dict[str, dict[str, list[Reviewed]]] = defaultdict(lambda: defaultdict(list))
    for sample in samples:
        by_group[sample.group][sample.label].append(sample)
    chosen: set[str] = set()
    for by_label in by_group.values():
        taken = 0
        while taken < most and any(by_label.values()):
            for waiting in by_label.values():
                if waiting and taken < most:
                    chosen.add(waiting.pop().id)
                    taken += 1
    return [sample for sample in samples if sample.id in chosen]


def target_of(sample: Reviewed, labels: LabelSet) -> npt.NDArray[np.float32]:
    """Opinions on one sample as probabilities (k,): the label that counts, and a second one."""
    target = np.zeros(len(labels), np.float32)
    target[labels.index(sample.label)] += 1
    if sample.second_label is not None and sample.second_label in labels:
        target[labels.index(sample.second_label)] += 1
    return np.asarray(target / target.sum(), np.float32)


def read_crops(
    samples: Sequence[Reviewed],
    storage: ImageStorage,
    manifest: Manifest,
    still_there: Callable[[str], bool],
) -> tuple[list[Reviewed], npt.NDArray[np.uint8]]:
    """The crops that were classified, cut again from the kept pictures.

    Args:
        still_there: whether a sample is still kept, asked where its picture is not.

    Returns:
        Samples that still have their picture, and their crops uint8 (n, s, s, 3). One that was
        forgotten meanwhile is left out.

    Raises:
        RetrainingError: a picture is missing, or is not what was kept.
        StorageError: the disk refused.
    """
    size = manifest.crop_size
    present, crops = [], []
    for sample in samples:
        try:
            data = storage.read(sample.path)
            if hashlib.sha256(data).hexdigest() != sample.sha256:
                raise _broken(sample, "was changed on the disk")
            image = decode(data, _LIMITS)
        except FileNotFoundError:
            if still_there(sample.id):
                raise _broken(sample, "is missing") from None
            continue
        except PictureError as error:
            raise _broken(sample, "is damaged") from error
        present.append(sample)
        crops.append(crop_face(image, sample.face_box, manifest.framing, size))
    stacked = np.stack(crops) if crops else np.empty((0, size, size, 3), np.uint8)
    return present, stacked


def _broken(sample: Reviewed, how: str) -> RetrainingError:
    return RetrainingError(
        f"The picture of sample {sample.id} {how}; `fer samples verify --repair` mends what "
        "can be mended.",
        sample_id=sample.id,
    )


def _near(bits: npt.NDArray[np.uint8], others: Sequence[npt.NDArray[np.uint8]]) -> bool:
    if not others:
        return False
    apart = np.unpackbits(np.stack(others) ^ bits, axis=1).sum(axis=1)
    return bool((apart <= NEAR_BITS).any())


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} ({count})" for name, count in counts.items())
