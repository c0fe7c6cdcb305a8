"""API of the queue: hand out, decide, undo, leases, history."""

from __future__ import annotations

import logging
import secrets
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import JSONResponse, Response

from fer.collection.operator_sessions import SignedIn
from fer.collection.review import ReviewQueue
from fer.collection.samples import SampleStore
from fer.collection.tables import Kind
from fer.collection.views import EventView, SampleView
from fer.errors import DecisionConflictError
from fer.web.middleware import request_language
from fer.web.operator_guard import csrf_matches, signed_in
from fer.web.operator_texts import load_console
from fer.web.operator_views import ORDERS, Models, card_json, event_json, face_json
from fer.web.texts import LANGUAGES

_LOG = logging.getLogger(__name__)

Who = Annotated[SignedIn, Depends(signed_in)]
SampleId = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
Sitting = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{8,60}$")]


class Body(BaseModel):
    """Base of request bodies."""

    # `again` comes with every request that the outbox repeats.
    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    again: bool = False


class NextBody(Body):
    """Which faces are wanted."""

    order: str = Field(max_length=16)
    count: int = Field(ge=1, le=50)


class DecisionBody(Body):
    """One decision.

    `model` is the version whose labels the sitting uses.
    """

    sample_id: SampleId
    row_version: int
    kind: str = Field(max_length=12)
    label: str | None = Field(None, max_length=40)
    note: str | None = Field(None, max_length=200)
    model: str | None = Field(None, max_length=80)
    order: str = Field(max_length=16)
    sitting: Sitting


class UndoBody(Body):
    """Which sitting goes a step back; and the face that the page expects to come back."""

    sitting: Sitting
    sample_id: SampleId | None = None


class LeaseBody(Body):
    """Faces in an operator's hands; the beacon sends its CSRF token here."""

    ids: list[SampleId] = Field(max_length=200)
    csrf: str = Field("", max_length=100)


class RestoreBody(Body):
    """The event to go back to; None for the state in which the sample was kept."""

    sample_id: SampleId
    event_id: int | None = None


class QueueDesk:
    """What the routes do, one method each."""

    def __init__(self, review: ReviewQueue, store: SampleStore, models: Models) -> None:
        self.review = review
        self.store = store
        self.models = models

    def next(self, who: SignedIn, body: NextBody) -> list[dict[str, Any]]:
        """Faces to show next."""
        views = self.review.next(who.name, body.order, body.count)
        return [face_json(view, self.models) for view in views]

    def decide(self, who: SignedIn, body: DecisionBody) -> dict[str, Any]:
        """Take a decision; a repeated request finds it taken."""
        labels = self.models.labels(body.model) if body.model else None
        try:
            event = self.review.decide(
                body.sample_id,
                who.name,
                body.kind,
                row_version=body.row_version,
                label=body.label if body.kind == Kind.RELABEL else None,
                text=body.note,
                labels=labels.names if labels else None,
                order=body.order,
                sitting=body.sitting,
            )
        except DecisionConflictError:
            last = self._last_event(body.sample_id) if body.again else None
            if last is None or not _is_own(last, who, body):
                raise
            event = last
        # Told after the key: what the model had said. A second opinion stays blind to the end.
        told = event.blind and not event.second
        return {
            "event_id": event.id,
            "row_version": event.row_version,
            "prediction": self.store.get(body.sample_id).predicted_label if told else None,
        }

    def undo(self, who: SignedIn, body: UndoBody) -> dict[str, Any]:
        """Take the last decision of the sitting back."""
        if body.again and body.sample_id is not None:
            last = self._last_event(body.sample_id)
            if last and last.kind == Kind.UNDO and last.sitting == body.sitting:
                return self._undone([self.store.get(body.sample_id)], [], blind=last.blind)
        undone = self.review.undo(who.name, body.sitting)
        return self._undone(undone.samples, undone.skipped)

    def history(self, who: SignedIn, sample_id: str) -> dict[str, Any]:
        """A sample and all that was said about it, as far as this operator may see it."""
        view = self.store.get(sample_id)
        blind = hidden_from(view, who.name)
        view = view.blinded() if blind else view
        events = [event_json(e, blind=blind) for e in self.review.history(sample_id)]
        return {"sample": card_json(view), "events": events}

    def _undone(
        self, samples: list[SampleView], skipped: list[str], blind: bool = False
    ) -> dict[str, Any]:
        faces = [face_json(view.blinded() if blind else view, self.models) for view in samples]
        return {"sample": faces[0] if faces else None, "count": len(faces), "skipped": skipped}

    def _last_event(self, sample_id: str) -> EventView | None:
        events = self.review.history(sample_id)
        return events[-1] if events else None


def hidden_from(view: SampleView, operator: str) -> bool:
    """Whether an operator may see nothing of what was said about a sample yet."""
    if view.queue == "audit":
        return True
    return view.queue == "second" and view.decided_by != operator


def _is_own(event: EventView, who: SignedIn, body: DecisionBody) -> bool:
    return event.actor == who.name and event.sitting == body.sitting and event.kind != Kind.UNDO


def queue_routes(desk: QueueDesk, left: Any) -> APIRouter:
    """The routes.

    Args:
        left: how many faces wait, as `left(order)`.
    """
    router = APIRouter(prefix="/review/api", include_in_schema=False)

    @router.get("/session")
    def session(request: Request, who: Who) -> dict[str, Any]:
        language = request_language(request.scope)
        return {
            "name": who.name,
            "role": who.role,
            "csrf": who.csrf,
            "expires_at": who.expires_at.isoformat(),
            "new_sitting": secrets.token_urlsafe(16),
            "champion": desk.models.champion(),
            "models": list(reversed(desk.models.registry.versions())),
            "orders": ORDERS,
            "language": language,
            "languages": LANGUAGES,
            "texts": load_console(language),
        }

    @router.post("/queue")
    def next_faces(who: Who, body: NextBody) -> dict[str, Any]:
        return {
            "faces": desk.next(who, body),
            "left": left(body.order),
            "champion": desk.models.champion(),
        }

    @router.post("/decide")
    def decide(who: Who, body: DecisionBody) -> dict[str, Any]:
        return desk.decide(who, body)

    @router.post("/undo")
    def undo(who: Who, body: UndoBody) -> dict[str, Any]:
        return desk.undo(who, body)

    @router.post("/leases/renew")
    def renew(who: Who, body: LeaseBody) -> dict[str, Any]:
        return {"held": desk.review.renew(who.name, body.ids)}

    @router.post("/leases/free")
    def free(who: Who, body: LeaseBody) -> Response:
        # The guard lets this one path in without the header, which a beacon cannot carry.
        if not csrf_matches(who, body.csrf):
            return JSONResponse({"code": "csrf", "message": "csrf"}, 403)
        desk.review.free(who.name, body.ids)
        return Response(status_code=204)

    @router.get("/samples/{sample_id}")
    def history(who: Who, sample_id: str) -> dict[str, Any]:
        return desk.history(who, sample_id)

    @router.post("/restore")
    def restore(who: Who, body: RestoreBody) -> dict[str, Any]:
        event = desk.review.restore(body.sample_id, body.event_id, who.name)
        return {"event_id": event.id, "row_version": event.row_version}

    return router
