"""The record header: 202 bytes that are the leaf of the tree. Byte for byte in `README.md`, section 2.

header = RecordHeader.decode(stored)          # raises ValueError unless encode() gives the same bytes
leaf = leaf_hash(header.encode())             # ciphertexts enter by their hashes, so they can be destroyed
aad(log_id, record_id, "con", key_id, record_class, month)
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, Literal

MAGIC = b"AUDR"
VERSION = 1
_AAD_PREFIX = b"AUD1"
# magic, version, kind, class, reserved, month, log_id, seq, t_commit_ms, record_id, env_key, con_scope, env_nonce,
# con_nonce, env_length, con_length, env_sha256, con_sha256
_LAYOUT = struct.Struct(">4sBBBBH8sQQ16s16s16s24s24sII32s32s")
HEADER_BYTES = _LAYOUT.size

Part = Literal["env", "con"]


class RecordKind(IntEnum):
    """`SEALED` records carry ciphertext; `PUBLIC` ones a body in clear, for whoever verifies without keys."""

    SEALED = 1
    PUBLIC = 2


@dataclass(frozen=True, slots=True)
class RecordHeader:
    """What is in clear about a record, and the hashes of what is not. A key id of zeros means: no such part."""

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

    _SIZES: ClassVar[tuple[tuple[str, int], ...]] = (
        ("log_id", 8),
        ("record_id", 16),
        ("env_key", 16),
        ("con_scope", 16),
        ("env_nonce", 24),
        ("con_nonce", 24),
        ("env_sha256", 32),
        ("con_sha256", 32),
    )

    def __post_init__(self) -> None:
        for name, size in self._SIZES:
            # struct would pad or cut silently, and then two headers would have one encoding.
            if len(getattr(self, name)) != size:
                raise ValueError(f"header field {name} has {len(getattr(self, name))} bytes, not {size}")

    def encode(self) -> bytes:
        """The 202 bytes. Raises `ValueError` for a number that its field cannot hold."""
        try:
            return _LAYOUT.pack(
                MAGIC,
                VERSION,
                self.kind,
                self.record_class,
                0,
                self.month,
                self.log_id,
                self.seq,
                self.t_commit_ms,
                self.record_id,
                self.env_key,
                self.con_scope,
                self.env_nonce,
                self.con_nonce,
                self.env_length,
                self.con_length,
                self.env_sha256,
                self.con_sha256,
            )
        except struct.error as error:
            raise ValueError(f"a header field is out of range: {error}") from None

    @staticmethod
    def decode(encoded: bytes) -> RecordHeader:
        """The header that encodes to exactly these bytes. Raises `ValueError` if there is none."""
        if len(encoded) != HEADER_BYTES:
            raise ValueError(f"a header has {HEADER_BYTES} bytes, not {len(encoded)}")
        magic, version, kind, record_class, reserved, month, log_id, seq, t_commit_ms, *rest = _LAYOUT.unpack(encoded)
        if magic != MAGIC or version != VERSION or reserved:
            raise ValueError("not a record header of version 1")
        return RecordHeader(log_id, seq, t_commit_ms, record_class, month, RecordKind(kind), *rest)


def aad(log_id: bytes, record_id: bytes, part: Part, key_id: bytes, record_class: int, month: int) -> bytes:
    """What a sealed part is bound to: moved to another record, log, part or key, it does not open.

    The sequence number is not in it: submitters seal before the sequencer has numbered the record. The leaf binds
    `record_id` to `seq`.
    """
    assert (len(log_id), len(record_id), len(key_id)) == (8, 16, 16)
    place = record_class.to_bytes(1, "big") + month.to_bytes(2, "big")
    return _AAD_PREFIX + log_id + record_id + part.encode() + key_id + place
