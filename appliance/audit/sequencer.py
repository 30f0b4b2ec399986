"""The sequencer process: takes sealed records, one batch at a time, and answers with receipts.

    python -m appliance.audit.sequencer CONTROL_FD PARENT_PID     (started by `audit/client.py`, never by hand)

One per log: it holds a lock on `run/audit.lock` and the only connection that may write to `audit/log.db`. It holds
the signing key, which arrives in the first message, and no key that decrypts; what it is sent is ciphertext.

One thread, one loop: receive what is there, commit it as one batch, sign, answer, repeat. While a batch is on its way
to the disk the next one gathers in the sockets, so that batches grow with the load and an idle log waits for nobody.

It ends in two ways. When the process that started it closes the control socket: what is queued is committed, the
stop is recorded, exit status 0. On any error of the log: at once, without touching the database again, because after
a failed commit only a fresh look at the disk can tell what is stored. Killing it at any moment is safe.
"""

from __future__ import annotations

import math
import os
import selectors
import socket
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from appliance.audit import protocol
from appliance.audit.clock import read_clock
from appliance.audit.drafts import RecordMalformed, check_record
from appliance.audit.hardening import check_medium, harden_process
from appliance.audit.lock import only_sequencer
from appliance.audit.operations import Refusal
from appliance.audit.protocol import (
    Administration,
    Append,
    Committed,
    Done,
    Entry,
    Hello,
    KeepCosigned,
    KeysDestroyed,
    MoveCursor,
    Refused,
    Rejected,
    Start,
)
from appliance.audit.quarantine import refuse_quarantined
from appliance.audit.sockets import SOCKET_FILE, socket_address
from appliance.audit.space import Space
from appliance.audit.writer import LogWriter
from appliance.errors import ApplianceError

EXIT_REFUSED = 2  # the reason went over the control socket
EXIT_FAILED = 70

_READ_BYTES = 256 * 1024
_CONNECTIONS_MAX = 32
_QUEUED_BYTES_MAX = 64 * 1024 * 1024
_UNSENT_BYTES_MAX = 8 * 1024 * 1024  # of a submitter that does not read its receipts
_START_WAIT_S = 60.0  # our parent may be held up; it has a limit of its own, `audit.start_s`, and ends us there
_PAUSED_LOOK_S = 1.0  # how often a paused log looks whether there is room again
_PAUSED_HINT = "free space on that disk; recording resumes by itself"
MEMORY_SYNC_S = 1.0  # the signer's memory is on the disk at most this long after it changed


def main(arguments: list[str]) -> int:
    """Run until the control socket closes; returns the exit status."""
    harden_process(parent_pid=int(arguments[1]))
    control = socket.socket(fileno=int(arguments[0]))
    start = _receive_start(control)
    try:
        with only_sequencer(Path(start.runtime)), _listening(Path(start.runtime)) as listener:
            folder = Path(start.database).parent
            refuse_quarantined(folder)
            warnings = check_medium(folder)
            space = Space(folder, free_min=start.disk_free_bytes_min, reserve=start.reserve_bytes)
            if space.is_short():
                space.release()  # before the database is opened, which takes room too
            writer = LogWriter.open(start, clock=read_clock)
            writer.append_started(warnings)
            hello = Hello(start.origin, start.log_id, writer.size, os.getpid(), warnings)
            _Loop(start, writer, space, control, listener, hello).run()
    except ApplianceError as error:
        _say(error.message)
        _refuse(control, error)
        # Here and not later: once this frame is gone, the database would be closed, and closing writes to it.
        os._exit(EXIT_REFUSED)
    return 0


@dataclass(slots=True, eq=False)
class _Peer:
    """One connection: what arrived and is not a frame yet, what is to be sent."""

    socket: socket.socket
    frames: protocol.FrameBuffer
    unsent: bytearray = field(default_factory=bytearray)


@dataclass(frozen=True, slots=True)
class _Queued:
    peer: _Peer
    message: Append | Administration
    bytes: int


