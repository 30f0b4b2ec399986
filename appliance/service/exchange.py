"""One request as the log sees it: at most one opening record, exactly one closing record, whatever happens.

    async with recorded_exchange(appliance, principal, "deidentify") as exchange:
        ...                                  # may refuse: one closing record, outcome refused
        await exchange.open(text, attributes)   # durable before the engine runs
        ...                                  # may fail or be cancelled: one closing record
        return await exchange.close(answer, content, attributes)  # durable before anything is released

The only exit without a closing record is an audit store that cannot record: then nothing is released either, and
the exchange is closed at the next start (`service/recovery.py`).
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from appliance import errors
from appliance.audit.gate import Released, release
from appliance.audit.log import AuditLog
from appliance.service.events import code_of, new_event
from appliance.types import AttributeValue, Outcome, Principal, Receipt

T = TypeVar("T")
logger = logging.getLogger(__name__)

_REFUSALS = (errors.InvalidRequest, errors.PermissionDenied, errors.NotFound, errors.Conflict, errors.QueueFull)


@dataclass(slots=True)
class Exchange:
    """State of one exchange, owned by the task that serves it."""

    audit: AuditLog
    event: str
    principal: Principal
    attributes: dict[str, AttributeValue]
    id: str = field(default_factory=lambda: secrets.token_hex(16))
    opened: bool = False
    closed: bool = False

    async def open(self, content: bytes, attributes: dict[str, AttributeValue]) -> Receipt:
        """Record that the request was accepted. Nothing may run for it before this returns."""
        assert not self.opened and not self.closed, "an exchange opens once"
        self.attributes |= attributes
        receipt = await self._append(Outcome.ACCEPTED, {}, content)
        self.opened = True
        return receipt

    async def close(self, answer: T, content: bytes, attributes: dict[str, AttributeValue]) -> Released[T]:
        """Record the answer and hand it out; the caller may show nothing that did not come through here.

        `content` is the answer as it is sealed into the record.
        """
        assert self.opened and not self.closed, "an exchange is open when it completes"
        closing = asyncio.ensure_future(self._append(Outcome.COMPLETED, attributes, content))
        try:
            receipt = await asyncio.shield(closing)
        finally:
            # Even when the client goes now, this record is on its way and may be stored: another one must not
            # contradict it. Only a record that was certainly not made leaves the exchange open.
            failure = await _outcome_of_append(closing)
            self.closed = failure is None or isinstance(failure, errors.AuditUnavailable)
        return release(answer, receipt)

    async def close_without_answer(self, error: BaseException) -> None:
        """Record why nothing was released."""
        assert not self.closed
        self.closed = True
        await self._append(outcome_of(error), {"error": code_of(error)}, None)

    async def _append(self, outcome: Outcome, attributes: dict[str, AttributeValue], content: bytes | None) -> Receipt:
        event = new_event(
            self.event,
            self.principal.id,
            outcome,
            self.attributes | attributes,
            exchange_id=self.id,
            content=content,
        )
        return await self.audit.append(event)


@asynccontextmanager
async def recorded_exchange(
    audit: AuditLog, principal: Principal, event: str, attributes: dict[str, AttributeValue]
) -> AsyncIterator[Exchange]:
    """An exchange that is closed on every way out of the block."""
    exchange = Exchange(audit, event, principal, dict(attributes))
    try:
        yield exchange
    except BaseException as error:
        if not exchange.closed and not isinstance(error, errors.AuditUnavailable):
            await _close_shielded(exchange, error)
        raise
    assert exchange.closed, "the block returned without closing the exchange"


async def _close_shielded(exchange: Exchange, error: BaseException) -> None:
    """Append the closing record even while the task is being cancelled; an audit failure must not hide `error`."""
    failure = await _outcome_of_append(asyncio.ensure_future(exchange.close_without_answer(error)))
    if failure is not None:
        logger.error("exchange %s could not be closed: %s", exchange.id, code_of(failure))


async def _outcome_of_append(appending: asyncio.Future[Any]) -> BaseException | None:
    """Wait until an append is over, through any number of cancellations: why it failed, or None."""
    while not appending.done():
        try:
            await asyncio.wait({appending})
        except asyncio.CancelledError:
            continue  # the client is gone a second time; the append has its own time limit, so this is bounded
    return asyncio.CancelledError() if appending.cancelled() else appending.exception()


def outcome_of(error: BaseException) -> Outcome:
    """How an exchange that ended with `error` is recorded."""
    if isinstance(error, asyncio.CancelledError | errors.RequestCancelled):
        return Outcome.CANCELLED
    return Outcome.REFUSED if isinstance(error, _REFUSALS) else Outcome.FAILED
