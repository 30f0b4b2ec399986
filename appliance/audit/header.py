"""The record header: 200 bytes, the leaf of the tree. Byte for byte in `README.md`, "Record header".

header = RecordHeader.decode(stored)          # raises ValueError unless encode() gives these bytes again
leaf = leaf_hash(header.encode())             # ciphertexts enter by their hashes, so they can be destroyed
bound = aad(log_id, record_id, "con", key_id, record_class, month)

A header has one encoding and an encoding one header (non-malleability): every byte is in a field, every field is
bounded, and a part that is absent is written in one way only. It holds nothing that a person typed.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass, fields
from enum import IntEnum
from typing import Literal

MAGIC = b"AUD1"  # the version is its last character: another layout gets another magic
# magic, log_id, seq, t_commit_ms, class, month, kind, record_id, env_key, con_scope, env_nonce, con_nonce, env_length,
# con_length, env_sha256, con_sha256
_LAYOUT = struct.Struct(">4s8sQQBHB16s16s16s24s24sII32s32s")
HEADER_BYTES = _LAYOUT.size
NUMBER_MAX = 2**63 - 1  # of `seq` and `t_commit_ms`: what SQLite's integers hold
LOG_ID_BYTES = 8
NO_KEY = bytes(16)
NO_NONCE = bytes(24)
SHA256_OF_NOTHING = hashlib.sha256(b"").digest()

Part = Literal["env", "con"]

_SIZES = {
    "log_id": LOG_ID_BYTES,
    "record_id": 16,
    "env_key": 16,
    "con_scope": 16,
    "env_nonce": 24,
    "con_nonce": 24,
    "env_sha256": 32,
    "con_sha256": 32,
}


class RecordKind(IntEnum):
    """`SEALED` records carry ciphertext; `PUBLIC` ones a body in clear, for whoever verifies without keys."""

    SEALED = 1
    PUBLIC = 2


@dataclass(frozen=True, slots=True)
class RecordHeader:
    """What is in clear about a record, and the hashes of what is not. Field order is the order of the bytes.

    `env_*` is about the sealed envelope, or the body of a public record; `con_*` about the content, all zeros and the
    hash of nothing where there is none.
    """

    log_id: bytes
    seq: int
    t_commit_ms: int
    record_class: int
    month: int
    kind: RecordKind
    record_id: bytes
    env_key: bytes
    con_scope: bytes
    env_nonce: bytes
    con_nonce: bytes
    env_length: int
    con_length: int
    env_sha256: bytes
    con_sha256: bytes

    def __post_init__(self) -> None:
        _check(self)

    def encode(self) -> bytes:
        """The 200 bytes. Raises `ValueError` for a number that its field cannot hold."""
        try:
            return _LAYOUT.pack(MAGIC, *(getattr(self, field.name) for field in fields(self)))
        except struct.error as error:
            raise ValueError(f"a header field is out of range: {error}") from None

    @staticmethod
    def decode(encoded: bytes) -> RecordHeader:
        """The header that encodes to exactly these bytes. Raises `ValueError` if there is none."""
        if len(encoded) != HEADER_BYTES:
            raise ValueError(f"a header has {HEADER_BYTES} bytes, not {len(encoded)}")
        magic, log_id, seq, t_commit_ms, record_class, month, kind, *rest = _LAYOUT.unpack(encoded)
        if magic != MAGIC:
            raise ValueError(f"not a record header: it does not begin with {MAGIC.decode()}")
        return RecordHeader(log_id, seq, t_commit_ms, record_class, month, RecordKind(kind), *rest)


def aad(log_id: bytes, record_id: bytes, part: Part, key_id: bytes, record_class: int, month: int) -> bytes:
    """What a sealed part is bound to: moved to another record, log, part or key, it does not open.

    Every piece has a fixed length, so two different places never give the same bytes. The sequence number is not
    among them: submitters seal before the sequencer has numbered the record. The leaf binds `record_id` to `seq`.
    """
    assert (len(log_id), len(record_id), len(part), len(key_id)) == (8, 16, 3, 16)
    place = record_class.to_bytes(1, "big") + month.to_bytes(2, "big")
    return MAGIC + log_id + record_id + part.encode() + key_id + place


def log_id_of(origin: str) -> bytes:
    """The eight bytes by which headers name their log, derived so that nobody needs a key to check them."""
    return hashlib.sha256(origin.encode()).digest()[:LOG_ID_BYTES]


def epoch_of(origin: str) -> int:
    """The epoch that an origin names at its end, `…/e2`; the first for one that names none."""
    _, separator, number = origin.rpartition("/e")
    return int(number) if separator and number.isascii() and number.isdigit() else 1


def _check(header: RecordHeader) -> None:
    for name, size in _SIZES.items():
        # struct would pad or cut silently, and then two headers would have one encoding.
        if len(getattr(header, name)) != size:
            raise ValueError(f"header field {name} has {len(getattr(header, name))} bytes, not {size}")
    if not 0 <= header.seq <= NUMBER_MAX or not 0 <= header.t_commit_ms <= NUMBER_MAX:
        raise ValueError("seq or commit time of a header is out of range")
    if header.kind == RecordKind.PUBLIC:
        _check_public(header)
    elif header.env_key == NO_KEY or header.env_length == 0:
        raise ValueError("the header of a sealed record names no envelope")
    if header.con_scope == NO_KEY:
        _check_no_content(header)
    elif header.con_length == 0:
        raise ValueError("a header names a key for content of no bytes")


def _check_public(header: RecordHeader) -> None:
    """Nothing of a public record is sealed, and it belongs to no class or month that could be purged."""
    unused = (header.record_class, header.month, header.env_key, header.con_scope, header.env_nonce)
    if unused != (0, 0, NO_KEY, NO_KEY, NO_NONCE) or header.env_length == 0:
        raise ValueError("the header of a public record claims a class, a key or a nonce, or has no body")


def _check_no_content(header: RecordHeader) -> None:
    absent = (header.con_nonce, header.con_length, header.con_sha256)
    if absent != (NO_NONCE, 0, SHA256_OF_NOTHING):
        raise ValueError("a header without content describes one")
