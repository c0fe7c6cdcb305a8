"""Nothing of a picture stays behind: not in logs, not in temporary folders, not in the database."""

from __future__ import annotations

import base64
import gzip
import io
import os
import signal
import socket
import sqlite3
import time
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
from gradio_client.exceptions import AppError
from PIL import Image

from fer.collection.database import Database
from fer.collection.opening import open_store
from fer.collection.samples import utc_now
from fer.collection.tables import Sample
from fer.config import Settings
from fer.errors import StorageError
from fer.vision.faces import FaceBox, Quality
from fer.vision.recogniser import Prediction, Reading, Recognition
from fer.web.desk import Desk, Visitor
from fer.web.services import build_services
from fer.web.texts import LANGUAGES, Texts
from fer.web.uploads import UploadFolder
from tests.collection.support import new_sample
from tests.conftest import as_file
from tests.support import make_version
from tests.web.serving import Server, start
from tests.web.traces import Marked, marked_picture, traces


@pytest.fixture
def marked(face_image: np.ndarray) -> Marked:
    return marked_picture(face_image, os.urandom(6).hex())


@pytest.mark.parametrize("how", ["file", "name", "shown", "base64", "gzip", "utf-16", "cut off"])
def test_the_search_finds_a_trace(how: str, marked: Marked, tmp_path: Path) -> None:
    """Else it would find nothing anywhere."""
    small = as_file(np.asarray(marked.image.resize((96, 96))), "PNG")
    place = tmp_path / "cache"
    place.mkdir()
    written = {
        "file": b"head" + marked.jpeg + b"tail",
        "name": f"POST {marked.name}\n".encode(),
        "shown": b"head" + small + b"tail",
        "base64": b'{"url": "data:image/png;base64,' + base64.b64encode(small) + b'"}',
        "gzip": b"\0\0" + gzip.compress(b"data:image/png;base64," + base64.b64encode(small)),
        "utf-16": marked.text.encode("utf-16"),
        "cut off": as_file(np.asarray(marked.image), "JPEG", quality=70)[:-2000],
    }[how]
    (place / "entry").write_bytes(written)
    assert traces(marked, [tmp_path])


def test_the_search_does_not_take_another_picture_for_it(
    marked: Marked, face_jpeg: bytes, tmp_path: Path
) -> None:
    (tmp_path / "other.jpg").write_bytes(face_jpeg)
    (tmp_path / "text").write_bytes(os.urandom(20_000))
    assert traces(marked, [tmp_path]) == []


@pytest.mark.parametrize("page", ["", "/id"])
def test_no_browser_stores_the_preview_of_an_uploaded_picture(
    server: Server, face_jpeg: bytes, page: str
) -> None:
    sent = httpx.post(
        f"{server.url}{page}/gradio_api/upload",
        files={"files": ("face.jpg", face_jpeg, "image/jpeg")},
        timeout=60,
    )
    (path,) = sent.json()
    shown = httpx.get(f"{server.url}{page}/gradio_api/file={path}", timeout=60)
    assert (shown.status_code, len(shown.content)) == (200, len(face_jpeg))
    assert shown.headers["Cache-Control"] == "no-store"
    assert "no-store" in sent.headers["Cache-Control"]


