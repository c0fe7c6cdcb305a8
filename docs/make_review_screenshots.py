"""Makes the pictures in docs/images/review-*.png: a console with drawn faces, in Chromium.

The faces are drawn by the tests' support module; nobody's picture is in them.
"""

from __future__ import annotations

import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).parent.parent
IMAGES = ROOT / "docs" / "images"

sys.path.insert(0, str(ROOT))

from fer.collection.review import ReviewQueue  # noqa: E402
from tests.support import SEVEN_LABELS  # noqa: E402
from tests.web.operator_support import PASSWORD, Console, drawn_sample, running_console  # noqa: E402

DAYS = 18
WIDE = {"width": 1280, "height": 800}
NARROW = {"width": 390, "height": 844}


class Clock:
    """A clock that the script moves, so that the board has days to show."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC) - timedelta(days=DAYS)

    def __call__(self) -> datetime:
        return self.now


def collect(console: Console, faces_a_day: int = 14) -> None:
    """Days of visitors and of operators at work."""
    rng = np.random.default_rng(7)
    clock = Clock()
    console.store.clock = clock
    review = ReviewQueue(console.services.database, console.store.settings, clock)
    seed = 0
    for day in range(DAYS + 1):
        for _ in range(int(faces_a_day * rng.uniform(0.6, 1.5))):
            seed += 1
            keep_one(console, seed, rng)
        if day < DAYS:
            for name in ("ada", "grace"):
                label_some(review, clock, name, int(rng.integers(3, 10)), rng)
            clock.now += timedelta(days=1)
    console.store.clock = lambda: datetime.now(UTC)


#: What was drawn, by sample id: the scripted operators go by it.
DRAWN: dict[str, str] = {}


def keep_one(console: Console, seed: int, rng: np.random.Generator) -> None:
    drawn = SEVEN_LABELS[int(rng.choice(7, p=[0.13, 0.06, 0.08, 0.3, 0.23, 0.1, 0.1]))]
    confidence = float(np.clip(rng.beta(5, 2.5), 0.3, 0.98))
    read = drawn if rng.random() < 0.35 + 0.6 * confidence else SEVEN_LABELS[int(rng.integers(7))]
    sample = drawn_sample(read, confidence, seed, console.model, drawn=drawn, side=320)
    receipt = console.store.keep([sample], group_id=f"visitor-{seed // 2}")
    DRAWN[receipt.sample_ids[0]] = drawn
    if rng.random() < 0.4:
        console.store.suggest(receipt.code, drawn)


def label_some(
    review: ReviewQueue, clock: Clock, name: str, count: int, rng: np.random.Generator
) -> None:
    faces = review.next(name, "uncertain", count)
    start = clock.now
    for face in faces:
        clock.now += timedelta(seconds=float(rng.uniform(1.5, 6)))
        label, roll = DRAWN[face.id], rng.random()
        if roll < 0.05:
            kind, label = "reject", None
        elif roll < 0.09:
            kind, label = "unsure", None
        else:
            kind = "relabel"
            if roll < 0.16:
                label = SEVEN_LABELS[int(rng.integers(7))]
        review.decide(
            face.id,
            name,
            kind,
            row_version=face.row_version,
            label=label,
            order="uncertain",
            sitting=f"{name}-{start:%Y%m%d}",
        )
    clock.now = start


def signed_in(browser: Browser, console: Console, size: dict[str, int], scheme: str) -> Page:
    page = browser.new_page(viewport=size, color_scheme=scheme, locale="en-GB")
    page.goto(console.url + "/sign-in")
    page.get_by_label("Name").fill("ada")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.locator("#face canvas").wait_for()
    return page


def shoot(page: Page, name: str) -> None:
    page.screenshot(path=IMAGES / f"review-{name}.png")


def settle(page: Page) -> None:
    """Wait until every picture in view is drawn."""
    page.wait_for_function(
        "() => [...document.querySelectorAll('#cards img')]"
        ".filter((i) => i.getBoundingClientRect().top < innerHeight)"
        ".every((i) => i.complete && i.naturalWidth > 0)"
    )


def main() -> None:
    IMAGES.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        running_console(Path(folder), second_opinion=0.35) as console,
        sync_playwright() as playwright,
    ):
        console.operator("ada", "admin")
        console.operator("grace")
        collect(console)
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox"]
        )
        page = browser.new_page(viewport=WIDE, locale="en-GB")
        page.goto(console.url + "/sign-in")
        shoot(page, "sign-in")
        page.close()

        page = signed_in(browser, console, WIDE, "light")
        for key in "4u5761":
            page.keyboard.press(key)
        page.get_by_text("All saved").wait_for()
        while not page.locator("#labels .chip").count():
            page.keyboard.press("5")
            page.locator("#face canvas").wait_for()
        page.get_by_text("All saved").wait_for()
        shoot(page, "queue")
        while not page.locator("#labels.blind").count():
            page.keyboard.press("4")
            page.locator("#face canvas").wait_for()
        page.get_by_text("All saved").wait_for()
        shoot(page, "blind")
        page.keyboard.press("?")
        shoot(page, "keys")
        page.keyboard.press("Escape")
        page.get_by_role("link", name="Grid").click()
        page.locator("#cards .card").first.wait_for()
        page.keyboard.press("ArrowRight")
        page.keyboard.press("Shift+ArrowRight")
        page.keyboard.press("Shift+ArrowRight")
        settle(page)
        shoot(page, "grid")
        page.locator("#filters [name=status]").select_option("relabelled")
        page.locator("#cards .card").first.wait_for()
        settle(page)
        page.keyboard.press("h")
        page.locator("#drawer img[src]").wait_for()
        shoot(page, "history")
        page.keyboard.press("Escape")
        page.get_by_role("link", name="Board").click()
        page.locator(".chart").first.wait_for()
        page.screenshot(path=IMAGES / "review-board.png", full_page=True)
        page.get_by_role("link", name="Models").click()
        page.locator("#retrain").wait_for()
        shoot(page, "models")
        page.close()

        page = signed_in(browser, console, WIDE, "dark")
        shoot(page, "queue-dark")
        page.close()
        page = signed_in(browser, console, NARROW, "light")
        shoot(page, "queue-narrow")
        page.get_by_role("link", name="Grid").click()
        page.locator("#cards .card").first.wait_for()
        settle(page)
        shoot(page, "grid-narrow")
        page.get_by_role("link", name="Board").click()
        page.locator(".chart").first.wait_for()
        shoot(page, "board-narrow")
        browser.close()


if __name__ == "__main__":
    main()
