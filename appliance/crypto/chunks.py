"""A long text sealed in pieces, so that neither side holds all of it: the STREAM construction, as age uses it.

    sealed = seal_chunks(key, plaintext)        # an iterable of bytes in, one sealed piece after the other out
    for piece in open_chunks(key, file.read):   # pieces of the plaintext, each authentic before it is handed out

Pieces of 256 KiB, the last one shorter or equal, each AES-256-GCM with its tag. The nonce is the piece's number (11
bytes) and a byte that is 1 for the last piece: no piece can be moved, left out or repeated, and an end that was cut off
is no end.

The nonces count, which `xaes.py` forbids, and may: a key seals one stream and nothing else. The caller MUST draw it for
that stream (`random_key`, then `derive_subkey`) and MUST NOT seal again with it, not even the same text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from appliance.errors import DecryptionFailed

CHUNK_BYTES = 256 * 1024
TAG_BYTES = 16
CHUNKS_MAX = 2**32  # of one key: the bound of SP 800-38D, a petabyte
_KEY_BYTES = 32
_COUNTER_BYTES = 11


def seal_chunks(key: bytes, plaintext: Iterable[bytes]) -> Iterator[bytes]:
    """The sealed pieces of `plaintext`, which may come in any sizes. An empty text is one empty piece.

    `key` (32 bytes) MUST be used for this stream only.
    """
    cipher = _cipher(key)
    waiting, number = bytearray(), 0
    for part in plaintext:
        waiting += part
        # One piece stays back: only when nothing follows is it known to be the last.
        while len(waiting) > CHUNK_BYTES:
            yield cipher.encrypt(_nonce(number, last=False), bytes(waiting[:CHUNK_BYTES]), None)
            del waiting[:CHUNK_BYTES]
            number += 1
    yield cipher.encrypt(_nonce(number, last=True), bytes(waiting), None)


def open_chunks(key: bytes, read: Callable[[int], bytes]) -> Iterator[bytes]:
    """The plaintext in pieces. `read(n)` gives at most `n` bytes, fewer only at the end, as a file does.

    Raises `DecryptionFailed` for an altered, moved, missing or additional byte, and for a text that has no end. What
    was handed out before is authentic, and is not the whole: a caller MUST NOT act on it until the iterator ends.
    """
    cipher = _cipher(key)
    number, piece = 0, read(CHUNK_BYTES + TAG_BYTES)
    while True:
        following = read(CHUNK_BYTES + TAG_BYTES) if len(piece) == CHUNK_BYTES + TAG_BYTES else b""
        last = not following
        try:
            opened = cipher.decrypt(_nonce(number, last=last), piece, None)
        except (InvalidTag, ValueError):
            raise _failed() from None
        if last and not opened and number > 0:
            raise _failed()  # a text has one encoding: an empty piece is the only one
        yield opened
        if last:
            return
        number, piece = number + 1, following


def _nonce(number: int, *, last: bool) -> bytes:
    if number >= CHUNKS_MAX:
        raise ValueError("a stream has at most 2^32 pieces")
    return number.to_bytes(_COUNTER_BYTES, "big") + (b"\x01" if last else b"\x00")


def _cipher(key: bytes) -> AESGCM:
    if len(key) != _KEY_BYTES:
        raise ValueError(f"a stream is sealed with a key of {_KEY_BYTES} bytes")
    return AESGCM(key)


def _failed() -> DecryptionFailed:
    return DecryptionFailed(
        "a sealed file could not be opened: it was altered, is incomplete, or was sealed with another key"
    )
