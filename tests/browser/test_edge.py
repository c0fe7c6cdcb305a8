"""What a visitor's browser makes of security headers and of refusals."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.conftest import PATIENCE
from tests.support import make_version
from tests.web.serving import Server, start

pytestmark = pytest.mark.browser

#: Notes what the content security policy blocked, where the page can be asked for it.
_WATCH = """
window.blocked = [];
addEventListener("securitypolicyviolation",
  (event) => window.blocked.push(`${event.violatedDirective} ${event.blockedURI}`));
"""


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that reads one picture of each visitor."""
    folder = tmp_path_factory.mktemp("strict")
    make_version(folder / "models", favourite="happy", default=True)
    running = start(folder, FER_RATE_CLASSIFY="1/hour")
    yield running
    running.stop()


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("/", "Too many requests from here. Please try again in 60 minutes."),
        ("/id/", "Terlalu banyak permintaan dari sini. Silakan coba lagi dalam 60 menit."),
    ],
)
def test_a_refusal_is_a_sentence_and_the_policy_blocks_nothing(
    browser: Browser, strict: Server, path: str, sentence: str, face_file: Path
) -> None:
    context = browser.new_context(locale="en-GB")
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    expect.set_options(timeout=PATIENCE)
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.add_init_script(_WATCH)
    # The name of the server comes from the address bar, whatever `Host` a proxy passed on.
    page.goto(strict.url + path)
    page.locator("button#fer-example").click()
    expect(page.locator(".fer-readings")).to_be_visible()
    page.locator("button#fer-retake").click()
    page.locator("#photo input[type=file]").set_input_files(face_file)
    page.locator("button#fer-send").click()
    toast = page.locator("[data-testid=toast-body]")
    expect(toast).to_contain_text(sentence)
    assert "Traceback" not in page.content()
    assert page.evaluate("window.blocked") == []
    assert [line for line in said if "Content Security Policy" in line] == []
    assert page.evaluate("window.gradio_config.root").startswith(strict.url)
    assert strict.log.count("Traceback") == 0
    context.close()
