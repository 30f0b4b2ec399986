"""Figures of a generator for metrics, the doctor and the planner.

status = generator.status()
status.reused_tokens / max(1, status.prompt_tokens + status.reused_tokens)       # share of prompts not computed
"""

from __future__ import annotations

from dataclasses import dataclass

from appliance.engine.status import EngineState


@dataclass(frozen=True, slots=True)
class GeneratorStatus:
    """A moment's figures. `memory_bytes` is the estimate; counters are the worker's since its start, at its last ping.

    `prompt_tokens` were computed, `reused_tokens` taken from a prefix; of `drafted_tokens` guesses `accepted_tokens`
    were right.
    """

    state: EngineState
    restarts: int
    pid: int | None
    architecture: str
    context_tokens: int
    chat: bool
    slots: int
    in_flight: int
    device: str
    isolation: str
    isolated: bool
    memory_bytes: int
    pss_bytes: int
    waiting: int
    running: int
    steps: int
    prompt_tokens: int
    generated_tokens: int
    reused_tokens: int
    prefix_hits: int
    drafted_tokens: int
    accepted_tokens: int
    adapters: tuple[str, ...]
    refused_adapters: tuple[str, ...]
