"""Pictures for the console: authenticated, never stored by a browser or a proxy."""

from __future__ import annotations

import io
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from PIL import Image
from starlette.responses import Response

from fer.collection.samples import SampleStore
from fer.errors import UnknownSampleError
from fer.web.operator_queue import Who
from fer.web.operator_views import Models, crop_geometry

_ID_LENGTH = 32


def image_routes(store: SampleStore, models: Models) -> APIRouter:
    """`/review/image/<sample id>`: the kept picture, or its face as a thumbnail with `?side=`."""
    router = APIRouter(prefix="/review", include_in_schema=False)

    @router.get("/image/{sample_id}")
    def image(
        who: Who, sample_id: str, side: Annotated[Literal["96", "192"] | None, Query()] = None
    ) -> Response:
        if len(sample_id) != _ID_LENGTH:
            raise UnknownSampleError(f"There is no sample {sample_id[:40]!r}.")
        jpeg = store.picture(sample_id)
        if side is not None:
            jpeg = thumbnail(store, models, sample_id, jpeg, int(side))
        # The id alone names the picture: its folder would tell the prediction.
        headers = {"Content-Disposition": "inline", "X-Content-Type-Options": "nosniff"}
        return Response(jpeg, media_type="image/jpeg", headers=headers)

    return router


def thumbnail(store: SampleStore, models: Models, sample_id: str, jpeg: bytes, side: int) -> bytes:
    """The crop's square, upright, as a JPEG of `side` × `side` pixels."""
    view = store.get(sample_id)
    with Image.open(io.BytesIO(jpeg)) as picture:
        box = (0.0, 0.0, float(picture.width), float(picture.height))
        if view.face_box is not None:
            crop = crop_geometry(view.face_box, models.framing(view.model_version))
            half = crop["side"] / 2
            box = (
                max(0.0, crop["x"] - half),
                max(0.0, crop["y"] - half),
                min(box[2], crop["x"] + half),
                min(box[3], crop["y"] + half),
            )
        small = picture.convert("RGB").resize((side, side), Image.Resampling.BILINEAR, box=box)
    out = io.BytesIO()
    small.save(out, "JPEG", quality=82)
    return out.getvalue()
