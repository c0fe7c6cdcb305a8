"""The visitor's page in a real browser, against a real server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import PATIENCE
from tests.web.serving import Server

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

expect.set_options(timeout=PATIENCE)


@contextmanager
def opened(
    browser: Browser, server: Server, path: str = "/", known: str = "", **options: Any
) -> Iterator[Page]:
    """The page; afterwards: it asked nobody but the server, and raised no error but `known`."""
    context = browser.new_context(**{"locale": "en-US", **options})
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    elsewhere: list[str] = []
    errors: list[str] = []
    page.on(
        "request",
        lambda request: (
            None
            if request.url.startswith((server.url + "/", "data:", "blob:"))
            else elsewhere.append(request.url)
        ),
    )
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(server.url + path)
    page.locator("#fer-send").wait_for(state="attached")
    yield page
    context.close()
    assert elsewhere == []
    assert set(errors) <= {known}


def choose(page: Page, picture: Path) -> None:
    page.locator("#photo input[type=file]").set_input_files(picture)
    page.locator("#photo img").wait_for()


def read(page: Page) -> None:
    page.locator("#fer-send").click()
    page.locator(".fer-readings").wait_for()


def test_a_visitor_keeps_corrects_remembers_and_deletes(
    browser: Browser, server: Server, face_file: Path
) -> None:
    before = set(server.kept())
    with opened(browser, server) as page:
        # The notice stands beside the tick, before anything is sent.
        notice = page.locator("#fer-notice")
        expect(notice.get_by_role("checkbox")).to_be_checked()
        expect(notice).to_contain_text("30 days")
        expect(notice).to_contain_text("cannot know what someone feels")
        choose(page, face_file)
        read(page)
        expect(page.locator(".fer-verdict")).to_contain_text("happy")
        assert page.locator(".fer-bars li").count() == 7
        expect(page.locator(".fer-box")).to_have_count(1)
        (kept,) = set(server.kept()) - before
        assert server.uploaded() == []

        page.get_by_role("radio", name="sad").check()
        page.locator("#fer-wrong").click()
        expect(page.locator("#fer-done")).to_contain_text("Noted as: sad")

        code = page.locator(".fer-receipt code").inner_text()
        assert page.locator(".fer-links a").get_attribute("href") == f"#delete={code}"
        assert page.evaluate("localStorage.length") == 0 or code not in page.evaluate(
            "JSON.stringify(localStorage)"
        )
        page.get_by_label("Remember this receipt in this browser").check()

        page.reload()
        page.get_by_role("tab", name="Delete my picture").click()
        page.get_by_role("button", name=f"Use this one: Receipt {code}").click()
        expect(page.locator("#fer-delete-code input, #fer-delete-code textarea")).to_have_value(
            code
        )
        page.locator("#fer-delete").click()
        expect(page.locator("#fer-delete-result")).to_contain_text("Deleted. Faces removed: 1")
        expect(page.locator("#fer-remembered")).to_contain_text("None.")
        assert not kept.exists()


def test_a_refusal_comes_into_view_and_goes_with_the_next_picture(
    browser: Browser, server: Server, face_file: Path
) -> None:
    with opened(browser, server, viewport={"width": 1280, "height": 700}) as page:
        # So far down that the head of the page, beside which the answer stands, is out of view.
        page.locator("#fer-footer").scroll_into_view_if_needed()
        page.locator("#fer-send").click()
        expect(page.locator("#fer-result [role=alert]")).to_be_in_viewport()
        choose(page, face_file)
        expect(page.locator("#fer-result .fer-error")).to_have_count(0)
        expect(page.locator("#fer-result .fer-empty")).to_be_visible()
        page.locator("#fer-notice").get_by_role("checkbox").uncheck()
        read(page)


def test_unticked_nothing_is_kept_and_the_next_picture_is_one_click_away(
    browser: Browser, server: Server, face_file: Path
) -> None:
    before = server.kept()
    with opened(browser, server) as page:
        page.locator("#fer-notice").get_by_role("checkbox").uncheck()
        choose(page, face_file)
        read(page)
        expect(page.locator(".fer-receipt")).to_have_count(0)
        assert server.kept() == before
        page.locator("#fer-retake").click()
        expect(page.locator("#fer-send")).to_be_visible()
        expect(page.locator("#photo img")).to_have_count(0)
        expect(page.locator("#fer-notice").get_by_role("checkbox")).not_to_be_checked()


def test_with_several_faces_only_those_picked_are_kept(
    browser: Browser, server: Server, two_faces_jpeg: bytes, tmp_path: Path
) -> None:
    picture = tmp_path / "two.jpg"
    picture.write_bytes(two_faces_jpeg)
    before = set(server.kept())
    with opened(browser, server) as page:
        choose(page, picture)
        read(page)
        expect(page.locator(".fer-box")).to_have_count(2)
        expect(page.get_by_label("Face 1 (largest)").first).to_be_checked()
        expect(page.get_by_label("Face 2").first).not_to_be_checked()
        assert len(set(server.kept()) - before) == 1
        page.get_by_label("Face 2").first.check()
        page.locator("#fer-update").click()
        expect(page.locator("#fer-done")).to_contain_text("Faces kept now: 2")
        assert len(set(server.kept()) - before) == 2
        page.locator("#fer-delete-now").click()
        expect(page.locator("#fer-done")).to_contain_text("Deleted. Faces removed: 2")
        assert set(server.kept()) == before


def test_an_indonesian_browser_on_a_phone_reads_indonesian(
    browser: Browser, server: Server, tmp_path: Path
) -> None:
    phone = {"viewport": {"width": 390, "height": 844}, "locale": "id-ID", "has_touch": True}
    (tmp_path / "text.jpg").write_text("no picture")
    with opened(browser, server, **phone) as page:
        assert page.url.endswith("/id/")
        assert page.locator("html").get_attribute("lang") == "id"
        expect(page.locator("#fer-send")).to_have_text("Baca ekspresinya")
        expect(page.locator("#photo")).to_contain_text("Letakkan Gambar di Sini")
        expect(page.get_by_label("Ambil gambar dengan kamera")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        page.locator("#fer-example").click()
        page.locator(".fer-readings").wait_for()
        expect(page.locator(".fer-verdict")).to_contain_text("senang")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        page.locator("#fer-retake").click()
        page.locator("#fer-send").click()
        expect(page.get_by_role("alert").filter(has_text="Pilih gambar dulu")).to_be_visible()
        page.get_by_role("link", name="English").click()
        expect(page.locator("#fer-send")).to_have_text("Read the expression")
        # The choice outlives the visit, against the browser's own wish.
        page.goto(server.url + "/")
        expect(page.locator("#fer-send")).to_have_text("Read the expression")


def test_by_keyboard_alone(browser: Browser, server: Server) -> None:
    with opened(browser, server) as page:
        for _ in range(25):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.id") == "fer-example":
                break
        assert page.evaluate("document.activeElement.id") == "fer-example"
        page.keyboard.press("Enter")
        page.locator(".fer-readings").wait_for()
        expect(page.locator(".fer-readings")).to_be_focused()
        page.get_by_role("tab", name="About this model").focus()
        page.keyboard.press("Enter")
        expect(page.locator("#fer-about")).to_contain_text("What it is not for")


def test_a_snapshot_from_the_camera_is_read(camera: Browser, server: Server) -> None:
    before = set(server.kept())
    with opened(camera, server, permissions=["camera"]) as page:
        page.get_by_label("Take a picture with the camera").click()
        page.get_by_text("Turn on the camera").click()
        page.wait_for_function("document.querySelector('#photo video')?.videoWidth > 0")
        page.get_by_label("Take the picture").click()
        page.locator("#photo img").wait_for()
        read(page)
        expect(page.locator(".fer-verdict")).to_contain_text("happy")
        assert len(set(server.kept()) - before) == 1
        assert server.uploaded() == []
        page.locator("#fer-delete-now").click()
        expect(page.locator("#fer-done")).to_contain_text("Deleted")
        # One click, and the camera is on again.
        page.locator("#fer-retake").click()
        page.wait_for_function("document.querySelector('#photo video')?.videoWidth > 0")
        expect(page.get_by_label("Take the picture")).to_be_visible()


def test_a_missing_camera_is_said(browser: Browser, server: Server) -> None:
    # Gradio lets the browser's refusal go by unhandled.
    with opened(browser, server, known="Requested device not found") as page:
        page.get_by_label("Take a picture with the camera").click()
        page.get_by_text("Turn on the camera").click()
        expect(page.locator("#fer-camera")).to_contain_text("No camera was found")


def test_too_large_a_picture_is_refused_in_words(
    browser: Browser, server: Server, tmp_path: Path
) -> None:
    picture = tmp_path / "large.jpg"
    picture.write_bytes(b"\xff\xd8\xff" + bytes(11_000_000))
    with opened(browser, server) as page:
        page.locator("#photo input[type=file]").set_input_files(picture)
        expect(page.get_by_text("the limit is 10 MB").first).to_be_visible()


def test_a_delete_link_opens_the_tab_with_the_code(browser: Browser, server: Server) -> None:
    with opened(browser, server, "/#delete=AAAA-BBBB-CCCC-DDDD") as page:
        field = page.locator("#fer-delete-code input, #fer-delete-code textarea")
        expect(field).to_have_value("AAAA-BBBB-CCCC-DDDD")
        expect(page.locator("#fer-delete")).to_be_focused()
        page.locator("#fer-delete").click()
        expect(page.locator("#fer-delete-result")).to_contain_text("Nothing is kept under this")
