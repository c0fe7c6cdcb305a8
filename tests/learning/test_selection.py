"""What is trained on, and what is left out and counted."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fer.collection.storage import FolderStorage
from fer.collection.training_data import Reviewed
from fer.errors import RetrainingError
from fer.labels import LabelSet
from fer.learning.selection import (
    GROUP_CAP,
    cap,
    fold,
    read_crops,
    select,
    target_of,
    why_not_enough,
)
from fer.manifest import Manifest
from fer.vision.faces import FaceBox, crop_face
from fer.vision.images import ImageLimits, decode
from tests.collection.support import jpeg

LABELS = LabelSet(["Angry", "happy", "sad"])
NOON = datetime(2025, 6, 1, 12, tzinfo=UTC)


def sample(number: int, label: str = "happy", **more: object) -> Reviewed:
    """A reviewed sample whose picture differs from all others, in a session of its own."""
    values: dict[str, object] = {
        "id": f"{number:032x}",
        "label": label,
        "second_label": None,
        "group": f"g{number}",
        "import_id": None,
        "audit": False,
        "path": f"happy/{number:032x}.jpg",
        "sha256": "0" * 64,
        "phash": hashlib.sha256(str(number).encode()).hexdigest(),
        "face_box": FaceBox(10, 10, 40, 40),
        "decided_at": NOON + timedelta(minutes=number),
        "new": True,
        **more,
    }
    return Reviewed(**values)  # type: ignore[arg-type]


def flipped(phash: str, bits: int) -> str:
    """A perceptual hash that differs in so many bits."""
    return f"{int(phash, 16) ^ ((1 << bits) - 1):064x}"


def test_labels_with_too_few_are_left_to_replay_and_named() -> None:
    samples = [sample(i, "happy") for i in range(5)] + [sample(i, "ANGRY") for i in range(10, 15)]
    samples += [sample(i, "sad") for i in range(20, 24)]
    chosen = select(samples, LABELS, min_per_class=5)
    assert chosen.trained_labels == ("Angry", "happy")
    assert {s.label for s in chosen.training} == {"happy", "ANGRY"}
    assert [s.label for s in chosen.judged_only] == ["sad"] * 4
    assert chosen.replayed_labels == {"sad": 4}
    assert any("sad (4)" in note for note in chosen.notes())


def test_the_audit_slice_is_never_trained_on_nor_counted_as_new() -> None:
    chosen = select([sample(1), sample(2, audit=True), sample(3, new=False)], LABELS, 1)
    assert [s.id for s in chosen.audit] == [sample(2).id]
    assert sample(2).id not in {s.id for s in (*chosen.training, *chosen.judged_only)}
    assert chosen.new == 1


def test_decisions_outside_the_labels_are_counted_by_label() -> None:
    chosen = select([sample(1, "bored"), sample(2, "bored"), sample(3, "tired")], LABELS, 1)
    assert chosen.outside == {"bored": 2, "tired": 1}
    assert not chosen.training
    assert any("bored (2), tired (1)" in note for note in chosen.notes())


def test_near_duplicates_of_one_group_fold_to_the_latest_decision() -> None:
    first = sample(1, "happy", group="g")
    again = sample(2, "sad", group="g", phash=flipped(first.phash, 25))
    assert fold([first, again]) == [again]
    apart = sample(3, "sad", group="g", phash=flipped(first.phash, 26))
    assert fold([first, apart]) == [first, apart]


def test_strangers_that_look_alike_stay_two() -> None:
    first = sample(1)
    stranger = sample(2, phash=first.phash)
    assert fold([first, stranger]) == [first, stranger]


def test_near_duplicates_of_one_import_fold_across_its_groups() -> None:
    first = sample(1, import_id="i")
    assert fold([first, sample(2, import_id="i", phash=first.phash)]) == [
        sample(2, import_id="i", phash=first.phash)
    ]
    assert len(fold([first, sample(2, import_id="j", phash=first.phash)])) == 2


def test_one_visitor_brings_ten_at_most_and_of_every_label() -> None:
    many = [sample(i, "happy", group="g") for i in range(30)]
    one = sample(40, "sad", group="g")
    kept = cap([*many, one])
    assert len(kept) == GROUP_CAP
    assert one in kept
    chosen = select([*many, one, sample(50, group="h")], LABELS, 1)
    assert chosen.capped == 21


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.sampled_from(list(LABELS))), max_size=60))
def test_no_sample_is_lost_or_doubled(rows: list[tuple[int, str]]) -> None:
    samples = [sample(i, label, group=f"g{group}") for i, (group, label) in enumerate(rows)]
    chosen = select(samples, LABELS, 5)
    kept = [s.id for s in (*chosen.training, *chosen.judged_only)]
    assert len(set(kept)) == len(kept)
    assert len(kept) + chosen.folded + chosen.capped == len(samples)
    for group in {s.group for s in samples}:
        assert sum(s.group == group for s in (*chosen.training, *chosen.judged_only)) <= GROUP_CAP


def test_too_few_new_decisions_skip_unless_forced() -> None:
    two = [sample(i, "happy") for i in range(5)] + [sample(i, "sad") for i in range(10, 15)]
    chosen = select(two, LABELS, 5)
    assert why_not_enough(chosen, 10, force=False) is None
    assert "10 since the last retraining, 11 are needed" in str(
        why_not_enough(chosen, 11, force=False)
    )
    assert why_not_enough(chosen, 11, force=True) is None
    alone = select(two[:5], LABELS, 5)
    assert "two are needed, there is happy" in str(why_not_enough(alone, 0, force=True))


def test_two_opinions_share_a_target() -> None:
    assert target_of(sample(1, "sad"), LABELS).tolist() == [0, 0, 1]
    assert target_of(sample(1, "sad", second_label="happy"), LABELS).tolist() == [0, 0.5, 0.5]
    assert target_of(sample(1, "sad", second_label="sad"), LABELS).tolist() == [0, 0, 1]
    assert target_of(sample(1, "sad", second_label="bored"), LABELS).tolist() == [0, 0, 1]


# Pictures

MANIFEST = Manifest(
    version="20250101T000000Z-x",
    name="x",
    created_at=NOON,
    architecture="cnn",
    labels=LABELS.names,
    crop_size=24,
    image_size=24,
    files={},
)


def kept(storage: FolderStorage, number: int) -> Reviewed:
    """A sample whose picture lies in `storage`."""
    data = jpeg(number)
    wanted = sample(number, sha256=hashlib.sha256(data).hexdigest())
    storage.write(wanted.path, data)
    return wanted


def test_the_crop_is_the_one_that_was_classified(tmp_path: Path) -> None:
    storage = FolderStorage(tmp_path)
    first = kept(storage, 1)
    present, crops = read_crops([first], storage, MANIFEST, lambda sample_id: True)
    image = decode(storage.read(first.path), ImageLimits(10**7, 10**7, 8))
    assert present == [first]
    assert np.array_equal(crops[0], crop_face(image, first.face_box, MANIFEST.framing, 24))


def test_a_sample_forgotten_meanwhile_is_left_out(tmp_path: Path) -> None:
    storage = FolderStorage(tmp_path)
    first, gone = kept(storage, 1), sample(2)
    present, crops = read_crops([gone, first], storage, MANIFEST, lambda sample_id: False)
    assert present == [first]
    assert crops.shape == (1, 24, 24, 3)


@pytest.mark.parametrize("how", ["missing", "changed", "cut off"])
def test_a_picture_that_is_not_what_was_kept_ends_the_run(tmp_path: Path, how: str) -> None:
    storage = FolderStorage(tmp_path)
    wanted = kept(storage, 1)
    if how == "missing":
        storage.delete(wanted.path)
    elif how == "changed":
        storage.write(wanted.path, jpeg(2))
    else:
        data = jpeg(1)[:200]
        storage.write(wanted.path, data)
        wanted = sample(1, sha256=hashlib.sha256(data).hexdigest())
    with pytest.raises(RetrainingError, match="fer samples verify"):
        read_crops([wanted], storage, MANIFEST, lambda sample_id: True)


def test_no_pictures_are_no_crops(tmp_path: Path) -> None:
    present, crops = read_crops([], FolderStorage(tmp_path), MANIFEST, lambda sample_id: True)
    assert not present
    assert crops.shape == (0, 24, 24, 3)
