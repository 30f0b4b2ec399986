"""The stream to a SIEM: every record as an RFC 5424 message over TLS, in order, at least once, with checkpoints.

    stream = SiemStream(log, config.siem, Sender(host="box", enterprise=32473))
    await stream.run()                    # until cancelled; never raises for a SIEM that is away
    stream.problem                        # None, or why nothing arrives

What may be relied on:

- records leave in the order of the log, without gaps, envelope fields only; recording never waits for it;
- a batch ends with the signed checkpoint, and so does an hour without records: kept by the SIEM it is an anchor;
- the cursor in the log moves only over batches that the other side's TCP acknowledged on a connection that lived on;
- syslog acknowledges nothing, so a SIEM that dies may lose what it had in memory. After a reconnect the batches that
  were confirmed within `RESEND_S` before it ended (at most `RESEND_BATCHES`) are sent again. Hence: at least once; the
  SIEM removes duplicates by `leaf`. Not covered: a SIEM that acknowledges, lives on, and loses records later;
- one batch is in memory, and nothing is queued: the log is the queue.

`Position` decides what is sent and sent again, and does nothing; `SiemStream` owns the connection.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import secrets
import ssl
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from appliance.audit.checkpoint import Checkpoint, parse_checkpoint
from appliance.audit.formats.entry import ExportedRecord, exported
from appliance.audit.formats.syslog import Sender, checkpoint_message, frame, to_message
from appliance.audit.reader import RecordView
from appliance.audit.siem_connection import SiemConnection, connect, context_of
from appliance.config import SiemConfig
from appliance.errors import ApplianceError, AuditLogInvalid, ConfigInvalid

RESEND_S = 30.0
RESEND_BATCHES = 8
RESENDS_MAX = 3  # of the same batches without a new one between: a SIEM that ends every connection gets on, too
_CHUNK_BYTES = 64 * 1024  # what is written at once; the time limit holds for each
logger = logging.getLogger(__name__)


class Cursor(Protocol):
    """How far a sink is, as the log keeps it."""

    @property
    def next_seq(self) -> int:
        """The first record that it may lack."""


class SiemLog(Protocol):
    """What the stream uses of the log."""

    def read_page(self, first_seq: int, limit: int) -> list[tuple[bytes, RecordView]]:
        """Headers and views from `first_seq` upwards."""

    def checkpoint(self) -> str:
        """The newest signed checkpoint."""

    def cursors(self) -> Mapping[str, Cursor]:
        """How far every sink is."""

    async def move_cursor(self, sink: str, next_seq: int, anchored_size: int, anchored_ms: int) -> None:
        """Remember how far a sink is."""


@dataclass(frozen=True, slots=True)
class Pacing:
    """Seconds of the stream's own.

    `survive_s`: how long a connection lives on before a batch counts as received. `settle_s`: how long a new one does
    before its first batch counts. By TLS 1.3 we may send before the other side has looked at our certificate, and what
    it refuses then was never received.
    """

    backoff_s: float = 1.0
    backoff_max_s: float = 60.0
    survive_s: float = 0.1
    settle_s: float = 2.0
    checkpoint_every_s: float = 3600.0

    def delay_s(self, failures: int, chance: float) -> float:
        """How long to wait before the next attempt; `chance` from 0 to 1 spreads those of many machines."""
        longest = min(self.backoff_max_s, self.backoff_s * 2 ** min(failures - 1, 16))
        return longest * (0.5 + chance / 2)


@dataclass(frozen=True, slots=True)
class Position:
    """Where the stream is. `recent`: batches that a break would send again, as (first number, when confirmed)."""

    next_seq: int
    high_seq: int  # everything below was confirmed once
    recent: tuple[tuple[int, float], ...] = ()
    resends: int = 0  # breaks since `high_seq` moved

    @classmethod
    def at(cls, seq: int) -> Position:
        """The beginning of a stream at this record."""
        return cls(seq, seq)

    @property
    def resend_seq(self) -> int:
        """What is sent first after a break; the cursor that the log keeps."""
        return self.recent[0][0] if self.recent else self.next_seq

    def confirmed(self, next_seq: int, now_s: float) -> Position:
        """The batch up to `next_seq` was received."""
        assert next_seq >= self.next_seq, "batches ascend"
        new = next_seq > self.high_seq
        recent = tuple(batch for batch in self.recent if now_s - batch[1] < RESEND_S)
        if next_seq > self.next_seq and (new or self.resends < RESENDS_MAX):
            recent = (*recent, (self.next_seq, now_s))[-RESEND_BATCHES:]
        return Position(next_seq, max(self.high_seq, next_seq), recent, 0 if new else self.resends)

    def broken(self) -> Position:
        """The connection ended: what may be lost with it is sent again."""
        return Position(self.resend_seq, self.high_seq, (), self.resends + 1)


@dataclass(frozen=True, slots=True)
class Batch:
    """What is sent next, framed; `next_seq` follows its last record."""

    chunks: tuple[bytes, ...]
    records: int
    next_seq: int
    anchored_size: int


class SiemStream:
    """See the module. `run` once."""

    def __init__(self, log: SiemLog, settings: SiemConfig, sender: Sender, pacing: Pacing | None = None) -> None:
        """Raises `ConfigInvalid` for certificates that cannot be used; nothing is connected yet."""
        context_of(settings)
        try:
            settings.host.encode("idna")
        except UnicodeError:
            raise ConfigInvalid(f"siem.host {settings.host!r} is not the name of a host") from None
        self.sink = f"siem:{settings.host}"
        self.problem: str | None = None
        self._log = log
        self._settings = settings
        self._sender = sender
        self._pacing = pacing or Pacing()
        self._position: Position | None = None  # None: the log was not asked yet
        self._failures = 0  # since the last confirmed batch
        self._checkpoint_due_s = 0.0

    async def run(self) -> None:
        """Send, and try again, until cancelled."""
        while True:
            connection: SiemConnection | None = None
            try:
                if self._position is None:
                    self._position = Position.at(await asyncio.to_thread(self._stored_seq))
                connection = await self._connect()
                await self._send_next(connection, max(self._pacing.settle_s, self._pacing.survive_s))
                while True:
                    await self._send_next(connection, self._pacing.survive_s)
            except (OSError, ApplianceError) as error:
                self._tell(self._reason(error))
            finally:
                if connection is not None:
                    await connection.close()
            self._failures += 1
            if self._position is not None:
                self._position = self._position.broken()
            await asyncio.sleep(self._pacing.delay_s(self._failures, secrets.randbelow(1001) / 1000))

    async def _connect(self) -> SiemConnection:
        settings = self._settings
        context = await asyncio.to_thread(context_of, settings)
        return await connect(settings.host, settings.port, context, timeout_s=settings.timeout_s)

    async def _send_next(self, connection: SiemConnection, survive_s: float) -> None:
        """One batch, or a pause in which the end of the connection is noticed."""
        assert self._position is not None
        position, settings = self._position, self._settings
        batch = await asyncio.to_thread(self._batch, position.next_seq)
        if not batch.records and time.monotonic() < self._checkpoint_due_s:
            await connection.alive_for(settings.every_s)
            return
        for chunk in batch.chunks:
            async with asyncio.timeout(settings.timeout_s):
                await connection.send(chunk)
        await connection.confirmed(timeout_s=settings.timeout_s, survive_s=survive_s)
        now_s = time.monotonic()
        self._position = position = position.confirmed(batch.next_seq, now_s)
        self._failures = 0
        self._checkpoint_due_s = now_s + self._pacing.checkpoint_every_s
        self._tell(await self._keep_cursor(position, batch.anchored_size))

    async def _keep_cursor(self, position: Position, anchored_size: int) -> str | None:
        """Why the cursor could not be kept; then a restart sends more than it had to, and nothing else is wrong."""
        try:
            anchored_ms = time.time_ns() // 1_000_000
            await self._log.move_cursor(self.sink, position.resend_seq, anchored_size, anchored_ms)
        except ApplianceError as error:
            return f"how far the SIEM is could not be kept: {error.message}"
        return None

    def _stored_seq(self) -> int:
        cursor = self._log.cursors().get(self.sink)
        return 0 if cursor is None else cursor.next_seq

    def _batch(self, next_seq: int) -> Batch:
        """Read and write out what comes next, at most `batch_max` records and the checkpoint that covers them."""
        note = self._log.checkpoint()
        try:
            head = parse_checkpoint(note.partition("\n\n")[0] + "\n")
        except ValueError:
            raise AuditLogInvalid("the newest checkpoint cannot be read") from None
        sender = dataclasses.replace(self._sender, checkpoint=_reference(head))
        page: list[tuple[bytes, RecordView]] = []
        if next_seq < head.size:
            page = self._log.read_page(next_seq, min(self._settings.batch_max, head.size - next_seq))
            numbers = [view.seq for _, view in page]
            if numbers != list(range(next_seq, next_seq + len(page))) or not page:
                raise AuditLogInvalid(
                    f"record {next_seq} or one after it is missing", hint="verify the log with auditverify"
                )
        time_ms = time.time_ns() // 1_000_000
        messages = [to_message(_exported(head.origin, header, view), sender) for header, view in page]
        messages.append(checkpoint_message(head.origin, note, head.size, time_ms, sender))
        return Batch(tuple(_chunks(messages)), len(page), next_seq + len(page), head.size)

    def _reason(self, error: OSError | ApplianceError) -> str:
        """Why nothing arrives, for the operator."""
        place = f"{self._settings.host}:{self._settings.port}"
        if isinstance(error, ssl.SSLCertVerificationError):
            return f"the certificate of {place} is not accepted: {error.verify_message}"
        if isinstance(error, ssl.SSLError):
            return f"{place} does not agree on TLS: {error.reason or 'handshake failed'}"
        if isinstance(error, TimeoutError):
            return f"{place} did not answer or read within {self._settings.timeout_s:g} s"
        if isinstance(error, OSError):
            return f"{place} cannot be reached: {error.strerror or error}"
        return error.message

    def _tell(self, problem: str | None) -> None:
        """Keep the problem for those who ask, and log it once."""
        if problem != self.problem and problem is not None:
            logger.warning("records do not reach the SIEM: %s", problem)
        elif problem is None and self.problem is not None:
            logger.info("records reach the SIEM again")
        self.problem = problem


def _exported(origin: str, header: bytes, view: RecordView) -> ExportedRecord:
    try:
        return exported(origin, header, view)
    except ValueError:
        raise AuditLogInvalid(f"the header of record {view.seq} cannot be read") from None


def _reference(head: Checkpoint) -> str:
    return f"{head.size}:{head.root.hex()}"


def _chunks(messages: list[bytes]) -> Iterator[bytes]:
    """Frames, joined to pieces of about `_CHUNK_BYTES`."""
    pieces: list[bytes] = []
    size = 0
    for message in messages:
        pieces.append(frame(message))
        size += len(pieces[-1])
        if size >= _CHUNK_BYTES:
            yield b"".join(pieces)
            pieces, size = [], 0
    if pieces:
        yield b"".join(pieces)
