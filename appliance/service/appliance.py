"""The composition root: opens the rooms of one data folder, in order, and closes them in reverse.

    async with open_appliance(config, via="cli") as appliance:
        released = await answer(appliance, principal, request)

Owns no state of its own: `Appliance` is a frozen bundle of the rooms, and every use case takes it as an argument.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Collection, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from appliance import __version__
from appliance.accounts.directory import Directory
from appliance.audit.conversations import Conversations
from appliance.audit.log import AuditLog
from appliance.audit.root_source import unlock
from appliance.config import Config, GuardConfig
from appliance.engine.client import Engine, EngineEvent
from appliance.engine.generation.loaded import LoadedModels
from appliance.engine.generation.upstream import Upstreams
from appliance.errors import ApplianceError
from appliance.service.anchoring import Anchors, anchored, ask_before_recording
from appliance.service.audit_retention import begin_retention, expire_regularly
from appliance.service.backup.backups import backup_regularly
from appliance.service.command_marks import hold_mark
from appliance.service.configuration import configuration_sha256
from appliance.service.denials import Denials
from appliance.service.egress.egress import try_regularly
from appliance.service.event_names import STARTED
from appliance.service.events import SYSTEM, Via, new_event
from appliance.service.home import check_home
from appliance.service.recovery import close_abandoned, recover
from appliance.service.rooms import open_conversations, open_directory
from appliance.service.site_certificate import seal_authority
from appliance.service.specialists import open_registry
from appliance.service.training import Teaching, open_teaching
from appliance.service.unlocking import open_unlocked
from appliance.specialists.base_model import MINILM, open_base_model
from appliance.specialists.guard_memory import GuardMemory
from appliance.specialists.registry import Registry, SpecialistEntry
from appliance.specialists.router_examples import ExampleVectors, bundled_vectors
from appliance.specialists.tokenization import WordPiece
from appliance.types import AttributeValue, Outcome

_ENGINE_EVENTS_MAX = 100
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Appliance:
    """The opened rooms of one data folder.

    `process` is part of every record of an exchange: whose it is, should this process die (`service/recovery.py`).
    """

    config: Config
    via: Via
    accounts: Directory
    audit: AuditLog
    registry: Registry
    engine: Engine
    wordpiece: WordPiece
    denials: Denials
    process: Mapping[str, AttributeValue]
    anchors: Anchors | None = None  # opened by a server
    examples: ExampleVectors = field(default_factory=ExampleVectors)
    guard_memory: GuardMemory = field(default_factory=lambda: GuardMemory(GuardConfig()))
    teaching: Teaching | None = None  # of a server
    writers: LoadedModels | None = None  # models that write, loaded at their first use
    upstreams: Upstreams | None = None  # those of other servers inside the site
    conversations: Conversations | None = None  # of a server


@asynccontextmanager
async def open_appliance(
    config: Config, *, via: Via, specialists: tuple[str, ...] | None = None
) -> AsyncIterator[Appliance]:
    """The whole appliance. `specialists` are loaded before it is handed out (None: all); others at their first use.

    Raises a `HomeError`, `WrongKey`, `KeystoreInvalid`, `AuditUnavailable`, `ModelFileRefused`, `EngineUnavailable`.
    """
    await asyncio.to_thread(check_home, config.home)
    root_key = unlock(config)  # before anything that has a time limit: a person may be typing
    async with AsyncExitStack() as stack:
        directory = stack.enter_context(open_directory(config))
        registry = stack.enter_context(open_registry(config))
        base = await asyncio.to_thread(open_base_model, config.home)
        wordpiece = await asyncio.to_thread(WordPiece.from_vocab, base.vocabulary)
        watcher = _EngineWatcher()
        if via == "server":
            await ask_before_recording(config)
        # The log and the worker start side by side: each mostly waits for its process. Both are awaited even when one
        # fails, so that the other is closed in order and the reason is the error itself, not a group of errors.
        log, engine = await asyncio.gather(
            open_unlocked(config, root_key),
            Engine.start(config.engine, base.path, base.sha256, config.home.runtime, on_event=watcher.note),
            return_exceptions=True,
        )
        for room in (log, engine):
            if not isinstance(room, BaseException):
                stack.push_async_callback(room.close)
        if isinstance(log, BaseException):
            raise log
        if isinstance(engine, BaseException):
            raise engine
        if via == "cli":
            log.require_recording()  # a server is started all the same, to be read; a command says why it does nothing
        writers = LoadedModels(config.generation, config.home.runtime, on_event=watcher.note)
        stack.push_async_callback(writers.close)
        upstreams = Upstreams(config.upstream)
        stack.push_async_callback(upstreams.close)
        wanted = registry.list() if specialists is None else [registry.get(name) for name in specialists]
        for entry in wanted:
            await engine.load(entry.adapter())
        await close_abandoned(config.home, log)
        process: dict[str, AttributeValue] = {"via": via}
        if via == "cli":
            process |= stack.enter_context(hold_mark(config.home, await _size(log))).attributes()
        denials = Denials(log, config.limits.denials_per_minute)
        anchors = await stack.enter_async_context(anchored(config, log)) if via == "server" else None
        examples = ExampleVectors(await asyncio.to_thread(bundled_vectors, MINILM.weights_sha256))
        teaching = await stack.enter_async_context(open_teaching(config)) if via == "server" else None
        conversations = stack.enter_context(open_conversations(config, log)) if via == "server" else None
        rooms = (directory, log, registry, engine, wordpiece, denials)
        memory = GuardMemory(config.guard)
        of_writing = (writers, upstreams, conversations)
        appliance = Appliance(config, via, *rooms, process, anchors, examples, memory, teaching, *of_writing)
        if via == "server" and log.quarantine is None:  # a quarantined log is served to be read
            await asyncio.to_thread(seal_authority, config, log)
            await begin_retention(config, log)
            await recover(directory, log, config.home)
            await _record_start(config, log, wanted)
        try:
            of_server: tuple[Coroutine[Any, Any, None], ...] = ()
            if anchors is not None:
                of_server = (
                    anchors.watch(),
                    expire_regularly(config, log, conversations),
                    backup_regularly(config, log, root_key),
                    try_regularly(config, log),
                )
            async with _in_background(watcher.record(log), denials.watch(), *of_server):
                yield appliance
        finally:
            if via == "server" and log.alive:
                await denials.flush(everything=True)
                await log.append(new_event("appliance.stopped", SYSTEM, Outcome.COMPLETED))


async def _record_start(config: Config, log: AuditLog, loaded: Collection[SpecialistEntry]) -> None:
    """What serves from now on: the release, the configuration and the specialists."""
    about: dict[str, AttributeValue] = {
        "version": __version__,
        "configuration_sha256": configuration_sha256(config),
        "specialists": len(loaded),
    }
    await log.append(new_event(STARTED, SYSTEM, Outcome.COMPLETED, about))
    for entry in loaded:
        which: dict[str, AttributeValue] = {
            "specialist": entry.ref.id,
            "specialist_version": entry.ref.version,
            "specialist_sha256": entry.ref.sha256,
        }
        await log.append(new_event("specialist.loaded", SYSTEM, Outcome.COMPLETED, which))


@asynccontextmanager
async def _in_background(*work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run these as long as the block lasts."""
    tasks = [asyncio.create_task(one) for one in work]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task


async def _size(log: AuditLog) -> int:
    """How many records are in the log."""
    note = await asyncio.to_thread(log.checkpoint)
    return int(note.split("\n", 2)[1])


class _EngineWatcher:
    """Puts what happens to the engine worker into the log, in order, outside the engine's own loop."""

    def __init__(self) -> None:
        self._events: asyncio.Queue[EngineEvent] = asyncio.Queue(maxsize=_ENGINE_EVENTS_MAX)

    def note(self, event: EngineEvent) -> None:
        """Called by the engine; never waits."""
        try:
            self._events.put_nowait(event)
        except asyncio.QueueFull:
            # A worker that dies this often is on the operator's screen already; the log has the first hundred.
            logger.error("engine event %s was not recorded: too many are waiting", event.kind)

    async def record(self, log: AuditLog) -> None:
        """Append each event as it comes, until cancelled."""
        while True:
            event = await self._events.get()
            attributes: dict[str, AttributeValue] = {"kind": event.kind, **event.attributes}
            try:
                await log.append(new_event("engine.event", SYSTEM, Outcome.COMPLETED, attributes))
            except ApplianceError as error:
                logger.error("engine event %s was not recorded: %s", event.kind, error.code)
