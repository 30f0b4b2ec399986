"""Messages between the sequencer and those who submit to it: msgspec structs in length-prefixed frames.

    frame = encode(Append(ticket=7, record=sealed))
    for body in buffer.feed(received): message = decode_request(body)

A frame is four bytes of big-endian length and a msgpack body. Both sides bound the length before they allocate.
Nothing is ever unpickled; an unknown or malformed message ends the connection.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

LENGTH_BYTES: Final = 4
FRAME_OVERHEAD_BYTES: Final = 64 * 1024  # envelope, field names, padding of the smaller part


class ProtocolViolation(Exception):
    """The other side sent a frame that is too long, not msgpack, or not a message of this protocol."""


class SealedRecord(msgspec.Struct, frozen=True, array_like=True):
    """One event as the sequencer sees it: ciphertext, and what the header says in clear. No plaintext, no keys.

    `con_scope` is the id of the key that sealed the content, sixteen zero bytes when there is none.
    """

    record_id: bytes
    record_class: int
    month: int
    env_key: bytes
    con_scope: bytes
    env_nonce: bytes
    con_nonce: bytes
    env_ct: bytes
    con_ct: bytes | None


class Start(msgspec.Struct, frozen=True, tag="start"):
    """First message on the control socket: everything the sequencer is allowed to know."""

    database: str
    signer_state: str
    runtime: str
    origin: str
    log_id: bytes
    seed: bytes
    software: str
    batch_max: int
    queue_max: int
    frame_bytes_max: int
    heartbeat_s: float

    def __repr__(self) -> str:
        """Without the signing seed."""
        return f"Start(origin={self.origin!r})"


class Append(msgspec.Struct, frozen=True, tag="append"):
    """Record this. `ticket` is the submitter's own number and comes back with the answer."""

    ticket: int
    record: SealedRecord


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """The log is open, verified to its end and signed. `warnings` are for the operator."""

    origin: str
    log_id: bytes
    size: int
    pid: int
    warnings: tuple[str, ...] = ()


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    """The sequencer does not start; `code` is that of a class in `errors.py`."""

    code: str
    message: str
    hint: str | None = None


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """Where one submitted record is in the tree of `Committed.size` records."""

    ticket: int
    record_id: bytes
    seq: int
    leaf: bytes
    proof: tuple[bytes, ...]


class Committed(msgspec.Struct, frozen=True, tag="committed"):
    """These records are durable and covered by the signed `checkpoint`."""

    size: int
    checkpoint: str
    entries: tuple[Entry, ...]


class Rejected(msgspec.Struct, frozen=True, tag="rejected"):
    """This record is malformed and was not recorded."""

    ticket: int
    message: str


Request = Start | Append
Answer = Hello | Refused | Committed | Rejected

_encoder = msgspec.msgpack.Encoder()
_requests = msgspec.msgpack.Decoder(Request)
_answers = msgspec.msgpack.Decoder(Answer)


def encode(message: Request | Answer) -> bytes:
    """The message as one frame."""
    body = _encoder.encode(message)
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


def decode_request(body: bytes) -> Request:
    """A message to the sequencer. Raises `ProtocolViolation`."""
    try:
        return _requests.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise ProtocolViolation("not a request of this protocol") from None


def decode_answer(body: bytes) -> Answer:
    """A message from the sequencer. Raises `ProtocolViolation`."""
    try:
        return _answers.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise ProtocolViolation("not an answer of this protocol") from None


def frame_length(prefix: bytes | bytearray, frame_bytes_max: int) -> int:
    """The body length that a prefix announces. Raises `ProtocolViolation` beyond the bound."""
    length = int.from_bytes(prefix, "big")
    if not 0 < length <= frame_bytes_max:
        raise ProtocolViolation(f"a frame of {length} bytes; at most {frame_bytes_max} are accepted")
    return length


class FrameBuffer:
    """Received bytes of one connection until they are whole frames; never holds more than one frame and one read."""

    def __init__(self, frame_bytes_max: int) -> None:
        self._frame_bytes_max = frame_bytes_max
        self._bytes = bytearray()

    def feed(self, received: bytes) -> Iterator[bytes]:
        """The bodies that are complete now. Raises `ProtocolViolation` at a prefix beyond the bound."""
        self._bytes += received
        while len(self._bytes) >= LENGTH_BYTES:
            length = frame_length(self._bytes[:LENGTH_BYTES], self._frame_bytes_max)
            if len(self._bytes) < LENGTH_BYTES + length:
                return
            body = bytes(self._bytes[LENGTH_BYTES : LENGTH_BYTES + length])
            del self._bytes[: LENGTH_BYTES + length]
            yield body
