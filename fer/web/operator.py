"""The operators' review console at `/review`, and the door to it at `/sign-in`.

A page of our own: the next face must be there within a blink of the key, and no face may ever
lie in Gradio's cache.
"""

from __future__ import annotations

import html
import threading
import time
from collections.abc import Callable
from string import Template

from fastapi import FastAPI, Request
from starlette.responses import FileResponse, JSONResponse, Response

from fer.collection.importing import RecogniserReader
from fer.collection.operator_sessions import OperatorSessions
from fer.collection.operators import Operators
from fer.collection.review import ReviewQueue
from fer.collection.waiting import left_in, waiting
from fer.errors import (
    DecisionConflictError,
    FerError,
    StorageError,
    UnknownModelError,
    UnknownSampleError,
)
from fer.web.middleware import request_language
from fer.web.operator_board import board_routes
from fer.web.operator_grid import Forbidden, grid_routes
from fer.web.operator_guard import PAGES, ReviewGuard, Unauthorised
from fer.web.operator_images import image_routes
from fer.web.operator_job import RetrainingJob
from fer.web.operator_models import model_routes
from fer.web.operator_queue import QueueDesk, Who, queue_routes
from fer.web.operator_sign_in import ASSETS, Door, in_language, sign_in_routes
from fer.web.operator_texts import console_texts
from fer.web.operator_transfer import remove_leftovers, transfer_routes
from fer.web.operator_views import Models
from fer.web.services import Services

_SCRIPTS = {path.name: path for path in sorted(ASSETS.glob("*.js"))} | {
    "console.css": ASSETS / "console.css"
}
_TYPES = {".js": "text/javascript", ".css": "text/css"}

#: Seconds for which the count of waiting faces is good enough.
_COUNT_HOLDS = 10.0


def add_routes(app: FastAPI, services: Services) -> None:
    """Add `/sign-in`, `/sign-out` and everything below `/review`, behind its guard."""
    database, store = services.database, services.store
    models = Models(services.registry)
    review = ReviewQueue(database, services.settings)
    operators = Operators(database)
    sessions = OperatorSessions(database)

    def check(name: str, password: str) -> str | None:
        found = operators.authenticate(name, password)
        return found.name if found is not None else None

    count = _Count(lambda: waiting(database))
    app.include_router(sign_in_routes(Door(sessions, check, operators.any)))
    _add_pages(app)
    app.include_router(
        queue_routes(QueueDesk(review, store, models), lambda order: left_in(order, count()))
    )
    app.include_router(grid_routes(review, store, models))
    app.include_router(image_routes(store, models))
    app.include_router(board_routes(store, models, services.warnings))
    app.include_router(transfer_routes(store, RecogniserReader(services.recogniser)))
    remove_leftovers(services.settings.data_dir)
    job = RetrainingJob(services.settings)
    app.include_router(model_routes(services.registry, database, job))
    _add_rest(app)
    app.add_middleware(ReviewGuard, sessions=sessions)


def _add_pages(app: FastAPI) -> None:
    def page(request: Request, who: Who, lang: str = "") -> Response:
        moved = in_language(request, lang)
        if moved is not None:
            return moved
        say = console_texts(request_language(request.scope))
        template = Template((ASSETS / "console.html").read_text(encoding="utf-8"))
        text = template.substitute(
            language=say.language,
            root=html.escape(str(request.scope.get("root_path", "")).rstrip("/")),
            title=say.html("console.title"),
            noscript=say.html("console.noscript"),
        )
        return Response(text, media_type="text/html; charset=utf-8")

    for path in PAGES:
        app.get(path, include_in_schema=False)(page)
        app.get(path + "/", include_in_schema=False)(page)

    @app.get("/review/assets/{name}", include_in_schema=False)
    def asset(who: Who, name: str) -> Response:
        path = _SCRIPTS.get(name)
        if path is None:
            return Response(status_code=404)
        return FileResponse(path, media_type=_TYPES[path.suffix])


def _add_rest(app: FastAPI) -> None:
    """What no route takes must not fall through to the visitor's page; and the errors."""

    @app.api_route(
        "/review/{rest:path}",
        methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
        include_in_schema=False,
    )
    def nothing(who: Who, rest: str) -> Response:
        return JSONResponse({"code": "not_found", "message": "Not found"}, 404)

    @app.exception_handler(Unauthorised)
    async def unauthorised(request: Request, error: Unauthorised) -> Response:
        say = console_texts(request_language(request.scope))
        return JSONResponse({"code": "signed_out", "message": say("sign_in.needed")}, 401)

    @app.exception_handler(FerError)
    async def refused(request: Request, error: FerError) -> Response:
        say = console_texts(request_language(request.scope))
        body = {"code": error.code, "message": say.error(error), "details": error.details}
        return JSONResponse(body, _status(error))

    @app.exception_handler(Forbidden)
    async def forbidden(request: Request, error: Forbidden) -> Response:
        say = console_texts(request_language(request.scope))
        return JSONResponse({"code": "admin", "message": say("error.admin")}, 403)

    del forbidden, unauthorised, refused, nothing


def _status(error: FerError) -> int:
    if isinstance(error, DecisionConflictError):
        return 409
    if isinstance(error, UnknownSampleError | UnknownModelError):
        return 404
    return 503 if isinstance(error, StorageError) else 422


class _Count:
    """A count that is asked for often and may be some seconds old."""

    def __init__(self, ask: Callable[[], dict[str, int]]) -> None:
        self._ask = ask
        self._lock = threading.Lock()
        self._until = 0.0
        self._value: dict[str, int] = {}

    def __call__(self) -> dict[str, int]:
        with self._lock:
            if time.monotonic() >= self._until:
                self._value = self._ask()
                self._until = time.monotonic() + _COUNT_HOLDS
            return self._value


__all__ = ["add_routes"]
