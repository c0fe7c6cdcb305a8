"""The named endpoints for programs: `/classify`, `/feedback`, `/forget`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import gradio as gr

from fer.errors import FerError
from fer.web.desk import AT_HAND
from fer.web.logs import error_sentence
from fer.web.photo import Photo
from fer.web.rates import counts_as
from fer.web.services import Services
from fer.web.texts import Texts
from fer.web.try_it import visitor_of

_T = TypeVar("_T")


def add_endpoints(services: Services, texts: Texts) -> None:
    """Add the endpoints to the current Blocks, by way of components that are never shown."""
    desk = services.desk

    def answered(work: Callable[[], _T]) -> _T:
        """Errors become one sentence, and no traceback in the log."""
        try:
            return work()
        except FerError as error:
            raise gr.Error(error_sentence(error, texts), print_exception=False) from error

    @counts_as("classify")
    def classify(
        image: bytes | None,
        keep: bool,
        model: str | None = None,
        keep_faces: str = "largest",
        request: gr.Request | None = None,
    ) -> dict[str, Any]:
        if image is None:
            raise gr.Error(texts("error.choose_first"), print_exception=False)
        visitor = visitor_of(request, "api")
        return answered(
            lambda: desk.classify(
                image, visitor, keep=bool(keep), model=model, keep_faces=keep_faces or "largest"
            ).to_json()
        )

    @counts_as("feedback")
    def feedback(receipt: str, label: str, sample_id: str | None = None) -> dict[str, Any]:
        answered(lambda: desk.feedback(receipt or "", label or "", sample_id))
        return {"receipt": receipt, "label": label, "sample_id": sample_id}

    @counts_as("forget")
    def forget(receipt: str) -> dict[str, Any]:
        return {"deleted": answered(lambda: desk.forget(receipt or ""))}

    with gr.Column(visible=False):
        image = Photo(uploads=services.uploads, gone=texts("error.picture_gone"), label="image")
        keep = gr.Checkbox(label="keep", value=False)
        model = gr.Textbox(label="model", value=None)
        keep_faces = gr.Textbox(label="keep_faces", value="largest")
        receipt = gr.Textbox(label="receipt")
        label = gr.Textbox(label="label")
        sample = gr.Textbox(label="sample_id", value=None)
        answer = gr.JSON(label="answer")
        gr.Button().click(
            classify,
            [image, keep, model, keep_faces],
            answer,
            api_name="classify",
            concurrency_limit=AT_HAND * services.settings.threads,
            concurrency_id="classify",
        )
        gr.Button().click(feedback, [receipt, label, sample], answer, api_name="feedback")
        gr.Button().click(forget, [receipt], answer, api_name="forget")
