"""A picture's way in: a Gradio image input that trusts no path, and Blocks that keep nothing.

The stock image component opens any local image whose path a caller names, and Blocks hold the
last value of every component for each session. Here a picture is a file that this process's
upload folder holds, or a short `data:` URL; it is read once, removed and forgotten.
"""

from __future__ import annotations

import base64
import binascii
import secrets
from collections.abc import Callable
from typing import Any

import gradio as gr
from gradio import component_meta, route_utils
from gradio.data_classes import ImageData
from gradio_client.utils import is_file_obj_with_meta, traverse

from fer.web.logs import answering, id_in
from fer.web.uploads import UploadFolder

# Gradio writes a stub beside the source of every component class, at each start; a stale one
# then hides the source from type checkers.
component_meta.create_or_modify_pyi = lambda *_: None


class _Upload(route_utils.GradioUploadFile):
    """An uploaded file that lies in a folder of its own, not in one named by its contents.

    Two visitors who sent the same picture shared one file: the first to be read took it away
    from the other.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.sha.update(secrets.token_bytes(16))


route_utils.GradioUploadFile = _Upload


class _Forgetful(set[str]):
    """Stays empty: Gradio notes the path of every upload for as long as the server runs."""

    def update(self, *_: Any) -> None:
        """Do nothing."""


class Photo(gr.Image):
    """An image input whose value, for a function, is the file's bytes.

    Args:
        uploads: the only folder that files are read from.
        gone: the sentence for a picture that is not there any more.
        options: as for `gr.Image`.
    """

    #: Keeps the stock front end.
    is_template = True

    def __init__(
        self, *, uploads: UploadFolder | None = None, gone: str = "", **options: Any
    ) -> None:
        self._uploads = uploads
        self._gone = gone
        super().__init__(**options)

    def preprocess(self, payload: ImageData | None) -> bytes | None:
        """Bytes of the picture; None where there is none.

        Raises:
            gr.Error: the payload names a file that was not uploaded, or was read before.
        """
        if payload is None:
            return None
        if payload.url and payload.url.startswith("data:"):
            return _from_data_url(payload.url)
        data = self._uploads.take(payload.path) if self._uploads and payload.path else None
        if data is None:
            raise gr.Error(self._gone, print_exception=False)
        return data

    def get_config(self, cls: type[Any] | None = None) -> dict[str, Any]:
        """What the front end is told: what it would be told of a `gr.Image`."""
        return dict(super().get_config(cls or gr.Image))

    async def async_move_resource_to_block_cache(self, url_or_file_path: Any) -> str | None:
        """Leave the path as it is: nothing is fetched from a URL, nothing is copied."""
        return str(url_or_file_path) if url_or_file_path is not None else None


class Page(gr.Blocks):
    """Blocks that take files through `Photo` alone, and remember no picture of a session."""

    #: Says, in the page's language, that a file came where none is expected.
    refuse_file: Callable[[], str] = staticmethod(lambda: "No file is expected here.")

    async def process_api(self, *arguments: Any, request: Any = None, **options: Any) -> Any:
        """As Gradio does, under the id of the request: its queue works in a task of its own."""
        scope = request.request.scope if isinstance(request, gr.Request) and request.request else {}
        with answering(id_in(scope)):
            return await super().process_api(*arguments, request=request, **options)

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.upload_file_set = _Forgetful()

    async def preprocess_data(
        self, block_fn: Any, inputs: list[Any], state: Any, explicit_call: bool = False
    ) -> Any:
        """Refuse files for components other than `Photo`, which would copy or fetch them."""
        for block, value in zip(block_fn.inputs, inputs, strict=False):
            if not isinstance(block, Photo) and _holds_file(value):
                raise gr.Error(self.refuse_file(), print_exception=False)
        processed = await super().preprocess_data(block_fn, inputs, state, explicit_call)
        _forget(block_fn.inputs, state)
        return processed

    async def postprocess_data(self, block_fn: Any, predictions: Any, state: Any) -> Any:
        """As Gradio does; then the session forgets what it was shown."""
        output = await super().postprocess_data(block_fn, predictions, state)
        _forget(block_fn.outputs, state)
        return output


def markup(value: str, **options: Any) -> gr.HTML:
    """HTML of our own, without the look that Gradio gives to prose."""
    return gr.HTML(value, apply_default_css=False, padding=False, js_on_load=None, **options)


def _forget(blocks: list[Any], state: Any) -> None:
    if state is None:
        return
    for block in blocks:
        if isinstance(block, (Photo, gr.HTML)):
            state._update_value_in_config(block._id, None)


def _holds_file(value: Any) -> bool:
    found = False

    def note(part: Any) -> Any:
        nonlocal found
        found = True
        return part

    traverse(value, note, is_file_obj_with_meta)
    return found


def _from_data_url(url: str) -> bytes:
    """Bytes of a base64 `data:` URL; nothing of one that is malformed, which no decoder takes.

    How long it may be is the body limit's affair.
    """
    head, _, text = url.partition(",")
    if not head.endswith(";base64"):
        return b""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""
