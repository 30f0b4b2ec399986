"""Which decoders are in memory: loaded at their first use, the least recently used out, never over the budget.

    models = LoadedModels(config.generation, config.home.runtime)
    async with models.lease(ModelFile("qwen3-4b", path, sha256)) as generator:
        stream = await generator.generate(request)         # the model stays while the lease lasts
    await models.close()

Owns the generators. One load at a time; requests for models that are in memory do not wait for it. What is to be
loaded and what must go for it is decided by `plan`, a pure function of sizes and uses.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from appliance.config import GenerationConfig
from appliance.engine.generation.client import Generator
from appliance.engine.generation.model_file import estimate, read_header
from appliance.engine.generation.status import GeneratorStatus
from appliance.engine.status import EngineEvent
from appliance.errors import EngineUnavailable, ModelFileRefused, QueueFull

_RETRY_AFTER_S = 15.0


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A decoder's file: what requests call it, where it lies, and the hash it was registered with."""

    id: str
    path: Path
    sha256: str


@dataclass(frozen=True, slots=True)
class Resident:
    """One model in memory, as the plan sees it. `used`: a number that grows with every use."""

    sha256: str
    memory_bytes: int
    leases: int
    used: int


def plan(
    residents: Sequence[Resident], need_bytes: int, *, budget_bytes: int, models_max: int
) -> tuple[str, ...] | None:
    """Which models must go so that one of `need_bytes` fits, least recently used first; None: too many are in use.

    Models that are leased stay. MUST only be asked for a model that fits an empty budget.
    """
    assert need_bytes <= budget_bytes, "a model that never fits is refused before it is planned"
    taken, count = sum(resident.memory_bytes for resident in residents), len(residents)
    going: list[str] = []
    for resident in sorted(residents, key=lambda resident: resident.used):
        if taken + need_bytes <= budget_bytes and count < models_max:
            break
        if resident.leases == 0:
            going.append(resident.sha256)
            taken, count = taken - resident.memory_bytes, count - 1
    if taken + need_bytes > budget_bytes or count >= models_max:
        return None
    return tuple(going)


@dataclass(slots=True)
class _Loaded:
    file: ModelFile
    generator: Generator
    memory_bytes: int
    leases: int = 0
    used: int = 0


class LoadedModels:
    """The generators of one process, by the hash of their file."""

    def __init__(
        self,
        config: GenerationConfig,
        runtime: Path,
        *,
        on_event: Callable[[EngineEvent], None] = lambda _event: None,
    ) -> None:
        self._config, self._runtime, self._on_event = config, runtime, on_event
        self._loaded: dict[str, _Loaded] = {}
        self._loading = asyncio.Lock()
        self._uses = 0
        self._closed = False

    @asynccontextmanager
    async def lease(self, file: ModelFile) -> AsyncIterator[Generator]:
        """The generator of this model, loaded if need be; it stays in memory inside the block.

        Raises `ModelFileRefused` (malformed, another hash, never fits: with the figures), `QueueFull` while models in
        use leave no room, `EngineUnavailable`.
        """
        loaded = self._loaded.get(file.sha256) or await self._load(file)
        self._uses += 1
        loaded.used = self._uses
        loaded.leases += 1
        try:
            yield loaded.generator
        finally:
            loaded.leases -= 1

    def status(self) -> dict[str, GeneratorStatus]:
        """Figures of what is in memory, by the model's id."""
        return {loaded.file.id: loaded.generator.status() for loaded in self._loaded.values()}

    async def close(self) -> None:
        """End all workers. A second time is no work."""
        self._closed = True
        async with self._loading:
            while self._loaded:
                _, loaded = self._loaded.popitem()
                await loaded.generator.close()

    async def _load(self, file: ModelFile) -> _Loaded:
        async with self._loading:
            if self._closed:
                raise EngineUnavailable("the engine is closed")
            if file.sha256 in self._loaded:
                return self._loaded[file.sha256]
            need = await asyncio.to_thread(self._need, file)
            await self._make_room(file, need)
            generator = await Generator.start(
                self._config, file.path, file.sha256, self._runtime, on_event=self._on_event
            )
            loaded = self._loaded[file.sha256] = _Loaded(file, generator, need)
            return loaded

    def _need(self, file: ModelFile) -> int:
        config = self._config
        header = read_header(file.path)
        context_tokens = min(config.context_tokens, header.positions)
        need = estimate(header, slots=config.slots, context_tokens=context_tokens, step_tokens=config.step_tokens).total
        if need > config.memory_bytes_total:
            raise ModelFileRefused(
                f"the model {file.id} needs about {need // 2**20} MiB with {config.slots} slots of {context_tokens} "
                f"tokens; this site gives models {config.memory_bytes_total // 2**20} MiB",
                hint="lower generation.slots or generation.context_tokens, raise generation.memory_bytes_total, or "
                "choose a smaller model",
            )
        return need

    async def _make_room(self, file: ModelFile, need: int) -> None:
        residents = [
            Resident(key, loaded.memory_bytes, loaded.leases, loaded.used) for key, loaded in self._loaded.items()
        ]
        config = self._config
        going = plan(residents, need, budget_bytes=config.memory_bytes_total, models_max=config.models_max)
        if going is None:
            raise QueueFull(
                f"the model {file.id} cannot be loaded now: the models in use leave no room for it",
                hint="try again when they are idle, or raise generation.memory_bytes_total or generation.models_max",
                retry_after_s=_RETRY_AFTER_S,
            )
        for key in going:
            await self._loaded.pop(key).generator.close()
