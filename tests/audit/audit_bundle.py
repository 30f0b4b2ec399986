"""A tiny log builder for attacking the verifier: formats from `appliance/audit/README.md`, written a third time.

    log = Log.of(20)
    log.write(tmp_path / "bundle")                    # or log.write_database(tmp_path / "log.db")
    log.records[5].con = b"forged"; log.rehash(5)     # what an attacker without the signing key can do

It imports nothing from the appliance. "Ciphertexts" are random-looking bytes: the verifier never opens them. The tree
is the recursive definition of RFC 6962, slow and evident.
"""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import sqlite3
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.kdf.kbkdf import KBKDFCMAC, CounterLocation, Mode
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

ORIGIN = "clinic.example/audit/5e0f6a9e-52ab-4c10-9f6e-0c2f6d1b7a11/e1"
SEED = bytes(range(32))
START_MS = 1_767_225_600_000
HEADER = struct.Struct(">4s8sQQBHB16s16s16s24s24sII32s32s")


def sha256(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def b64(value: bytes) -> str:
    return base64.b64encode(value).decode()


def canonical(**fields: object) -> bytes:
    return json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def mth(leaves: list[bytes]) -> bytes:
    """RFC 6962, 2.1, word for word; over leaf hashes."""
    if len(leaves) <= 1:
        return leaves[0] if leaves else sha256()
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    return sha256(b"\x01", mth(leaves[:k]), mth(leaves[k:]))


def path(m: int, leaves: list[bytes]) -> list[bytes]:
    """RFC 6962, 2.1.1."""
    if len(leaves) <= 1:
        return []
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    if m < k:
        return [*path(m, leaves[:k]), mth(leaves[k:])]
    return [*path(m - k, leaves[k:]), mth(leaves[:k])]


def public_of(seed: bytes) -> bytes:
    key = Ed25519PrivateKey.from_private_bytes(seed).public_key()
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw)


def key_id(name: str, public: bytes) -> bytes:
    return sha256(name.encode(), b"\n\x01", public)[:4]


def verifier_key(name: str = ORIGIN, seed: bytes = SEED) -> str:
    public = public_of(seed)
    return f"{name}+{key_id(name, public).hex()}+{b64(bytes([1]) + public)}"


def witness_key(name: str, seed: bytes) -> str:
    """The key of a witness: kind 4."""
    public = public_of(seed)
    identifier = sha256(name.encode(), b"\n\x04", public)[:4]
    return f"{name}+{identifier.hex()}+{b64(bytes([4]) + public)}"


def cosignature_line(text: str, name: str, seed: bytes, time_s: int) -> str:
    """C2SP tlog-cosignature v1 over the text of a checkpoint."""
    signed = f"cosignature/v1\ntime {time_s}\n{text}".encode()
    signature = Ed25519PrivateKey.from_private_bytes(seed).sign(signed)
    identifier = sha256(name.encode(), b"\n\x04", public_of(seed))[:4]
    return f"— {name} {b64(identifier + time_s.to_bytes(8, 'big') + signature)}\n"


def cosigned(note_text: str, name: str, seed: bytes, time_s: int) -> str:
    """The note with one more line."""
    return note_text + cosignature_line(note_text.partition("\n\n")[0] + "\n", name, seed, time_s)


def xaes_seal(key: bytes, nonce: bytes, plaintext: bytes, aad: bytes) -> bytes:
    """c2sp.org/XAES-256-GCM, by the CMAC-based derivation of SP 800-108 as the library has it."""
    derived = KBKDFCMAC(
        AES, Mode.CounterMode, 32, 2, None, CounterLocation.BeforeFixed, None, None, b"X\x00" + nonce[:12]
    ).derive(key)
    return AESGCM(derived).encrypt(nonce[12:], plaintext, aad)


def signature_line(text: str, name: str = ORIGIN, seed: bytes = SEED) -> str:
    signature = Ed25519PrivateKey.from_private_bytes(seed).sign(text.encode())
    return f"— {name} {b64(key_id(name, public_of(seed)) + signature)}\n"


def note(size: int, root: bytes, name: str = ORIGIN, seed: bytes = SEED) -> str:
    text = f"{name}\n{size}\n{b64(root)}\n"
    return f"{text}\n{signature_line(text, name, seed)}"


@dataclass
class Record:
    """What is stored of one record; `fields` are those of the header, in its order."""

    fields: dict[str, object]
    env: bytes | None = None
    con: bytes | None = None
    body: bytes | None = None
    magic: bytes = b"AUD1"

    def header(self) -> bytes:
        return HEADER.pack(self.magic, *self.fields.values())

    def leaf(self) -> bytes:
        return sha256(b"\x00", self.header())

    def seal(self, part: str, key: bytes, plaintext: bytes) -> None:
        """Replace a part by a real ciphertext, padded to 256 bytes."""
        name = "env_key" if part == "env" else "con_scope"
        place = bytes((int(self.fields["class"]),)) + int(self.fields["month"]).to_bytes(2, "big")  # type: ignore[call-overload]
        pieces = (b"AUD1", self.fields["log_id"], self.fields["record_id"], part.encode(), self.fields[name], place)
        aad = b"".join(pieces)  # type: ignore[arg-type]
        nonce = self.fields[f"{part}_nonce"]
        padded = (plaintext + b"\x80").ljust(256, b"\0")
        setattr(self, part, xaes_seal(key, nonce, padded, aad))  # type: ignore[arg-type]
        self.rehash()

    def rehash(self) -> None:
        """Make the header describe the parts as they are now."""
        env, con = self.env or self.body or b"", self.con or b""
        self.fields |= {
            "env_length": len(env),
            "con_length": len(con),
            "env_sha256": sha256(env),
            "con_sha256": sha256(con),
        }


