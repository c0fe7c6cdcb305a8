"""Cards: what they say, and that they can be made again."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from fer.errors import DataError
from fer.learning import measuring
from fer.learning.carding import renew_card
from fer.learning.cards import make_card
from fer.learning.runfolder import Request, start_run
from fer.learning.runs import run_training
from fer.manifest import DataSource, Manifest
from fer.registry import CARD_FILE, INT8_FILE, MANIFEST, Registry
from fer.vision.classifier import Classifier
from tests.learning.conftest import draw
from tests.learning.test_training import QUICK

METRICS = {
    "on": "the validation split of mine.zip",
    "n": 40,
    "accuracy": 0.75,
    "accuracy_interval": [0.6, 0.86],
    "ece": 0.031,
    "ece_interval": [0.02, 0.05],
    "labels": ["a", "b"],
    "per_class": {
        "a": {"precision": 0.8, "recall": 0.9, "f1": 0.85, "n": 20},
        "b": {"precision": 0.7, "recall": 0.6, "f1": 0.65, "n": 20},
    },
    "confusion": [[18, 2], [8, 12]],
    "slices": {
        "brightness": [
            {"slice": "0 to 9", "n": 20, "accuracy": 0.5, "accuracy_interval": [0.3, 0.6]},
            {"slice": "9 to 99", "n": 20, "accuracy": 0.9, "accuracy_interval": [0.7, 0.97]},
        ],
        "sharpness": [
            {"slice": "1 to 2", "n": 20, "accuracy": 0.7, "accuracy_interval": [0.5, 0.8]},
            {"slice": "2 to 3", "n": 20, "accuracy": 0.8, "accuracy_interval": [0.6, 0.9]},
        ],
    },
    "notes": "Trained on a Tuesday.",
}


def manifest(**metrics: object) -> Manifest:
    return Manifest(
        version="20250101T000000Z-mine",
        name="mine",
        created_at=datetime(2025, 1, 1, tzinfo=UTC),
        architecture="cnn",
        labels=("a", "b"),
        crop_size=24,
        image_size=24,
        data=(DataSource(name="mine.zip", terms="ask me", pictures=1200),),
        settings={"epochs": 3},
        metrics=METRICS | metrics,
        files={},
    )


def test_a_card_says_what_the_manifest_says() -> None:
    card = make_card(manifest())
    assert "- mine.zip (1,200 pictures). Terms: ask me" in card
    assert "| accuracy against the data set's labels | 0.750 | 0.600…0.860 |" in card
    assert "- b: recall 0.60, most often taken for a." in card
    # Only the slices whose intervals are apart are called a weakness.
    assert "- brightness (mean of the grey crop, 0 to 255): 0.500 right from 0 to 9" in card
    assert "- sharpness" not in card
    assert "| 1 to 2 | 20 | 0.700 (0.500…0.800) |" in card
    assert "Trained on a Tuesday." in card
    assert "Article 5(1)(f)" in card
    assert "Latency" not in card


def test_an_int8_file_that_lost_too_much_is_told_of() -> None:
    timed = {"milliseconds": 1.5, "milliseconds_p95": 2, "machine": "x", "bytes": 9_000_000}
    lost = {"shipped": False, "loss": 0.0061, "accuracy": 0.7439, "ece": 0.04, "calibration": 300}
    card = make_card(manifest(latency=timed, int8=lost | {"bytes": 3e6, "milliseconds": 0.7}))
    assert "was made and is not shipped: it loses 0.61 points" in card
    better = lost | {"shipped": True, "loss": -0.0017, "bytes": 3e6, "milliseconds": 0.7}
    assert "is beside it: it gains 0.17 points" in make_card(manifest(latency=timed, int8=better))
    refused = {"shipped": False, "reason": "The converter refused it."}
    assert "There is no int8 file: The converter refused it." in make_card(
        manifest(latency=timed, int8=refused)
    )


@pytest.fixture(scope="module")
def trained(
    tmp_path_factory: pytest.TempPathFactory, make_pictures: Callable[..., None]
) -> tuple[Registry, str, Path]:
    folder = tmp_path_factory.mktemp("carded")
    make_pictures(folder / "data" / "train", 9)
    make_pictures(folder / "data" / "validation", 9, seed=100)
    registry = Registry(folder / "models")
    registry.folder.mkdir()
    request = Request(
        data=str(folder / "data"), name="bands", weights=None, test_share=0, notes="Noted."
    )
    run = start_run(request, QUICK, folder / "runs")
    with pytest.MonkeyPatch.context() as patch:
        # This network is so small that no int8 file would be made.
        patch.setattr(measuring, "INT8_FROM", 0)
        version = run_training(run, registry, lambda line: None).version
    return registry, version, folder / "data"


def without_times(card: str) -> str:
    return re.sub(r"[\d.]+ ms", "… ms", card)


def test_a_card_made_again_is_the_same(trained: tuple[Registry, str, Path]) -> None:
    registry, version, data = trained
    path = registry.path(version) / CARD_FILE
    before = path.read_text(encoding="utf-8")
    assert "## Notes\n\nNoted." in before
    renew_card(registry, version, data)
    registry.verify(version)
    assert without_times(path.read_text(encoding="utf-8")) == without_times(before)


def test_the_int8_file_answers_like_the_float_file(trained: tuple[Registry, str, Path]) -> None:
    registry, version, _ = trained
    manifest = registry.manifest(version)
    assert manifest.metrics["int8"]["shipped"]
    assert manifest.metrics["int8"]["loss"] < 0.005
    small = Classifier(manifest, registry.verified_file(version, INT8_FILE), threads=1)
    crops = np.stack([draw(label, seed, 24) for label in range(3) for seed in range(40, 50)])
    whole = Classifier.load(registry, version).probabilities(crops)
    answered = small.probabilities(crops)
    assert (answered.argmax(axis=1) == whole.argmax(axis=1)).mean() > 0.9
    assert not np.array_equal(answered, whole)


def test_an_int8_file_that_loses_too_much_goes(
    trained: tuple[Registry, str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    registry, version, data = trained
    monkeypatch.setattr(measuring, "INT8_FROM", 0)
    monkeypatch.setattr(measuring, "INT8_LOSS", -2.0)
    renewed = renew_card(registry, version, data, int8=True)
    assert not renewed.metrics["int8"]["shipped"]
    assert INT8_FILE not in renewed.files
    assert not (registry.path(version) / INT8_FILE).exists()
    registry.verify(version)
    assert "is not shipped" in (registry.path(version) / CARD_FILE).read_text(encoding="utf-8")


def test_other_data_makes_no_card(
    trained: tuple[Registry, str, Path], make_pictures: Callable[..., None], tmp_path: Path
) -> None:
    registry, version, _ = trained
    before = (registry.path(version) / MANIFEST).read_bytes()
    make_pictures(tmp_path / "train", 9, seed=7)
    make_pictures(tmp_path / "validation", 9, seed=8)
    with pytest.raises(DataError, match="is not the data"):
        renew_card(registry, version, tmp_path)
    assert (registry.path(version) / MANIFEST).read_bytes() == before
    assert json.loads(before)["metrics"]["int8"]
