"""A console to test: the real routes, a real database, drawn faces, a real server."""

from __future__ import annotations

import io
import re
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import uvicorn
from fastapi import FastAPI
from PIL import Image, ImageDraw, ImageFilter

from fer.collection.newsample import NewSample
from fer.collection.operators import Operators
from fer.collection.samples import SampleStore
from fer.collection.tables import LabelEvent, Sample
from fer.config import Settings
from fer.vision.faces import FaceBox
from fer.web.operator import add_routes
from fer.web.services import Services, build_services
from fer.web.uploads import UploadFolder
from tests.support import SEVEN_LABELS, make_version

PASSWORD = "a long password"

_SKINS = ((241, 205, 176), (224, 172, 125), (198, 134, 86), (141, 85, 47), (92, 56, 33))
_HAIRS = ((40, 28, 20), (92, 60, 30), (170, 120, 60), (60, 60, 66), (130, 50, 30))
_WALLS = ((203, 213, 219), (222, 214, 196), (181, 198, 182), (196, 186, 205), (150, 160, 170))

#: Mouth: curve (up is glad), opening; brows: tilt (up is angry), height; eyes: opening.
_LOOKS = {
    "angry": (-0.5, 0.1, 0.9, -0.5, 0.75),
    "disgust": (-0.7, 0.25, 0.5, -0.2, 0.5),
    "fear": (-0.3, 0.6, -0.8, 0.6, 1.3),
    "happy": (1.0, 0.35, -0.1, 0.2, 0.8),
    "neutral": (0.0, 0.05, 0.0, 0.0, 0.95),
    "sad": (-0.9, 0.05, -0.9, 0.1, 0.7),
    "surprise": (0.1, 1.0, -0.2, 1.0, 1.4),
}


def draw_face(label: str, seed: int, side: int = 256) -> bytes:
    """A drawn face with an expression, as a JPEG of `side` × `side`; of nobody."""
    rng = np.random.default_rng(seed)
    curve, opening, tilt, lift, eyes = _LOOKS.get(label, _LOOKS["neutral"])
    curve, tilt = curve + rng.normal(0, 0.12), tilt + rng.normal(0, 0.12)
    skin = _SKINS[rng.integers(len(_SKINS))]
    hair = _HAIRS[rng.integers(len(_HAIRS))]
    wall = _WALLS[rng.integers(len(_WALLS))]
    big = 2 * side
    picture = Image.new("RGB", (big, big), wall)
    draw = ImageDraw.Draw(picture)
    u = big / 100
    dark = tuple(int(c * 0.72) for c in skin)
    shirt = tuple(int(c) for c in rng.integers(40, 200, 3))

    def ellipse(x: float, y: float, w: float, h: float, colour: tuple[int, ...]) -> None:
        draw.ellipse(((x - w) * u, (y - h) * u, (x + w) * u, (y + h) * u), fill=colour)

    ellipse(50, 112, 40, 30, shirt)
    draw.rectangle((42 * u, 75 * u, 58 * u, 92 * u), fill=dark)
    ellipse(50, 44, 30, 36 + rng.uniform(-3, 8), hair)
    ellipse(24, 54, 4, 6, dark)
    ellipse(76, 54, 4, 6, dark)
    ellipse(50, 54, 25.5, 31, skin)
    draw.pieslice((23 * u, 14 * u, 77 * u, (52 + rng.uniform(-4, 6)) * u), 180, 360, fill=hair)
    for sign in (-1, 1):
        x = 50 + sign * 11
        ellipse(x, 51, 5, 3.6 * eyes, (250, 250, 248))
        ellipse(x + rng.uniform(-0.4, 0.4), 51.3, 2.3, min(2.3, 3.2 * eyes), (50, 40, 35))
        inner, outer = 43 - 4 * lift + 3.5 * tilt, 43 - 4 * lift - 3.5 * tilt
        ends = ((x - sign * 6) * u, inner * u, (x + sign * 6) * u, outer * u)
        draw.line(ends, fill=hair, width=int(2.2 * u))
    draw.line((50 * u, 54 * u, 47.5 * u, 62 * u, 52 * u, 63 * u), fill=dark, width=int(1.2 * u))
    t = np.linspace(-1, 1, 25)
    upper = 72 + 4 * curve * (0.5 - t**2) - 2 * opening * (1 - t**2)
    lower = 72 + 4 * curve * (0.5 - t**2) + (1.2 + 9 * opening) * (1 - t**2)
    wide = 11 - 4 * max(0.0, opening - 0.5)
    lip = [((50 + wide * a) * u, b * u) for a, b in zip(t, upper, strict=True)]
    lip += [((50 + wide * a) * u, b * u) for a, b in zip(t[::-1], lower[::-1], strict=True)]
    draw.polygon(lip, fill=(120, 40, 45), outline=(150, 70, 70))
    picture = picture.rotate(rng.uniform(-8, 8), Image.Resampling.BICUBIC, fillcolor=wall)
    picture = picture.resize((side, side), Image.Resampling.LANCZOS)
    picture = picture.filter(ImageFilter.GaussianBlur(side / 256 * rng.uniform(0.4, 1.4)))
    noisy = np.asarray(picture, np.float32) * rng.uniform(0.75, 1.1) + rng.normal(
        0, 5, (side, side, 3)
    )
    stream = io.BytesIO()
    Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(stream, "JPEG", quality=90)
    return stream.getvalue()


