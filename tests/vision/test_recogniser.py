"""From bytes to readings; which version serves, and what happens where one cannot."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fer.config import Settings
from fer.errors import (
    DamagedModelError,
    NoFaceError,
    NoModelError,
    NotAPictureError,
    UnknownModelError,
)
from fer.registry import LITERT_FILE, Registry
from fer.vision.faces import FaceDetector
from fer.vision.images import Pixels, encode_jpeg
from fer.vision.recogniser import Prediction, Recogniser, Recognition, annotate
from tests.support import SEVEN_LABELS, make_version

SHIPPED = Path(__file__).parents[2] / "models"


def made(models: Path, detector: FaceDetector, **settings: object) -> Recogniser:
    return Recogniser(Registry(models), Settings(_env_file=None, **settings), detector)


def damage(models: Path, version: str) -> None:
    (models / version / LITERT_FILE).write_bytes(b"damaged")


# Predictions


def test_a_prediction_tells_its_best() -> None:
    prediction = Prediction(("a", "b", "c"), (0.2, 0.5, 0.3))
    assert prediction.label == "b"
    assert prediction.confidence == 0.5
    assert prediction.margin == pytest.approx(0.2)
    assert prediction.ranked() == [("b", 0.5), ("c", 0.3), ("a", 0.2)]
    assert prediction.by_label() == {"a": 0.2, "b": 0.5, "c": 0.3}
    assert prediction.certain(0.5) and not prediction.certain(0.51)


def test_a_tie_goes_to_the_first_label() -> None:
    prediction = Prediction(("b", "a"), (0.5, 0.5))
    assert prediction.label == "b" and prediction.margin == 0


@pytest.mark.parametrize(
    ("labels", "probabilities"),
    (
        (("a", "b"), (1.0,)),
        (("a",), (1.0,)),
        (("a", "b"), (0.7, 0.7)),
        (("a", "b"), (1.2, -0.2)),
        (("a", "b"), (float("nan"), 1.0)),
    ),
)
def test_impossible_predictions(labels: tuple[str, ...], probabilities: tuple[float, ...]) -> None:
    with pytest.raises(ValueError):
        Prediction(labels, probabilities)


@given(st.lists(st.floats(0.01, 1), min_size=2, max_size=9))
def test_any_prediction(weights: list[float]) -> None:
    shares = tuple(weight / sum(weights) for weight in weights)
    prediction = Prediction(tuple(f"label {i}" for i in range(len(weights))), shares)
    ranked = prediction.ranked()
    assert ranked[0] == (prediction.label, prediction.confidence)
    assert prediction.margin == pytest.approx(ranked[0][1] - ranked[1][1])
    assert sorted(prediction.by_label().values(), reverse=True) == [share for _, share in ranked]


# Recognition


def test_a_picture_is_read(recogniser: Recogniser, astronaut: Pixels) -> None:
    recognition = recogniser.recognise(encode_jpeg(astronaut))
    (reading,) = recognition.readings
    assert recognition.model_version == recogniser.champion()
    assert recognition.image.shape == astronaut.shape
    assert reading.prediction.label == "happy"
    assert reading.prediction.labels == SEVEN_LABELS
    assert sum(reading.prediction.probabilities) == pytest.approx(1, abs=1e-6)
    assert reading.quality.face_px == round(reading.box.longer_side)
    told = reading.as_dict(threshold=0.4)
    assert told["label"] == "happy" and told["certain"] is True
    assert set(told) == {
        "box", "roll", "label", "certain", "confidence", "probabilities", "quality",
    }  # fmt: skip
    assert set(told["quality"]) == {"face_px", "sharpness", "detector_score"}


def test_several_faces_and_their_limit(
    models: Path, detector: FaceDetector, astronaut: Pixels
) -> None:
    make_version(models, default=True)
    two = np.hstack([astronaut, astronaut[:, ::-1]])
    assert len(made(models, detector).recognise_image(two).readings) == 2
    assert len(made(models, detector, max_faces=1).recognise_image(two).readings) == 1


def test_no_face(recogniser: Recogniser) -> None:
    with pytest.raises(NoFaceError):
        recogniser.recognise(encode_jpeg(np.zeros((100, 100, 3), np.uint8)))


def test_no_picture(recogniser: Recogniser) -> None:
    with pytest.raises(NotAPictureError):
        recogniser.recognise(b"hello")


def test_the_settings_limits_count(models: Path, detector: FaceDetector, astronaut: Pixels) -> None:
    make_version(models, default=True)
    with pytest.raises(Exception, match="megapixels"):
        made(models, detector, max_image_megapixels=0.1).recognise(encode_jpeg(astronaut))


def answers(recognition: Recognition) -> list[object]:
    return [(r.box, r.prediction, r.quality) for r in recognition.readings]


def test_eight_threads_read_200_pictures_as_one_does(
    models: Path, detector: FaceDetector, astronaut: Pixels
) -> None:
    make_version(models, default=True)
    recogniser = made(models, detector)
    face = astronaut[20:260, 100:340]
    pictures = [
        np.roll(face, (step % 5, step // 5), axis=(0, 1)) // (1 + step % 3) for step in range(200)
    ]
    alone = [answers(recogniser.recognise_image(picture)) for picture in pictures]
    assert len({repr(answer) for answer in alone}) > 150
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda p: answers(recogniser.recognise_image(p)), pictures))
    assert together == alone


# Which version serves


def test_another_version_by_name(models: Path, detector: FaceDetector, astronaut: Pixels) -> None:
    champion = make_version(models, favourite="happy", default=True)
    other = make_version(models, ("calm", "sad"), favourite="sad", number=1)
    recogniser = made(models, detector)
    recognition = recogniser.recognise_image(astronaut, other)
    assert recognition.model_version == other
    assert recognition.readings[0].prediction.label == "sad"
    assert recogniser.champion() == champion
    assert recogniser.labels(other).names == ("calm", "sad")
    assert recogniser.labels().names == SEVEN_LABELS


def test_an_unknown_version(recogniser: Recogniser, astronaut: Pixels) -> None:
    for name in ("20990101T000000Z-none", "../models", ""):
        with pytest.raises(UnknownModelError):
            recogniser.recognise_image(astronaut, name)


def test_few_versions_are_held(models: Path, detector: FaceDetector) -> None:
    versions = [make_version(models, number=number, default=True) for number in range(6)]
    recogniser = made(models, detector)
    for version in versions:
        assert recogniser.classifier(version).version == version
    assert len(recogniser._held) == 3
    assert recogniser.classifier(versions[-1]) is recogniser.classifier(versions[-1])


def test_many_threads_load_a_version_once(models: Path, detector: FaceDetector) -> None:
    make_version(models, default=True)
    recogniser = made(models, detector)
    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(lambda _: recogniser.classifier(), range(32)))
    assert len({id(classifier) for classifier in got}) == 1


def test_a_promotion_is_noticed(models: Path, detector: FaceDetector) -> None:
    first = make_version(models, default=True)
    second = make_version(models, number=1)
    recogniser = made(models, detector)
    assert recogniser.champion() == first
    assert recogniser.refresh() is False
    Registry(models).promote(second)
    # Nothing changes under the visitors until someone looks.
    assert recogniser.champion() == first
    assert recogniser.refresh() is True
    assert recogniser.champion() == second and recogniser.warning is None
    assert recogniser.refresh() is False
    Registry(models).rollback()
    assert recogniser.refresh() is True
    assert recogniser.champion() == first


def test_a_version_asked_for_before_is_promoted_without_loading_again(
    models: Path, detector: FaceDetector
) -> None:
    make_version(models, default=True)
    second = make_version(models, number=1)
    recogniser = made(models, detector)
    held = recogniser.classifier(second)
    Registry(models).promote(second)
    recogniser.refresh()
    assert recogniser.classifier() is held


def test_a_damaged_champion_gives_way_and_comes_back_when_mended(
    models: Path, detector: FaceDetector
) -> None:
    shipped = make_version(models, default=True)
    promoted = make_version(models, number=1)
    Registry(models).promote(promoted)
    good = (models / promoted / LITERT_FILE).read_bytes()
    damage(models, promoted)
    recogniser = made(models, detector)
    assert recogniser.champion() == shipped
    assert recogniser.warning is not None
    assert promoted in recogniser.warning and f"{shipped} serves instead" in recogniser.warning
    assert recogniser.refresh() is False
    (models / promoted / LITERT_FILE).write_bytes(good)
    assert recogniser.refresh() is True
    assert recogniser.champion() == promoted and recogniser.warning is None


def test_a_missing_champion_gives_way(models: Path, detector: FaceDetector) -> None:
    version = make_version(models)
    (models / "default").write_text("20240101T000000Z-gone\n")
    recogniser = made(models, detector)
    assert recogniser.champion() == version
    assert recogniser.warning is not None and "20240101T000000Z-gone is missing" in (
        recogniser.warning
    )


def test_a_champion_named_by_nobody_is_told(models: Path, detector: FaceDetector) -> None:
    make_version(models)
    newest = make_version(models, number=1)
    recogniser = made(models, detector)
    assert recogniser.champion() == newest
    assert recogniser.warning is not None


def test_a_damaged_version_by_name_is_refused_not_replaced(
    models: Path, detector: FaceDetector, astronaut: Pixels
) -> None:
    make_version(models, default=True)
    other = make_version(models, number=1)
    damage(models, other)
    with pytest.raises(DamagedModelError):
        made(models, detector).recognise_image(astronaut, other)


def test_without_a_model_it_starts_and_says_so_when_asked(
    models: Path, detector: FaceDetector, astronaut: Pixels
) -> None:
    recogniser = made(models, detector)
    for _ in range(2):
        with pytest.raises(NoModelError, match="no model yet"):
            recogniser.recognise_image(astronaut)
        with pytest.raises(NoModelError):
            recogniser.champion()
    make_version(models, default=True)
    assert len(recogniser.recognise_image(astronaut).readings) == 1


def test_only_damaged_models(models: Path, detector: FaceDetector) -> None:
    version = make_version(models, default=True)
    damage(models, version)
    with pytest.raises(NoModelError, match=version):
        made(models, detector).champion()


def test_a_failed_refresh_leaves_the_old_model_serving(
    models: Path, detector: FaceDetector, astronaut: Pixels
) -> None:
    version = make_version(models, default=True)
    recogniser = made(models, detector)
    recogniser.champion()
    (models / version).rename(models.parent / "away")
    with pytest.raises(NoModelError):
        recogniser.refresh()
    assert recogniser.recognise_image(astronaut).model_version == version


# Drawing


def test_a_drawing_marks_the_face_and_leaves_the_picture(
    recogniser: Recogniser, astronaut: Pixels
) -> None:
    readings = recogniser.recognise_image(astronaut).readings
    before = astronaut.copy()
    drawn = annotate(astronaut, readings, ["senang, gembira"])
    assert np.array_equal(astronaut, before)
    assert drawn.shape == astronaut.shape and drawn.dtype == np.uint8
    changed = np.argwhere((drawn != astronaut).any(axis=2))
    box = readings[0].box
    margin = 0.5 * box.longer_side
    assert changed[:, 0].min() > box.top - margin
    assert changed[:, 0].max() < box.top + box.height + margin
    assert not np.array_equal(drawn, annotate(astronaut, readings, ["sedih"]))


def test_a_drawing_needs_a_text_for_each_face(recogniser: Recogniser, astronaut: Pixels) -> None:
    readings = recogniser.recognise_image(astronaut).readings
    with pytest.raises(ValueError):
        annotate(astronaut, readings, [])


# The model that ships


@pytest.fixture(scope="module")
def shipped(detector: FaceDetector) -> Recogniser:
    if Registry(SHIPPED).default() is None:
        pytest.skip("models/ holds no shipped model yet")
    settings = Settings(_env_file=None, models_dir=SHIPPED)
    return Recogniser(Registry(SHIPPED), settings, detector)


def test_the_shipped_model_sees_the_astronaut_smile(shipped: Recogniser, astronaut: Pixels) -> None:
    (reading,) = shipped.recognise(encode_jpeg(astronaut)).readings
    assert reading.prediction.label == "happy"
    assert shipped.warning is None


def test_the_shipped_model_answers_alike_in_any_batch_and_thread(shipped: Recogniser) -> None:
    classifier = shipped.classifier()
    side = classifier.manifest.crop_size
    crops = np.random.default_rng(0).integers(0, 256, (33, side, side, 3)).astype(np.uint8)
    alone = np.concatenate([classifier.probabilities(crop[None]) for crop in crops])
    for count in (2, 3, 8, 33):
        assert np.array_equal(classifier.probabilities(crops[:count]), alone[:count])
    with ThreadPoolExecutor(8) as pool:
        rows = list(pool.map(lambda crop: classifier.probabilities(crop[None])[0], crops))
    assert np.array_equal(np.stack(rows), alone)
