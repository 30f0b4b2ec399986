"""How many people one model serves at once on this machine, at a speed that reads well: measured, not guessed.

    card = await measure_capacity(config, log, principal, "qwen3-4b-q4_k_m")
    card.rows, card.users(8.0)            # tokens a second for each of 1, 2, 4 … at once; people at 8 a second or more
    await show_capacity(config, log, principal)      # every model, with what was last measured of it here

What was measured is kept as a record of the log (`capacity.measured`, `appliance/audit/README.md`) with the hash of the
model's file, so that nobody reads the figures of a file that was replaced, or of another machine's log.

The model is loaded into a worker of its own and writes nonsense for nobody; nothing of it is kept. On a machine that
serves meanwhile both are slower: measure when it is idle.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from appliance.accounts.actions import Action, authorize
from appliance.audit.log import AuditLog
from appliance.config import Config
from appliance.engine.generation.client import Generator
from appliance.engine.generation.decoder import GPU_REFUSED
from appliance.engine.generation.values import GenerationRequest, Sampling
from appliance.errors import InvalidRequest
from appliance.service.events import record_looking, record_reading
from appliance.service.models import library_of
from appliance.service.protection import require_overseer
from appliance.types import AttributeValue, Principal

MEASURED = "capacity.measured"
SPEED = 8.0  # tokens a second: about as fast as people read
_SPEED_OF = "tokens_per_s_at_"  # and the number of answers: one attribute of the record for each row
_LOOKED_MAX = 1000  # measurements, newest first
_TOKENS = 33  # of each answer; the first one is what the prompt costs
_PROMPT = "The following is a long and detailed list of everything that was seen on day"


@dataclass(frozen=True, slots=True)
class CapacityRow:
    """So many answers at once, and how many tokens a second each of them got (median)."""

    answers: int
    tokens_per_s: float


@dataclass(frozen=True, slots=True)
class Capacity:
    """What one model does here. `rows` by the number of answers, the last at all slots."""

    model: str
    device: str
    memory_bytes: int
    rows: tuple[CapacityRow, ...]

    @property
    def gpu_refused(self) -> str | None:
        """Why a GPU pack that is installed was not used."""
        return self.device.removeprefix(GPU_REFUSED) if self.device.startswith(GPU_REFUSED) else None

    def users(self, speed: float = SPEED) -> int:
        """How many answers at once get `speed` or more; between two measurements on the line between them."""
        served = 0.0
        for one, other in zip(self.rows, (*self.rows[1:], None), strict=True):
            if one.tokens_per_s < speed:
                break
            served = one.answers
            if other is not None and other.tokens_per_s < speed:
                share = (one.tokens_per_s - speed) / (one.tokens_per_s - other.tokens_per_s)
                served += share * (other.answers - one.answers)
        return int(served)


@dataclass(frozen=True, slots=True)
class Measured:
    """A model that is here, and what was last measured of its file as it is now; None: it never was."""

    model: str
    sha256: str
    time: datetime | None = None
    capacity: Capacity | None = None


async def show_capacity(config: Config, log: AuditLog, principal: Principal) -> tuple[Measured, ...]:
    """Every model of this machine. Raises `PermissionDenied`; recorded first."""
    require_overseer(principal)
    await record_reading(log, principal, "system.capacity")
    return await asyncio.to_thread(_last_measured, config, log)


async def measure_capacity(config: Config, log: AuditLog, principal: Principal, model: str) -> Capacity:
    """Load the model, measure, and keep what was found, where the log takes it.

    Raises `PermissionDenied`, `ModelNotFound`, `ModelFileRefused`, `EngineUnavailable`, and `InvalidRequest` for
    a model whose answers end at once, which say nothing.
    """
    authorize(principal, Action.SYSTEM_STATUS)
    entry = await asyncio.to_thread(library_of(config).get, model)
    await record_looking(log, principal, "doctor.examined", {"model": entry.id})
    generator = await Generator.start(config.generation, entry.path, entry.manifest.sha256, config.home.runtime)
    try:
        await _row(generator, 1)  # the first pass reads the weights from the disk
        rows = tuple([await _row(generator, count) for count in _counts(config.generation.slots)])
        status = generator.status()
    finally:
        await generator.close()
    found = Capacity(entry.id, status.device, status.memory_bytes, rows)
    await record_looking(log, principal, MEASURED, _attributes(found, entry.manifest.sha256))
    return found


def _attributes(found: Capacity, sha256: str) -> dict[str, AttributeValue]:
    about: dict[str, AttributeValue] = {"model": found.model, "sha256": sha256}
    about |= {"device": found.device[:200], "memory_bytes": found.memory_bytes}
    return about | {f"{_SPEED_OF}{row.answers}": row.tokens_per_s for row in found.rows}


def _capacity(attributes: Mapping[str, AttributeValue]) -> Capacity:
    rows = [
        CapacityRow(int(name.removeprefix(_SPEED_OF)), float(value))
        for name, value in attributes.items()
        if name.startswith(_SPEED_OF)
    ]
    ordered = tuple(sorted(rows, key=lambda row: row.answers))
    return Capacity(str(attributes["model"]), str(attributes["device"]), int(attributes["memory_bytes"]), ordered)


def _last_measured(config: Config, log: AuditLog) -> tuple[Measured, ...]:
    shown = {
        (entry.id, entry.manifest.sha256): Measured(entry.id, entry.manifest.sha256)
        for entry in library_of(config).list()
    }
    for view in log.records(limit=_LOOKED_MAX, event=MEASURED) if shown else ():
        of = (str(view.attributes["model"]), str(view.attributes["sha256"]))
        if of in shown and shown[of].capacity is None:
            shown[of] = Measured(*of, view.time, _capacity(view.attributes))
    return tuple(shown.values())


def _counts(slots: int) -> list[int]:
    """1, 2, 4 … and all."""
    counts = [1]
    while counts[-1] * 2 < slots:
        counts.append(counts[-1] * 2)
    return [*counts, slots] if slots > 1 else counts


async def _row(generator: Generator, count: int) -> CapacityRow:
    speeds = await asyncio.gather(*(_speed(generator, number) for number in range(count)))
    measured = [speed for speed in speeds if speed is not None]
    if not measured:
        raise InvalidRequest("the model's answers end before they can be timed", hint="measure another model")
    return CapacityRow(count, round(statistics.median(measured), 2))


async def _speed(generator: Generator, number: int) -> float | None:
    """Tokens a second of one answer after its first piece, or of all of it where that piece held most of it because
    this process was busy, which is no faster than it was; None: it was over too soon.
    """
    sampling = Sampling(temperature=1.0, seed=number)  # what is likeliest may repeat itself and be guessed
    request = GenerationRequest(f"{_PROMPT} {number}:", f"capacity:{number}", sampling, max_tokens=_TOKENS)
    asked = time.monotonic()
    began, before, tokens = 0.0, 0, 0
    async with await generator.generate(request) as chunks:
        async for chunk in chunks:
            tokens += chunk.tokens
            if not began and tokens:
                began, before = time.monotonic(), tokens
    ended = time.monotonic()
    if tokens - before >= _TOKENS // 2 and ended > began:
        return (tokens - before) / (ended - began)
    return tokens / (ended - asked) if tokens >= _TOKENS // 2 and ended > asked else None
