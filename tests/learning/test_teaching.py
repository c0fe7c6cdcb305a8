"""Targets from a teacher: what it makes of votes and of other versions, and what it refuses."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fer.errors import DamagedModelError, TrainingError, UnknownModelError
from fer.learning import training
from fer.learning.datasets import FaceArrays
from fer.learning.recipe import Recipe
from fer.learning.runfolder import TEACHER_FILE, Request, start_run
from fer.learning.runs import load_splits, run_training
from fer.learning.teaching import taught, teacher_answers
from fer.registry import KERAS_FILE, Registry
from tests.learning.small import LABELS, faces, train_champion

QUICK = Recipe(
    architecture="cnn",
    image_size=32,
    epochs=1,
    head_epochs=0,
    batch_size=8,
    label_smoothing=0.0,
    teacher_weight=0.75,
    seed=1,
)


def test_votes_tell_the_teacher_which_labels_are_wrong() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 600)
    wrong = rng.random(600) < 0.3
    labels = np.where(wrong, (truth + rng.integers(1, 3, 600)) % 3, truth)
    # The fourth label of the set is one that no face has.
    votes = np.full((600, 4), 0.1, np.float32)
    votes[np.arange(600), truth] = 0.7
    votes[:5] = 0
    guesses = rng.normal(size=(600, 4)).astype(np.float32)
    likely = taught(labels, 4, [guesses], votes)
    np.testing.assert_allclose(likely.sum(axis=1), 1, atol=1e-5)
    assert (likely[:, 3] == 0).all()
    # A face with a wrong label gets the label that annotators saw, and about the doubt there is.
    assert (likely[5:].argmax(axis=1) == truth[5:]).mean() > 0.99
    sure = likely[np.arange(5, 600), truth[5:]].mean()
    assert sure == pytest.approx(0.7, abs=0.05)


def test_a_version_alone_teaches_what_it_sees() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 300)
    logits = (4 * np.eye(3)[truth] + rng.normal(size=(300, 3))).astype(np.float32)
    labels = truth.copy()
    labels[:30] = (labels[:30] + 1) % 3
    likely = taught(labels, 3, [logits])
    assert (likely.argmax(axis=1) == truth).mean() > 0.95


def test_a_teacher_needs_something_to_go_by() -> None:
    with pytest.raises(TrainingError, match="needs a version or votes"):
        taught(np.array([0, 1]), 2, [])
    with pytest.raises(TrainingError, match="two labels or more"):
        taught(np.array([1, 1]), 2, [np.zeros((2, 2), np.float32)])


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """A registry with the champion of the small world."""
    folder = tmp_path_factory.mktemp("teachers")
    train_champion(folder, replay=False)
    return Registry(folder)


def drawn(count: int, seed: int) -> FaceArrays:
    crops, labels = faces(count, seed)
    return FaceArrays(crops, labels, tuple(f"{n}.png" for n in range(count)))


def test_answers_are_the_mean_of_a_face_and_its_mirror_image(registry: Registry) -> None:
    here = drawn(40, 5)
    mirrored = FaceArrays(here.crops[:, :, ::-1], here.labels, here.names)
    said: list[str] = []
    (version,) = registry.versions()
    one = teacher_answers(registry, version, here, said.append)
    np.testing.assert_allclose(one, teacher_answers(registry, version, mirrored), atol=1e-4)
    assert (one.argmax(axis=1) == here.labels).mean() > 0.9
    assert said == [f"Asking {version} about 40 training faces."]


def test_teachers_that_cannot_teach_are_refused(registry: Registry, tmp_path: Path) -> None:
    (version,) = registry.versions()
    crops = np.zeros((2, 24, 24, 3), np.uint8)
    smaller = FaceArrays(crops, np.array([0, 1]), ("a", "b"))
    with pytest.raises(TrainingError, match=r"crops of 32 px, and these faces have 24"):
        teacher_answers(registry, version, smaller)
    damaged = Registry(Path(shutil.copytree(registry.folder, tmp_path / "models")))
    with (damaged.path(version) / KERAS_FILE).open("ab") as stream:
        stream.write(b"more")
    with pytest.raises(DamagedModelError):
        teacher_answers(damaged, version, drawn(2, 5))


def test_other_labels_and_unknown_teachers_are_refused_before_training(
    registry: Registry, tmp_path: Path, make_pictures: Callable[..., None]
) -> None:
    make_pictures(tmp_path / "data", 9)
    for teacher, error in ((registry.versions()[0], TrainingError), ("nobody", UnknownModelError)):
        request = Request(str(tmp_path / "data"), "x", weights=None, teachers=(teacher,))
        run = start_run(request, QUICK, tmp_path / teacher)
        with pytest.raises(error):
            run_training(run, registry, lambda line: None)
        assert not (run / training.STATE_FILE).exists()


def test_a_taught_training_mixes_keeps_and_names_its_targets(
    registry: Registry, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    for split, count, seed in (("train", 40, 8), ("validation", 20, 9)):
        for n, (crop, label) in enumerate(zip(*faces(count, seed), strict=True)):
            folder = data / split / LABELS[label]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(crop).save(folder / f"{split}-{n}.png")
    votes = tmp_path / "votes.csv"
    rows = [
        f"train-{n}.png,{','.join('10' if i == n % 4 else '0' for i in range(4))}"
        for n in range(40)
    ]
    votes.write_text("\n".join(["file," + ",".join(LABELS), *rows]) + "\n")
    (version,) = registry.versions()
    request = Request(
        str(data), "taught", weights=None, teachers=(version,), teacher_votes=str(votes)
    )
    run = start_run(request, QUICK, tmp_path / "runs")
    models = Registry(tmp_path / "models")
    shutil.copytree(registry.folder, models.folder)
    said: list[str] = []
    manifest = run_training(run, models, said.append)
    assert "The teacher agrees with 100.0 % of the training labels." in said
    assert manifest.settings["teacher_weight"] == 0.75
    assert "votes.csv (votes of ten annotators)" in [source.name for source in manifest.data]

    kept = np.load(run / TEACHER_FILE)
    splits, recipe = load_splits(request, QUICK, lambda line: None)
    targets = replace(splits, taught=kept).training_targets(recipe)
    one_hot = np.eye(4)[splits.train.labels]
    np.testing.assert_allclose(targets, 0.25 * one_hot + 0.75 * kept, atol=1e-6)
    # Only the training faces are taught: the others keep what they are measured by.
    np.testing.assert_array_equal(
        replace(splits, taught=kept).targets(splits.validation, recipe),
        splits.targets(splits.validation, recipe),
    )
    # Going on, it does not ask again: the teacher may be gone.
    again = Path(shutil.copytree(run, tmp_path / "again"))
    shutil.rmtree(models.path(version))
    said.clear()
    run_training(again, models, said.append)
    assert not [line for line in said if line.startswith("Asking")]
