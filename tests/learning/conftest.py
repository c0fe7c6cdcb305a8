"""Small labelled pictures whose label can be seen: a bright band whose place is the label."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

LABELS = ("happy", "sad", "Wide awake")


def draw(label: int, seed: int, side: int = 40) -> np.ndarray:
    """Grey noise (side, side, 3) with a band: left for 0, middle for 1, right for 2."""
    rng = np.random.default_rng((seed, label))
    picture = rng.integers(0, 120, (side, side, 1), dtype=np.uint8).repeat(3, axis=2)
    third = side // 3
    picture[:, label * third : (label + 1) * third] = 250
    return picture


@pytest.fixture(scope="session")
def make_pictures() -> Callable[..., None]:
    """Write `count` pictures for each label below a folder, as <label>/<n>.png."""

    def make(folder: Path, count: int, labels: tuple[str, ...] = LABELS, seed: int = 0) -> None:
        for index, label in enumerate(labels):
            (folder / label).mkdir(parents=True, exist_ok=True)
            for number in range(count):
                picture = Image.fromarray(draw(index, seed + number))
                picture.save(folder / label / f"{number}.png")

    return make
