"""The visitor's page in one language: Try it, About this model, Delete my picture."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import gradio as gr

from fer.errors import FerError, ModelError
from fer.web import model_page, render
from fer.web.desk import Desk
from fer.web.endpoints import add_endpoints
from fer.web.logs import error_sentence
from fer.web.middleware import json_script
from fer.web.photo import Page, markup
from fer.web.rates import counts_as
from fer.web.services import Services
from fer.web.texts import LANGUAGES, Texts, load
from fer.web.try_it import TryIt
from fer.web.unfetched import Unfetched

#: Requests that may wait for a free thread; the next is told to come back.
QUEUE_SIZE = 64

#: Sessions whose choice of faces is held, in memory only.
SESSIONS = 300

#: Texts that the page's script needs.
_SCRIPT_TEXTS = (
    "script.copied",
    "script.camera_denied",
    "script.camera_missing",
    "script.camera_busy",
    "script.camera_insecure",
    "script.remembered",
    "script.remembered_none",
    "script.use",
    "script.offline",
)

#: What Gradio shows in English whatever the language, and our text for it.
_GRADIO_TEXTS = {
    "Click to Access Webcam": "gradio.access_webcam",
    "Capture from camera": "gradio.capture_source",
    "capture photo": "gradio.capture",
    "Upload file": "gradio.upload_file",
    "Paste from clipboard": "gradio.paste",
    "Remove Image": "gradio.remove",
    "Error": "gradio.error",
}


def assets_url(language: str) -> str:
    """Where the page's own files lie, seen from the page: it works under any sub-path."""
    return "page/" if language == "en" else "../page/"


def build_page(services: Services, texts: Texts) -> Page:
    """The whole page in the language of `texts`."""
    page = Page(title=texts("page.title"), analytics_enabled=False, fill_width=True)
    page.state_session_capacity = SESSIONS
    page.refuse_file = lambda: texts("error.no_file_here")
    with page:
        # First, so that no event of the page takes an endpoint's name.
        add_endpoints(services, texts)
        markup(_header(texts), elem_id="fer-header")
        with gr.Tabs(elem_id="fer-tabs", selected="try"):
            with gr.Tab(texts("tab.try"), id="try"):
                TryIt(services, texts, assets_url(texts.language)).build(page)
            with gr.Tab(texts("tab.model"), id="model"):
                _about(services, texts, page)
            with gr.Tab(texts("tab.delete"), id="delete"):
                _delete(services.desk, texts)
        markup(f"<p>{texts.html('page.footer')}</p>", elem_id="fer-footer")
    page.queue(max_size=QUEUE_SIZE, default_concurrency_limit=services.settings.threads)
    page._queue.pending_messages_per_session = Unfetched()
    return page


def dresser(version: str, max_image_mb: float) -> Callable[[str, str], str]:
    """What puts language, style and script into Gradio's HTML.

    Args:
        max_image_mb: largest picture, for the script to say.
        version: changes with the page's own files, so that browsers fetch them anew.
    """

    def dress(document: str, language: str) -> str:
        texts = Texts(language)
        assets = assets_url(language)
        head = (
            f'<meta name="description" content="{texts.html("page.lead")}">'
            f'<link rel="icon" href="{assets}icon.svg" type="image/svg+xml">'
            f'<link rel="stylesheet" href="{assets}page.css?{version}">'
            f"{json_script('fer-texts', _script_texts(texts, max_image_mb))}"
            f'<script src="{assets}page.js?{version}"></script>'
        )
        document = document.replace('lang="en"', f'lang="{language}"', 1)
        # Gradio's cards for social networks, which name its own pictures and site.
        document = re.sub(r'<meta\s+(?:property="og:|name="twitter:)[^>]*/>', "", document)
        base = re.search(r"<base [^>]*>", document)
        at = base.end() if base else document.index("<head>") + len("<head>")
        noscript = f"<noscript><p>{texts.html('page.noscript')}</p></noscript>"
        document = document[:at] + head + document[at:]
        return document.replace("<gradio-app", noscript + "<gradio-app", 1)

    return dress


def _script_texts(texts: Texts, max_image_mb: float) -> dict[str, Any]:
    own = {key.removeprefix("script."): load(texts.language)[key] for key in _SCRIPT_TEXTS}
    gradio = {english: texts(key) for english, key in _GRADIO_TEXTS.items()}
    too_large = texts("error.picture_too_large", limit=f"{max_image_mb:g}", unit="MB")
    return {**own, "too_large": too_large, "language": texts.language, "gradio": gradio}


def _header(texts: Texts) -> str:
    links = []
    for language, name in LANGUAGES.items():
        current = ' aria-current="true"' if language == texts.language else ""
        links.append(f'<a href="./?lang={language}" lang="{language}"{current}>{name}</a>')
    return (
        f'<header class="fer-head"><div><h1>{texts.html("page.title")}</h1>'
        f"<p>{texts.html('page.lead')}</p></div>"
        f'<nav aria-label="{texts.html("page.language")}">{"".join(links)}</nav></header>'
    )


def _about(services: Services, texts: Texts, page: Page) -> None:
    about = markup("", elem_id="fer-about")
    with gr.Accordion(texts("model.card"), open=False, visible=False) as fold:
        card = gr.Markdown("", elem_id="fer-card-text")

    def show() -> list[Any]:
        try:
            version: str | None = services.recogniser.champion()
        except ModelError:
            version = None
        text = model_page.model_card(services.registry, version, texts.language)
        body = model_page.model_page(services.registry, version, texts)
        return [body, gr.update(visible=bool(text)), text]

    page.load(
        show,
        None,
        [about, fold, card],
        queue=False,
        api_visibility="private",
        show_progress="hidden",
    )


def _delete(desk: Desk, texts: Texts) -> None:
    with gr.Column(elem_classes="fer-narrow fer-stack"):
        markup(f"<h2>{texts.html('delete.title')}</h2><p>{texts.html('delete.text')}</p>")
        code = gr.Textbox(
            label=texts("delete.code"),
            placeholder=texts("delete.placeholder"),
            max_lines=1,
            max_length=64,
            elem_id="fer-delete-code",
            html_attributes=gr.InputHTMLAttributes(autocomplete="off", spellcheck=False),
        )
        button = gr.Button(texts("delete.button"), variant="stop", elem_id="fer-delete")
        result = markup("", elem_id="fer-delete-result")
        markup(
            f'<section class="fer-remembered"><h3>{texts.html("delete.remembered")}</h3>'
            '<div id="fer-remembered"></div></section>'
        )

    @counts_as("forget")
    def forget(receipt: str) -> tuple[str, str]:
        if not (receipt or "").strip():
            return receipt, render.message(texts("delete.missing"), "warning")
        try:
            count = desk.forget(receipt)
        except FerError as error:
            # A receipt that is gone may be dropped from the browser's list as well.
            return receipt, render.message(error_sentence(error, texts), "error")
        return "", render.forgotten(receipt.strip(), count, texts)

    for trigger in (button.click, code.submit):
        trigger(forget, code, [code, result], api_visibility="private", show_progress="hidden")
