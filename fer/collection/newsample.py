"""A face to keep, and the row that it becomes."""

from __future__ import annotations

import hashlib
import io
import math
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import imagehash
from PIL import Image

from fer.collection.states import Retention, State
from fer.collection.tables import Sample, Status
from fer.labels import check_label
from fer.vision.faces import FaceBox

#: The perceptual hash has this many bits a side: 256 in all.
_HASH_SIDE = 16


@dataclass(frozen=True)
class NewSample:
    """A face to keep.

    Attributes:
        jpeg: the kept picture, encoded.
        width, height: of the kept picture, in pixels.
        face_box: in the kept picture's pixels.
        probabilities: by label, in the model's order.
        predicted_label: the most probable one.
        face_px, sharpness: quality, as `fer.vision.faces.Quality` reads it.
        source: `page`, `api` or `import`.
        notice_version: version of the notice that the visitor saw, or None on an import.
        request_id: links the row to the log lines of the request.

    Raises:
        ValueError: the numbers are no probabilities, or the label is none of theirs.
        LabelError: a label that cannot name a folder.
    """

    jpeg: bytes
    width: int
    height: int
    face_box: FaceBox
    probabilities: Mapping[str, float]
    model_version: str
    predicted_label: str
    face_px: int
    sharpness: float
    source: str = "page"
    notice_version: str | None = None
    request_id: str | None = None

    def __post_init__(self) -> None:
        check_label(self.predicted_label)
        if self.predicted_label not in self.probabilities:
            raise ValueError(f"{self.predicted_label!r} has no probability")
        if not all(0 <= p <= 1 and math.isfinite(p) for p in self.probabilities.values()):
            raise ValueError("probabilities lie in 0…1")
        if self.source not in {"page", "api", "import"}:
            raise ValueError(f"a sample comes from page, api or import, not {self.source!r}")


@dataclass(frozen=True)
class Receipt:
    """What a visitor gets for what is kept; the code itself is stored nowhere."""

    code: str
    sample_ids: list[str]


def new_row(
    new: NewSample,
    sample_id: str,
    group_id: str,
    receipt: str | None,
    now: datetime,
    retention: Retention,
) -> Sample:
    """The row of a new sample, before its group and audit flag are settled."""
    ranked = sorted(new.probabilities.values(), reverse=True)
    box = new.face_box
    row = Sample(
        id=sample_id,
        created_at=now,
        request_id=new.request_id,
        group_id=group_id,
        receipt_hash=receipt,
        source=new.source,
        notice_version=new.notice_version,
        random_key=secrets.randbits(62),
        path=f"{new.predicted_label}/{sample_id}.jpg",
        bytes=len(new.jpeg),
        sha256=hashlib.sha256(new.jpeg).hexdigest(),
        phash=perceptual_hash(new.jpeg),
        width=new.width,
        height=new.height,
        face_box=[box.left, box.top, box.width, box.height],
        roll=box.roll,
        detector_score=box.score,
        face_px=new.face_px,
        sharpness=new.sharpness,
        model_version=new.model_version,
        predicted_label=new.predicted_label,
        confidence=ranked[0],
        margin=ranked[0] - (ranked[1] if len(ranked) > 1 else 0.0),
        probabilities=dict(new.probabilities),
        uncertainty=1.0 - ranked[0],
        status=Status.PENDING,
        visitor_disagreed=False,
        label_error_checked=False,
        row_version=1,
    )
    State().apply(row, retention)
    return row


def perceptual_hash(jpeg: bytes) -> str:
    """256 bits, as 64 hexadecimal digits, that differ little between near-duplicates."""
    with Image.open(io.BytesIO(jpeg)) as picture:
        return str(imagehash.phash(picture, hash_size=_HASH_SIDE))