def make_record(
    seq: int, *, body: bytes | None = None, content: bool = False, origin: str = ORIGIN, scope: bytes | None = None
) -> Record:
    """A record whose bytes all follow from its number."""
    seed = b"record %d" % seq
    sealed = body is None
    scope = scope or sha256(b"con key")[:16]
    fields = {
        "log_id": sha256(origin.encode())[:8],
        "seq": seq,
        "t_commit_ms": START_MS + 1000 * seq,
        "class": 1 if sealed else 0,
        "month": 672 if sealed else 0,
        "kind": 1 if sealed else 2,
        "record_id": sha256(seed, b"id")[:16],
        "env_key": sha256(b"env key")[:16] if sealed else bytes(16),
        "con_scope": scope if content else bytes(16),
        "env_nonce": sha256(seed, b"env")[:24] if sealed else bytes(24),
        "con_nonce": sha256(seed, b"con")[:24] if content else bytes(24),
    }
    env = sha256(seed, b"envelope")[:20] if sealed else None
    record = Record(fields, env, sha256(seed, b"content")[:24] if content else None, body)
    record.rehash()
    return record


def scope_id(number: int) -> bytes:
    """The id of one of several content keys."""
    return sha256(b"scope %d" % number)[:16]


def genesis_body(origin: str = ORIGIN) -> bytes:
    return canonical(
        v=1,
        event="genesis",
        origin=origin,
        log_id=sha256(origin.encode())[:8].hex(),
        public_key=public_of(SEED).hex(),
        software="0.1.0",
    )


