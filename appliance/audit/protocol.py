"""Messages between the sequencer and those who submit to it: msgspec structs in length-prefixed frames.

    frame = encode(Append(ticket=7, record=sealed))
    for body in buffer.feed(received): message = decode_request(body)

A frame is four bytes of big-endian length and a msgpack body. Both sides bound the length before they allocate.
Nothing is ever unpickled; an unknown or malformed message ends the connection.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal

import msgspec

from appliance.audit.control import Destroyed, Grade

LENGTH_BYTES: Final = 4
TOKENS_MAX: Final = 6
FRAME_OVERHEAD_BYTES: Final = 64 * 1024  # envelope, field names, padding of the smaller part


class ProtocolViolation(Exception):
    """The other side sent a frame that is too long, not msgpack, or not a message of this protocol."""


class SealedRecord(msgspec.Struct, frozen=True, array_like=True):
    """One event as the sequencer sees it: ciphertext, and what the header says in clear. No plaintext, no keys.

    `con_scope` is the id of the key that sealed the content, sixteen zero bytes when there is none. `tokens` go into
    the blind index (`index.py`), at most `TOKENS_MAX` of 12 bytes; `urgent` records are taken while the log is paused.
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
    tokens: tuple[bytes, ...] = ()
    urgent: bool = False


class Start(msgspec.Struct, frozen=True, tag="start"):
    """First message on the control socket: everything the sequencer is allowed to know.

    `seed` signs; `retiring` are seeds that signed before, newest first: after a rotation the first of them signs too.
    `public_keys`: every key that ever signed this log, newest first.
    """

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
    retiring: tuple[bytes, ...] = ()
    public_keys: tuple[bytes, ...] = ()
    signing_overlap_s: float = 86400.0
    disk_free_bytes_min: int = 0
    reserve_bytes: int = 0

    def __repr__(self) -> str:
        """Without the signing seed."""
        return f"Start(origin={self.origin!r})"


class Append(msgspec.Struct, frozen=True, tag="append"):
    """Record this. `ticket` is the submitter's own number and comes back with the answer."""

    ticket: int
    record: SealedRecord


class SetHold(msgspec.Struct, frozen=True, tag="set_hold"):
    """Destroy nothing that this covers: keys (16 bytes), keyed hashes of subjects (16 bytes), whole classes."""

    ticket: int
    hold: bytes
    scopes: tuple[bytes, ...]
    subjects: tuple[bytes, ...]
    classes: tuple[int, ...]
    reason: str


class ReleaseHold(msgspec.Struct, frozen=True, tag="release_hold"):
    """End a hold. That two people asked for it is the caller's to check; `approvals` names them."""

    ticket: int
    hold: bytes
    approvals: str


class SetRetention(msgspec.Struct, frozen=True, tag="set_retention"):
    """Keep records of this class for so many months; never fewer than before."""

    ticket: int
    record_class: int
    months: int


class Purge(msgspec.Struct, frozen=True, tag="purge"):
    """Announce the destruction of what is sealed of one class and month. `keys`, `owners`: whose keys those are."""

    ticket: int
    record_class: int
    month: int
    parts: Destroyed
    keys: tuple[bytes, ...]
    owners: tuple[bytes, ...]
    reason: str
    approvals: str


class Shred(msgspec.Struct, frozen=True, tag="shred"):
    """Announce the destruction of the contents under these keys. `subject`: keyed hash, empty for none."""

    ticket: int
    scopes: tuple[bytes, ...]
    classes: tuple[int, ...]
    owners: tuple[bytes, ...]
    subject: bytes
    grade: Grade
    reason: str
    approvals: str


class KeysDestroyed(msgspec.Struct, frozen=True, tag="keys_destroyed"):
    """The keys of the erasure that record `seq` announced are gone: its ciphertexts may follow.

    `keys`: which those were, so that nothing is taken that a submitter seals under one that it still remembers.
    """

    ticket: int
    seq: int
    keys: tuple[bytes, ...] = ()


class RotateSigningKey(msgspec.Struct, frozen=True, tag="rotate_signing_key"):
    """Sign with this seed from now on. `reason` `compromised`: the old key stops at once."""

    ticket: int
    seed: bytes
    reason: str

    def __repr__(self) -> str:
        """Without the seed."""
        return f"RotateSigningKey(reason={self.reason!r})"


class BackupMade(msgspec.Struct, frozen=True, tag="backup_made"):
    """A copy of keystore and log, `size` records, exists until `expires_ms` (0: for ever). `target` is a label."""

    ticket: int
    target: str
    size: int
    expires_ms: int


class KeepCosigned(msgspec.Struct, frozen=True, tag="keep_cosigned"):
    """Keep a checkpoint of this log that carries the signatures of witnesses."""

    ticket: int
    note: str


class MoveCursor(msgspec.Struct, frozen=True, tag="move_cursor"):
    """How far a sink outside was sent records, and the checkpoint that it acknowledged (milliseconds UTC)."""

    ticket: int
    sink: str
    next_seq: int
    anchored_size: int
    anchored_ms: int


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
    header: bytes


class Committed(msgspec.Struct, frozen=True, tag="committed"):
    """These records are durable and covered by the signed `checkpoint`."""

    size: int
    checkpoint: str
    entries: tuple[Entry, ...]


class Done(msgspec.Struct, frozen=True, tag="done"):
    """What was asked is durable; there is no record of it."""

    ticket: int


RejectionCode = Literal[
    "malformed", "under_legal_hold", "retention_shortened", "retired_key", "paused", "not_found", "conflict"
]


class Rejected(msgspec.Struct, frozen=True, tag="rejected"):
    """This was not recorded and nothing was changed; `code` is stable."""

    ticket: int
    message: str
    code: RejectionCode = "malformed"
    hint: str | None = None


Administration = (
    SetHold
    | ReleaseHold
    | SetRetention
    | Purge
    | Shred
    | KeysDestroyed
    | RotateSigningKey
    | BackupMade
    | KeepCosigned
    | MoveCursor
)
Request = Start | Append | Administration
Answer = Hello | Refused | Committed | Done | Rejected

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
