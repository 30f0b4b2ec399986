"""Long texts sealed in pieces: what comes out is what went in, or nothing is believed.

The vectors in `vectors/chunks.json` pin the bytes; they were made by an independent few lines over AES-GCM
(`crypto_vectors.py` loads them and fails where there are none).
"""

import hashlib
import io
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from appliance.crypto import chunks
from appliance.crypto.chunks import CHUNK_BYTES, TAG_BYTES, open_chunks, seal_chunks
from appliance.errors import DecryptionFailed

VECTORS = json.loads((Path(__file__).parent / "vectors" / "chunks.json").read_text())
KEY = bytes(range(32))
PIECE = CHUNK_BYTES + TAG_BYTES


def sealed(plaintext: bytes, key: bytes = KEY) -> bytes:
    return b"".join(seal_chunks(key, [plaintext]))


def opened(stream: bytes, key: bytes = KEY) -> bytes:
    return b"".join(open_chunks(key, io.BytesIO(stream).read))


@pytest.mark.parametrize("vector", VECTORS["vectors"], ids=lambda vector: str(vector["length"]))
def test_published_vectors(vector):
    plaintext = (bytes(range(256)) * (vector["length"] // 256 + 1))[: vector["length"]]
    stream = sealed(plaintext, bytes.fromhex(vector["key"]))
    assert hashlib.sha256(stream).hexdigest() == vector["sha256"]
    assert stream[-TAG_BYTES:].hex() == vector["last_tag"]


def test_there_are_vectors_around_the_edges_of_a_piece():
    assert {vector["length"] for vector in VECTORS["vectors"]} >= {0, 1, CHUNK_BYTES, CHUNK_BYTES + 1}


def test_pieces_are_aes_gcm_under_counted_nonces():
    plaintext = bytes(CHUNK_BYTES) + b"end"
    expected = AESGCM(KEY).encrypt(bytes(12), bytes(CHUNK_BYTES), None)
    expected += AESGCM(KEY).encrypt(bytes(10) + b"\x01\x01", b"end", None)
    assert sealed(plaintext) == expected


@given(
    st.integers(0, 3).flatmap(lambda pieces: st.integers(max(0, pieces * 64 - 2), pieces * 64 + 2)),
    st.lists(st.integers(1, 90), min_size=1, max_size=6),
)
def test_whatever_the_sizes_the_text_comes_back(length, parts):
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(chunks, "CHUNK_BYTES", 64)
        plaintext = bytes(number % 251 for number in range(length))
        cut, at = [], 0
        while at < length:
            size = parts[len(cut) % len(parts)]
            cut.append(plaintext[at : at + size])
            at += size
        stream = b"".join(seal_chunks(KEY, cut))
        assert stream == b"".join(seal_chunks(KEY, [plaintext]))
        assert b"".join(open_chunks(KEY, io.BytesIO(stream).read)) == plaintext


LONG = bytes(2 * CHUNK_BYTES + 100)
DAMAGE = {
    "the end cut off at a piece": lambda stream: stream[: 2 * PIECE],
    "the end cut off inside a piece": lambda stream: stream[:-1],
    "the first piece left out": lambda stream: stream[PIECE:],
    "two pieces exchanged": lambda stream: stream[PIECE : 2 * PIECE] + stream[:PIECE] + stream[2 * PIECE :],
    "a piece repeated": lambda stream: stream[:PIECE] + stream,
    "a bit turned": lambda stream: stream[:PIECE] + bytes([stream[PIECE] ^ 1]) + stream[PIECE + 1 :],
    "something behind the end": lambda stream: stream + b"\0",
    "nothing at all": lambda _: b"",
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_refused(kind):
    with pytest.raises(DecryptionFailed):
        opened(DAMAGE[kind](sealed(LONG)))


def test_another_key_opens_nothing():
    with pytest.raises(DecryptionFailed):
        opened(sealed(b"text"), bytes(32))


def test_an_empty_piece_behind_full_ones_is_no_second_encoding():
    forged = AESGCM(KEY).encrypt(bytes(12), bytes(CHUNK_BYTES), None)
    forged += AESGCM(KEY).encrypt(bytes(10) + b"\x01\x01", b"", None)
    with pytest.raises(DecryptionFailed):
        opened(forged)


def test_a_short_key_is_refused():
    with pytest.raises(ValueError, match="32 bytes"):
        sealed(b"", b"short")
