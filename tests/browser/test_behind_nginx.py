"""The pages in a real browser behind Debian's nginx, under a sub-path and with TLS."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import PATIENCE
from tests.deploy.conftest import proxied
from tests.deploy.proxied import Proxied
from tests.deploy.test_nginx import PASSWORD, add_operator

__all__ = ["proxied"]

pytestmark = [pytest.mark.browser, pytest.mark.long, pytest.mark.timeout(600)]

expect.set_options(timeout=PATIENCE)


@contextmanager
def opened(browser: Browser, proxied: Proxied, path: str, **options: object) -> Iterator[Page]:
    """A page; afterwards: every request stayed below the sub-path, none failed, no error rose."""
    context = browser.new_context(ignore_https_errors=True, **options)  # type: ignore[arg-type]
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    outside: list[str] = []
    failed: list[str] = []
    errors: list[str] = []
    page.on(
        "request",
        lambda request: (
            None
            if request.url.startswith((proxied.url + "/", "data:", "blob:"))
            else outside.append(request.url)
        ),
    )
    page.on(
        "response",
        lambda answer: (
            failed.append(f"{answer.status} {answer.url}") if answer.status >= 400 else None
        ),
    )
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(proxied.url + path)
    yield page
    context.close()
    assert outside == []
    assert failed == []
    assert errors == []


@pytest.mark.parametrize(
    ("locale", "path", "days", "camera_button", "start", "shoot", "verdict"),
    [
        (
            *("en-US", "/", "30 days", "Take a picture with the camera"),
            *("Turn on the camera", "Take the picture", "happy"),
        ),
        (
            *("id-ID", "/id/", "30 hari", "Ambil gambar dengan kamera"),
            *("Nyalakan kamera", "Ambil gambar", "senang"),
        ),
    ],
    ids=["en", "id"],
)
def test_the_notice_stands_before_the_camera_shows_and_a_snapshot_is_read(
    camera: Browser,
    proxied: Proxied,
    locale: str,
    path: str,
    days: str,
    camera_button: str,
    start: str,
    shoot: str,
    verdict: str,
) -> None:
    with opened(camera, proxied, path, locale=locale, permissions=["camera"]) as page:
        notice = page.locator("#fer-notice")
        expect(notice).to_contain_text(days)
        # Behind a proxy the page is public: nothing is kept that was not asked for.
        expect(notice.get_by_role("checkbox")).not_to_be_checked()
        assert page.locator("#photo video").count() == 0
        page.get_by_label(camera_button).click()
        page.get_by_text(start).click()
        page.wait_for_function("document.querySelector('#photo video')?.videoWidth > 0")
        expect(notice).to_be_visible()
        page.get_by_label(shoot, exact=True).click()
        page.locator("#photo img").wait_for()
        page.locator("#fer-send").click()
        page.locator(".fer-readings").wait_for()
        expect(page.locator(".fer-verdict")).to_contain_text(verdict)
        assert proxied.server.kept() == []
        assert proxied.server.uploaded() == []


def test_an_operator_signs_in_and_out(browser: Browser, proxied: Proxied) -> None:
    add_operator(proxied, "grace")
    with opened(browser, proxied, "/review", locale="en-GB") as page:
        page.get_by_label("Name").fill("grace")
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url(proxied.url + "/review")
        cookies = {cookie["name"]: cookie for cookie in page.context.cookies()}
        session = cookies["fer_operator"]
        assert session["secure"]
        assert session["httpOnly"]
        assert session["path"] == "/fer"
        page.locator("#nav").get_by_role("link", name="Board").click()
        page.wait_for_url(proxied.url + "/review/board")
        page.get_by_role("button", name="Sign out").click()
        page.wait_for_url(proxied.url + "/sign-in*")
        page.goto(proxied.url + "/review/board")
        expect(page.get_by_label("Password")).to_be_visible()
