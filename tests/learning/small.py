"""A small world that retraining can be tried in: drawn faces, and a champion trained on them.

A face is a disc with two eyes and a mouth whose shape is its label. Base faces are dark on light;
a visitor's camera shows them light on dark, which a champion trained on base faces reads badly.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cv2
import keras
import numpy as np
import numpy.typing as npt

from fer.collection.database import Database
from fer.collection.newsample import NewSample
from fer.collection.operators import Operators
from fer.collection.review import ReviewQueue
from fer.collection.samples import SampleStore
from fer.collection.storage import FolderStorage
from fer.config import Settings
from fer.learning.architectures import Network, build
from fer.learning.job import Workplace
from fer.learning.knobs import FineTuning
from fer.learning.replay import make_replay
from fer.learning.versions import VersionFolder
from fer.registry import REPLAY_FILE, Registry
from fer.vision.faces import FaceBox
from fer.vision.images import encode_jpeg

LABELS = ("happy", "neutral", "sad", "surprise")
SIDE = 32
VERSION = "20250101T000000Z-drawn"

#: Where the face lies in every drawn picture: all of it, framed as the champion wants it.
BOX = FaceBox(4.0, 4.0 + 0.1 * 56, 56.0, 56.0, 0.0, 0.95)

Crops = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]


def draw(label: str, rng: np.random.Generator, side: int = SIDE, *, visitor: bool = False) -> Crops:
    """One drawn face, uint8 (side, side, 3)."""
    big = np.full((128, 128), 225.0)
    wobble = rng.integers(-4, 5, 2)
    centre = (64 + int(wobble[0]), 64 + int(wobble[1]))
    cv2.circle(big, centre, 50, 190.0, -1)
    for across in (-20, 20):
        cv2.circle(big, (centre[0] + across, centre[1] - 16), 5, 60.0, -1)
    mouth = (centre[0], centre[1] + 22)
    width = int(rng.integers(18, 26))
    if label == "surprise":
        cv2.circle(big, mouth, 11, 50.0, 5)
    elif label == "neutral":
        cv2.line(big, (mouth[0] - width, mouth[1]), (mouth[0] + width, mouth[1]), 50.0, 6)
    else:
        start, end = (20, 160) if label == "happy" else (200, 340)
        low = mouth[1] - 8 if label == "happy" else mouth[1] + 10
        cv2.ellipse(big, (mouth[0], low), (width, 16), 0, start, end, 50.0, 6)
    if visitor:
        big = 255 - 0.7 * big
    big += rng.normal(0, 8, big.shape)
    small = cv2.resize(big, (side, side), interpolation=cv2.INTER_AREA)
    return np.repeat(np.clip(small, 0, 255).astype(np.uint8)[..., None], 3, axis=2)


def faces(count: int, seed: int, *, visitor: bool = False) -> tuple[Crops, Ints]:
    """Drawn faces (count, SIDE, SIDE, 3), labels in turn."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % len(LABELS)
    drawn = [draw(LABELS[label], rng, visitor=visitor) for label in labels]
    return np.stack(drawn), labels.astype(np.int64)


def train_champion(folder: Path, *, replay: bool = True) -> str:
    """Put a champion trained on base faces into a models folder, as its default."""
    keras.utils.set_random_seed(3)
    network = Network("cnn", len(LABELS), SIDE, SIDE, grey=True, dropout=0.0)
    model = build(network)
    crops, labels = faces(600, seed=1)
    targets = np.eye(len(LABELS), dtype=np.float32)[labels]
    model.compile("adam", keras.losses.CategoricalCrossentropy(from_logits=True), jit_compile=False)
    model.fit(crops, targets, batch_size=32, epochs=6, verbose=0)
    held, held_labels = faces(400, seed=2)
    held_targets = np.eye(len(LABELS), dtype=np.float32)[held_labels]
    with VersionFolder(Registry(folder), VERSION) as new:
        new.add_model(model)
        if replay:
            made = make_replay(
                model,
                "cnn",
                (crops, targets),
                (held, held_targets, held_targets > 0),
                train_faces=400,
                holdout_faces=400,
            )
            made.save(new.path / REPLAY_FILE)
        new.commit(
            name="drawn",
            created_at=datetime(2025, 1, 1, tzinfo=UTC),
            architecture="cnn",
            labels=LABELS,
            crop_size=SIDE,
            image_size=SIDE,
            freeze_point="dense",
        )
    (folder / "default").write_text(VERSION + "\n", encoding="utf-8")
    return VERSION


