"""Make the pictures in docs/images of the visitor's pages: `make screenshots`.

A server is started with the shipped model, a folder of its own and the public-domain portrait
that is the page's example; nothing else is shown.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.web.serving import Server, start  # noqa: E402

IMAGES = ROOT / "docs" / "images"
EXAMPLE = ROOT / "fer" / "web" / "assets" / "static" / "example.jpg"

#: Width and height of the window, language and colours, by the end of the name.
LOOKS = {
    "": {
        "viewport": {"width": 1280, "height": 900},
        "locale": "en-US",
        "color_scheme": "light",
    },
    "-phone": {
        "viewport": {"width": 390, "height": 844},
        "locale": "id-ID",
        "color_scheme": "dark",
    },
}

#: Milliseconds for anything the page does.
PATIENCE = 120_000


def main() -> None:
    """Make them all."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        sys.exit("Chromium is needed: apt-get install chromium")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        server = start(Path(folder), models=ROOT / "models")
        try:
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            for look in LOOKS:
                photograph(browser, server, look)
            browser.close()
        finally:
            server.stop()


def photograph(browser: Browser, server: Server, look: str) -> None:
    """The page before and after a picture, and the two other tabs, in one look."""
    context = browser.new_context(**LOOKS[look], reduced_motion="reduce")
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    page.goto(server.url + "/")
    page.locator("#fer-send").wait_for()
    save(page, f"start{look}")
    page.locator("#photo input[type=file]").set_input_files(EXAMPLE)
    page.locator("#photo img").wait_for()
    page.locator("#fer-send").click()
    page.locator(".fer-readings").wait_for()
    save(page, f"try-it{look}")
    page.get_by_role("tab").nth(1).click()
    page.locator(".fer-model").wait_for()
    save(page, f"about{look}")
    page.get_by_role("tab").nth(2).click()
    page.locator("#fer-delete").wait_for()
    save(page, f"delete{look}")
    context.close()


def save(page: Page, name: str) -> None:
    """One picture of the whole page."""
    page.wait_for_timeout(1500)  # Gradio settles heights after the last change
    page.screenshot(path=IMAGES / f"{name}.png", full_page=True)
    print(f"docs/images/{name}.png")


if __name__ == "__main__":
    main()
