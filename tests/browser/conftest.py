"""Debian's Chromium, or a skip that says so; with FER_REQUIRE_BROWSER=1 a failure instead."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Playwright, sync_playwright

from tests.web.conftest import server

__all__ = ["server"]

#: Milliseconds for anything the page does: two cores may be busy with a training.
PATIENCE = 90_000


def chromium() -> str:
    """Path of the browser."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is not None:
        return path
    if os.environ.get("FER_REQUIRE_BROWSER") == "1":
        pytest.fail("FER_REQUIRE_BROWSER=1, but there is no Chromium")
    pytest.skip("no Chromium on this machine")


@pytest.fixture(scope="session")
def playwright() -> Iterator[Playwright]:
    chromium()  # before Playwright's own driver, which a bare machine cannot run either
    with sync_playwright() as running:
        yield running


@pytest.fixture(scope="session")
def browser(playwright: Playwright) -> Iterator[Browser]:
    """A browser without a camera."""
    running = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
    yield running
    running.close()


@pytest.fixture(scope="session")
def face_file(tmp_path_factory: pytest.TempPathFactory, face_jpeg: bytes) -> Path:
    path = tmp_path_factory.mktemp("pictures") / "face.jpg"
    path.write_bytes(face_jpeg)
    return path


@pytest.fixture(scope="session")
def camera(
    playwright: Playwright, tmp_path_factory: pytest.TempPathFactory, face_image: np.ndarray
) -> Iterator[Browser]:
    """A browser whose camera plays the face; as MJPEG: concatenated JPEGs, 640 by 480."""
    frame = Image.new("RGB", (640, 480), (90, 90, 90))
    frame.paste(Image.fromarray(face_image).resize((480, 480)), (80, 0))
    stream = io.BytesIO()
    for _ in range(10):
        frame.save(stream, "JPEG", quality=92)
    path = tmp_path_factory.mktemp("camera") / "face.mjpeg"
    path.write_bytes(stream.getvalue())
    running = playwright.chromium.launch(
        executable_path=chromium(),
        args=[
            "--no-sandbox",
            "--use-fake-ui-for-media-stream",
            "--use-fake-device-for-media-stream",
            f"--use-file-for-fake-video-capture={path}",
        ],
    )
    yield running
    running.close()
