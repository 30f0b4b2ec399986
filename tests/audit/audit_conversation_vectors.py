"""Makes `vectors/conversation.json`: `python tests/audit/audit_conversation_vectors.py`; imports no appliance code.

The format is "Conversations" of `appliance/audit/README.md`; XAES-256-GCM and the padding are built here from AES.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.cmac import CMAC

TARGET = Path(__file__).parent / "vectors" / "conversation.json"
ID, OWNER, CREATED_MS = bytes(range(16)), "user:7", 1_767_225_600_000
KEY, SUBJECT_KEY = bytes(range(32)), bytes(range(32, 64))
TURNS = [
    {"role": "user", "text": "Schreib einen Brief. ✉", "time_ms": CREATED_MS + 1},
    {
        "role": "assistant", "text": "Sehr geehrte Damen und Herren,\n…", "time_ms": CREATED_MS + 2, "model": "tiny",
        "finish": "stop", "record_id": "ab" * 16, "seq": 12,
    },
]  # fmt: skip


def main() -> None:
    """Write the file."""
    vectors = {
        "about": "Sealed conversations: keys, parts with their nonces, the digest of the turns. Bytes are hex.",
        "id": ID.hex(),
        "owner": OWNER,
        "created_ms": CREATED_MS,
        "conversation_key": KEY.hex(),
        "subject_key": SUBJECT_KEY.hex(),
        "conversations": [conversation(KEY, ""), conversation(combined(KEY, SUBJECT_KEY), "MRN 4711")],
    }
    TARGET.write_text(json.dumps(vectors, indent=1, ensure_ascii=False) + "\n")


def conversation(key: bytes, subject: str) -> dict:
    sealed = [part(key, 1, position, turn, bytes([position + 1]) * 24) for position, turn in enumerate(TURNS)]
    head = {
        "settings": {"title": "Brief", "model": "tiny", "temperature": 0.5},
        "turns": len(TURNS),
        "digest": digest(sealed),
    } | ({"subject": subject} if subject else {})
    return {"subject": subject, "key": key.hex(), "head": part(key, 0, 0, head, b"\x77" * 24), "turns": sealed}


def combined(key: bytes, subject_key: bytes) -> bytes:
    return hmac.digest(key, b"cloister-subkey-1\0conversation/1/subject" + subject_key, "sha256")


def part(key: bytes, kind: int, position: int, value: dict, nonce: bytes) -> dict:
    aad = b"CNV1" + bytes([kind]) + ID + position.to_bytes(4, "big") + CREATED_MS.to_bytes(8, "big") + OWNER.encode()
    plain = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    size = next(size for size in (256, 1024, 2048) if size > len(plain))
    sealed = xaes(key, nonce, (plain + b"\x80").ljust(size, b"\0"), aad)
    return {"value": value, "nonce": nonce.hex(), "sealed": sealed.hex()}


def digest(parts: list[dict]) -> str:
    value = hashlib.sha256(b"CNV1" + ID).digest()
    for each in parts:
        value = hashlib.sha256(value + bytes.fromhex(each["nonce"]) + bytes.fromhex(each["sealed"])).digest()
    return value.hex()


def xaes(key: bytes, nonce: bytes, plain: bytes, aad: bytes) -> bytes:
    derived = b""
    for counter in (1, 2):
        mac = CMAC(AES(key))
        mac.update(counter.to_bytes(2, "big") + b"X\0" + nonce[:12])
        derived += mac.finalize()
    return AESGCM(derived).encrypt(nonce[12:], plain, aad)


if __name__ == "__main__":
    main()
