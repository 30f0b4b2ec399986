"""Length hiding: plaintexts are padded to a few sizes before they are sealed.

Sizes: 256 B, 1, 2, 4, 8, 16 KiB, then steps of an eighth. The padding is a 0x80 byte and zeros (ISO/IEC 7816-4), so
the length needs no field and every padded value has exactly one reading:

>>> len(pad(b"x" * 100)), unpad(pad(b"note")) == b"note"
(256, True)
"""

from __future__ import annotations

from appliance.errors import DecryptionFailed

BUCKETS = (256, 1024, 2048, 4096, 8192, 16384)
_MARK = b"\x80"


def padded_length(length: int) -> int:
    """The size of the bucket that holds `length` bytes and the mark."""
    needed = length + 1
    for bucket in BUCKETS:
        if needed <= bucket:
            return bucket
    size = BUCKETS[-1]
    while size < needed:
        size += size // 8
    return size


def pad(value: bytes) -> bytes:
    """`value` padded to its bucket."""
    return (value + _MARK).ljust(padded_length(len(value)), b"\0")


def unpad(padded: bytes) -> bytes:
    """The value. Call it on authenticated bytes only; anything else is refused like every failed opening."""
    value, mark, zeros = padded.rpartition(_MARK)
    if not mark or zeros.strip(b"\0") or padded_length(len(value)) != len(padded):
        raise DecryptionFailed("a sealed value does not have the padding of this format")
    return value
