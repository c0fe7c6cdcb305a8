"""A visitor and a reviewer at a browser: afterwards its profile holds nothing of the picture."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import BrowserContext, Page, Playwright, expect

from fer.collection.database import Database
from fer.collection.operators import Operators
from tests.browser.conftest import PATIENCE, chromium
from tests.support import make_version
from tests.web.operator_support import PASSWORD
from tests.web.serving import Server, start
from tests.web.traces import Marked, marked_picture, traces

pytestmark = [pytest.mark.browser, pytest.mark.long, pytest.mark.timeout(900)]

expect.set_options(timeout=PATIENCE)


def profile_of(playwright: Playwright, folder: Path) -> BrowserContext:
    """A browser that writes all it remembers to `folder`, as an everyday one does."""
    context = playwright.chromium.launch_persistent_context(
        folder, executable_path=chromium(), args=["--no-sandbox"], locale="en-US"
    )
    context.set_default_timeout(PATIENCE)
    return context


def visit(page: Page, server: Server, planted: Path, broken: Path) -> str:
    """Read a picture that is kept, correct it, look at every tab; the receipt."""
    page.goto(server.url + "/")
    page.locator("#photo input[type=file]").set_input_files(broken)
    page.locator("#photo input[type=file]").wait_for(state="attached")
    page.reload()
    page.locator("#photo input[type=file]").set_input_files(planted)
    page.locator("#photo img").wait_for()
    page.locator("#fer-send").click()
    page.locator(".fer-readings").wait_for()
    page.get_by_role("radio", name="sad").check()
    page.locator("#fer-wrong").click()
    expect(page.locator("#fer-done")).to_contain_text("Noted as: sad")
    code = page.locator(".fer-receipt code").inner_text()
    page.get_by_role("tab", name="About this model").click()
    expect(page.locator("#fer-about")).to_contain_text("What it is not for")
    page.goto(server.url + "/id/")
    page.locator("#fer-send").wait_for(state="attached")
    return code


def review(page: Page, server: Server) -> None:
    """Sign in, and look at the face in the queue, in the grid and in its history."""
    page.goto(server.url + "/sign-in?lang=en")
    page.get_by_label("Name").fill("ada")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.locator("#face canvas").wait_for()
    page.keyboard.press("z")
    page.keyboard.press("Escape")
    page.get_by_role("link", name="Grid").click()
    page.locator("#cards .card img").first.wait_for()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("h")
    page.locator("#drawer img[src]").wait_for()


def forget(page: Page, server: Server, code: str) -> None:
    page.goto(server.url + "/?lang=en")
    page.get_by_role("tab", name="Delete my picture").click()
    page.locator("#fer-delete-code input, #fer-delete-code textarea").fill(code)
    page.locator("#fer-delete").click()
    expect(page.locator("#fer-delete-result")).to_contain_text("Deleted. Faces removed: 1")


def test_a_browser_and_the_disk_keep_nothing_of_a_picture(
    playwright: Playwright, tmp_path: Path, face_image: np.ndarray
) -> None:
    marked: Marked = marked_picture(face_image, os.urandom(6).hex())
    planted, broken = tmp_path / marked.name, tmp_path / f"broken-{marked.name}"
    planted.write_bytes(marked.jpeg)
    broken.write_bytes(marked.jpeg[: len(marked.jpeg) // 2])
    folder, profile = tmp_path / "server", tmp_path / "profile"
    make_version(folder / "models", favourite="happy", default=True)
    server = start(folder, FER_AUDIT_SHARE="0")
    database = Database(f"sqlite:///{server.data / 'fer.db'}")
    Operators(database).add("ada", PASSWORD, "admin")
    database.close()

    context = profile_of(playwright, profile)
    page = context.new_page()
    code = visit(page, server, planted, broken)
    (own,) = server.kept()
    with Image.open(own) as face:
        marked.others.append(face.convert("RGB"))
    review(page, server)
    forget(page, server, code)
    context.close()
    server.stop()

    assert server.kept() == []
    codes = [code, code.replace("-", "")]
    assert traces(marked, [folder], codes) == []
    found = traces(marked, [profile], codes)
    # The browser's own memory of which file was chosen is the visitor's, and not a picture.
    assert [line for line in found if not line.endswith("its name")] == []
