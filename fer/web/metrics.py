"""Figures for Prometheus at `/metrics`, for this machine or with a token."""

from __future__ import annotations

import contextlib
import hmac
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator

from fastapi import FastAPI, Request
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector
from starlette.responses import PlainTextResponse, Response

from fer.collection.drift import Drift, DriftWatch
from fer.collection.runs import runs
from fer.collection.waiting import waiting
from fer.errors import CollectionError, ModelError
from fer.web.logs import ROUTES
from fer.web.proxies import is_local
from fer.web.services import Services

_LOG = logging.getLogger(__name__)

#: Seconds for which what comes from the database is good enough.
_HOLDS = 10.0

_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

#: What a run of the retraining job can end with; anything else counts as `other`.
_OUTCOMES = ("promoted", "kept", "skipped", "failed")


class Metrics:
    """Counts while the server runs, and looks the rest up when it is asked.

    Labels take few values, whatever strangers send: routes and kinds of refusals are fixed lists,
    statuses are HTTP's, labels of faces are the model's.

    Args:
        services: whose state is shown; its desk counts here from now on.
        clock: seconds, to know when the last look has become old.
    """

    def __init__(self, services: Services, clock: Callable[[], float] = time.monotonic) -> None:
        # A series beside each that nobody looks at.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "fer_requests", "Requests answered.", ["route", "status"], registry=self.registry
        )
        self._seconds = Histogram(
            "fer_request_seconds",
            "Time until the last byte of the answer.",
            ["route"],
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self._refusals = Counter(
            "fer_refusals",
            "Requests and pictures refused, by kind.",
            ["kind"],
            registry=self.registry,
        )
        self._pictures = Counter("fer_pictures", "Pictures read.", registry=self.registry)
        self._faces = Counter("fer_faces", "Faces read.", registry=self.registry)
        self._kept = Counter("fer_faces_kept", "Faces kept.", registry=self.registry)
        # So that a rate can be computed from the first request on.
        for route in ROUTES:
            self._seconds.labels(route)
        ProcessCollector(registry=self.registry)
        self.registry.register(_State(services, clock))
        services.desk.meter = self

    def request(self, route: str, status: int, seconds: float) -> None:
        """Count an answer; `fer.web.logs.Observer`."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def refused(self, kind: str) -> None:
        """Count a refusal; `kind` comes from the code, never from a request."""
        self._refusals.labels(kind).inc()

    def read(self, faces: int) -> None:
        """Count a picture and its faces."""
        self._pictures.inc()
        self._faces.inc(faces)

    def kept(self, faces: int) -> None:
        """Count kept faces."""
        self._kept.inc(faces)

    def text(self) -> bytes:
        """All of it in Prometheus' text format."""
        return generate_latest(self.registry)


class _State(Collector):
    """Gauges of what lies in the database, in the data folder and among the models."""

    def __init__(self, services: Services, clock: Callable[[], float]) -> None:
        self._services = services
        self._watch = DriftWatch(services.database, services.settings.retention_days)
        self._clock = clock
        self._lock = threading.Lock()
        self._until = float("-inf")
        self._held: list[Metric] = []

    def describe(self) -> Iterable[Metric]:
        """Nothing beforehand: registering must not ask the database."""
        return []

    def collect(self) -> Iterator[Metric]:
        """The gauges, as they were a few seconds ago at most."""
        with self._lock:
            if self._clock() >= self._until:
                self._held = list(self._look())
                self._until = self._clock() + _HOLDS
            held = self._held
        yield from held

    def _look(self) -> Iterator[Metric]:
        yield from self._model()
        reachable = 1.0
        for part in (self._collection, self._last_run, self._drift):
            try:
                yield from list(part())
            except (CollectionError, OSError) as error:
                reachable = 0.0
                _LOG.warning("metrics: %s", error)
        yield GaugeMetricFamily("fer_collection_up", "1 if the database answers.", reachable)

    def _model(self) -> Iterator[Metric]:
        version, ready = "", 0.0
        with contextlib.suppress(ModelError):
            version, ready = self._services.recogniser.champion(), 1.0
        yield GaugeMetricFamily("fer_ready", "1 if a picture can be read.", ready)
        yield InfoMetricFamily("fer_champion", "The model that serves.", {"version": version})
        warnings = float(len(self._services.warnings()))
        yield GaugeMetricFamily("fer_warnings", "What /readyz warns of.", warnings)

    def _collection(self) -> Iterator[Metric]:
        services = self._services
        pending = GaugeMetricFamily(
            "fer_faces_pending", "Kept faces that wait for an operator.", labels=["queue"]
        )
        for queue, count in waiting(services.database).items():
            pending.add_metric([queue], count)
        yield pending
        size = float(services.store.size_bytes())
        yield GaugeMetricFamily("fer_collection_bytes", "Size of what is kept.", size)
        limit = services.settings.max_collected_mb * 1_000_000
        yield GaugeMetricFamily("fer_collection_limit_bytes", "Where saving stops.", limit)

    def _last_run(self) -> Iterator[Metric]:
        last = next(iter(runs(self._services.database, 1)), None)
        if last is None:
            return
        begun = last.started_at.timestamp()
        yield GaugeMetricFamily(
            "fer_retraining_started_timestamp_seconds", "When the last retraining began.", begun
        )
        if last.ended_at is None:
            return
        ended = last.ended_at.timestamp()
        yield GaugeMetricFamily(
            "fer_retraining_ended_timestamp_seconds", "When the last retraining ended.", ended
        )
        outcome = GaugeMetricFamily(
            "fer_retraining_outcome",
            "1 for how the last retraining ended.",
            labels=["outcome"],
        )
        said = last.outcome if last.outcome in _OUTCOMES else "other"
        outcome.add_metric([said or "other"], 1)
        yield outcome

    def _drift(self) -> Iterator[Metric]:
        found: Drift = self._watch()
        share = GaugeMetricFamily(
            "fer_label_share", "Share of a predicted label.", labels=["label", "window"]
        )
        faces = GaugeMetricFamily("fer_drift_faces", "Faces in a window.", labels=["window"])
        sure = GaugeMetricFamily(
            "fer_mean_confidence", "Mean confidence in a window.", labels=["window"]
        )
        for window, seen in (("recent", found.recent), ("before", found.before)):
            faces.add_metric([window], seen.faces)
            if seen.confidence is not None:
                sure.add_metric([window], seen.confidence)
            for label, value in seen.shares.items():
                share.add_metric([label, window], value)
        yield from (share, faces, sure)
        if found.psi is not None:
            yield GaugeMetricFamily(
                "fer_drift_psi", "Population stability index of the label shares.", found.psi
            )
        if found.effect is not None:
            yield GaugeMetricFamily(
                "fer_drift_effect", "Cohen's d of the confidence.", found.effect
            )
        yield GaugeMetricFamily(
            "fer_drift_alarm", "1 if the last week differs from the four before.", found.alarm
        )


def add_metrics(app: FastAPI, metrics: Metrics, token: str | None) -> None:
    """Add `/metrics`, which answers this machine, and whoever knows the token.

    Args:
        token: of the `Authorization: Bearer` header; None where none is set.
    """

    @app.get("/metrics", include_in_schema=False)
    def show(request: Request) -> Response:
        if not (is_local(request.scope) or _knows(request, token)):
            return PlainTextResponse(
                "Metrics are for this machine, or for who knows FER_METRICS_TOKEN.",
                401 if token else 403,
                {"WWW-Authenticate": "Bearer"} if token else None,
            )
        headers = {"Content-Type": CONTENT_TYPE_LATEST, "Cache-Control": "no-store"}
        return Response(metrics.text(), headers=headers)


def _knows(request: Request, token: str | None) -> bool:
    scheme, _, sent = request.headers.get("authorization", "").partition(" ")
    if not token or scheme.casefold() != "bearer":
        return False
    return hmac.compare_digest(sent.strip().encode("utf-8", "replace"), token.encode())
