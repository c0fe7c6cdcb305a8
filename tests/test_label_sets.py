"""Models of two, three and six classes, one's own among them, all the way through the loop."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from gradio_client.exceptions import AppError

import retrain
from fer.collection.newsample import NewSample
from fer.config import Settings
from fer.errors import LabelError
from fer.learning.job import Options
from fer.registry import Registry
from fer.vision.faces import FaceBox
from fer.vision.images import encode_jpeg
from fer.vision.recogniser import Recogniser
from fer.web.operator_views import label_keys
from tests.learning.small import World
from tests.support import make_version
from tests.web.serving import Server, start

SETS = {
    "two": ("happy", "sad"),
    "three": ("disgust", "happy", "sad"),
    # One of one's own, with a capital and a space, as the folder was named.
    "six": ("angry", "fear", "happy", "neutral", "sad", "Wide awake"),
}

each_set = pytest.mark.parametrize("name", list(SETS))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A page that serves all three; its last label is what each of them always answers."""
    folder = tmp_path_factory.mktemp("sets")
    for number, (name, labels) in enumerate(SETS.items()):
        make_version(
            folder / "models",
            labels,
            name=name,
            number=number,
            favourite=labels[-1],
            default=name == "three",
        )
    running = start(folder)
    yield running
    running.stop()


def version_of(server: Server, name: str) -> str:
    return next(v for v in Registry(server.models).versions() if v.endswith(f"-{name}"))


