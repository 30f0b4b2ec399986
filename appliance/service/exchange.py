"""One request as the log sees it: at most one opening record, exactly one closing record, whatever happens.

    async with recorded_exchange(appliance, principal, "deidentify") as exchange:
        ...                                  # may refuse: one closing record, outcome refused
        await exchange.open(text, attributes)   # durable before the engine runs
        ...                                  # may fail or be cancelled: one closing record
        return await exchange.close(answer, content, attributes)  # durable before anything is released

An answer that is made piece by piece is recorded piece by piece; each leaves only as what `window` returns, and the
closing record binds the hash of them all:

    async for released in stream_exchange(exchange, text, attributes, chunks):
        await send(released.value)           # a `Released[bytes]`, and at last a `Released[StreamEnd]`

What was released is always a part of what was recorded. A window that was recorded and did not leave any more is
allowed, and so is one after the last that the closing record counts: the store did not say in time that it is there.

The only exit without a closing record is an audit store that cannot record it: then nothing is released either, and
the exchange is closed at the next start (`service/recovery.py`).
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from appliance import errors
from appliance.audit.gate import Released, release
from appliance.audit.log import AuditLog
from appliance.service.event_names import PARTS, WINDOW
from appliance.service.events import code_of, new_event
from appliance.types import AttributeValue, Outcome, Principal, Receipt

T = TypeVar("T")
logger = logging.getLogger(__name__)

_REFUSALS = (errors.InvalidRequest, errors.PermissionDenied, errors.NotFound, errors.Conflict, errors.QueueFull)
NOT_RECORDED = (errors.AuditUnavailable, errors.AuditQuarantined)  # the record may be there, or may not


@dataclass(frozen=True, slots=True)
class StreamEnd:
    """The end of a streamed answer: so many windows, and the SHA-256 (hex) of their bytes in order."""

    windows: int
    size: int
    sha256: str


@dataclass(slots=True)
class Exchange:
    """State of one exchange, owned by the task that serves it."""

    audit: AuditLog
    event: str
    principal: Principal
    attributes: dict[str, AttributeValue]
    subject: str = ""
    id: str = field(default_factory=lambda: secrets.token_hex(16))
    opened: bool = False
    closed: bool = False
    undecided: bool = False  # the opening record may be there or not: the next start finds out
    broken: bool = False  # a window was not recorded: nothing more may leave
    windows: int = 0
    size: int = 0
    whole: Any = field(default_factory=hashlib.sha256)

    async def open(self, content: bytes, attributes: dict[str, AttributeValue]) -> Receipt:
        """Record that the request was accepted. Nothing may run for it before this returns."""
        assert not self.opened and not self.closed, "an exchange opens once"
        self.attributes |= attributes
        try:
            receipt = await self._append(Outcome.ACCEPTED, {}, content)
        except NOT_RECORDED:
            self.undecided = True
            raise
        self.opened = True
        return receipt

    async def note(self, event: str, attributes: dict[str, AttributeValue]) -> None:
        """Record something that was decided within the exchange; `event` is one of `event_names.PARTS`."""
        assert event in PARTS and not self.closed, "a note belongs to an exchange that is not over"
        await self._append(Outcome.ACCEPTED, attributes, None, event=event)

    async def window(self, chunk: bytes, read: Callable[[bytes], Any] = bytes) -> Released[Any]:
        """Record one piece of the answer and hand it out, as `read` reads it back from what was recorded.

        After an error nothing more can leave this exchange.
        """
        assert self.opened and not self.closed, "an exchange is open while its answer is streamed"
        assert chunk and not self.broken, "windows have bytes, and none follows one that was not recorded"
        # The piece is said to belong to an answer that is not complete: only the closing record ends the exchange.
        appending = asyncio.ensure_future(self._append(Outcome.ACCEPTED, {"window": self.windows}, chunk, event=WINDOW))
        try:
            receipt = await asyncio.shield(appending)
        finally:
            # Even when the client goes now, this record is on its way: the closing record comes after it.
            if await _outcome_of_append(appending) is None:
                self.windows += 1
                self.size += len(chunk)
                self.whole.update(chunk)
            else:
                self.broken = True
        return release(read(chunk), receipt)

    async def close(self, answer: T, content: bytes | None, attributes: dict[str, AttributeValue]) -> Released[T]:
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
            self.closed = failure is None or isinstance(failure, NOT_RECORDED)
        return release(answer, receipt)

    async def close_stream(self, attributes: dict[str, AttributeValue], ended: Any = None) -> Released[Any]:
        """Record that the streamed answer is complete, with the hash of the whole. `ended`: handed out instead."""
        assert not self.broken, "an answer with a window that was not recorded is not complete"
        return await self.close(self.end() if ended is None else ended, None, attributes | self._said())

    async def close_without_answer(self, error: BaseException) -> None:
        """Record why nothing was released, or nothing more than the windows it counts."""
        assert not self.closed
        self.closed = True
        said = self._said() if self.windows else {}
        await self._append(outcome_of(error), {"error": code_of(error), **said}, None)

    def end(self) -> StreamEnd:
        """What was streamed so far."""
        return StreamEnd(self.windows, self.size, self.whole.hexdigest())

    def _said(self) -> dict[str, AttributeValue]:
        end = self.end()
        return {"windows": end.windows, "answer_bytes": end.size, "answer_sha256": end.sha256}

    async def _append(
        self,
        outcome: Outcome,
        attributes: dict[str, AttributeValue],
        content: bytes | None,
        *,
        event: str | None = None,
    ) -> Receipt:
        return await self.audit.append(
            new_event(
                event or self.event,
                self.principal.id,
                outcome,
                self.attributes | attributes,
                exchange_id=self.id,
                content=content,
                subject=self.subject,
            )
        )


@asynccontextmanager
async def recorded_exchange(
    audit: AuditLog, principal: Principal, event: str, attributes: dict[str, AttributeValue], *, subject: str = ""
) -> AsyncIterator[Exchange]:
    """An exchange that is closed on every way out of the block. `subject`: whom its contents are about."""
    exchange = Exchange(audit, event, principal, dict(attributes), subject)
    try:
        yield exchange
    except BaseException as error:
        if not exchange.closed and not exchange.undecided:
            await _close_shielded(exchange, error)
        raise
    assert exchange.closed, "the block returned without closing the exchange"


async def stream_exchange(
    exchange: Exchange,
    request: bytes,
    attributes: dict[str, AttributeValue],
    chunks: AsyncIterator[bytes],
    closing: Callable[[], dict[str, AttributeValue]] = dict,
    *,
    read: Callable[[bytes], Any] = bytes,
    ended: Callable[[StreamEnd], Any] = lambda end: end,
) -> AsyncIterator[Released[Any]]:
    """Open, one released window for each chunk, close. Inside the block of `recorded_exchange`.

    `closing` gives what is known of the answer once it is complete. `read` makes of a window what leaves, `ended` what
    leaves at last; without them the bytes themselves and a `StreamEnd`. A consumer that stops early closes the
    exchange as cancelled; `chunks` is closed in every case, which stops whatever makes them.
    """
    await exchange.open(request, attributes)
    try:
        async for chunk in chunks:
            if chunk:
                yield await exchange.window(chunk, read)
    finally:
        if isinstance(chunks, AsyncGenerator):
            await chunks.aclose()
    yield await exchange.close_stream(closing(), ended(exchange.end()))


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
    if isinstance(error, asyncio.CancelledError | GeneratorExit | errors.RequestCancelled):
        return Outcome.CANCELLED
    return Outcome.REFUSED if isinstance(error, _REFUSALS) else Outcome.FAILED
