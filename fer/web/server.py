"""The web server: services, health, pages, and what surrounds them."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import gradio as gr
from fastapi import FastAPI
from fastapi.responses import JSONResponse
from starlette.staticfiles import StaticFiles

from fer.config import Settings
from fer.errors import ModelError
from fer.web.logs import RequestLog
from fer.web.lost_events import LostEvents
from fer.web.metrics import Metrics, add_metrics
from fer.web.middleware import BodyLimit, ClosedDoors, Pages, SecurityHeaders
from fer.web.operator_transfer import IMPORT_BYTES, IMPORT_ROUTE
from fer.web.origins import SameOrigin
from fer.web.proxies import ClientAddress, KnownHosts
from fer.web.rates import Calls, RateLimit, Rates
from fer.web.services import Services, build_services
from fer.web.texts import LANGUAGES, Texts
from fer.web.upload_faults import UploadFaults
from fer.web.upload_room import UploadRoom
from fer.web.uploads import UploadFolder
from fer.web.visitor import build_page, dresser

STATIC = Path(__file__).parent / "assets" / "static"

#: Ends of the paths of routes whose bodies carry a picture.
PICTURE_ROUTES = ("/gradio_api/upload",)


def create_app(settings: Settings, uploads: UploadFolder) -> FastAPI:
    """The whole server, not yet started.

    `fer.web.environment.prepare(uploads.path)` must have been called before this module was
    imported.

    Args:
        settings: of this server.
        uploads: where Gradio puts uploaded pictures; closed when the server stops.

    Raises:
        CollectionError: the data folder or the database cannot be used.
    """
    services = build_services(settings, uploads)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        services.start()
        yield
        services.stop()

    app = FastAPI(title="fer", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.services = services
    _add_health(app, services)
    metrics = Metrics(services)
    token = settings.metrics_token.get_secret_value() if settings.metrics_token else None
    add_metrics(app, metrics, token)
    app.mount("/page", StaticFiles(directory=STATIC), name="page")
    _add_operator(app, services)
    # `/id` before `/`, which would take every path.
    pages = {language: build_page(services, Texts(language)) for language in reversed(LANGUAGES)}
    for language, page in pages.items():
        mount(app, page, _path(language), settings)
    # The last one added is the outermost.
    refused = metrics.refused
    app.add_middleware(UploadFaults, routes=PICTURE_ROUTES)
    app.add_middleware(LostEvents)
    app.add_middleware(Pages, dress=dresser(_assets_version(), settings.max_image_mb))
    app.add_middleware(
        UploadRoom,
        size=uploads.size_bytes,
        most=int(settings.max_uploads_mb * 1_000_000),
        refused=refused,
    )
    app.add_middleware(RateLimit, rates=Rates(settings), calls=Calls(pages), refused=refused)
    app.add_middleware(ClosedDoors)
    app.add_middleware(
        BodyLimit,
        picture_bytes=int(settings.max_image_mb * 1_000_000),
        picture_routes=PICTURE_ROUTES,
        larger={IMPORT_ROUTE: IMPORT_BYTES},
        refused=refused,
    )
    app.add_middleware(SameOrigin, refused=refused)
    app.add_middleware(KnownHosts, hosts=settings.effective_hosts, refused=refused)
    app.add_middleware(RequestLog, observe=metrics.request)
    app.add_middleware(ClientAddress, trusted=settings.trusted_proxies)
    app.add_middleware(SecurityHeaders)
    return app


def mount(app: FastAPI, page: gr.Blocks, path: str, settings: Settings, **options: Any) -> None:
    """Mount Blocks with what Gradio leaves open closed.

    Args:
        app: the server.
        page: the Blocks.
        path: where, without a slash at the end unless it is `/`.
        settings: of the server.
        options: further options of `gr.mount_gradio_app`.
    """
    gr.mount_gradio_app(
        app,
        page,
        path=path,
        footer_links=[],
        run_history=False,
        show_error=False,
        ssr_mode=False,
        enable_monitoring=False,
        mcp_server=False,
        pwa=False,
        max_file_size=int(settings.max_image_mb * 1_000_000),
        theme=theme(),
        **options,
    )
    # Mounted Blocks never set it themselves, and without it any path counts as uploaded.
    page.has_launched = True


def theme() -> gr.themes.Base:
    """Calm colours and the system's fonts: nothing is fetched from elsewhere."""
    sans = ["ui-sans-serif", "system-ui", "sans-serif"]
    mono = ["ui-monospace", "Consolas", "monospace"]
    plain = gr.themes.Default(
        primary_hue="teal", neutral_hue="slate", radius_size="lg", font=sans, font_mono=mono
    )
    # White on Gradio's own teal has a contrast of 2.5 to 1; on these, more than 4.5.
    return plain.set(
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover_dark="*primary_600",
        checkbox_background_color_selected="*primary_700",
        checkbox_border_color_selected="*primary_700",
        button_cancel_background_fill="transparent",
        button_cancel_background_fill_hover="#fee2e2",
        button_cancel_background_fill_dark="transparent",
        button_cancel_background_fill_hover_dark="#450a0a",
        button_cancel_text_color="#b91c1c",
        button_cancel_text_color_hover="#b91c1c",
        button_cancel_text_color_dark="#fca5a5",
        button_cancel_border_color="#b91c1c",
        button_cancel_border_color_dark="#fca5a5",
        button_secondary_background_fill="white",
        button_secondary_background_fill_dark="*neutral_800",
        button_secondary_border_color="*neutral_300",
        button_secondary_border_color_dark="*neutral_600",
        button_border_width="1px",
    )


def _path(language: str) -> str:
    return "/" if language == "en" else f"/{language}"


def _assets_version() -> str:
    digest = hashlib.sha256()
    for path in sorted(STATIC.glob("page.*")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _add_operator(app: FastAPI, services: Services) -> None:
    """The operators' pages, which come before the visitor's because those take every path."""
    if importlib.util.find_spec("fer.web.operator") is not None:
        importlib.import_module("fer.web.operator").add_routes(app, services)


def _add_health(app: FastAPI, services: Services) -> None:
    @app.get("/healthz")
    def healthz() -> dict[str, str]:
        """Whether the process answers."""
        return {"status": "ok"}

    @app.get("/readyz")
    def readyz() -> JSONResponse:
        """Whether a picture can be read, and by which model."""
        try:
            version = services.recogniser.champion()
        except ModelError as error:
            return JSONResponse(
                {"ready": False, "model": None, "warnings": [error.message]}, status_code=503
            )
        return JSONResponse({"ready": True, "model": version, "warnings": services.warnings()})
