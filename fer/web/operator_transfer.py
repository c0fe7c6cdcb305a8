"""Export for every operator, import for admins."""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse

from fer.collection.export import export_zip
from fer.collection.importing import FaceReader, import_pictures
from fer.collection.samples import SampleStore
from fer.collection.storage import storage_error
from fer.errors import DataError
from fer.web.operator_grid import Admin
from fer.web.operator_queue import Who

#: Largest zip that is taken, in bytes.
IMPORT_BYTES = 2_000_000_000

#: End of the path of the route that takes one.
IMPORT_ROUTE = "/review/api/import"

_CHUNK = 256 * 1024


def transfer_routes(store: SampleStore, reader: FaceReader) -> APIRouter:
    """`/review/api/export` and `/review/api/import`."""
    router = APIRouter(include_in_schema=False)

    @router.get("/review/api/export")
    def export(who: Who) -> Response:
        with _received(store.settings.data_dir) as path:
            export_zip(store, path)
            stream = path.open("rb")
        # The name is gone before the first byte is sent: the faces in it may be deleted any
        # moment, and whoever hangs up must leave nothing behind.
        size = os.fstat(stream.fileno()).st_size
        name = f"fer-samples-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.zip"
        headers = {
            "Content-Length": str(size),
            "Content-Disposition": f'attachment; filename="{name}"',
        }
        return StreamingResponse(_chunks(stream), media_type="application/zip", headers=headers)

    @router.post(IMPORT_ROUTE)
    async def import_zip(who: Admin, request: Request, as_decisions: bool = False) -> Any:
        with _received(store.settings.data_dir) as path:
            await _receive(request.stream(), path)
            operator = who.name if as_decisions else None
            report = await run_in_threadpool(
                import_pictures, store, path, reader, as_decisions=operator
            )
        return {
            "imported": report.imported,
            "known": len(report.known),
            "refused": len(report.refused),
            "reasons": dict(list(report.refused.items())[:20]),
        }

    return router


def _chunks(stream: BinaryIO) -> Iterator[bytes]:
    with stream:
        while chunk := stream.read(_CHUNK):
            yield chunk


async def _receive(chunks: AsyncIterator[bytes], path: Path) -> None:
    size = 0
    try:
        with path.open("wb") as out:
            async for chunk in chunks:
                size += len(chunk)
                if size > IMPORT_BYTES:
                    limit = IMPORT_BYTES // 1_000_000
                    raise DataError(f"The zip is larger than {limit:,} MB.", limit=limit)
                await run_in_threadpool(out.write, chunk)
    except OSError as error:
        raise storage_error(error, "kept") from error


@contextmanager
def _received(folder: Path) -> Iterator[Path]:
    path = _temporary(folder)
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def _temporary(folder: Path) -> Path:
    """An empty file that only this user can read, in the data folder and not in a shared one."""
    place = folder / ".transfer"
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, path = tempfile.mkstemp(suffix=".zip", dir=place)
        os.close(descriptor)
    except OSError as error:
        raise storage_error(error, "kept") from error
    return Path(path)


def remove_leftovers(folder: Path) -> None:
    """Remove what a transfer left that was cut off; called when the server starts."""
    for path in (folder / ".transfer").glob("*"):
        path.unlink(missing_ok=True)
