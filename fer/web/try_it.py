"""The first tab: a picture in, its readings out, and what is kept of it."""

from __future__ import annotations

import html
import json
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from fer.errors import FerError, ModelError
from fer.labels import OTHER
from fer.web import model_page, render
from fer.web.desk import AT_HAND, Answer, Kept, Visitor
from fer.web.logs import error_sentence
from fer.web.middleware import SESSION_COOKIE, valid_session
from fer.web.notice import notice_sentences
from fer.web.photo import Photo, markup
from fer.web.rates import counts_as
from fer.web.services import Services
from fer.web.texts import Texts

#: NASA's portrait of Eileen Collins, in the public domain.
EXAMPLE = Path(__file__).parent / "assets" / "static" / "example.jpg"

#: Seconds for which the faces of an answer may be chosen from and given an opinion on.
CHOICE_SECONDS = 1800


def visitor_of(request: gr.Request | None, source: str) -> Visitor:
    """The visitor behind a request: by the page's cookie; a program without one by its session."""
    cookie = valid_session(request.cookies.get(SESSION_COOKIE)) if request else None
    session = request.session_hash if request else None
    return Visitor(cookie or f"program:{session or uuid.uuid4().hex}", source)


class TryIt:
    """The tab in one language; `build` lays it out inside the current Blocks."""

    def __init__(self, services: Services, texts: Texts, assets: str) -> None:
        self.services = services
        self.desk = services.desk
        self.texts = texts
        self.assets = assets

    def build(self, page: gr.Blocks) -> None:
        """Lay out the tab and connect its events."""
        # Faces of the last answer, in memory only, so that the visitor can choose among them.
        self.kept = gr.State(None, time_to_live=CHOICE_SECONDS)
        with gr.Row(elem_classes="fer-columns", equal_height=False):
            with gr.Column(elem_classes="fer-left", min_width=320):
                self._build_entry()
                self._build_shown()
            with gr.Column(elem_classes="fer-right", min_width=320):
                self.result = markup(render.empty(self.texts), elem_id="fer-result")
                self._build_kept()
        self._connect(page)

    def _build_entry(self) -> None:
        texts, settings = self.texts, self.services.settings
        with gr.Column(elem_id="fer-entry", elem_classes="fer-stack") as self.entry:
            self.photo = Photo(
                uploads=self.services.uploads,
                gone=texts("error.picture_gone"),
                label=texts("photo.label"),
                sources=["upload", "webcam", "clipboard"],
                webcam_options=gr.WebcamOptions(mirror=False),
                buttons=[],
                height=320,
                elem_id="photo",
            )
            markup(
                '<p id="fer-camera" class="fer-message fer-warning" role="status" hidden></p>',
                elem_id="fer-camera-box",
            )
            with gr.Row(elem_classes="fer-example"):
                alt = texts.html("example.alt")
                markup(f'<img src="{self.assets}example.jpg" alt="{alt}" width="48" height="48">')
                self.example = gr.Button(texts("example.button"), size="md", elem_id="fer-example")
            self.model = gr.Dropdown(
                choices=[],
                value=None,
                label=texts("model.picker"),
                visible=False,
                elem_id="fer-model",
            )
            with gr.Column(elem_classes="fer-card", elem_id="fer-notice"):
                self.keep = gr.Checkbox(
                    value=settings.effective_collect == "opt-out",
                    label=texts("keep.label"),
                    visible=self.desk.collects,
                    container=False,
                    elem_id="fer-keep",
                )
                sentences = notice_sentences(settings, texts)
                markup("".join(f"<p>{html.escape(sentence)}</p>" for sentence in sentences))
            self.send = gr.Button(texts("send.button"), variant="primary", elem_id="fer-send")

    def _build_shown(self) -> None:
        with gr.Column(visible=False, elem_classes="fer-stack") as self.shown:
            self.picture = markup("", elem_id="fer-picture")
            self.retake = gr.Button(
                self.texts("retake.button"), variant="primary", elem_id="fer-retake"
            )

    def _build_kept(self) -> None:
        texts = self.texts
        with gr.Column(visible=False, elem_classes="fer-card") as self.several:
            self.faces = gr.CheckboxGroup(
                choices=[], label=texts("keep.which"), elem_id="fer-faces"
            )
            self.update = gr.Button(texts("keep.update"), size="md", elem_id="fer-update")
        with gr.Column(visible=False, elem_classes="fer-card", elem_id="fer-feedback") as self.ask:
            markup(f"<h3>{texts.html('feedback.title')}</h3><p>{texts.html('feedback.text')}</p>")
            self.which = gr.Radio(
                choices=[], label=texts("feedback.which"), visible=False, elem_id="fer-which"
            )
            self.right = gr.Button(texts("feedback.right"), size="md", elem_id="fer-right")
            self.correct = gr.Radio(
                choices=[], label=texts("feedback.wrong"), elem_id="fer-correct"
            )
            self.wrong = gr.Button(texts("feedback.send"), size="md", elem_id="fer-wrong")
        self.done = markup("", elem_id="fer-done")
        with gr.Column(visible=False, elem_classes="fer-card") as self.paper:
            self.receipt = markup("", elem_id="fer-receipt")
            self.delete_now = gr.Button(
                texts("receipt.delete_now"), size="md", variant="stop", elem_id="fer-delete-now"
            )

    def _connect(self, page: gr.Blocks) -> None:
        after = [
            *(self.kept, self.several, self.faces, self.ask, self.which, self.correct),
            *(self.paper, self.receipt, self.done),
        ]
        shown = [self.photo, self.entry, self.shown, self.picture, self.result, *after]
        quick: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        reading: dict[str, Any] = {
            "api_visibility": "private",
            "concurrency_limit": AT_HAND * self.services.settings.threads,
            "concurrency_id": "classify",
            "show_progress_on": [self.result],
        }
        self.send.click(self.read, [self.photo, self.keep, self.model], shown, **reading)
        self.example.click(self.read_example, self.model, shown, **reading)
        self.retake.click(self.reset, None, shown, **quick)
        # In the browser alone: what was said about the picture before does not hold for this one.
        empty = json.dumps(render.empty(self.texts))
        self.photo.input(None, None, self.result, js=f"() => {empty}", **quick)
        self.update.click(self.choose, [self.kept, self.faces], after, **quick)
        self.right.click(self.agree, [self.kept, self.which], self.done, **quick)
        self.wrong.click(self.disagree, [self.kept, self.which, self.correct], self.done, **quick)
        self.delete_now.click(self.forget, self.kept, after, **quick)
        page.load(self.choices, None, self.model, queue=False, **quick)

    # What happens when a visitor does something. Each returns updates of the outputs named above.

    @counts_as("classify")
    def read(
        self, data: bytes | None, keep: bool, model: str | None, request: gr.Request
    ) -> list[Any]:
        """Read the picture that was sent."""
        if data is None:
            return self._refused(self.texts("error.choose_first"))
        try:
            answer, kept = self.desk.read(
                data, visitor_of(request, "page"), keep=bool(keep), model=model
            )
        except FerError as error:
            return self._refused(error_sentence(error, self.texts))
        return self._answered(answer, kept)

    @counts_as("classify")
    def read_example(self, model: str | None, request: gr.Request) -> list[Any]:
        """Read the example, of which nothing is ever kept."""
        visitor = visitor_of(request, "page")
        try:
            answer, kept = self.desk.read(EXAMPLE.read_bytes(), visitor, keep=False, model=model)
        except FerError as error:
            return self._refused(error_sentence(error, self.texts))
        return self._answered(answer, kept)

    def reset(self) -> list[Any]:
        """Back to choosing a picture."""
        return [*self._entry(True), "", render.empty(self.texts), *self._after(None)]

    @counts_as("feedback")
    def choose(self, kept: Kept | None, wanted: list[int], request: gr.Request) -> list[Any]:
        """Keep exactly the faces that are ticked."""
        if kept is None:
            return self._after(None, self._expired())
        try:
            chosen = self.desk.choose(kept, wanted, visitor_of(request, "page"))
        except FerError as error:
            return self._after(kept, render.message(error_sentence(error, self.texts), "error"))
        text = self.texts("keep.updated", count=len(chosen.kept))
        return self._after(chosen, render.message(text, "done"))

    @counts_as("feedback")
    def agree(self, kept: Kept | None, which: int | None) -> str:
        """The visitor says that the reading is right."""
        number = self._number(kept, which)
        if kept is None or number is None:
            return self._expired()
        return self._opinion(kept, number, kept.samples[number].predicted_label)

    @counts_as("feedback")
    def disagree(self, kept: Kept | None, which: int | None, label: str | None) -> str:
        """The visitor picks what the expression is instead."""
        number = self._number(kept, which)
        if kept is None or number is None:
            return self._expired()
        if not label:
            return render.message(self.texts("feedback.choose"), "warning")
        return self._opinion(kept, number, label)

    @counts_as("forget")
    def forget(self, kept: Kept | None) -> list[Any]:
        """Delete what was kept of this picture."""
        if kept is None or kept.receipt is None:
            return self._after(None, self._expired())
        try:
            count = self.desk.forget(kept.receipt)
        except FerError as error:
            return self._after(None, render.message(error_sentence(error, self.texts), "error"))
        return self._after(None, render.forgotten(kept.receipt, count, self.texts))

    def choices(self) -> Any:
        """The versions to choose from; the picker hides where there is only one."""
        try:
            champion: str | None = self.services.recogniser.champion()
        except ModelError:
            champion = None
        found = model_page.choices(self.services.registry, champion, self.texts)
        return gr.update(choices=found, value="" if found else None, visible=len(found) > 1)

    def _answered(self, answer: Answer, kept: Kept | None) -> list[Any]:
        picture = render.picture(answer, self.texts)
        result = render.readings(answer, self.texts)
        return [*self._entry(False), picture, result, *self._after(kept)]

    def _refused(self, text: str) -> list[Any]:
        return [*self._entry(True), "", render.message(text, "error"), *self._after(None)]

    @staticmethod
    def _entry(visible: bool) -> list[Any]:
        """Updates of photo, entry and shown: the picture is gone from here in any case."""
        # Hidden, not removed: the camera stays chosen for the next picture.
        entry = gr.update(visible=True if visible else "hidden")
        return [None, entry, gr.update(visible=not visible)]

    def _after(self, kept: Kept | None, done: str = "") -> list[Any]:
        several = kept is not None and len(kept.samples) > 1
        numbers = sorted(kept.kept) if kept is not None else []
        some = bool(numbers)
        faces = [(self._face(n), n) for n in range(len(kept.samples))] if kept else []
        labels = self._labels(kept, numbers)
        return [
            kept,
            gr.update(visible=several),
            gr.update(choices=faces, value=numbers),
            gr.update(visible=some),
            gr.update(
                choices=[(self._face(n), n) for n in numbers],
                value=numbers[0] if some else None,
                visible=len(numbers) > 1,
            ),
            gr.update(choices=labels, value=None),
            gr.update(visible=some),
            render.receipt(kept, self.texts) if kept is not None and some else "",
            done,
        ]

    def _labels(self, kept: Kept | None, numbers: Sequence[int]) -> list[tuple[str, str]]:
        if kept is None or not numbers:
            return []
        names = [*kept.samples[0].probabilities]
        choices = [(self.texts.label(name), name) for name in names]
        return choices if OTHER in names else [*choices, (self.texts("feedback.other"), OTHER)]

    def _face(self, number: int) -> str:
        return self.texts("keep.largest" if number == 0 else "keep.face", number=number + 1)

    @staticmethod
    def _number(kept: Kept | None, which: int | None) -> int | None:
        if kept is None or not kept.kept:
            return None
        return which if which in kept.kept else min(kept.kept)

    def _opinion(self, kept: Kept, number: int, label: str) -> str:
        try:
            self.desk.feedback(kept.receipt or "", label, kept.kept[number])
        except FerError as error:
            return render.message(error_sentence(error, self.texts), "error")
        named = self.texts("feedback.other") if label == OTHER else self.texts.label(label)
        return render.message(self.texts("feedback.thanks", label=named), "done")

    def _expired(self) -> str:
        return render.message(self.texts("error.page_expired"), "warning")
