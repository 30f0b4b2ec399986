"""The adapters that a worker has loaded, those that wait for it, and those that made one stop. Owns these lists.

    adapters = Adapters(command_of, refusal, start_s=60, noun="specialist", on_event=on_event)
    await adapters.load(key, item, supervisor.worker)       # waits for the worker's answer
    adapters.take(report)                                   # Loading, Loaded, LoadRefused
    adapters.commands()                                     # for the next worker

An adapter whose file a worker crashed or hung over, or died of whatever over twice in a row, is remembered and refused
until it is forgotten; one kill from outside while a file was read says nothing about it. Belongs to one event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

from appliance.engine import protocol
from appliance.engine.ledger import fail
from appliance.engine.status import EngineEvent, EventValue
from appliance.engine.worker_process import Ending, WorkerProcess
from appliance.errors import ApplianceError, EngineUnavailable, SpecialistFileInvalid

Item = TypeVar("Item")
Refusal = Callable[[str, str, str | None], ApplianceError]


class Adapters(Generic[Item]):
    """See the module. `command_of` makes the message that has a worker load an item; `noun` is for messages."""

    def __init__(
        self,
        command_of: Callable[[Item], Any],
        refusal: Refusal,
        *,
        start_s: float,
        noun: str,
        on_event: Callable[[EngineEvent], None],
    ) -> None:
        self._command_of = command_of
        self._refusal = refusal
        self._start_s = start_s
        self._noun = noun
        self._on_event = on_event
        self.loaded: dict[str, Item] = {}
        self.poisoned: dict[str, str] = {}  # why each is refused
        self.memory_bytes = 0  # of the worker, as it said last
        self._waiting: dict[str, tuple[Item, asyncio.Future[None]]] = {}
        self._loading: str | None = None  # the file that the worker is reading at this moment
        self._suspect: str | None = None  # the file that was being read when the last worker died

    async def load(self, key: str, item: Item, worker: Callable[[], WorkerProcess | None]) -> None:
        """Make an adapter ready; a second time is no work.

        Raises `SpecialistFileInvalid` (malformed, or it killed a worker now or before), what the worker refused with,
        `EngineUnavailable`.
        """
        if key in self.poisoned:
            raise self._poisoned_error(self.poisoned[key])
        if key in self.loaded:
            return
        if key not in self._waiting:
            command = self._command_of(item)
            self._waiting[key] = item, asyncio.get_running_loop().create_future()
            if (alive := worker()) is not None:
                await alive.send(command)
        try:
            async with asyncio.timeout(self._start_s):
                await asyncio.shield(self._waiting[key][1])
        except TimeoutError:
            error = EngineUnavailable(
                f"the engine did not load the {self._noun} {key[:12]} within {self._start_s:g} s",
                hint="see `appliance doctor`",
            )
            _, waiting = self._waiting.pop(key, (None, None))
            if waiting is not None:
                fail(waiting, error)
            raise error from None

    def forget(self, key: str) -> bool:
        """Forget an adapter, its refusal included; whether a worker has it."""
        self.poisoned.pop(key, None)
        return self.loaded.pop(key, None) is not None

    def commands(self) -> Iterator[Any]:
        """What a new worker is told first."""
        waiting = (item for item, _ in self._waiting.values())
        return (self._command_of(item) for item in (*self.loaded.values(), *waiting))

    def take(self, report: protocol.Loading | protocol.Loaded | protocol.LoadRefused) -> None:
        """What the worker says of the file that it reads."""
        match report:
            case protocol.Loading():
                self._loading = report.key
            case protocol.Loaded():
                self._loading, self.memory_bytes = None, report.memory_bytes
                self._settle(report.key, None)
            case protocol.LoadRefused():
                self._loading = None
                self._settle(report.key, self._refusal(report.code, report.message, report.hint))

    def bury(self, ending: Ending, *, stuck: bool) -> dict[str, EventValue]:
        """The worker died: whether a file is to blame. Returns which was being read, for the event."""
        file = self._loading
        if file is not None and (ending.crashed or stuck or file == self._suspect):
            self._poison(file, ending.reason)
        self._suspect, self._loading = file, None
        return {} if file is None else {"adapter": file}

    def fail_all(self, error: ApplianceError) -> None:
        """Nobody will load what waits."""
        for _, waiting in self._waiting.values():
            fail(waiting, error)
        self._waiting.clear()

    def _settle(self, key: str, error: ApplianceError | None) -> None:
        """A load ended, the first or one after a restart."""
        item, waiting = self._waiting.pop(key, (None, None))
        if error is not None:
            self.loaded.pop(key, None)
            self._on_event(EngineEvent("adapter_refused", {"adapter": key, "code": error.code}))
            if waiting is not None:
                fail(waiting, error)
        elif item is not None and waiting is not None:
            self.loaded[key] = item
            self._on_event(EngineEvent("adapter_loaded", {"adapter": key}))
            if not waiting.done():
                waiting.set_result(None)

    def _poison(self, key: str, reason: str) -> None:
        self.poisoned[key] = reason
        self.loaded.pop(key, None)
        _, waiting = self._waiting.pop(key, (None, None))
        if waiting is not None:
            fail(waiting, self._poisoned_error(reason))
        self._on_event(EngineEvent("adapter_refused", {"adapter": key, "code": SpecialistFileInvalid.code}))

    def _poisoned_error(self, reason: str) -> SpecialistFileInvalid:
        return SpecialistFileInvalid(
            f"the {self._noun}'s file made the engine's worker stop ({reason}); it is refused from now on",
            hint="remove it and install it again from a source you trust",
        )
