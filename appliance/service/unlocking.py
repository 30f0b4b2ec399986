"""The log of a data folder whose keys were just unlocked: what was left undone is finished, what waited is recorded.

log = await open_unlocked(config, unlock(config))
"""

from __future__ import annotations

import asyncio

from appliance.audit.key_rotation import finish_rotation
from appliance.audit.log import AuditLog
from appliance.audit.root_source import failures_of
from appliance.config import Config
from appliance.errors import AuditError
from appliance.service.events import SYSTEM, new_event
from appliance.types import Outcome


async def open_unlocked(config: Config, root_key: bytes) -> AuditLog:
    """The log. Raises what `AuditLog.open` raises; with a wrong key nothing was written."""
    await asyncio.to_thread(finish_rotation, config.home, root_key)
    log = await AuditLog.open(config, root_key)
    try:
        await record_passphrase_failures(config, log)
    except BaseException:
        await log.close()
        raise
    return log


async def record_passphrase_failures(config: Config, log: AuditLog) -> int:
    """Record how many wrong passphrases were tried since the last unlocking, and forget them. How many there were.

    A log that takes no records keeps them waiting: that must not keep anybody from opening it to see why.
    """
    failures = failures_of(config)
    count = await asyncio.to_thread(failures.unrecorded)
    if count:
        try:
            await log.append(new_event("key.passphrase_refused", SYSTEM, Outcome.REFUSED, {"failures": count}))
        except AuditError:
            return 0
        await asyncio.to_thread(failures.recorded, count)
    return count
