"""Pictures, samples and a clock for the tests of the collection."""

from __future__ import annotations

import io
import itertools
import zipfile
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from PIL import Image

from fer.collection.newsample import NewSample
from fer.collection.samples import SampleStore
from fer.vision.faces import FaceBox

LABELS = ("angry", "happy", "sad", "neutral")
MODEL = "20250101T000000Z-test"

_seeds = itertools.count(1)


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = datetime(2025, 6, 15, 12, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def forward(self, **by: float) -> None:
        self.now += timedelta(**by)


def jpeg(seed: int | None = None, side: int = 64) -> bytes:
    """A small picture of smooth noise; another for every seed, and for every call without one."""
    rng = np.random.default_rng(next(_seeds) if seed is None else [seed, 99])
    coarse = rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)
    picture = Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=95)
    return stream.getvalue()


def new_sample(
    label: str = "happy", confidence: float = 0.7, picture: bytes | None = None, **more: object
) -> NewSample:
    """A sample read as `label`, the rest of the probability spread over the other labels."""
    labels = tuple(more.pop("labels", LABELS))
    rest = (1.0 - confidence) / (len(labels) - 1)
    values: dict[str, object] = {
        "jpeg": picture or jpeg(),
        "width": 64,
        "height": 64,
        "face_box": FaceBox(10.5, 8.0, 40.0, 44.0, -3.25, 0.93),
        "probabilities": {name: confidence if name == label else rest for name in labels},
        "model_version": MODEL,
        "predicted_label": label,
        "face_px": 44,
        "sharpness": 120.5,
        "notice_version": "1",
        "request_id": "request-1",
        **more,
    }
    return NewSample(**values)  # type: ignore[arg-type]


def keep(
    store: SampleStore,
    label: str = "happy",
    confidence: float = 0.7,
    group: str = "g",
    **more: object,
) -> str:
    """Keep one sample; its id."""
    return store.keep([new_sample(label, confidence, **more)], group_id=group).sample_ids[0]


class Unpacked:
    """Counts the bytes that come out of members of zips from now on.

    That a bomb is refused in the end is not enough: it would have been unpacked before.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bytes = 0
        plain = zipfile.ZipExtFile.read

        def read(member: zipfile.ZipExtFile, n: int | None = -1) -> bytes:
            data = plain(member, n)
            self.bytes += len(data)
            return data

        monkeypatch.setattr(zipfile.ZipExtFile, "read", read)
