"""Counters for operators, in Prometheus' text format. Paths are route templates and labels are codes: no content.

One registry per application, so that two appliances in one process (as in tests) do not share counters.
"""

from __future__ import annotations

import math
import time
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from appliance.audit.anchors import Exposure
from appliance.service.appliance import Appliance
from appliance.service.audit_state import audit_state

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


# Fields of `GeneratorStatus`; all but the first are those of the worker's last sign of life.
_GENERATION = {
    "in_flight": "Answers that are being written or wait",
    "running": "Sequences that have a slot",
    "waiting": "Sequences that wait for a slot",
    "slots": "Sequences that may run at once",
    "restarts": "Worker restarts since the model was loaded",
    "pss_bytes": "Proportional memory of the worker",
    "prompt_tokens": "Tokens of prompts since the worker started",
    "reused_tokens": "Tokens of prompts that were computed before, for another request",
    "prefix_hits": "Prompts whose beginning was computed before",
    "generated_tokens": "Tokens written since the worker started",
}


class Metrics:
    """All metrics of one application."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "cloister_http_requests", "Requests answered", ("method", "route", "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "cloister_http_request_seconds",
            "Time to the last byte",
            ("method", "route"),
            registry=self.registry,
            buckets=_SECONDS,
        )
        self.characters = Counter(
            "cloister_text_characters", "Characters read by specialists", ("specialist",), registry=self.registry
        )
        self.engine_up = Gauge("cloister_engine_up", "1 while the engine worker serves", registry=self.registry)
        self.engine_restarts = Gauge(
            "cloister_engine_restarts", "Engine worker restarts since start", registry=self.registry
        )
        self.engine_queue = Gauge("cloister_engine_queue", "Sequences waiting for the engine", registry=self.registry)
        self.engine_memory = Gauge(
            "cloister_engine_memory_bytes", "Proportional memory of the engine worker", registry=self.registry
        )
        self.audit_up = Gauge("cloister_audit_up", "1 while records can be appended", registry=self.registry)
        self.audit_paused = Gauge(
            "cloister_audit_paused", "1 while recording pauses for lack of space", registry=self.registry
        )
        self.audit_quarantined = Gauge(
            "cloister_audit_quarantined", "1 while something outside contradicts the log", registry=self.registry
        )
        self.gate_refusals = Counter(
            "cloister_gate_refusals",
            "Requests refused because nothing could be recorded, so nothing was released",
            ("code",),
            registry=self.registry,
        )
        self.writers = {
            name: Gauge(f"cloister_generation_{name}", what, ("model",), registry=self.registry)
            for name, what in _GENERATION.items()
        }
        self.exposure_seconds = Gauge(
            "cloister_audit_exposure_seconds",
            "Age of the newest checkpoint outside the machine; NaN while there is none",
            registry=self.registry,
        )
        self.exposure_alarm = Gauge(
            "cloister_audit_exposure_alarm", "1 while that is more than twice the target", registry=self.registry
        )
        self.anchored_size = Gauge(
            "cloister_audit_anchored_size",
            "Records under the newest checkpoint of a sink",
            ("sink",),
            registry=self.registry,
        )

    def render(self, appliance: Appliance, window: Exposure | None) -> bytes:
        """The exposition text, with the gauges read now. `window`: of exposure, where there are anchors."""
        engine = appliance.engine.status()
        self.engine_up.set(engine.state == "ready")
        self.engine_restarts.set(engine.restarts)
        self.engine_queue.set(engine.queued_sequences)
        self.engine_memory.set(engine.pss_bytes)
        self._render_writers(appliance)
        state = audit_state(appliance.audit).state
        self.audit_up.set(state == "ready")
        self.audit_paused.set(state == "paused")
        self.audit_quarantined.set(state == "quarantined")
        if window is not None:
            self.exposure_seconds.set(math.nan if window.age_s is None else window.age_s)
            self.exposure_alarm.set(window.alarm)
            for sink in window.sinks:
                self.anchored_size.labels(sink.sink).set(sink.size)
        return generate_latest(self.registry)

    def _render_writers(self, appliance: Appliance) -> None:
        """Of the models that are in memory now; counters begin again with a model that was loaded again."""
        for gauge in self.writers.values():
            gauge.clear()
        for model, status in (appliance.writers.status() if appliance.writers else {}).items():
            for name, gauge in self.writers.items():
                gauge.labels(model).set(getattr(status, name))


class CountRequests:
    """Counts every request by the route that served it (pure ASGI)."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.monotonic()
        status = 500

        async def noting_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, noting_send)
        finally:
            # The router leaves the matched route in the scope; unknown paths share one label, or a scan of the
            # site would grow the registry without bound.
            route: Any = scope.get("route")
            path = getattr(route, "path", "unmatched")
            self.metrics.requests.labels(scope["method"], path, str(status)).inc()
            self.metrics.seconds.labels(scope["method"], path).observe(time.monotonic() - started)