class _Loop:
    """Owns the connections and the queue between them and the writer."""

    def __init__(
        self,
        start: Start,
        writer: LogWriter,
        space: Space,
        control: socket.socket,
        listener: socket.socket,
        hello: Hello,
    ) -> None:
        self._start = start
        self._writer = writer
        self._space = space
        self._paused = writer.was_paused
        self._reserved = False
        self._sync_at = math.inf  # when the signer's memory is due on the disk
        self._listener = listener
        self._hello = hello
        self._selector = selectors.DefaultSelector()
        self._queue: deque[_Queued] = deque()
        self._queued_bytes = 0
        self._peers: set[_Peer] = set()
        self._control: _Peer | None = None
        self._stopping = False
        self._selector.register(listener, selectors.EVENT_READ)
        self._control = self._welcome(control)
        self._stopping = self._control not in self._peers

    def run(self) -> None:
        """Serve until the control connection closes."""
        self._look_at_space()
        heartbeat_at = time.monotonic() + self._start.heartbeat_s
        while not self._stopping:
            self._receive(self._may_wait_until(heartbeat_at))
            if self._queue:
                self._serve_queued()
                heartbeat_at = time.monotonic() + self._start.heartbeat_s
            elif time.monotonic() >= heartbeat_at:
                self._look_at_space()
                if not self._paused:
                    self._writer.append_heartbeat()
                heartbeat_at = time.monotonic() + self._start.heartbeat_s
            elif self._paused:
                self._look_at_space()
            if self._writer.has_chores:
                self._writer.do_chore()
            self._sync_memory()
        while self._queue:
            self._serve_queued()
        self._writer.append_stopped()
        self._writer.close()

    def _may_wait_until(self, heartbeat_at: float) -> float:
        """Seconds that the loop may sleep for if nothing arrives."""
        if self._queue or self._writer.has_chores:
            return 0.0
        due = min(heartbeat_at, self._sync_at, time.monotonic() + _PAUSED_LOOK_S if self._paused else math.inf)
        return max(0.0, due - time.monotonic())

    def _serve_queued(self) -> None:
        """What is at the front of the queue: one request of an administrator, or as many records as make a batch."""
        self._look_at_space()
        self._sync_at = min(self._sync_at, time.monotonic() + MEMORY_SYNC_S)
        if isinstance(self._queue[0].message, Append):
            self._commit_batch()
        else:
            self._perform(self._take(1)[0])

    def _sync_memory(self) -> None:
        if time.monotonic() >= self._sync_at:
            self._writer.sync_memory()
            self._sync_at = math.inf

    def _look_at_space(self) -> None:
        """Pause when the disk is nearly full, and go on by itself when it is not. Each is recorded, once."""
        if self._paused and self._space.is_back():
            self._space.rebuild()
            self._writer.append_resumed()
            self._paused = False
        elif not self._paused and self._space.is_short():
            self._space.release()
            self._writer.append_paused("disk_full")
            self._paused = True
        elif not self._paused and not self._reserved:
            self._space.rebuild()
            self._reserved = True

    def _receive(self, wait_s: float) -> None:
        for key, events in self._selector.select(wait_s):
            if key.fileobj is self._listener:
                self._accept()
                continue
            peer: _Peer = key.data
            if events & selectors.EVENT_WRITE and peer in self._peers:
                self._send(peer)
            if events & selectors.EVENT_READ and peer in self._peers and self._has_room():
                self._read(peer)

    def _has_room(self) -> bool:
        """Beyond this nothing is read: the sockets fill, and submitters wait within their own time limit."""
        return len(self._queue) < self._start.queue_max and self._queued_bytes < _QUEUED_BYTES_MAX

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return  # the caller went away, or there is no descriptor left: it will try again
        if len(self._peers) >= _CONNECTIONS_MAX:
            connection.close()
            return
        self._welcome(connection)

    def _welcome(self, connection: socket.socket) -> _Peer:
        connection.setblocking(False)
        peer = _Peer(connection, protocol.FrameBuffer(self._start.frame_bytes_max))
        self._peers.add(peer)
        self._selector.register(connection, selectors.EVENT_READ, peer)
        self._queue_answer(peer, self._hello)
        return peer

    def _read(self, peer: _Peer) -> None:
        try:
            received = peer.socket.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            received = b""
        if not received:
            self._drop(peer)
            return
        try:
            for body in peer.frames.feed(received):
                self._enqueue(peer, protocol.decode_request(body), len(body))
        except protocol.ProtocolViolation as violation:
            _say(f"a submitter was disconnected: {violation}")
            self._drop(peer)

    def _enqueue(self, peer: _Peer, message: protocol.Request, size: int) -> None:
        if isinstance(message, Start):
            raise protocol.ProtocolViolation("a second start message")
        if isinstance(message, Append):
            try:
                check_record(message.record)
            except RecordMalformed as malformed:
                self._queue_answer(peer, Rejected(message.ticket, str(malformed)))
                return
        self._queue.append(_Queued(peer, message, size))
        self._queued_bytes += size

    def _commit_batch(self) -> None:
        batch: list[tuple[_Peer, Append]] = []
        for queued in self._take(self._start.batch_max):
            assert isinstance(queued.message, Append)
            rejected = self._rejected(queued.message)
            if rejected is None:
                batch.append((queued.peer, queued.message))
            else:
                self._answer(queued.peer, rejected)
        if not batch:
            return
        committed = self._writer.commit([message.record for _, message in batch])
        answers: dict[_Peer, list[Entry]] = {}
        for peer, message in batch:
            place = committed.places[message.record.record_id]
            entry = Entry(message.ticket, message.record.record_id, place.seq, place.leaf, place.proof, place.header)
            answers.setdefault(peer, []).append(entry)
        for peer, entries in answers.items():
            self._answer(peer, Committed(committed.size, committed.checkpoint, tuple(entries)))

    def _rejected(self, message: Append) -> Rejected | None:
        """Why a record that is well formed is not taken at this moment."""
        if self._paused and not message.record.urgent:
            return Rejected(message.ticket, "the disk of the data folder is nearly full", "paused", _PAUSED_HINT)
        if self._writer.is_retired(message.record):
            return Rejected(message.ticket, "a key of this record was destroyed", "retired_key")
        return None

    def _perform(self, queued: _Queued) -> None:
        request = queued.message
        assert not isinstance(request, Append)
        if self._paused and not isinstance(request, KeysDestroyed | MoveCursor | KeepCosigned):
            paused = Rejected(request.ticket, "the disk of the data folder is nearly full", "paused", _PAUSED_HINT)
            self._answer(queued.peer, paused)
            return
        try:
            committed = self._writer.perform(request)
        except Refusal as refusal:
            self._answer(queued.peer, Rejected(request.ticket, refusal.message, refusal.code, refusal.hint))
            return
        if committed is None:
            self._answer(queued.peer, Done(request.ticket))
            return
        record_id, place = min(committed.places.items(), key=lambda item: item[1].seq)
        entry = Entry(request.ticket, record_id, place.seq, place.leaf, place.proof, place.header)
        self._answer(queued.peer, Committed(committed.size, committed.checkpoint, (entry,)))

    def _take(self, limit: int) -> list[_Queued]:
        """The first of the queue, and after a record as many records as follow it, at most `limit`."""
        taken: list[_Queued] = []
        while self._queue and len(taken) < limit:
            if taken and not isinstance(self._queue[0].message, Append):
                break
            taken.append(self._queue.popleft())
        self._queued_bytes -= sum(queued.bytes for queued in taken)
        return taken

    def _answer(self, peer: _Peer, answer: protocol.Answer) -> None:
        if peer in self._peers:
            self._queue_answer(peer, answer)

    def _queue_answer(self, peer: _Peer, answer: protocol.Answer) -> None:
        peer.unsent += protocol.encode(answer)
        self._send(peer)

    def _send(self, peer: _Peer) -> None:
        try:
            while peer.unsent:
                del peer.unsent[: peer.socket.send(peer.unsent)]
        except BlockingIOError:
            pass
        except OSError:
            self._drop(peer)
            return
        if len(peer.unsent) > _UNSENT_BYTES_MAX:
            self._drop(peer)
            return
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if peer.unsent else 0)
        self._selector.modify(peer.socket, wanted, peer)

    def _drop(self, peer: _Peer) -> None:
        """Forget a connection; its queued records are committed all the same, nobody hears of it."""
        if peer not in self._peers:
            return
        self._selector.unregister(peer.socket)
        peer.socket.close()
        self._peers.discard(peer)
        self._stopping = self._stopping or peer is self._control