@dataclass
class Log:
    """A log, its head and what it keeps; `note` None: signed when written."""

    records: list[Record]
    note: str | None = None
    kept: list[str] = field(default_factory=list)
    origin: str = ORIGIN
    cosigs: dict[int, str] = field(default_factory=dict)  # of kept checkpoints, in a database

    @classmethod
    def of(
        cls,
        size: int,
        *,
        tombstone: tuple[int, int] | None = None,
        bodies: Mapping[int, bytes] | None = None,
        origin: str = ORIGIN,
        scopes: int = 0,
    ) -> Log:
        """Genesis, start, then sealed records, every second with content; the last may be a tombstone.

        `bodies` are public records instead; contents are under so many different `scopes` in turn (0: one).
        """
        records = []
        for seq in range(size):
            if bodies and seq in bodies:
                body = bodies[seq]
            elif seq == 0:
                body = genesis_body(origin)
            elif seq == 1:
                body = canonical(v=1, event="start", software="0.1.0", warnings="")
            elif tombstone and seq == size - 1:
                seqs = f"{tombstone[0]}-{tombstone[1]}"
                body = canonical(
                    v=1, event="tombstone", parts="content", seqs=seqs, reason="retention", approvals="a,b"
                )
            else:
                body = None
            scope = scope_id(seq % scopes) if scopes else None
            content = body is None and seq % 2 == 0
            records.append(make_record(seq, body=body, content=content, origin=origin, scope=scope))
        log = cls(records, origin=origin)
        if tombstone:
            for seq in range(tombstone[0], tombstone[1] + 1):
                log.records[seq].con = None
        return log

    def copy(self) -> Log:
        return copy.deepcopy(self)

    def leaves(self, size: int | None = None) -> list[bytes]:
        return [record.leaf() for record in self.records[:size]]

    def head(self, size: int | None = None, seed: bytes = SEED) -> str:
        """The signed note of the first `size` records."""
        leaves = self.leaves(size)
        return note(len(leaves), mth(leaves), self.origin, seed)

    def renumber(self) -> None:
        """Give every record the number of its place, as an attacker does who removed or inserted one."""
        for seq, record in enumerate(self.records):
            record.fields["seq"] = seq

    def receipt(self, seq: int, size: int | None = None) -> str:
        leaves = self.leaves(size)
        lines = [
            "c2sp.org/tlog-proof@v1",
            f"extra {b64(self.records[seq].header())}",
            f"index {seq}",
            *(b64(value) for value in path(seq, leaves)),
        ]
        return "\n".join(lines) + "\n\n" + self.head(size)

    def files(self, *, ciphertexts: bool = True) -> dict[str, bytes]:
        """The export bundle."""
        files = {
            "log.json": canonical(ciphertexts=ciphertexts, format="cloister-audit-bundle/1"),
            "checkpoint": (self.note or self.head()).encode(),
            "verifier-key": f"{verifier_key(self.origin)}\n".encode(),
            "checkpoints.jsonl": b"".join(canonical(note=kept) + b"\n" for kept in self.kept),
        }
        level, hashes = 0, self.leaves()
        while hashes:
            for start in range(0, len(hashes), 256):
                tile = hashes[start : start + 256]
                files[tile_name(f"tile/{level}", start // 256, len(tile))] = b"".join(tile)
            hashes = [mth(hashes[start : start + 256]) for start in range(0, len(hashes) - 255, 256)]
            level += 1
        for start in range(0, len(self.records), 256):
            group = self.records[start : start + 256]
            entries = b"".join(b"\x00\xc8" + record.header() for record in group)
            files[tile_name("tile/entries", start // 256, len(group))] = entries
            bodies = [(start + i, 0, record.body) for i, record in enumerate(group)]
            sealed = [
                (start + i, number, part)
                for i, record in enumerate(group)
                for number, part in ((1, record.env), (2, record.con))
            ]
            for name, parts in (("public", bodies), ("ciphertexts", sealed if ciphertexts else [])):
                packed = b"".join(
                    struct.pack(">QBI", seq, number, len(part)) + part
                    for seq, number, part in parts
                    if part is not None
                )
                if packed:
                    files[tile_name(name, start // 256, 256)] = packed
        return files

    def write(self, folder: Path, *, ciphertexts: bool = True) -> Path:
        return write_files(folder, self.files(ciphertexts=ciphertexts))

    def write_zip(self, target: Path) -> Path:
        with zipfile.ZipFile(target, "w") as archive:
            for name, content in self.files().items():
                archive.writestr(name, content)
        return target

    def write_database(self, target: Path, *, signed_size: int | None = None, schema: str = "") -> Path:
        """The same as the appliance stores it; names of columns by hand."""
        leaves = self.leaves()
        signed_size = len(leaves) if signed_size is None else signed_size
        frontier = len(leaves).to_bytes(8, "big") + b"".join(frontier_of(leaves))
        epoch = int(self.origin.rpartition("/e")[2])
        head = (sha256(self.origin.encode())[:8], self.origin, epoch, len(leaves), frontier, mth(leaves), signed_size)
        connection = sqlite3.connect(target)
        with connection:
            connection.executescript(schema or SCHEMA)
            connection.execute(
                "INSERT INTO log_head VALUES (1, ?, ?, ?, ?, ?, ?, ?, ?)", (*head, self.note or self.head(signed_size))
            )
            for seq, record in enumerate(self.records):
                row = (seq, record.fields["record_id"], record.header(), record.env, record.con)
                connection.execute("INSERT INTO record VALUES (?, ?, ?, ?, ?)", row)
                if record.body is not None:
                    connection.execute("INSERT INTO public_body VALUES (?, ?)", (seq, record.body))
            for name, content in self.files().items():
                parts = name.split("/")
                if parts[0] == "tile" and parts[1] not in ("0", "entries"):
                    row = (int(parts[1]), int(parts[2].removesuffix(".p")), len(content) // 32, content)
                    connection.execute("INSERT INTO tile VALUES (?, ?, ?, ?)", row)
            for kept in self.kept:
                size = int(kept.split("\n")[1])
                row = (size, base64.b64decode(kept.split("\n")[2]), kept, START_MS, self.cosigs.get(size))
                connection.execute("INSERT INTO checkpoint VALUES (?, ?, ?, ?, ?)", row)
        connection.close()
        return target


def frontier_of(leaves: list[bytes]) -> list[bytes]:
    """Roots of the complete subtrees, largest first."""
    roots, start = [], 0
    for height in reversed(range(len(leaves).bit_length())):
        if len(leaves) >> height & 1:
            roots.append(mth(leaves[start : start + (1 << height)]))
            start += 1 << height
    return roots


def tile_name(folder: str, index: int, width: int) -> str:
    assert index < 1000, "small logs only"
    return f"{folder}/{index:03d}" + ("" if width == 256 else f".p/{width}")


def write_files(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    return folder


SCHEMA = """
CREATE TABLE log_head (id INTEGER PRIMARY KEY, log_id BLOB, origin TEXT, epoch INTEGER, size INTEGER, frontier BLOB,
                       root BLOB, signed_size INTEGER, note TEXT);
CREATE TABLE record (seq INTEGER PRIMARY KEY, record_id BLOB UNIQUE, header BLOB, env_ct BLOB, con_ct BLOB);
CREATE TABLE public_body (seq INTEGER PRIMARY KEY REFERENCES record (seq), body BLOB);
CREATE TABLE tile (level INTEGER, idx INTEGER, width INTEGER, hashes BLOB, PRIMARY KEY (level, idx));
CREATE TABLE checkpoint (size INTEGER PRIMARY KEY, root BLOB, note TEXT, t_signed_ms INTEGER, cosigs TEXT);
"""
