"""API of the grid: filters, one decision for many, deletion by admins."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from pydantic import Field

from fer.collection.grid import Cell, GridFilter, grid_page
from fer.collection.operator_sessions import SignedIn
from fer.collection.review import ReviewQueue
from fer.collection.samples import SampleStore
from fer.collection.tables import Kind
from fer.collection.views import SampleView
from fer.errors import UnknownSampleError
from fer.web.operator_guard import signed_in
from fer.web.operator_queue import Body, SampleId, Sitting, Who
from fer.web.operator_views import Models, card_json


class Forbidden(Exception):
    """A reviewer asked for what only admins may do: answered with 403."""


def admin(who: Who) -> SignedIn:
    """Who makes a request that only admins may make.

    Raises:
        Forbidden: a reviewer does.
    """
    if not who.is_admin:
        raise Forbidden
    return who


Admin = Annotated[SignedIn, Depends(admin)]

_PAGE = 60


class Item(Body):
    """A sample as the page saw it."""

    id: SampleId
    row_version: int


class ManyBody(Body):
    """One decision for several samples; `model` is the version whose labels the sitting uses."""

    items: list[Item] = Field(min_length=1, max_length=1000)
    kind: str = Field(max_length=12)
    label: str | None = Field(None, max_length=40)
    note: str | None = Field(None, max_length=200)
    model: str | None = Field(None, max_length=80)
    sitting: Sitting


class SittingBody(Body):
    """Whose last step is taken back."""

    sitting: Sitting


class IdsBody(Body):
    """Samples by id."""

    ids: list[SampleId] = Field(min_length=1, max_length=1000)


def grid_routes(review: ReviewQueue, store: SampleStore, models: Models) -> APIRouter:
    """The routes."""
    router = APIRouter(
        prefix="/review/api", include_in_schema=False, dependencies=[Depends(signed_in)]
    )

    @router.get("/samples")
    def samples(
        status: Annotated[str | None, Query(max_length=12)] = None,
        label: Annotated[str | None, Query(max_length=40)] = None,
        model: Annotated[str | None, Query(max_length=80)] = None,
        since: date | None = None,
        until: date | None = None,
        at_least: Annotated[float | None, Query(ge=0, le=100)] = None,
        at_most: Annotated[float | None, Query(ge=0, le=100)] = None,
        disagreed: bool | None = None,
        id: Annotated[str | None, Query(pattern=r"^[0-9a-fA-F]{1,32}$")] = None,
        cursor: Annotated[str | None, Query(pattern=r"^[0-9a-f]{32}$")] = None,
    ) -> dict[str, Any]:
        chosen = GridFilter(
            status=status,
            label=label,
            model=model,
            since=_midnight(since) if since else None,
            # The page means the whole of the last day.
            until=_midnight(until) + timedelta(days=1) if until else None,
            low=at_least / 100 if at_least is not None else None,
            high=at_most / 100 if at_most is not None else None,
            disagreed=disagreed,
            id=id.lower() if id else None,
        )
        page = grid_page(store.database, chosen, after=cursor, limit=_PAGE)
        return {"samples": [cell_json(cell) for cell in page.cells], "next": page.after}

    @router.post("/decide-many")
    def decide_many(who: Who, body: ManyBody) -> dict[str, Any]:
        labels = models.labels(body.model) if body.model else None
        outcomes = review.decide_many(
            [(item.id, item.row_version) for item in body.items],
            who.name,
            body.kind,
            label=body.label if body.kind == Kind.RELABEL else None,
            text=body.note,
            labels=labels.names if labels else None,
            sitting=body.sitting,
        )
        refused = [o for o in outcomes if o.error is not None]
        return {
            "samples": _cards(store, [o.sample_id for o in outcomes]),
            "done": len(outcomes) - len(refused),
            "refused": [
                {"id": o.sample_id, "message": o.error.message} for o in refused if o.error
            ],
        }

    @router.post("/undo-many")
    def undo_many(who: Who, body: SittingBody) -> dict[str, Any]:
        undone = review.undo(who.name, body.sitting)
        # Undoing leases what it gives back; the grid holds nothing.
        ids = [view.id for view in undone.samples]
        review.free(who.name, ids)
        return {"samples": _cards(store, ids), "refused": []}

    @router.post("/delete")
    def delete(who: Admin, body: IdsBody) -> dict[str, Any]:
        return {"deleted": store.delete(body.ids)}

    return router


def cell_json(cell: Cell) -> dict[str, Any]:
    """A cell: its sample, and ids and row versions of the copies that are folded into it."""
    copies = [view for view in cell.copies if view.id != cell.sample.id]
    return {
        **_card(cell.sample),
        "copies": [{"id": view.id, "row_version": view.row_version} for view in copies],
    }


def _card(view: SampleView) -> dict[str, Any]:
    return card_json(view.blinded() if view.queue == "audit" else view)


def _cards(store: SampleStore, ids: Sequence[str]) -> list[dict[str, Any]]:
    cards = []
    for sample_id in ids:
        try:
            cards.append(_card(store.get(sample_id)))
        except UnknownSampleError:
            continue
    return cards


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
