"""Training on small pictures, to the end: what is learned, resumed, written and served."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
from typer.testing import CliRunner

import fer.cli
from fer.errors import DamagedModelError, DataError, TrainingError
from fer.learning import training
from fer.learning.architectures import FREEZE_POINTS, Network, build, build_core
from fer.learning.augmentation import Augmentation, RandomFace
from fer.learning.recipe import Recipe
from fer.learning.replay import balanced_choice, cut, load_replay
from fer.learning.runfolder import Request, keep_checkpoint, resumable, start_run
from fer.learning.runs import run_training
from fer.registry import CARD_FILE, KERAS_FILE, LITERT_FILE, REPLAY_FILE, Registry
from fer.vision.classifier import Classifier
from tests.learning.conftest import LABELS, draw

QUICK = Recipe(
    architecture="cnn",
    image_size=24,
    epochs=6,
    head_epochs=0,
    batch_size=8,
    learning_rate=3e-3,
    average=0.5,
    flip=0.0,
    rotation=0.0,
    shift=0.02,
    zoom=0.0,
    erase=0.0,
    seed=1,
)


@pytest.fixture(scope="module")
def trained(
    tmp_path_factory: pytest.TempPathFactory, make_pictures: Callable[..., None]
) -> tuple[Registry, str, Path]:
    """A version trained on nine pictures a class, its registry and its run folder."""
    folder = tmp_path_factory.mktemp("trained")
    make_pictures(folder / "data", 9)
    (folder / "data" / "sad" / "broken.jpg").write_bytes(b"not a picture")
    registry = Registry(folder / "models")
    registry.folder.mkdir()
    request = Request(data=str(folder / "data"), name="bands", weights=None, terms="drawn here")
    run = start_run(request, QUICK, folder / "runs")
    lines: list[str] = []
    manifest = run_training(run, registry, lines.append)
    assert any("broken.jpg" in line for line in lines)
    return registry, manifest.version, run


def test_nine_pictures_a_class_are_learned(trained: tuple[Registry, str, Path]) -> None:
    registry, version, _ = trained
    classifier = Classifier.load(registry, version)
    crops = np.stack([draw(label, seed, 24) for label in range(3) for seed in range(50, 60)])
    answers = classifier.probabilities(crops).argmax(axis=1)
    # The labels stand in alphabetical order whatever their case: happy, sad, Wide awake.
    assert classifier.labels.names == LABELS
    assert (answers == np.repeat(range(3), 10)).mean() > 0.9


def test_the_version_is_whole_and_says_what_it_is(trained: tuple[Registry, str, Path]) -> None:
    registry, version, run = trained
    registry.verify(version)
    manifest = registry.manifest(version)
    assert {KERAS_FILE, LITERT_FILE, REPLAY_FILE, CARD_FILE, "metrics.json"} <= set(manifest.files)
    assert manifest.settings["epochs"] == 6
    assert manifest.settings["grey"] == "yes"
    assert manifest.crop_size == 24
    assert manifest.data[0].terms == "drawn here"
    assert manifest.metrics["n"] + manifest.metrics["test"]["n"] == 3 * 2
    card = (registry.path(version) / CARD_FILE).read_text()
    assert "drawn here" in card
    assert "What it is not for" in card
    assert len(json.loads((run / "history.json").read_text())) == 6


def test_keras_and_litert_agree(trained: tuple[Registry, str, Path]) -> None:
    registry, version, _ = trained
    model = keras.saving.load_model(
        registry.verified_file(version, KERAS_FILE), safe_mode=True, compile=False
    )
    crops = np.random.default_rng(0).integers(0, 256, (8, 24, 24, 3), dtype=np.uint8)
    logits = model.predict(crops, verbose=0) / registry.manifest(version).temperature
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    answered = Classifier.load(registry, version).probabilities(crops)
    np.testing.assert_allclose(answered, expected, atol=1e-4)
    assert getattr(model, "optimizer", None) is None


def test_replay_belongs_to_its_model_alone(trained: tuple[Registry, str, Path]) -> None:
    registry, version, _ = trained
    path = registry.verified_file(version, REPLAY_FILE)
    model = keras.saving.load_model(registry.path(version) / KERAS_FILE, compile=False)
    replay = load_replay(path, model)
    # 27 pictures less the six of validation and test.
    assert len(replay.activations) == 21
    assert replay.activations.dtype == np.float16
    np.testing.assert_allclose(replay.targets.sum(axis=1), 1, atol=1e-5)
    _, tail = cut(model, replay.freeze_point)
    assert tail(replay.activations.astype(np.float32)).shape == (21, 3)
    other = build(Network("cnn", 3, 24, 24))
    with pytest.raises(DamagedModelError, match="another network"):
        load_replay(path, other)


def test_a_replay_can_be_made_again_for_another_freeze_point(
    trained: tuple[Registry, str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, version, run = trained
    data = run.parent.parent / "data"
    registry = Registry(tmp_path / "models")
    shutil.copytree(first.folder, registry.folder)
    # A version from before a knob was there is renewed all the same.
    stated = registry.path(version) / "manifest.json"
    older = json.loads(stated.read_text(encoding="utf-8"))
    del older["settings"]["teacher_weight"]
    stated.write_text(json.dumps(older), encoding="utf-8")
    before = registry.manifest(version)
    kept = (registry.path(version) / REPLAY_FILE).read_bytes()
    monkeypatch.setenv("FER_MODELS_DIR", str(registry.folder))
    command = ["models", "replay", version]

    refused = CliRunner().invoke(fer.cli.app, [*command, str(data), "--validation-share", "0.5"])
    assert isinstance(refused.exception, DataError), "that would hold out what was trained on"
    assert (registry.path(version) / REPLAY_FILE).read_bytes() == kept

    monkeypatch.setitem(FREEZE_POINTS, "cnn", ("flatten",))
    done = CliRunner().invoke(fer.cli.app, [*command, str(data)])
    assert done.exception is None, done.output
    registry.verify(version)
    manifest = registry.manifest(version)
    assert (before.freeze_point, manifest.freeze_point) == ("dense", "flatten")
    changed = {name for name in before.files if before.files[name] != manifest.files[name]}
    assert changed == {REPLAY_FILE}
    model = keras.saving.load_model(registry.path(version) / KERAS_FILE, compile=False)
    replay = load_replay(registry.verified_file(version, REPLAY_FILE), model)
    old = load_replay(first.verified_file(version, REPLAY_FILE), model)
    np.testing.assert_array_equal(replay.holdout_targets, old.holdout_targets)
    _, tail = cut(model, replay.freeze_point)
    _, old_tail = cut(model, old.freeze_point)
    np.testing.assert_allclose(
        tail(replay.holdout_activations.astype(np.float32)),
        old_tail(old.holdout_activations.astype(np.float32)),
        atol=0.02,
    )


class PowerCut(Exception):
    pass


def cut_power_in_the_third_epoch(line: str) -> None:
    if line.startswith("fine-tune 3/3"):
        raise PowerCut


@dataclasses.dataclass(frozen=True)
class Stopped:
    """A training that went to its end, and the same one stopped after two of three epochs."""

    registry: Registry
    whole: Path
    broken: Path


@pytest.fixture(scope="module")
def stopped(
    tmp_path_factory: pytest.TempPathFactory, make_pictures: Callable[..., None]
) -> Stopped:
    tmp_path = tmp_path_factory.mktemp("stopped")
    make_pictures(tmp_path / "data", 6)
    registry = Registry(tmp_path / "models")
    registry.folder.mkdir()
    recipe = dataclasses.replace(QUICK, epochs=3, shift=0.0, noise=0.0, blur=0.0, dropout=0.0)
    recipe = dataclasses.replace(recipe, brightness=0.0, contrast=0.0, stretch=0.0)
    request = Request(data=str(tmp_path / "data"), name="bands", weights=None)
    whole = start_run(request, recipe, tmp_path / "whole")
    run_training(whole, registry, print)
    broken = start_run(request, recipe, tmp_path / "broken")
    with pytest.raises(PowerCut):
        run_training(broken, registry, cut_power_in_the_third_epoch)
    return Stopped(registry, whole, broken)


def history(run: Path, what: str) -> list[float]:
    return [row[what] for row in json.loads((run / "history.json").read_text())]


def test_a_stopped_training_ends_as_an_unbroken_one(tmp_path: Path, stopped: Stopped) -> None:
    run = Path(shutil.copytree(stopped.broken, tmp_path / "run"))
    said: list[str] = []
    run_training(run, stopped.registry, said.append)
    assert any("2 epochs of it done" in line for line in said)
    assert history(stopped.whole, "loss") == pytest.approx(history(run, "loss"), rel=1e-4)


def test_a_training_goes_on_elsewhere_from_a_checkpoint_that_stays(
    tmp_path: Path, stopped: Stopped
) -> None:
    light = tmp_path / "unfinished"
    keep_checkpoint(stopped.broken, light)
    assert (light / training.STATE_FILE).stat().st_size < 10_000
    before = {path.name: path.read_bytes() for path in light.iterdir()}
    run = resumable(light, tmp_path / "elsewhere")
    assert run.parent == tmp_path / "elsewhere"
    said: list[str] = []
    run_training(run, stopped.registry, said.append)
    assert any("2 epochs of it done" in line for line in said)
    assert {path.name: path.read_bytes() for path in light.iterdir()} == before
    losses = history(run, "loss")
    assert losses[:2] == history(stopped.broken, "loss")
    # Not a training that began again.
    assert losses[2] < losses[0]
    rates = history(stopped.whole, "learning_rate")
    assert history(run, "learning_rate") == pytest.approx(rates)
    assert len(set(rates)) == 3


def test_what_is_no_checkpoint_and_what_cannot_be_one_is_refused(
    tmp_path: Path, stopped: Stopped
) -> None:
    assert resumable(stopped.broken, tmp_path / "elsewhere") == stopped.broken
    with pytest.raises(TrainingError, match="exists already"):
        keep_checkpoint(stopped.broken, stopped.whole)
    begun = start_run(Request(data="faces", name="begun"), QUICK, tmp_path / "begun")
    with pytest.raises(TrainingError, match="no state of a training yet"):
        keep_checkpoint(begun, tmp_path / "unfinished")
    with pytest.raises(TrainingError, match="not the folder of a training"):
        resumable(tmp_path, tmp_path / "elsewhere")


def test_a_state_of_another_recipe_is_refused(
    tmp_path: Path, trained: tuple[Registry, str, Path]
) -> None:
    _, _, run = trained
    state = (run / training.STATE_FILE).read_bytes()
    (tmp_path / training.STATE_FILE).write_bytes(state)
    with pytest.raises(TrainingError, match="another recipe"):
        training.Trainer(Network("cnn", 5, 24, 24), QUICK, tmp_path, say=lambda line: None)


def test_a_label_without_pictures_is_named(
    tmp_path: Path, make_pictures: Callable[..., None]
) -> None:
    make_pictures(tmp_path / "data", 1)
    registry = Registry(tmp_path / "models")
    run = start_run(Request(data=str(tmp_path / "data"), name="x", weights=None), QUICK, tmp_path)
    with pytest.raises(DataError, match="at least two pictures"):
        run_training(run, registry, print)


@pytest.mark.parametrize(
    ("architecture", "crop", "size", "any_size"),
    [
        ("mobilenet_v2", 48, 96, True),
        ("mobilenet_v2", 96, 96, False),
        # Halved five times, 48 is odd on its way down, where paddings differ.
        ("mobilenet_v2", 48, 48, False),
        ("mobilenet", 40, 48, False),
        ("cnn", 24, 25, False),
    ],
)
def test_training_and_serving_graphs_are_the_same_network(
    architecture: str, crop: int, size: int, any_size: bool
) -> None:
    network = Network(architecture, 4, crop, size)
    serving, core = build(network), build_core(network, any_size=any_size)
    crops = np.random.default_rng(0).integers(0, 256, (8, crop, crop, 3), dtype=np.uint8)
    # Fresh moments shrink everything to nothing: measured ones keep the logits alive.
    for layer in serving.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    serving(crops, training=True)
    core.set_weights(serving.get_weights())
    pixels = RandomFace(Augmentation(), size, grey=True)(crops)
    answers = keras.ops.convert_to_numpy(serving(crops, training=False))
    assert answers.std() > 1e-2
    np.testing.assert_allclose(answers, core(pixels, training=False), atol=1e-4)


def test_sizes_that_the_graphs_would_pad_differently_are_refused() -> None:
    with pytest.raises(TrainingError, match="multiples of 32, not 48"):
        build_core(Network("mobilenet_v2", 4, 48, 48), any_size=True)
    with pytest.raises(TrainingError, match="set no early_size"):
        build_core(Network("cnn", 4, 48, 64), any_size=True)
    with pytest.raises(TrainingError, match="early_size must be 0 or a multiple of 32"):
        Recipe(early_size=48)


def test_augmentation_off_changes_nothing_and_on_changes_each_face() -> None:
    crops = np.stack([draw(0, 0, 24)] * 2)
    still = Augmentation(0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    quiet = np.asarray(RandomFace(still, 24, False, 0)(crops, training=True))
    np.testing.assert_allclose(quiet, crops, atol=1e-2)
    moved = np.asarray(RandomFace(Augmentation(), 24, False, 0)(crops, training=True))
    assert np.abs(moved[0] - moved[1]).mean() > 5
    assert moved.min() >= 0
    assert moved.max() <= 255


def test_the_mirror_mirrors() -> None:
    crops = draw(0, 0, 24)[None].repeat(64, axis=0)
    flipped = np.asarray(RandomFace(Augmentation(1, *[0] * 9), 24, False, 0)(crops, training=True))
    as_it_was = np.abs(flipped - crops).max(axis=(1, 2, 3)) < 1
    mirrored = np.abs(flipped - crops[:, :, ::-1]).max(axis=(1, 2, 3)) < 1
    assert (as_it_was ^ mirrored).all()
    # Half of them; 64 coins fall outside 16…48 once in 50,000 times.
    assert 16 <= mirrored.sum() <= 48


def test_a_balanced_choice_takes_what_rare_classes_have() -> None:
    labels = np.array([0] * 50 + [1] * 3 + [2] * 50)
    chosen = labels[balanced_choice(labels, 23, seed=0)]
    assert np.bincount(chosen).tolist() == [10, 3, 10]


def test_an_unknown_architecture_is_named() -> None:
    with pytest.raises(TrainingError, match=r"mobilenet_v9.*choose one of"):
        Network("mobilenet_v9", 2, 32, 32)


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.weights.h5"
    path.write_bytes(b"no weights")
    with pytest.raises(TrainingError, match="cannot be used"):
        build(Network("mobilenet_v2", 2, 48, 48), path)