@dataclass
class World:
    """Settings, database and folders of one small installation."""

    settings: Settings
    database: Database
    store: SampleStore
    queue: ReviewQueue
    registry: Registry

    @classmethod
    def at(cls, folder: Path, models: Path, **settings: object) -> World:
        """An installation whose data lie in `folder`; one operator, `ann`."""
        given = Settings(_env_file=None, **{"data_dir": folder, "models_dir": models, **settings})
        database = Database(given.effective_database_url)
        database.migrate()
        store = SampleStore(database, FolderStorage(given.data_dir), given)
        if not Operators(database).any():
            Operators(database).add("ann", "a long password", "admin")
        return cls(given, database, store, ReviewQueue(database, given), Registry(models))

    def workplace(self, **more: Any) -> Workplace:
        """What a run works with; a quick fine-tuning unless told otherwise."""
        parts: dict[str, Any] = {
            "settings": self.settings,
            "registry": self.registry,
            "database": self.database,
            "storage": self.store.storage,
            # Larger steps than in service: drawn faces are few, and quickly learned.
            "knobs": FineTuning(
                copies=2,
                rounds=6,
                fewest_rounds=3,
                steps=20,
                batch=64,
                new_share=0.5,
                trust=0.9,
                largest_mix=0.8,
                shares=0.0,
            ),
            **more,
        }
        return Workplace(**parts)

    def environment(self) -> dict[str, str]:
        """For a process that is to work in this installation."""
        plain = {k: v for k, v in os.environ.items() if not k.startswith("FER_")}
        folders = {"FER_DATA_DIR": self.settings.data_dir, "FER_MODELS_DIR": self.registry.folder}
        return {**plain, **{name: str(path) for name, path in folders.items()}}

    def keep(self, picture: Crops, predicted: str, group: str) -> str:
        """Keep one drawn face as a visitor's; its id."""
        rest = 0.4 / (len(LABELS) - 1)
        sample = NewSample(
            jpeg=encode_jpeg(picture),
            width=picture.shape[1],
            height=picture.shape[0],
            face_box=BOX,
            probabilities={name: 0.6 if name == predicted else rest for name in LABELS},
            model_version=VERSION,
            predicted_label=predicted,
            face_px=56,
            sharpness=100.0,
        )
        return self.store.keep([sample], group_id=group).sample_ids[0]

    def decide(self, sample_id: str, label: str) -> None:
        """One operator's decision."""
        view = self.store.get(sample_id)
        self.queue.decide(
            sample_id, "ann", "relabel", row_version=view.row_version, label=label, labels=LABELS
        )

    def collect(
        self, count: int, seed: int = 5, *, wrong: Sequence[str] | None = None, visitor: bool = True
    ) -> list[str]:
        """Keep and decide `count` visitors' faces, two to a session; their ids.

        Args:
            wrong: labels to decide instead of the true ones.
        """
        rng = np.random.default_rng(seed)
        ids = []
        for number in range(count):
            label = LABELS[number % len(LABELS)]
            picture = draw(label, rng, 64, visitor=visitor)
            ids.append(self.keep(picture, "neutral", f"session-{seed}-{number // 2}"))
            self.decide(ids[-1], label if wrong is None else wrong[number])
        return ids


def digest(folder: Path) -> str:
    """SHA-256 over names and bytes of all files below a folder, for comparing before and after."""
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.name.endswith(".lock"):
            total.update(json.dumps(str(path.relative_to(folder))).encode())
            total.update(path.read_bytes())
    return total.hexdigest()
