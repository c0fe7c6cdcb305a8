"""Pictures and parts that the vision tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import skimage.data

from fer.config import Settings
from fer.registry import Registry
from fer.vision.faces import FaceDetector
from fer.vision.images import Pixels
from fer.vision.recogniser import Recogniser
from tests.support import make_version


@pytest.fixture(scope="session")
def astronaut() -> Pixels:
    """A public-domain photograph of one face, 512 by 512, the head leaning by about 5°."""
    picture = np.asarray(skimage.data.astronaut())
    picture.setflags(write=False)
    return picture


@pytest.fixture(scope="session")
def detector() -> Iterator[FaceDetector]:
    with FaceDetector() as made:
        yield made


@pytest.fixture
def models(tmp_path: Path) -> Path:
    return tmp_path / "models"


@pytest.fixture
def recogniser(models: Path, detector: FaceDetector) -> Recogniser:
    """A recogniser whose champion always says happy."""
    make_version(models, favourite="happy", default=True)
    return Recogniser(Registry(models), Settings(_env_file=None), detector)