def drawn_sample(label: str, confidence: float, seed: int, model: str, **more: Any) -> NewSample:
    """A drawn face that the model read as `label`; `drawn` says what was drawn if not that."""
    side = int(more.pop("side", 256))
    drawn = str(more.pop("drawn", label))
    labels: Sequence[str] = more.pop("labels", SEVEN_LABELS)
    rng = np.random.default_rng([seed, 1])
    others = rng.dirichlet([0.6] * (len(labels) - 1)) * (1 - confidence)
    # The named label has to be the most probable one.
    others = np.minimum(others, confidence * 0.98)
    shares = dict(zip((name for name in labels if name != label), others.tolist(), strict=True))
    shares[label] = confidence
    box = FaceBox(0.13 * side, 0.2 * side, 0.74 * side, 0.74 * side, 0.0, 0.7 + 0.3 * rng.random())
    return NewSample(
        jpeg=draw_face(drawn, seed, side),
        width=side,
        height=side,
        face_box=box,
        probabilities={name: shares[name] for name in labels},
        model_version=model,
        predicted_label=label,
        face_px=int(0.74 * side),
        sharpness=float(rng.uniform(20, 400)),
        notice_version="1",
        **more,
    )


@dataclass
class Console:
    """A running console.

    Attributes:
        url: without a slash at the end.
        services: its parts, to look at what they hold.
        model: the champion.
    """

    url: str
    services: Services
    model: str
    app: FastAPI
    stop: Any = None
    ids: list[str] = field(default_factory=list)

    @property
    def store(self) -> SampleStore:
        return self.services.store

    def fill(self, count: int, *, groups: int = 0, first_seed: int = 1, side: int = 128) -> None:
        """Keep `count` drawn faces, each of a visitor of its own unless `groups` says how many."""
        rng = np.random.default_rng(first_seed)
        for number in range(count):
            seed = first_seed + number
            label = SEVEN_LABELS[int(rng.integers(7))]
            sample = drawn_sample(label, float(rng.uniform(0.3, 0.97)), seed, self.model, side=side)
            group = f"group-{number % groups if groups else seed}"
            self.ids += self.store.keep([sample], group_id=group).sample_ids

    def operator(self, name: str, role: str = "reviewer") -> None:
        Operators(self.services.database).add(name, PASSWORD, role)

    def signed_in(self, name: str) -> Client:
        """A client that signed in as `name`."""
        client = Client(self.url)
        answer = client.http.post("/sign-in", data={"name": name, "password": PASSWORD})
        assert answer.status_code == 303, answer.text
        client.csrf = client.http.get("/review/api/session").json()["csrf"]
        return client

    def events(self) -> list[LabelEvent]:
        """All label events, oldest first."""
        with self.services.database.session() as session:
            return list(session.query(LabelEvent).order_by(LabelEvent.id))

    def samples(self) -> dict[str, Sample]:
        """All rows, by id."""
        with self.services.database.session() as session:
            return {row.id: row for row in session.query(Sample)}


class Client:
    """A browser without a screen: keeps cookies, follows no redirect, sends the CSRF token."""

    def __init__(self, url: str) -> None:
        self.http = httpx.Client(base_url=url, timeout=30)
        self.csrf = ""

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.http.get(f"/review/api/{path}", **options)

    def post(self, path: str, body: Any = None, **headers: str) -> httpx.Response:
        sent = {"X-CSRF-Token": self.csrf, **headers}
        return self.http.post(f"/review/api/{path}", json=body or {}, headers=sent)

    def faces(self, count: int, order: str = "uncertain") -> list[dict[str, Any]]:
        answer = self.post("queue", {"order": order, "count": count})
        assert answer.status_code == 200, answer.text
        faces: list[dict[str, Any]] = answer.json()["faces"]
        return faces

    def decide(self, face: dict[str, Any], kind: str, label: str | None = None) -> httpx.Response:
        body = {
            "sample_id": face["id"],
            "row_version": face["row_version"],
            "kind": kind,
            "label": label,
            "order": "uncertain",
            "sitting": "sitting-of-a-test",
        }
        return self.post("decide", body)


@contextmanager
def running_console(folder: Path, **settings: Any) -> Iterator[Console]:
    """A console with data, models and uploads below `folder`, served on a free port."""
    model = make_version(folder / "models", default=True)
    given = Settings(
        _env_file=None, data_dir=folder / "data", models_dir=folder / "models", **settings
    )
    services = build_services(given, UploadFolder(folder / "uploads"))
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    add_routes(app, services)
    with serving(app, given.root_path) as url:
        yield Console(url, services, model, app)
    services.stop()


@contextmanager
def serving(app: FastAPI, root_path: str = "") -> Iterator[str]:
    """`app` on a free port of the loopback address; its URL, as a proxy in front of it sees it."""
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    config = uvicorn.Config(
        app, log_level="warning", timeout_graceful_shutdown=2, root_path=root_path
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 30
    while True:
        try:
            httpx.get(url + "/sign-in", timeout=5)
            break
        except httpx.HTTPError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
    try:
        yield url
    finally:
        server.should_exit = True
        thread.join(timeout=30)


def review_paths(app: FastAPI) -> list[tuple[str, str]]:
    """(method, path) of every route below `/review`, its parameters filled in."""
    found = []
    for route in flat_routes(app.routes):
        path = re.sub(r"\{[^}]+\}", "0" * 32, getattr(route, "path", ""))
        if path.startswith("/review"):
            methods = getattr(route, "methods", None) or {"GET"}
            found += [(method, path) for method in sorted(methods)]
    return sorted(set(found))


def flat_routes(routes: Sequence[Any]) -> list[Any]:
    """Routes and the routes of what is mounted or included."""
    found = []
    for route in routes:
        found.append(route)
        # FastAPI keeps an included router as one route that holds it.
        inner = getattr(route, "original_router", route)
        found += flat_routes(getattr(inner, "routes", None) or [])
    return found
