"""What tests of the log share: settings for a data folder, an opened log, events, and bounded waiting."""

from __future__ import annotations

import asyncio
import dataclasses
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from appliance.audit.log import AuditLog
from appliance.audit.root_key import read_root_key
from appliance.config import Config, Home, load_config
from appliance.types import AuditEvent, Outcome

WAIT_S = 60.0  # a bound on waiting for another process, never a pause


def config_of(home: Home, **audit: object) -> Config:
    """The defaults for `home`, with some settings of the log changed.

    Heartbeats stay out of the way, and so do the time limits of an append and of a start: a busy machine is no fault
    of the log.
    """
    config = load_config(home.root)
    settings = config.audit.model_copy(update={"heartbeat_s": 3600.0, "append_s": WAIT_S, "start_s": WAIT_S} | audit)
    return dataclasses.replace(config, audit=settings)


@asynccontextmanager
async def opened(home: Home, **audit: object) -> AsyncIterator[AuditLog]:
    """The log of `home`, with a real sequencer process behind it."""
    log = await AuditLog.open(config_of(home, **audit), read_root_key(home.root_key_file))
    try:
        yield log
    finally:
        await log.close()


def an_event(number: int = 0, *, content: bytes | None = None, record_id: bytes | None = None) -> AuditEvent:
    """An event whose attributes name its number."""
    return AuditEvent(
        event="deidentify",
        actor="user:7",
        outcome=Outcome.ACCEPTED,
        exchange_id=f"x{number}",
        record_id=record_id or secrets.token_bytes(16),
        attributes={"number": number},
        content=content,
    )


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop run until `condition` holds; fails after `WAIT_S`."""
    async with asyncio.timeout(WAIT_S):
        while not condition():
            await asyncio.sleep(0.01)