@each_set
def test_a_face_is_named_and_kept_in_the_models_own_words(
    server: Server, face_jpeg: bytes, name: str
) -> None:
    labels = SETS[name]
    answer = server.classify(face_jpeg, keep=True, model=version_of(server, name))
    (face,) = answer["faces"]
    assert tuple(face["probabilities"]) == labels
    assert face["label"] == labels[-1]
    assert sum(face["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert (server.data / labels[-1] / f"{face['sample_id']}.jpg").is_file()
    # The visitor may name any label of this model, and none of another's.
    client = server.client()
    for label in labels:
        client.predict(answer["receipt"], label, api_name="/feedback")
    foreign = next(label for label in (*SETS["six"], *SETS["three"]) if label not in labels)
    with pytest.raises(AppError, match="does not belong to this model"):
        client.predict(answer["receipt"], foreign, api_name="/feedback")


def test_the_picker_offers_every_model(server: Server) -> None:
    # The picker is filled when the page opens: by the event that is bound to its loading.
    config: dict[str, Any] = httpx.get(server.url + "/config", timeout=30).json()
    opened = [d for d in config["dependencies"] if any(t[1] == "load" for t in d["targets"])]
    offered = ""
    for event in opened:
        answer = httpx.post(
            server.url + "/gradio_api/run/predict",
            json={"fn_index": event["id"], "data": [None] * len(event["inputs"])},
            timeout=60,
        )
        offered += answer.text
    for name in SETS:
        assert f"{name} (20250" in offered


@each_set
def test_a_recogniser_reads_with_the_models_labels(
    server: Server, face_image: np.ndarray, name: str
) -> None:
    settings = Settings(_env_file=None, models_dir=server.models)  # type: ignore[call-arg]
    recogniser = Recogniser(Registry(server.models), settings)
    try:
        (reading,) = recogniser.recognise_image(face_image, version_of(server, name)).readings
    finally:
        recogniser.close()
    assert reading.prediction.labels == SETS[name]
    assert reading.prediction.label == SETS[name][-1]


@each_set
def test_review_has_a_key_for_each_label(server: Server, name: str) -> None:
    labels = Registry(server.models).manifest(version_of(server, name)).label_set
    keys = label_keys(labels)
    assert [label for label, _ in keys] == list(SETS[name])
    assert [key for _, key in keys] == [str(n + 1) for n in range(len(labels))]


# A retraining, with a champion that really learned something.

SIDE = 24


def draw(label: int, labels: int, rng: np.random.Generator, *, visitor: bool) -> np.ndarray:
    """A face (64, 64, 3) of sorts: a band whose height is the label; visitors' are inverted."""
    picture = rng.integers(0, 90, (64, 64, 1)).repeat(3, axis=2)
    band = 64 // labels
    picture[label * band : (label + 1) * band] += 150
    return (255 - picture if visitor else picture).astype(np.uint8)


def train(folder: Path, labels: tuple[str, ...]) -> str:
    """A champion trained on bright bands by `fer train`'s own procedure."""
    from PIL import Image

    from fer.learning.recipe import Recipe
    from fer.learning.runfolder import Request, start_run
    from fer.learning.runs import run_training

    rng = np.random.default_rng(0)
    for index, label in enumerate(labels):
        (folder / "pictures" / label).mkdir(parents=True)
        for number in range(20):
            picture = draw(index, len(labels), rng, visitor=False)
            Image.fromarray(picture).save(folder / "pictures" / label / f"{number}.png")
    recipe = Recipe(
        architecture="cnn",
        image_size=SIDE,
        epochs=12,
        batch_size=8,
        learning_rate=3e-3,
        average=0.5,
        **dict.fromkeys(("flip", "rotation", "shift", "zoom", "erase"), 0.0),
    )
    models = folder / "models"
    models.mkdir()
    classes = ",".join(labels)
    request = Request(str(folder / "pictures"), "bands", classes=classes, weights=None)
    run = start_run(request, recipe, folder / "runs")
    version = run_training(run, Registry(models), lambda line: None).version
    (models / "default").write_text(version + "\n")
    shutil.rmtree(folder / "pictures")
    return version


@pytest.mark.long
@each_set
def test_decisions_retrain_a_model_of_any_labels(tmp_path: Path, name: str) -> None:
    labels = SETS[name]
    champion = train(tmp_path, labels)
    registry = Registry(tmp_path / "models")
    assert registry.manifest(champion).labels == labels
    world = World.at(tmp_path / "data", registry.folder)
    rng = np.random.default_rng(7)
    predicted = labels[0]
    for number in range(20 * len(labels)):
        label = number % len(labels)
        picture = draw(label, len(labels), rng, visitor=True)
        sample = NewSample(
            jpeg=encode_jpeg(picture),
            width=64,
            height=64,
            # Framed as the manifest says: all of the picture.
            face_box=FaceBox(0.0, 6.4, 64.0, 64.0, 0.0, 0.95),
            probabilities=dict.fromkeys(labels, 1 / len(labels)),
            model_version=champion,
            predicted_label=predicted,
            face_px=64,
            sharpness=100.0,
        )
        kept = world.store.keep([sample], group_id=f"session-{number // 2}").sample_ids[0]
        assert world.store.get(kept).path == f"{predicted}/{kept}.jpg"
        view = world.store.get(kept)
        decide = {"row_version": view.row_version, "labels": labels}
        if number == 0:
            with pytest.raises(LabelError):
                world.queue.decide(kept, "ann", "relabel", label="contempt", **decide)
        world.queue.decide(kept, "ann", "relabel", label=labels[label], **decide)
        assert world.store.get(kept).final_label == labels[label]
    outcome = retrain.run_once(world.workplace(), Options(min_new=10))
    # Whatever the verdict on such drawings is: it was reached, on all of the labels.
    assert outcome.outcome in {"promoted", "kept"}, outcome.reason
    assert outcome.metrics["trained_on"] > 10
    judged = {line["name"]: line for line in outcome.metrics["lines"]}
    assert {"collected", "base"} <= set(judged)
    assert judged["collected"]["n"] > 10
    json.dumps(outcome.metrics)
    champion_now = registry.manifest(registry.champion())
    assert champion_now.labels == labels
    assert (champion_now.parent == champion) is (outcome.outcome == "promoted")
