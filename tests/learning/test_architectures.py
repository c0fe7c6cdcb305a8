"""Each of the six networks: trained, written, cut for retraining, and served by the page."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest

from fer.errors import TrainingError
from fer.learning.architectures import FREEZE_POINTS, Network, build
from fer.learning.recipe import ARCHITECTURES, Recipe
from fer.learning.replay import LARGEST_REPLAY, cut, load_replay
from fer.learning.runfolder import Request, start_run
from fer.learning.runs import run_training
from fer.learning.training import Trainer
from fer.registry import KERAS_FILE, LITERT_FILE, REPLAY_FILE, Registry
from fer.vision.classifier import Classifier
from tests.learning.conftest import LABELS
from tests.web.serving import start

SMALL = ("cnn", "mobilenet_v2", "mobilenet")
LARGE = ("resnet50", "vgg16", "vgg19")


def test_every_network_has_freeze_points_and_a_test() -> None:
    assert set(FREEZE_POINTS) == set(ARCHITECTURES) == {*SMALL, *LARGE}


def test_weights_that_cannot_be_fetched_are_a_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Nobody listens on port 9, and nothing was fetched before."""
    module = keras.src.applications.mobilenet_v2
    fetch = functools.partial(module.file_utils.get_file, cache_dir=str(tmp_path))
    monkeypatch.setattr(module.file_utils, "get_file", fetch)
    monkeypatch.setattr(module, "BASE_WEIGHT_PATH", "http://127.0.0.1:9/")
    with pytest.raises(TrainingError, match="fetching them needs the network"):
        build(Network("mobilenet_v2", classes=2, crop_size=32, image_size=32), "imagenet")


def train(architecture: str, data: Path, models: Path, runs: Path) -> str:
    """A short training, from random weights; the version."""
    recipe = Recipe(
        architecture=architecture,
        image_size=32,
        head_epochs=1,
        # All layers of a small network, the last few of a large one: Adam keeps two more of each.
        epochs=1,
        unfreeze=-1 if architecture in SMALL else 3,
        batch_size=8,
        average=0.5,
    )
    name = architecture.replace("_", "")
    run = start_run(Request(data=str(data), name=name, weights=None), recipe, runs)
    return run_training(run, Registry(models), lambda line: None).version


def check(version: str, models: Path) -> None:
    """The version's files belong together, and it can be retrained."""
    registry = Registry(models)
    registry.verify(version)
    manifest = registry.manifest(version)
    model = keras.saving.load_model(
        registry.path(version) / KERAS_FILE, safe_mode=True, compile=False
    )
    crops = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    logits = model.predict(crops, verbose=0)
    answers = Classifier.load(registry, version).probabilities(crops)
    scaled = np.exp(logits / manifest.temperature)
    np.testing.assert_allclose(answers, scaled / scaled.sum(axis=1, keepdims=True), atol=1e-4)

    replay = load_replay(registry.path(version) / REPLAY_FILE, model)
    assert replay.freeze_point in FREEZE_POINTS[manifest.architecture]
    assert (registry.path(version) / REPLAY_FILE).stat().st_size < LARGEST_REPLAY
    frozen, tail = cut(model, replay.freeze_point)
    assert tail.trainable_variables, "there must be something left to retrain"
    through = tail.predict(frozen.predict(crops, verbose=0), verbose=0)
    np.testing.assert_allclose(through, logits, atol=1e-4)

    # Nothing is stored twice over: no optimizer, four bytes a weight.
    weights = 4 * (manifest.parameters or 0)
    for name in (KERAS_FILE, LITERT_FILE):
        assert (registry.path(version) / name).stat().st_size < 1.1 * weights + 1_000_000


def through_the_page(architectures: tuple[str, ...], folder: Path, face: bytes) -> None:
    """Train each, then let one server read a face with each."""
    models = folder / "models"
    models.mkdir()
    versions = [train(name, folder / "data", models, folder / "runs") for name in architectures]
    for version in versions:
        check(version, models)
    (models / "default").write_text(versions[0] + "\n")
    server = start(folder, FER_MAX_FACES="1")
    try:
        for version in versions:
            answer = server.classify(face, keep=True, model=version)
            assert answer["model"] == version
            (read,) = answer["faces"]
            assert tuple(read["probabilities"]) == LABELS
            assert sum(read["probabilities"].values()) == pytest.approx(1, abs=1e-4)
            kept = server.data / read["label"] / f"{read['sample_id']}.jpg"
            assert kept.is_file()
    finally:
        server.stop()


@pytest.mark.timeout(900)
def test_the_small_networks_train_and_serve(
    tmp_path: Path, make_pictures: Callable[..., None], face_jpeg: bytes
) -> None:
    make_pictures(tmp_path / "data", 6)
    through_the_page(SMALL, tmp_path, face_jpeg)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_the_large_networks_train_and_serve(
    tmp_path: Path, make_pictures: Callable[..., None], face_jpeg: bytes
) -> None:
    make_pictures(tmp_path / "data", 6)
    through_the_page(LARGE, tmp_path, face_jpeg)


@pytest.mark.parametrize(("unfreeze", "trained"), [(1, 1), (2, 2), (-1, 4)])
def test_unfreeze_trains_the_last_layers_alone(tmp_path: Path, unfreeze: int, trained: int) -> None:
    recipe = Recipe(architecture="cnn", image_size=16, unfreeze=unfreeze)
    trainer = Trainer(Network("cnn", 3, 16, 16), recipe, tmp_path, say=lambda line: None)
    trainer._set_trainable("fine-tune")
    # Two convolutions and two dense layers have weights, each a kernel and a bias.
    assert len(trainer.core.trainable_variables) == 2 * trained
    trainer._set_trainable("head")
    names = {v.path.split("/")[0] for v in trainer.core.trainable_variables}
    assert names == {"dense", "logits"}


def test_a_frozen_layer_keeps_its_weights(
    tmp_path: Path, make_pictures: Callable[..., None]
) -> None:
    from fer.learning.runs import Splits, load_splits

    make_pictures(tmp_path / "data", 4)
    recipe = Recipe(
        architecture="cnn", image_size=16, crop_size=16, head_epochs=0, epochs=1, unfreeze=1
    )
    request = Request(data=str(tmp_path / "data"), name="x", weights=None)
    splits: Splits
    splits, recipe = load_splits(request, recipe, lambda line: None)
    trainer = Trainer(Network("cnn", 3, 16, 16), recipe, tmp_path, say=lambda line: None)
    before = {layer.name: layer.get_weights() for layer in trainer.core.layers if layer.weights}
    targets = splits.targets(splits.train, recipe)
    trainer.fit(splits.train, targets, splits.validation, lambda logits: {"score": 1.0})
    for name, weights in before.items():
        after = trainer.core.get_layer(name).get_weights()
        same = all(np.array_equal(a, b) for a, b in zip(weights, after, strict=True))
        assert same is (name != "logits")
