"""One connection to the log's sequencer: our own child process, or the one that another process already runs.

    client = SequencerClient(config, start_message, spawn=True)
    await client.open()
    committed = await client.append(sealed)      # durable and signed
    await client.close()                         # our own child writes its last record and ends

A supervisor task owns the connection and brings it back, with back-off, when the process behind it dies. When several
processes use one data folder (the server, and a command beside it) the first one runs the sequencer and the others
submit through its socket; when it ends, one of them takes over.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from appliance import errors
from appliance.audit import protocol
from appliance.audit.protocol import (
    Administration,
    Append,
    Committed,
    Done,
    Entry,
    Hello,
    Refused,
    Rejected,
    RejectionCode,
    SealedRecord,
    Start,
)
from appliance.audit.sockets import SOCKET_FILE, socket_address
from appliance.config import AuditConfig, child_environment
from appliance.errors import ApplianceError, AuditUnavailable
from appliance.types import Receipt

logger = logging.getLogger(__name__)

_ELSEWHERE_POLL_S = 0.02  # while another process is between taking the lock and listening
_ERRORS = {
    kind.code: kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, ApplianceError)
}


Answered = tuple[Entry, Committed] | None  # None: done, and there is no record of it

_REJECTIONS: dict[RejectionCode, type[ApplianceError]] = {
    "malformed": errors.InvalidRequest,
    "under_legal_hold": errors.UnderLegalHold,
    "retention_shortened": errors.RetentionShortened,
    "paused": errors.AuditPaused,
    "not_found": errors.NotFound,
    "conflict": errors.Conflict,
}


class KeyRetired(Exception):
    """A key of the record was destroyed, or is being destroyed: seal it again under another one."""


class SequencerGone(Exception):
    """The connection ended before the answer came: the record may be stored or not. Resolve it by its id."""


@dataclass(slots=True)
class _Link:
    """One live connection. Owned by the supervisor; `waiting` is filled by `append` and emptied by `_receive`."""

    hello: Hello
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    process: Process | None  # None: another process runs the sequencer
    waiting: dict[int, asyncio.Future[Answered]] = field(default_factory=dict)
    commits: int = 0
    outgoing: list[bytes] = field(default_factory=list)

    def send(self, frame: bytes) -> None:
        """Send together with whatever else is submitted in this turn of the event loop: it arrives as one batch.

        Written one by one, the first record of a burst would be committed alone while the others are being sealed.
        """
        if not self.outgoing:
            asyncio.get_running_loop().call_soon(self._flush)
        self.outgoing.append(frame)

    def _flush(self) -> None:
        frames, self.outgoing = self.outgoing, []
        self.writer.writelines(frames)  # a connection that is gone fails all who wait; see `_supervise`

    def fail_waiting(self) -> None:
        for future in self.waiting.values():
            if not future.done():
                future.set_exception(SequencerGone())
        self.waiting.clear()


class SequencerClient:
    """See the module. `problem` says why there is no connection, None while there is one or one is being made."""

    def __init__(
        self, settings: AuditConfig, start: Start, *, spawn: bool, renew: Callable[[], Start] | None = None
    ) -> None:
        """`renew` makes the start message of every further sequencer: keys may have rotated meanwhile."""
        self._settings = settings
        self._start = start
        self._renew = renew
        self._spawn = spawn
        self._link: _Link | None = None
        self._changed = asyncio.Condition()
        self._supervisor: asyncio.Task[None] | None = None
        self._ending: asyncio.Task[None] | None = None
        self._child: Process | None = None  # the last that was started
        self._tickets = 0
        self._opened_by = os.getpid()
        self.in_flight = 0
        self._in_flight_bytes = 0
        self.problem: ApplianceError | None = None
        self.restarts = 0

    async def open(self) -> Hello:
        """Connect. Raises what the sequencer refuses with, or `AuditUnavailable`."""
        link = await self._connect()
        self._link = link
        self._supervisor = asyncio.create_task(self._supervise(link), name="audit-sequencer")
        return link.hello

    @property
    def alive(self) -> bool:
        """Whether an append would reach a sequencer now."""
        return self._link is not None

    @property
    def hello(self) -> Hello | None:
        """What the sequencer said of itself: its process id, warnings about the disk."""
        return None if self._link is None else self._link.hello

    @property
    def runs_sequencer(self) -> bool:
        """Whether the sequencer is a child of this process."""
        return self._link is not None and self._link.process is not None

    async def append(self, record: SealedRecord) -> tuple[Entry, Committed]:
        """Submit, and wait for the receipt. The caller bounds the time.

        Raises `AuditUnavailable` when nothing was sent or the record was rejected (`AuditPaused`: for lack of space),
        `KeyRetired`, or `SequencerGone` when the outcome is not known.
        """
        size = len(record.env_ct) + len(record.con_ct or b"")
        bytes_max = 8 * self._start.frame_bytes_max
        if self.in_flight >= self._settings.queue_max or self._in_flight_bytes + size > bytes_max:
            raise AuditUnavailable("too many records are waiting for the audit log", hint="try again in a moment")
        self.in_flight += 1
        self._in_flight_bytes += size
        try:
            answered = await self._submit(await self.connected(), Append(self._next_ticket(), record))
        except errors.InvalidRequest as error:
            raise AuditUnavailable(f"the audit log refused: {error.message}") from None
        finally:
            self.in_flight -= 1
            self._in_flight_bytes -= size
        if answered is None or answered[0].record_id != record.record_id:
            raise SequencerGone  # whatever this answers, it is not what was asked
        return answered

    async def ask(self, request: Administration) -> Answered:
        """Ask for something else than a record; the ticket of `request` is set here. The caller bounds the time.

        Raises what the sequencer rejects it with, and as `append`.
        """
        asked = msgspec.structs.replace(request, ticket=self._next_ticket())
        return await self._submit(await self.connected(), asked)

    async def connected(self) -> _Link:
        """The connection, waiting for one that is being made. Raises `AuditUnavailable` when it was refused."""
        if os.getpid() != self._opened_by:
            # A child has its parent's socket too: what it sent there would be answered to the parent.
            raise AuditUnavailable("this log was opened by another process", hint="open it again after the fork")
        if self._link is not None:
            return self._link
        async with self._changed:
            await self._changed.wait_for(lambda: self._link is not None or self.problem is not None)
            if self._link is not None:
                return self._link
            assert self.problem is not None
            raise AuditUnavailable(
                f"the audit log cannot record: {self.problem.message}", hint=self.problem.hint
            ) from self.problem

    @property
    def progress(self) -> tuple[int, int]:
        """Changes with every committed batch and with every new connection."""
        return self.restarts, 0 if self._link is None else self._link.commits

    def abandon_sequencer(self, progress: tuple[int, int]) -> None:
        """Kill our own child if it has done nothing since `progress`; the supervisor starts another."""
        if self.progress == progress and self._link is not None and self._link.process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._link.process.kill()

    async def close(self) -> None:
        """End the connection; our own child finishes what it has, records the stop and exits."""
        if self._supervisor is not None:
            self._supervisor.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._supervisor
            self._supervisor = None
        if self._ending is not None:
            await self._ending
        link, self._link = self._link, None
        self.problem = AuditUnavailable("the audit log is closed")
        if link is not None:
            await _end(link, self._settings.append_s)
        if self._child is not None:
            await _reap(self._child, 0)  # the one that was being connected when we were told to stop

    def _next_ticket(self) -> int:
        self._tickets += 1
        return self._tickets

    async def _submit(self, link: _Link, message: Append | Administration) -> Answered:
        future: asyncio.Future[Answered] = asyncio.get_running_loop().create_future()
        link.waiting[message.ticket] = future
        try:
            link.send(protocol.encode(message))
            await link.writer.drain()
        except OSError:
            link.waiting.pop(message.ticket, None)
            raise SequencerGone from None
        try:
            return await future
        finally:
            link.waiting.pop(message.ticket, None)

    async def _supervise(self, link: _Link) -> None:
        """Receive until the connection ends, then make another; for ever. Cancelled by `close`."""
        while True:
            await self._receive(link)
            logger.warning("the audit sequencer (process %d) ended", link.hello.pid)
            failures = 0 if link.commits else 1
            await self._set(None, None)
            link.fail_waiting()
            self._ending = asyncio.create_task(_end(link, 0))
            await asyncio.shield(self._ending)  # `close` may cancel us here; the child is waited for all the same
            link = await self._reconnect(failures)

    async def _reconnect(self, failures: int) -> _Link:
        while True:
            if failures:
                delay = self._settings.restart_backoff_s * 2 ** min(failures - 1, 16)
                await asyncio.sleep(min(delay, self._settings.restart_backoff_max_s))
            try:
                link = await self._connect()
            except ApplianceError as error:
                failures += 1
                logger.error("the audit sequencer does not start: %s", error.message)
                await self._set(None, error)
                continue
            self.restarts += 1
            await self._set(link, None)
            return link

    async def _set(self, link: _Link | None, problem: ApplianceError | None) -> None:
        async with self._changed:
            self._link, self.problem = link, problem
            self._changed.notify_all()

    async def _receive(self, link: _Link) -> None:
        """Hand out answers until the connection ends or says something that is not in the protocol."""
        try:
            while True:
                answer = await _read_answer(link.reader, self._start.frame_bytes_max)
                if isinstance(answer, Committed):
                    link.commits += 1
                    for entry in answer.entries:
                        _resolve(link, entry.ticket, (entry, answer), None)
                elif isinstance(answer, Refused):
                    logger.error("the audit sequencer stopped: %s", answer.message)
                elif isinstance(answer, Done):
                    link.commits += 1
                    _resolve(link, answer.ticket, None, None)
                elif isinstance(answer, Rejected):
                    _resolve(link, answer.ticket, None, _rejection(answer))
        except (asyncio.IncompleteReadError, OSError):
            return
        except protocol.ProtocolViolation as violation:
            logger.error("the audit sequencer broke the protocol: %s", violation)
            if link.process is not None and link.process.returncode is None:
                link.process.kill()

    async def _connect(self) -> _Link:
        """Another process's sequencer if there is one, else our own. Bounded by `start_s`."""
        try:
            async with asyncio.timeout(self._settings.start_s):
                while True:
                    link = await self._connect_elsewhere() or await self._spawn_own()
                    if link is not None:
                        return self._checked(link)
                    await asyncio.sleep(_ELSEWHERE_POLL_S)
        except TimeoutError:
            raise AuditUnavailable(
                f"the audit sequencer did not start within {self._settings.start_s:g} s",
                hint="look at the disk and at the load of this machine",
            ) from None

    def _checked(self, link: _Link) -> _Link:
        if link.hello.origin != self._start.origin:
            link.writer.close()
            raise AuditUnavailable(
                f"the sequencer that runs here serves the log {link.hello.origin}, not {self._start.origin}",
                hint="stop the other appliance process",
            )
        return link

    async def _connect_elsewhere(self) -> _Link | None:
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listening.setblocking(False)
            with socket_address(Path(self._start.runtime) / SOCKET_FILE) as address:
                await asyncio.get_running_loop().sock_connect(listening, address)
            reader, writer = await asyncio.open_unix_connection(sock=listening)
        except BaseException as error:
            listening.close()
            if not isinstance(error, OSError):
                raise
            if error.errno in (errno.ENOENT, errno.ECONNREFUSED):
                return None
            raise AuditUnavailable(f"cannot reach the audit sequencer: {error.strerror}") from None
        try:
            return await self._greeted(reader, writer, None)
        except SequencerGone:
            return None

    async def _spawn_own(self) -> _Link | None:
        """None when another process was faster."""
        if not self._spawn:
            raise AuditUnavailable("no audit sequencer is running", hint="start the server")
        start = self._start if self._renew is None else await asyncio.to_thread(self._renew)
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", "appliance.audit.sequencer", str(theirs.fileno()), str(os.getpid())),
                    pass_fds=(theirs.fileno(),),
                    env=child_environment(),
                    stdin=DEVNULL,
                    stdout=DEVNULL,
                    start_new_session=True,  # Ctrl-C in a terminal reaches us, and we decide when the log closes
                )
            except BaseException:
                ours.close()
                raise
        self._child = process
        link = None
        try:
            reader, writer = await asyncio.open_unix_connection(sock=ours)
            writer.write(protocol.encode(start))
            link = await self._greeted(reader, writer, process)
        except SequencerGone:
            status = await process.wait()
            raise AuditUnavailable(f"the audit sequencer ended at its start with status {status}") from None
        except errors.HomeInUse:
            return None
        finally:
            if link is None:
                await _reap(process, 0)
        return link

    async def _greeted(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, process: Process | None
    ) -> _Link:
        try:
            answer = await _read_answer(reader, self._start.frame_bytes_max)
        except BaseException as error:
            writer.close()
            if isinstance(error, asyncio.IncompleteReadError | OSError | protocol.ProtocolViolation):
                raise SequencerGone from None
            raise
        if isinstance(answer, Hello):
            for warning in answer.warnings:
                logger.warning("%s", warning)
            return _Link(answer, reader, writer, process)
        writer.close()
        if isinstance(answer, Refused):
            raise _ERRORS.get(answer.code, AuditUnavailable)(answer.message, hint=answer.hint)
        raise SequencerGone