def _receive_start(control: socket.socket) -> Start:
    """The first message. Its sender is our own parent, which bounds nothing for us yet: the bound is fixed."""
    control.settimeout(_START_WAIT_S)
    frames = protocol.FrameBuffer(protocol.FRAME_OVERHEAD_BYTES)
    while True:
        received = control.recv(_READ_BYTES)
        if not received:
            raise SystemExit("the control socket closed before the start message")
        for body in frames.feed(received):
            message = protocol.decode_request(body)
            if not isinstance(message, Start):
                raise SystemExit("the first message was not a start message")
            return message


@contextmanager
def _listening(runtime: Path) -> Iterator[socket.socket]:
    """The socket for other processes of the same user. Whoever holds the lock may replace what a crash left."""
    path = runtime / SOCKET_FILE
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener, socket_address(path) as address:
        listener.bind(address)
        path.chmod(0o600)
        listener.listen(_CONNECTIONS_MAX)
        listener.setblocking(False)
        yield listener
        path.unlink(missing_ok=True)


def _refuse(control: socket.socket, error: ApplianceError) -> None:
    try:
        control.sendall(protocol.encode(Refused(error.code, error.message, error.hint)))
    except OSError:
        return  # nobody is left to be told


def _say(message: str) -> None:
    sys.stderr.write(f"audit sequencer: {message}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    status = EXIT_FAILED
    try:
        status = main(sys.argv[1:])
    finally:
        failure = sys.exc_info()[0]
        if failure is not None:
            # Its kind only: a message of a library may quote what it was given.
            _say(f"stopped by {failure.__name__}; it will start again from what is on the disk")
        # No clean-up by the interpreter after a failure, for the reason given in `main`.
        os._exit(status)
