"""LiteRT models: right answers, the same from every thread, damage refused."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from fer.errors import DamagedModelError, ManifestError, UnknownModelError
from fer.registry import LITERT_FILE, MANIFEST, Registry
from fer.vision.classifier import Classifier
from fer.vision.images import Pixels
from tests.support import make_version, tiny_litert


def crops(count: int, side: int = 48) -> Pixels:
    random = np.random.default_rng(1)
    # Each with a brightness of its own, so that no two answers are alike.
    levels = random.integers(40, 216, (count, 1, 1, 3))
    return (levels + random.integers(-40, 40, (count, side, side, 3))).astype(np.uint8)


def test_probabilities_are_the_softmax_of_logits_by_temperature(models: Path) -> None:
    weights = np.array([[0.01, 0, 0], [0, 0.02, 0]])
    version = make_version(
        models, ("low", "high"), weights=weights, bias=np.array([0.5, 0.0]), temperature=2.0
    )
    crop = np.zeros((1, 48, 48, 3), np.uint8)
    crop[..., 0], crop[..., 1] = 100, 200
    # Logits 0.01 * 100 + 0.5 = 1.5 and 0.02 * 200 = 4; halved by the temperature.
    expected = 1 / (1 + np.exp((4 - 1.5) / 2))
    (row,) = Classifier.load(Registry(models), version).probabilities(crop)
    assert row == pytest.approx([expected, 1 - expected], abs=1e-6)


def test_rows_sum_to_1_and_do_not_depend_on_their_company(models: Path) -> None:
    classifier = Classifier.load(Registry(models), make_version(models))
    many = crops(70)
    rows = classifier.probabilities(many)
    assert rows.shape == (70, 7) and rows.dtype == np.float32
    assert np.abs(rows.sum(axis=1) - 1).max() < 1e-6
    assert len(np.unique(rows, axis=0)) == 70
    for count in (1, 2, 5, 33):
        assert np.array_equal(classifier.probabilities(many[:count]), rows[:count])


def test_no_crops_give_no_rows(models: Path) -> None:
    classifier = Classifier.load(Registry(models), make_version(models))
    assert classifier.probabilities(crops(0)).shape == (0, 7)


def test_extreme_logits_do_not_overflow(models: Path) -> None:
    version = make_version(
        models, ("a", "b"), weights=np.zeros((2, 3)), bias=np.array([1e4, -1e4]), temperature=0.05
    )
    (row,) = Classifier.load(Registry(models), version).probabilities(crops(1))
    assert row.tolist() == [1, 0]


@pytest.mark.parametrize("labels", (("yes", "no"), ("a", "b", "c"), tuple("abcdefghijkl")))
@pytest.mark.parametrize("side", (24, 96))
def test_any_labels_and_any_crop_size(models: Path, labels: tuple[str, ...], side: int) -> None:
    version = make_version(models, labels, favourite=labels[1], crop_size=side)
    classifier = Classifier.load(Registry(models), version)
    assert classifier.labels.names == labels and classifier.version == version
    rows = classifier.probabilities(crops(3, side))
    assert rows.argmax(axis=1).tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    "wrong",
    (
        np.zeros((1, 40, 48, 3), np.uint8),
        np.zeros((48, 48, 3), np.uint8),
        np.zeros((1, 48, 48, 1), np.uint8),
        np.zeros((1, 48, 48, 3), np.float32),
    ),
)
def test_crops_of_another_form_are_refused(models: Path, wrong: Pixels) -> None:
    classifier = Classifier.load(Registry(models), make_version(models))
    with pytest.raises(ValueError, match="the model takes"):
        classifier.probabilities(wrong)


@pytest.mark.parametrize("threads", (1, 2, 8))
def test_eight_threads_give_what_one_gives(models: Path, threads: int) -> None:
    classifier = Classifier.load(Registry(models), make_version(models), threads)
    batches = [crops(200)[start : start + 1 + start % 5] for start in range(195)]
    alone = [classifier.probabilities(batch) for batch in batches]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(classifier.probabilities, batches))
    assert all(np.array_equal(one, other) for one, other in zip(alone, together, strict=True))


def test_a_failed_call_gives_its_interpreter_back(models: Path) -> None:
    classifier = Classifier.load(Registry(models), make_version(models), threads=1)
    with pytest.raises(ValueError):
        classifier.probabilities(np.zeros((1, 2, 2, 3), np.uint8))
    assert len(classifier.probabilities(crops(1))) == 1


# Damage


def test_unknown_versions(models: Path) -> None:
    for name in ("20250101T000000Z-none", "../etc", ""):
        with pytest.raises(UnknownModelError):
            Classifier.load(Registry(models), name)


def test_an_altered_file_is_refused(models: Path) -> None:
    version = make_version(models)
    path = models / version / LITERT_FILE
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(DamagedModelError, match="differs"):
        Classifier.load(Registry(models), version)


def test_a_missing_file_is_refused(models: Path) -> None:
    version = make_version(models)
    (models / version / LITERT_FILE).unlink()
    with pytest.raises(DamagedModelError, match="lacks"):
        Classifier.load(Registry(models), version)


def test_an_unreadable_manifest_is_refused(models: Path) -> None:
    version = make_version(models)
    (models / version / MANIFEST).write_text("{}")
    with pytest.raises(ManifestError):
        Classifier.load(Registry(models), version)


@pytest.mark.parametrize("content", (b"", b"not a model at all", bytes(4096)))
def test_a_file_that_is_no_model_is_refused(models: Path, content: bytes) -> None:
    version = make_version(models, extra_files={LITERT_FILE: content})
    with pytest.raises(DamagedModelError, match="cannot be run"):
        Classifier.load(Registry(models), version)


def test_a_model_with_other_outputs_than_its_manifest_is_refused(models: Path) -> None:
    other = tiny_litert(np.zeros((5, 3)), np.zeros(5), crop_size=48)
    version = make_version(models, extra_files={LITERT_FILE: other})
    with pytest.raises(DamagedModelError, match="for 7 labels"):
        Classifier.load(Registry(models), version)