@pytest.mark.long
@pytest.mark.timeout(600)
def test_programs_leave_no_trace_of_a_picture(tmp_path: Path, marked: Marked) -> None:
    """Through every endpoint, with errors and hang-ups on the way, a crash and a restart."""
    make_version(tmp_path / "server" / "models", favourite="happy", default=True)
    home = tmp_path / "server" / "home"
    home.mkdir()
    folder = tmp_path / "server"
    began = time.time()
    server = start(folder, HOME=str(home), FER_RATE_CLASSIFY="1000/minute")
    planted = tmp_path / marked.name
    planted.write_bytes(marked.jpeg)
    broken = tmp_path / f"broken-{marked.name}"
    broken.write_bytes(marked.jpeg[: len(marked.jpeg) // 2])

    kept = server.classify(planted, True)
    unkept = server.classify(planted, False)
    assert kept["receipt"] and unkept["receipt"] is None
    server.client().predict(kept["receipt"], "sad", None, api_name="/feedback")
    for picture, arguments in ((broken, ()), (planted, (True, "no-such-model"))):
        with pytest.raises(AppError):
            server.classify(picture, *arguments)
    _hang_up(server, marked)
    _upload_and_leave(server, planted)
    # While somebody else has the database, the reading goes on and nothing is kept.
    lock = sqlite3.connect(server.data / "fer.db", isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    busy = server.classify(planted, True)
    lock.execute("ROLLBACK")
    lock.close()
    assert busy["receipt"] is None and "busy" in busy["warning"]

    # Only the face that may be kept is there: without its metadata, in its own place.
    (own,) = server.kept()
    with Image.open(own) as face:
        marked.others.append(face.convert("RGB"))
    own_bytes = own.read_bytes()
    assert marked.text.encode() not in own_bytes and b"Exif" not in own_bytes
    with sqlite3.connect(server.data / "fer.db") as connection:
        (notice,) = connection.execute("SELECT notice_version FROM samples").fetchone()
    assert notice == kept["notice_version"]
    # What was uploaded and not read yet may lie in the folder for uploads, and nowhere else.
    others = [path for path in folder.iterdir() if path not in (folder / "tmp", server.data)]
    codes = [kept["receipt"], kept["receipt"].replace("-", "")]
    assert traces(marked, others, codes) == []
    assert (
        traces(marked, [p for p in server.data.rglob("*") if p.is_file() and p != own], codes) == []
    )

    server.stop(signal.SIGKILL)
    server = start(folder, HOME=str(home))
    assert server.uploaded() == []
    assert server.client().predict(kept["receipt"], api_name="/forget") == {"deleted": 1}
    server.stop()
    assert traces(marked, [folder, *_common_places(began)], codes) == []


def _hang_up(server: Server, marked: Marked) -> None:
    """Send half of an upload, and go."""
    at = urlsplit(server.url)
    head = (
        f"POST /gradio_api/upload HTTP/1.1\r\nHost: {at.netloc}\r\n"
        f"Content-Length: {len(marked.jpeg) + 500}\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\nContent-Disposition: "
        f'form-data; name="files"; filename="{marked.name}"\r\nContent-Type: image/jpeg\r\n\r\n'
    )
    with socket.create_connection((at.hostname, at.port), timeout=30) as line:
        line.sendall(head.encode() + marked.jpeg[: len(marked.jpeg) // 2])


def _upload_and_leave(server: Server, picture: Path) -> None:
    with picture.open("rb") as stream:
        sent = httpx.post(
            server.url + "/gradio_api/upload",
            files={"files": (picture.name, stream, "image/jpeg")},
            timeout=60,
        )
    assert sent.status_code == 200, sent.text


def _common_places(began: float) -> list[Path]:
    """Files in folders that all programs share, written since; not those of other tests."""
    found = []
    for place in (Path("/tmp"), Path("/var/tmp"), Path("/dev/shm")):
        for path in place.iterdir():
            try:
                if path.is_file() and path.stat().st_mtime >= began:
                    found.append(path)
            except OSError:
                continue
    return found


def test_what_is_over_goes_at_the_start_and_daily(tmp_path: Path) -> None:
    make_version(tmp_path / "models", default=True)
    settings = Settings(
        _env_file=None, data_dir=tmp_path / "data", models_dir=tmp_path / "models", audit_share=0
    )
    services = build_services(settings, UploadFolder(tmp_path / "uploads"))

    def keep_one() -> str:
        sample = services.store.keep([new_sample()], group_id="g").sample_ids[0]
        _expire_now(services.database, sample)
        return sample

    try:
        first = keep_one()
        services.start()
        assert services.store.get(first).status == "deleted"
        second = keep_one()
        (daily,) = [chore for chore in services.chores if chore.name == "expiry"]
        assert daily.every == 24 * 3600
        daily.work()
        assert services.store.get(second).status == "deleted"
        assert list((tmp_path / "data").rglob("*.jpg")) == []
    finally:
        services.stop()


def _expire_now(database: Database, sample_id: str) -> None:
    with database.session(write=True) as session:
        session.get_one(Sample, sample_id).expires_at = utc_now()


class Reads:
    """Stands in for detector and model: every picture is one happy face."""

    def recognise(self, data: bytes, model: str | None = None) -> Recognition:
        image = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
        reading = Reading(
            FaceBox(160, 60, 120, 130, 0.0, 0.9),
            Prediction(("happy", "sad"), (0.8, 0.2)),
            Quality(130, 50.0, 0.9),
        )
        return Recognition(image, (reading,), "20250101T000000Z-test")


def test_at_the_limit_the_answer_says_that_nothing_was_kept(
    tmp_path: Path, face_jpeg: bytes
) -> None:
    settings = Settings(_env_file=None, data_dir=tmp_path / "data", max_collected_mb=0.001)
    store = open_store(settings)
    desk = Desk(settings, Reads(), store)  # type: ignore[arg-type]
    answer = desk.classify(face_jpeg, Visitor("s", "page"), keep=True)
    assert answer.recognition.readings[0].prediction.label == "happy"
    assert answer.receipt is None and answer.kept == {}
    assert isinstance(answer.trouble, StorageError)
    assert "full" in answer.to_json()["warning"]
    for language in LANGUAGES:
        texts = Texts(language)
        assert texts.error(answer.trouble) == texts("error.storage.full")
    assert list((tmp_path / "data").rglob("*.jpg")) == []
    # Raised, it keeps again.
    store.settings = settings.model_copy(update={"max_collected_mb": 100})
    assert desk.classify(face_jpeg, Visitor("s", "page"), keep=True).receipt
    store.database.close()
