"""Checkpoints leave the machine while a server runs, and the server asks before it records anything at its start.

    await ask_before_recording(config)            # a log that was put back is quarantined before it is written to
    async with anchored(config, log) as anchors:
        asyncio.create_task(anchors.watch())      # the witness; the SIEM has a task of its own
        anchors.exposure()                        # for the API and metrics

The witness is asked before the sequencer is started, because the first thing a sequencer does is to record its start:
on a log that was put back that would be a second history. A witness that does not answer stops nothing; the exposure
window grows, and says so.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Protocol

import httpx

from appliance.audit.anchors import CursorView, Exposure, Publisher, alarm_edge, exposure
from appliance.audit.checkpoint import parse_checkpoint
from appliance.audit.keystore import public_material
from appliance.audit.log import AuditLog
from appliance.audit.quarantine import enter_quarantine, read_quarantine
from appliance.audit.receipt_check import CheckedReceipt, check_receipt
from appliance.audit.siem import SiemStream
from appliance.audit.stored_view import StoredView
from appliance.audit.witness_client import Forked, WitnessClient, check_witness, sink_of
from appliance.config import Config
from appliance.errors import ApplianceError
from appliance.service.events import SYSTEM, new_event
from appliance.service.siem import streaming_to_siem
from appliance.types import AttributeValue, Outcome

ALARM_EVENT = "audit.exposure_alarm"
_LOOK_EVERY_S = 5.0
logger = logging.getLogger(__name__)


async def ask_before_recording(config: Config, *, transport: httpx.AsyncBaseTransport | None = None) -> None:
    """Ask the configured witness whether this log is the one it knows; quarantine it if not.

    Raises `ConfigInvalid`. Anything that keeps the question from being asked is for others to find and to report.
    """
    check_witness(config.witness)
    folder = config.home.audit_database.parent
    if not config.witness.url or await asyncio.to_thread(read_quarantine, folder) is not None:
        return
    view, client = StoredView(config.home), WitnessClient(config.witness, transport=transport)
    try:
        if await asyncio.to_thread(view.signed_head) is None:
            return
        verdict = await client.submit(view)
    except ApplianceError as error:
        logger.warning("the witness was not asked: %s", error.message)
        return
    finally:
        await client.close()
    if isinstance(verdict, Forked):
        logger.error("the audit log is quarantined: %s", verdict.why)
        await asyncio.to_thread(enter_quarantine, folder, verdict.why, verdict.note, cut=verdict.cut)


class SizedLog(Protocol):
    """What an exposure window is computed from: `AuditLog`, or `StoredView` where no log is opened."""

    def checkpoint(self) -> str: ...

    def cursors(self) -> Mapping[str, CursorView]: ...


@asynccontextmanager
async def anchored(config: Config, log: AuditLog) -> AsyncIterator[Anchors]:
    """What takes checkpoints and records out, until the block ends. A quarantined log is sent nowhere.

    Raises `ConfigInvalid` for a witness or SIEM that cannot be used as it is configured.
    """
    if log.quarantine is not None:
        yield Anchors(config, log)
        return
    async with streaming_to_siem(config, log) as stream:
        yield Anchors(config, log, stream)


class Anchors:
    """What leaves the machine of one opened log, and how old that is."""

    def __init__(
        self,
        config: Config,
        log: AuditLog,
        siem: SiemStream | None = None,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._config = config
        self._log = log
        self._since_ms = _now_ms()
        self._alarm = False
        self._siem = siem
        self._client: WitnessClient | None = None
        self._publisher: Publisher | None = None
        if config.witness.url:
            self._client = WitnessClient(config.witness, transport=transport)
            view, every_s = StoredView(config.home), config.witness.every_s
            self._publisher = Publisher(log, view, self._client, every_s=every_s)

    def exposure(self) -> Exposure:
        """The exposure window now. Reads a few rows: call it through `asyncio.to_thread`."""
        served = (self._publisher, self._siem)
        problems = {task.sink: task.problem for task in served if task is not None and task.problem}
        return exposure_of(self._config, self._log, problems=problems, since_ms=self._since_ms)

    async def watch(self) -> None:
        """Publish and look, until cancelled."""
        work = [self._look()]
        if self._publisher is not None:
            work.append(self._publisher.run())
        try:
            await asyncio.gather(*work)
        finally:
            if self._client is not None:
                await self._client.close()

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(min(_LOOK_EVERY_S, self._config.witness.exposure_target_s))
            try:
                await self.note_alarm(await asyncio.to_thread(self.exposure))
            except ApplianceError as error:
                logger.warning("the exposure window was not looked at: %s", error.message)

    async def note_alarm(self, found: Exposure) -> None:
        """Record that the alarm began or ended, once each. One that could not be recorded is tried again."""
        edge = alarm_edge(self._alarm, found)
        if edge is None or self._log.quarantine is not None:
            return
        logger.warning("the exposure alarm %s: %s of %s records are outside", edge, found.anchored_size, found.size)
        about: dict[str, AttributeValue] = {
            "state": edge,
            "size": found.size,
            "anchored_size": found.anchored_size,
            "age_s": int(found.age_s) if found.age_s is not None else -1,
            "target_s": int(found.target_s),
        }
        await self._log.append(new_event(ALARM_EVENT, SYSTEM, Outcome.COMPLETED, about))
        self._alarm = found.alarm


def configured_sinks(config: Config) -> tuple[str, ...]:
    """Where checkpoints are to go."""
    witness = (sink_of(config.witness.verifier_key),) if config.witness.url else ()
    return (*witness, *((f"siem:{config.siem.host}",) if config.siem.host else ()))


def exposure_of(
    config: Config, log: SizedLog, *, problems: Mapping[str, str] | None = None, since_ms: int = 0
) -> Exposure:
    """The exposure window as the log knows it: for the command line, which serves no sink itself."""
    size = parse_checkpoint(log.checkpoint().partition("\n\n")[0] + "\n").size
    return exposure(
        log.cursors(),
        size,
        _now_ms(),
        target_s=config.witness.exposure_target_s,
        sinks=configured_sinks(config),
        problems=problems,
        since_ms=since_ms,
    )


async def compare_receipt(config: Config, log: AuditLog, proof_text: str) -> CheckedReceipt:
    """Compare a receipt with the log; one that contradicts it quarantines the log. See `audit/receipt_check.py`."""
    material = await asyncio.to_thread(public_material, config.home)
    keys = [key.verifier_key for key in material.keys]
    return await check_receipt(log, StoredView(config.home), keys, proof_text)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
