"""Samples and events as the console's pages get them: field by field, so that nothing slips in."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

from fer.collection.review import Order
from fer.collection.tables import Opinion, Status
from fer.collection.views import EventView, SampleView
from fer.errors import ModelError
from fer.labels import LabelSet
from fer.manifest import Framing
from fer.registry import Registry
from fer.vision.faces import FaceBox

#: Letters that mean something else in the queue or the grid.
_TAKEN_LETTERS = frozenset("ahouxz")

_MORE_KEYS = [chr(c) for c in range(ord("a"), ord("z") + 1) if chr(c) not in _TAKEN_LETTERS]


def label_keys(labels: LabelSet) -> list[tuple[str, str]]:
    """(label, key) of each label: `1` to `9`, then letters that mean nothing else.

    The letter is one of the label's own where one is free. Labels beyond the alphabet have the
    key `""`: they are chosen by mouse or touch.
    """
    digits = [str(n) for n in range(1, 10)]
    keys = list(zip(labels, digits, strict=False))
    free = list(_MORE_KEYS)
    for label in labels.names[len(digits) :]:
        own = next((c for c in label.casefold() if c in free), None)
        key = own or (free[0] if free else "")
        if key:
            free.remove(key)
        keys.append((label, key))
    return keys


@dataclass(frozen=True)
class Models:
    """What the pages need to know of model versions."""

    registry: Registry

    def champion(self) -> dict[str, Any]:
        """Version, labels and keys of the champion; empty where there is none."""
        try:
            version = self.registry.champion()
        except ModelError:
            return {"version": None, "labels": [], "keys": []}
        labels = self.labels(version)
        if labels is None:
            return {"version": version, "labels": [], "keys": []}
        return {"version": version, "labels": list(labels), "keys": label_keys(labels)}

    def labels(self, version: str) -> LabelSet | None:
        """Labels of a version, or None where it cannot be read any more."""
        return _labels(self.registry, version)

    def framing(self, version: str) -> Framing:
        """Framing of a version, or the usual one."""
        return _framing(self.registry, version)


# A version never changes, so that what was read once holds.
@lru_cache(maxsize=256)
def _labels(registry: Registry, version: str) -> LabelSet | None:
    try:
        return registry.manifest(version).label_set
    except ModelError:
        return None


@lru_cache(maxsize=256)
def _framing(registry: Registry, version: str) -> Framing:
    try:
        return registry.manifest(version).framing
    except ModelError:
        return Framing()


def crop_geometry(box: FaceBox, framing: Framing) -> dict[str, float]:
    """Where the crop of `fer.vision.faces.crop_face` lies in the kept picture.

    Returns:
        `x`, `y` of its centre and its `side` in pixels; `roll` in degrees, clockwise positive.
    """
    angle = math.radians(box.roll)
    lift = framing.lift * box.longer_side
    return {
        "x": box.centre[0] + lift * math.sin(angle),
        "y": box.centre[1] - lift * math.cos(angle),
        "side": framing.scale * box.longer_side,
        "roll": box.roll,
    }


def face_json(view: SampleView, models: Models) -> dict[str, Any]:
    """One face of the queue; a blind one without anything that was said about it."""
    face: dict[str, Any] = {
        "id": view.id,
        "row_version": view.row_version,
        "blind": view.blind,
        "queue": view.queue,
        "created_at": view.created_at.isoformat(),
        "model_version": view.model_version,
        "face_px": view.face_px,
        "sharpness": view.sharpness,
        "detector_score": view.face_box.score if view.face_box else None,
        "crop": _crop(view, models),
    }
    if view.blind:
        return face
    face |= {
        "predicted_label": view.predicted_label,
        "confidence": view.confidence,
        "probabilities": sorted((view.probabilities or {}).items(), key=lambda item: -item[1]),
        "visitor_label": view.visitor_label,
        "visitor_disagreed": view.visitor_disagreed,
        "status": view.status,
        "final_label": view.final_label,
        "suspect": view.label_error is not None,
    }
    if view.opinion == Opinion.DIFFERS:
        first = {"kind": _kind_of(view.status), "label": view.final_label}
        face["opinions"] = [first, {"kind": view.second_kind, "label": view.second_label}]
    return face


def card_json(view: SampleView) -> dict[str, Any]:
    """One sample as the grid and the history show it."""
    card: dict[str, Any] = {
        "id": view.id,
        "row_version": view.row_version,
        "blind": view.blind,
        "created_at": view.created_at.isoformat(),
        "model_version": view.model_version,
        "status": view.status,
        "deleted_at": view.deleted_at.isoformat() if view.deleted_at else None,
        "expires_at": view.expires_at.isoformat() if view.expires_at else None,
    }
    if not view.blind:
        card |= {
            "final_label": view.final_label,
            "decided_by": view.decided_by,
            "predicted_label": view.predicted_label,
            "confidence": view.confidence,
            "visitor_label": view.visitor_label,
            "visitor_disagreed": view.visitor_disagreed,
        }
    return card


def event_json(event: EventView, *, blind: bool = False) -> dict[str, Any]:
    """One label event; of a face that is to be decided blind, without its labels."""
    value = {
        key: item
        for key, item in asdict(event).items()
        if key not in {"sitting", "batch", "sample_id"}
    }
    value["at"] = event.at.isoformat()
    if blind:
        value |= {"from_label": None, "to_label": None, "note": None, "status": None}
    return value


#: Orders as the page lists them.
ORDERS = tuple(order.value for order in Order)


def _crop(view: SampleView, models: Models) -> dict[str, float]:
    if view.face_box is not None:
        return crop_geometry(view.face_box, models.framing(view.model_version))
    width, height = view.width or 1, view.height or 1
    return {"x": width / 2, "y": height / 2, "side": max(width, height), "roll": 0.0}


def _kind_of(status: str) -> str:
    kinds = {
        Status.CONFIRMED.value: "confirm",
        Status.RELABELLED.value: "relabel",
        Status.OTHER.value: "other",
        Status.REJECTED.value: "reject",
        Status.UNSURE.value: "unsure",
    }
    return kinds.get(status, "unsure")
