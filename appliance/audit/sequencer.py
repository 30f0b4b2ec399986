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

import fcntl
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
from appliance.audit.hardening import check_medium, harden_process
from appliance.audit.protocol import Append, Committed, Entry, Hello, Refused, Rejected, SealedRecord, Start
from appliance.audit.sockets import LOCK_FILE, SOCKET_FILE, socket_address
from appliance.audit.writer import LogWriter, RecordMalformed, check_record
from appliance.errors import ApplianceError, HomeInUse, HomeReadOnly

EXIT_REFUSED = 2  # the reason went over the control socket
EXIT_FAILED = 70

_READ_BYTES = 256 * 1024
_CONNECTIONS_MAX = 32
_QUEUED_BYTES_MAX = 64 * 1024 * 1024
_UNSENT_BYTES_MAX = 8 * 1024 * 1024  # of a submitter that does not read its receipts
_START_WAIT_S = 10.0


def main(arguments: list[str]) -> int:
    """Run until the control socket closes; returns the exit status."""
    harden_process(parent_pid=int(arguments[1]))
    control = socket.socket(fileno=int(arguments[0]))
    start = _receive_start(control)
    try:
        with _only_sequencer(Path(start.runtime)), _listening(Path(start.runtime)) as listener:
            warnings = check_medium(Path(start.database).parent)
            writer = LogWriter.open(start, clock=read_clock)
            writer.append_started(warnings)
            hello = Hello(start.origin, start.log_id, writer.size, os.getpid(), warnings)
            _Loop(start, writer, control, listener, hello).run()
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
    ticket: int
    record: SealedRecord
    bytes: int


class _Loop:
    """Owns the connections and the queue between them and the writer."""

    def __init__(
        self, start: Start, writer: LogWriter, control: socket.socket, listener: socket.socket, hello: Hello
    ) -> None:
        self._start = start
        self._writer = writer
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
        heartbeat_at = time.monotonic() + self._start.heartbeat_s
        while not self._stopping:
            wait_s = 0.0 if self._queue else max(0.0, heartbeat_at - time.monotonic())
            self._receive(wait_s)
            if self._queue:
                self._commit_batch()
                heartbeat_at = time.monotonic() + self._start.heartbeat_s
            elif time.monotonic() >= heartbeat_at:
                self._writer.append_heartbeat()
                heartbeat_at = time.monotonic() + self._start.heartbeat_s
        while self._queue:
            self._commit_batch()
        self._writer.append_stopped()
        self._writer.close()

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
        if not isinstance(message, Append):
            raise protocol.ProtocolViolation("a second start message")
        try:
            check_record(message.record)
        except RecordMalformed as malformed:
            self._queue_answer(peer, Rejected(message.ticket, str(malformed)))
            return
        self._queue.append(_Queued(peer, message.ticket, message.record, size))
        self._queued_bytes += size

    def _commit_batch(self) -> None:
        batch = self._take_batch()
        committed = self._writer.commit([queued.record for queued in batch])
        answers: dict[_Peer, list[Entry]] = {}
        for queued in batch:
            place = committed.places[queued.record.record_id]
            entry = Entry(queued.ticket, queued.record.record_id, place.seq, place.leaf, place.proof)
            answers.setdefault(queued.peer, []).append(entry)
        for peer, entries in answers.items():
            if peer in self._peers:
                self._queue_answer(peer, Committed(committed.size, committed.checkpoint, tuple(entries)))

    def _take_batch(self) -> list[_Queued]:
        batch = [self._queue.popleft() for _ in range(min(len(self._queue), self._start.batch_max))]
        self._queued_bytes -= sum(queued.bytes for queued in batch)
        return batch

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
def _only_sequencer(runtime: Path) -> Iterator[None]:
    """Hold the lock of this log's sequencer; the kernel lets go of it however we end."""
    try:
        descriptor = os.open(runtime / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise HomeReadOnly(
            f"cannot write in {runtime}: {error.strerror}",
            hint="check owner and mode of the data folder and that it is mounted rw",
        ) from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise HomeInUse("another process runs the sequencer of this log", hint="submit through its socket") from None
    try:
        yield
    finally:
        os.close(descriptor)


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
