"""Samples and events as values, detached from any session."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

from fer.collection.tables import LabelEvent, Sample
from fer.vision.faces import FaceBox


@dataclass(frozen=True)
class SampleView:
    """One sample as its row was when it was read.

    Attributes:
        face_box: in the kept picture's pixels; None on a blanked row.
        probabilities: by label, in the model's order; None on a blanked or blind view.
        blind: prediction, bars and visitor's opinion were left out on purpose.
    """

    id: str
    created_at: datetime
    request_id: str | None
    group_id: str | None
    source: str
    notice_version: str | None
    audit: bool
    path: str | None
    bytes: int | None
    sha256: str | None
    phash: str | None
    width: int | None
    height: int | None
    face_box: FaceBox | None
    face_px: int | None
    sharpness: float | None
    model_version: str
    predicted_label: str | None
    confidence: float | None
    margin: float | None
    probabilities: Mapping[str, float] | None
    visitor_label: str | None
    visitor_disagreed: bool
    status: str
    final_label: str | None
    decided_at: datetime | None
    decided_by: str | None
    row_version: int
    expires_at: datetime | None
    deleted_at: datetime | None
    lease_by: str | None
    lease_until: datetime | None
    queue: str | None
    uncertainty: float | None
    rarity: float | None
    label_error: float | None
    opinion: str
    second_by: str | None
    second_kind: str | None
    second_label: str | None
    blind: bool = False

    @classmethod
    def of(cls, sample: Sample, *, blind: bool = False) -> SampleView:
        """The view of a row."""
        copied = {name: getattr(sample, name) for name in _COPIED}
        view = cls(face_box=face_box_of(sample), **copied)
        return view.blinded() if blind else view

    def blinded(self) -> SampleView:
        """Without anything that tells what the model or anybody else said about it.

        The path goes too: its folder is the prediction.
        """
        return replace(
            self,
            blind=True,
            path=None,
            predicted_label=None,
            confidence=None,
            margin=None,
            probabilities=None,
            visitor_label=None,
            visitor_disagreed=False,
            final_label=None,
            status="pending",
            decided_at=None,
            decided_by=None,
            uncertainty=None,
            rarity=None,
            label_error=None,
            second_by=None,
            second_kind=None,
            second_label=None,
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values for `json.dumps`: times in ISO 8601, the box as [left, top, w, h]."""
        value = {key: _plain(item) for key, item in asdict(self).items() if key != "face_box"}
        box = self.face_box
        value["face_box"] = [box.left, box.top, box.width, box.height] if box else None
        value["roll"] = box.roll if box else None
        value["detector_score"] = box.score if box else None
        return value


_COPIED = tuple(
    name for name in SampleView.__dataclass_fields__ if name not in {"face_box", "blind"}
)


@dataclass(frozen=True)
class EventView:
    """One label event."""

    id: int
    sample_id: str
    at: datetime
    actor: str
    actor_kind: str
    kind: str
    from_label: str | None
    to_label: str | None
    note: str | None
    order_shown: str | None
    blind: bool
    second: bool
    row_version: int
    sitting: str | None
    batch: str | None
    undoes: int | None
    status: str

    @classmethod
    def of(cls, event: LabelEvent) -> EventView:
        """The view of a row; `status` is the sample's after the event."""
        copied = {
            name: getattr(event, name) for name in cls.__dataclass_fields__ if name != "status"
        }
        return cls(status=event.state["status"], **copied)

    def to_json(self) -> dict[str, Any]:
        """Plain values for `json.dumps`."""
        return {key: _plain(item) for key, item in asdict(self).items()}


def face_box_of(sample: Sample) -> FaceBox | None:
    """The face box of a row in the kept picture's pixels, or None on a blanked row."""
    if sample.face_box is None:
        return None
    left, top, width, height = sample.face_box
    return FaceBox(left, top, width, height, sample.roll or 0.0, sample.detector_score or 0.0)


def _plain(value: object) -> object:
    return value.isoformat() if isinstance(value, datetime) else value