def receipt_of(entry: Entry, committed: Committed) -> Receipt:
    """The receipt of one record of a batch."""
    path, note = tuple(entry.proof), committed.checkpoint
    return Receipt(entry.record_id, entry.seq, entry.leaf, committed.size, path, note, entry.header)


def _rejection(answer: Rejected) -> Exception:
    if answer.code == "retired_key":
        return KeyRetired()
    return _REJECTIONS[answer.code](answer.message, hint=answer.hint)


def _resolve(link: _Link, ticket: int, value: Answered, error: Exception | None) -> None:
    future = link.waiting.get(ticket)
    if future is None or future.done():
        return  # the caller gave up; the record stays, and nothing was released for it
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(value)


async def _read_answer(reader: asyncio.StreamReader, frame_bytes_max: int) -> protocol.Answer:
    prefix = await reader.readexactly(protocol.LENGTH_BYTES)
    return protocol.decode_answer(await reader.readexactly(protocol.frame_length(prefix, frame_bytes_max)))


async def _end(link: _Link, wait_s: float) -> None:
    """Close the connection and reap our own child; it gets `wait_s` to finish by itself."""
    link.fail_waiting()
    link.writer.close()
    with contextlib.suppress(OSError):
        await link.writer.wait_closed()
    if link.process is not None:
        await _reap(link.process, wait_s)


async def _reap(process: Process, wait_s: float) -> None:
    """Wait for our child, which gets `wait_s` to end by itself."""
    try:
        async with asyncio.timeout(wait_s):
            await process.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
