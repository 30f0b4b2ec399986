"""Requests that were refused for who sent them, as bounded records: a flood of them must not fill the log.

    denials = Denials(log, per_minute=20)
    await denials.record(Denial("unauthenticated", "GET", "/v1/accounts", "10.0.0.7"))
    await denials.watch()            # appends the summaries when their minute ends, until cancelled

From each address so many a minute are recorded one by one; for the rest one record says how many there were, when the
minute ends. Addresses beyond a bound share one place. What was sent is not recorded: it may be a secret.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from appliance.audit.log import AuditLog
from appliance.errors import ApplianceError
from appliance.service.event_names import DENIED
from appliance.service.events import ANONYMOUS, new_event
from appliance.types import AttributeValue, Outcome

MINUTE_S = 60.0
ADDRESSES_MAX = 256
OTHER_ADDRESSES = "others"
_WATCH_S = 5.0
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Denial:
    """One refusal: the error's code, the route's template (never the path that was sent), the peer's address."""

    error: str
    method: str
    route: str
    address: str
    actor: str = ANONYMOUS


@dataclass(slots=True)
class _Minute:
    """What one address was refused since `began` (monotonic seconds)."""

    began: float
    recorded: int = 0
    more: int = 0


class Denials:
    """Counts refusals by address and records them. Belongs to one event loop."""

    def __init__(self, log: AuditLog, per_minute: int, now: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._per_minute = per_minute
        self._now = now
        self._minutes: dict[str, _Minute] = {}

    async def record(self, denial: Denial) -> None:
        """Record one refusal, or count it. Never raises: the refusal stands, and what was not recorded is counted."""
        await self.flush()
        known = denial.address in self._minutes or len(self._minutes) < ADDRESSES_MAX
        minute = self._minutes.setdefault(denial.address if known else OTHER_ADDRESSES, _Minute(self._now()))
        if minute.recorded >= self._per_minute:
            minute.more += 1
            return
        minute.recorded += 1
        attributes: dict[str, AttributeValue] = {
            "error": denial.error,
            "method": denial.method,
            "route": denial.route,
            "address": denial.address,
        }
        if not await self._append(denial.actor, attributes):
            minute.more += 1

    async def flush(self, *, everything: bool = False) -> None:
        """Append the summaries of minutes that have ended; with `everything`, of all."""
        now = self._now()
        ended = [address for address, minute in self._minutes.items() if everything or now - minute.began >= MINUTE_S]
        for address in ended:
            minute = self._minutes.pop(address, None)
            if minute is None or not minute.more:
                continue
            if not await self._append(ANONYMOUS, {"address": address, "count": minute.more}) and not everything:
                # Counted on, so that the number is told once the log records again.
                self._minutes.setdefault(address, _Minute(now, self._per_minute)).more += minute.more

    async def watch(self) -> None:
        """Append the summaries as they become due, until cancelled."""
        while True:
            await asyncio.sleep(_WATCH_S)
            await self.flush()

    async def _append(self, actor: str, attributes: dict[str, AttributeValue]) -> bool:
        try:
            await self._log.append(new_event(DENIED, actor, Outcome.REFUSED, attributes))
        except ApplianceError as error:
            logger.error("a refused request was not recorded: %s", error.code)
            return False
        return True
