"""What the engine tells the site about itself: events for the audit log, figures for metrics and the doctor.

EngineEvent("worker_died", {"reason": "killed by SIGSEGV", "restarts": 0})
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

EngineState = Literal["starting", "ready", "restarting", "closed"]
EventKind = Literal["worker_started", "worker_died", "worker_stuck", "adapter_loaded", "adapter_refused"]
EventValue = str | int | float | bool


@dataclass(frozen=True, slots=True)
class EngineEvent:
    """Something the site should know and the audit log records. Attributes hold ids, counts and reasons."""

    kind: EventKind
    attributes: Mapping[str, EventValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """A moment's figures. `memory_bytes` is the estimate for weights and buffers, `pss_bytes` the last measurement."""

    state: EngineState
    restarts: int
    pid: int | None
    threads: int
    queued_sequences: int
    queued_tokens: int
    device: str
    isolation: str
    isolated: bool
    memory_bytes: int
    pss_bytes: int
    batches: int
    tokens: int
    adapters: tuple[str, ...]
    refused_adapters: tuple[str, ...]
