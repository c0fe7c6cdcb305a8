"""Composition root of the web server: settings → recogniser, sample store, pages."""

from __future__ import annotations

import sys

import uvicorn

from fer.config import Settings, load_settings
from fer.errors import FerError
from fer.web.environment import prepare, share_heaps
from fer.web.logs import configure
from fer.web.retraining_child import scheduled_retraining
from fer.web.uploads import UploadFolder


def main() -> int:
    """Serve the pages until interrupted; the exit code."""
    share_heaps()
    try:
        settings = load_settings()
        configure(settings.log_format)
        serve(settings)
    except FerError as error:
        print(error.message, file=sys.stderr)
        return 1
    return 0


def serve(settings: Settings) -> None:
    """Build everything and answer requests.

    Raises:
        FerError: a part cannot be built.
    """
    uploads = UploadFolder()
    prepare(uploads.path)
    # Only now: Gradio reads its environment when it is imported.
    from fer.web.server import create_app

    app = create_app(settings, uploads)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        root_path=settings.root_path,
        # Uvicorn would trust whoever comes from this machine; `ClientAddress` decides instead.
        proxy_headers=False,
        server_header=False,
        access_log=False,
        log_config=None,
        timeout_graceful_shutdown=3,
    )
    listening = config.bind_socket()
    port = listening.getsockname()[1]
    host = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host  # nosec B104
    shown = f"[{host}]" if ":" in host else host
    print(f"Open http://{shown}:{port}{settings.root_path}/ in a browser.", flush=True)
    with scheduled_retraining(settings):
        uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    sys.exit(main())
