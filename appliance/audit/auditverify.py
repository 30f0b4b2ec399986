#!/usr/bin/env python3
"""Verify an audit log offline: one file, the standard library, a public key, and what you kept outside the machine.

    python auditverify.py bundle.zip --pub key.txt --trusted checkpoint-2026-03-01.txt
    python auditverify.py log.db --pub key.txt --witness-key witness.txt --quorum 1 --max-age 86400 --json
    python auditverify.py e1.zip e2.zip --pub key1.txt --pub key2.txt --trusted newest.txt     # after a declared loss
    python auditverify.py receipt.tlog-proof --pub key.txt

Exit codes: 0 ok, 2 ok with authorised gaps, 10 altered, 11 truncated, 12 forked, 13 signature, 14 ciphertext missing,
15 clock order, 16 not anchored or anchor too old, 20 wrong decryption key, 30 malformed input or wrong usage.

It contacts nobody and shares no code with the program that writes the log: formats are implemented here a second time,
from `README.md`. It needs Python 3.9, and for `--keys` alone the package `cryptography`. Input is taken for hostile:
what is read is bounded, and memory does not grow with the log.
"""

from __future__ import annotations

import argparse
import base64
import binascii
import hashlib
import heapq
import importlib
import json
import os
import re
import sqlite3
import struct
import sys
import time
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from datetime import datetime, timezone
from pathlib import Path
from typing import IO, Any, NamedTuple, NoReturn

OK, GAPS, ALTERED, TRUNCATED, FORKED, SIGNATURE = 0, 2, 10, 11, 12, 13
MISSING, CLOCK, NOT_ANCHORED, WRONG_KEY, MALFORMED = 14, 15, 16, 20, 30
VERDICTS = {
    OK: "ok",
    GAPS: "ok_with_gaps",
    ALTERED: "altered",
    TRUNCATED: "truncated",
    FORKED: "forked",
    SIGNATURE: "signature",
    MISSING: "ciphertext_missing",
    CLOCK: "clock_disorder",
    NOT_ANCHORED: "not_anchored",
    WRONG_KEY: "wrong_key",
    MALFORMED: "malformed",
}
# Of several findings the first of these decides; a record that was altered explains a root that does not match.
PRECEDENCE = (MALFORMED, ALTERED, FORKED, TRUNCATED, SIGNATURE, MISSING, CLOCK, NOT_ANCHORED, WRONG_KEY, GAPS)

SIGNER_SLOT = 4096  # bytes of one slot of `signer.json`
NOTE_BYTES_MAX = 1_000_000
PROOF_HASHES_MAX = 63
BODY_BYTES_MAX = 64 * 1024
PART_BYTES_MAX = 64 * 1024 * 1024
STATE_BYTES_MAX = 4 * 1024 * 1024
KEY_BYTES_MAX = 4096
NUMBER_MAX = 2**63 - 1
MESSAGES_MAX = 200
EVIDENCE_MAX = 16
RECEIPTS_MAX = 100_000
SIGNATURES_MAX = 100  # of known signers on one note
KEY_FILE_BYTES_MAX = 32 * 1024 * 1024
UNCOVERED_MAX = 10_000  # absent parts without authorisation that are listed
BLOCK_BYTES_MAX = 32 * 1024 * 1024  # ciphertexts of 256 records that are read at once; more are read piece by piece
CLOCK_SKEW_S = 300
UNSIGNED_ROWS_MAX = 4096  # a batch in progress of a live database
ROWS_AT_ONCE = 1024
NOTES_AT_ONCE = 64
CHUNK = 1024 * 1024
WIDTH = 256
HASH = 32
ENTRY = 202  # two bytes of length and a header

HEADER = struct.Struct(">4s8sQQBHB16s16s16s24s24sII32s32s")
PART = struct.Struct(">QBI")
MAGIC = b"AUD1"
SEALED, PUBLIC = 1, 2
BODY, ENVELOPE, CONTENT = 0, 1, 2
ZEROS16, ZEROS24 = bytes(16), bytes(24)
SHA256_OF_NOTHING = hashlib.sha256(b"").digest()
BUNDLE_FORMAT = "cloister-audit-bundle/1"
STATE_FORMAT = "cloister-audit-state/1"
PROOF_FIRST_LINE = b"c2sp.org/tlog-proof@v1\n"
NEWER = "take the auditverify of the release that wrote it"


class Malformed(Exception):
    """Input that is not of the written format, or exceeds a bound."""


class Unsigned(Exception):
    """A note without a good signature of a key that was given. `key_ids`: the keys of this log that did sign it."""

    def __init__(self, text: str, key_ids: Iterable[bytes] = ()) -> None:
        super().__init__(text)
        self.key_ids = frozenset(key_ids)


class Odd(Exception):
    """A block is not plainly in order: it is looked at again, record by record."""


# --- the verdict ----------------------------------------------------------------------------------------------------


class Report:
    """Everything that was found. The exit code follows from it and from nothing else."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.codes: set[int] = set()
        self._first: dict[int, int] = {}
        self.evidence: list[str] = []
        self.origin: str | None = None
        self.records = 0
        self.checkpoint_size: int | None = None
        self.anchored_size: int | None = None
        self.first_ms: int | None = None
        self.last_ms: int | None = None
        self.gaps: list[dict[str, Any]] = []
        self.epochs: list[dict[str, Any]] = []

    def fail(self, code: int, text: str, seq: int | None = None) -> None:
        """One finding; `seq` is the record it is about."""
        self.codes.add(code)
        if seq is not None:
            self._first[code] = min(seq, self._first.get(code, seq))
        self.say(text)

    def keep(self, *notes: str) -> None:
        """Signed notes that prove a fork."""
        self.evidence.extend(note for note in notes if note not in self.evidence and len(self.evidence) < EVIDENCE_MAX)

    def say(self, text: str) -> None:
        """Something the reader should know that decides nothing."""
        if len(self.messages) < MESSAGES_MAX:
            self.messages.append(text)
        elif len(self.messages) == MESSAGES_MAX:
            self.messages.append("there are more findings; only the first are listed")

    @property
    def exit_code(self) -> int:
        """The first of `PRECEDENCE` that was found."""
        return next((code for code in PRECEDENCE if code in self.codes), OK)

    @property
    def first_bad_seq(self) -> int | None:
        """The lowest record of the findings that decide. A lost ciphertext may be how an altered one shows."""
        codes = (ALTERED, MISSING) if self.exit_code == ALTERED else (self.exit_code,)
        return min((self._first[code] for code in codes if code in self._first), default=None)

    def absorb(self, other: Report, prefix: str) -> None:
        """Take over what was found in one of several logs. The lowest bad record is of the first log that decides."""
        self.codes |= other.codes
        self.keep(*other.evidence)
        for message in other.messages:
            self.say(f"{prefix}: {message}")
        self.gaps += [{"log": prefix, **gap} for gap in other.gaps]
        self.epochs.append({"log": prefix, **other.fields(), "messages": len(other.messages)})
        self.records += other.records
        self.origin, self.checkpoint_size, self.anchored_size = other.origin, other.checkpoint_size, other.anchored_size
        self.first_ms = other.first_ms if self.first_ms is None else self.first_ms
        self.last_ms = other.last_ms if other.last_ms is not None else self.last_ms

    def as_json(self) -> str:
        """The machine form."""
        found = {
            **self.fields(),
            "messages": self.messages,
            "evidence": self.evidence,
            "gaps": self.gaps[:MESSAGES_MAX],
        }
        if self.epochs:
            bad = next((one for one in self.epochs if one["exit_code"] == self.exit_code), None)
            found |= {"epochs": self.epochs, "first_bad_seq": bad["first_bad_seq"] if bad else None}
        return json.dumps(found, indent=2, ensure_ascii=True)

    def fields(self) -> dict[str, Any]:
        """The verdict and what it is about."""
        return {
            "verdict": VERDICTS[self.exit_code],
            "exit_code": self.exit_code,
            "origin": self.origin,
            "records": self.records,
            "first_bad_seq": self.first_bad_seq,
            "checkpoint_size": self.checkpoint_size,
            "anchored_size": self.anchored_size,
            "first_time": _time(self.first_ms),
            "last_time": _time(self.last_ms),
        }

    def as_text(self) -> str:
        """The form for people: what it means first, then what was found."""
        code = self.exit_code
        where = "" if self.first_bad_seq is None else f" First bad record: {self.first_bad_seq}."
        opening = f"{VERDICTS[code].upper().replace('_', ' ')}. {MEANINGS[code]}{where}"
        lines = [opening, ""]
        if self.origin is not None:
            lines += [f"  log        {_printable(self.origin)}", f"  records    {self.records:,}"]
        if self.first_ms is not None:
            lines.append(f"  recorded   {_time(self.first_ms)} to {_time(self.last_ms)} (as the machine's clock said)")
        lines += [f"  exit code  {code}", ""]
        lines += [f"- {_printable(message)}" for message in self.messages]
        for note in self.evidence:
            lines += ["", "Evidence, to keep as it is:", "", *map(_printable, note.split("\n"))]
        return "\n".join(lines).rstrip() + "\n"


MEANINGS = {
    OK: "Every record checked is exactly as it was signed, in its place, and agrees with what was kept outside.",
    GAPS: "Every record is as it was signed. Some sealed texts were destroyed on purpose; each has its authorisation"
    " in the log, listed below.",
    ALTERED: "At least one record was changed, removed, inserted or moved after it was signed. Keep this copy as"
    " evidence.",
    TRUNCATED: "The log is shorter than it once was: records at its end were removed, or an older copy was put back.",
    FORKED: "The log contradicts a checkpoint or receipt that was kept outside: its history was rewritten.",
    SIGNATURE: "The log is not signed by the given key in the state in which it is. Either it was changed, or this is"
    " not its key.",
    MISSING: "A sealed text is gone and nothing in the log authorises that.",
    CLOCK: "The records are as signed, but their times run backwards, which the program that writes them never does.",
    NOT_ANCHORED: "Nothing in this copy contradicts itself, but nothing from outside the machine, or nothing recent"
    " enough, confirms it. Whoever holds the signing key could have rebuilt it. Give a checkpoint that you kept"
    " (--trusted).",
    WRONG_KEY: "Every record checked is as it was signed, but a decryption key that was given is not the right one.",
    MALFORMED: "The input is not what it should be, so nothing was proved.",
}


def _time(ms: int | None) -> str | None:
    if ms is None:
        return None
    try:
        return datetime.fromtimestamp(ms / 1000, timezone.utc).isoformat(timespec="milliseconds")  # noqa: UP017 - 3.9
    except (ValueError, OverflowError, OSError):
        return f"{ms} ms since 1970"


def _printable(text: str) -> str:
    """Names from the input go to a terminal; what could steer one does not."""
    return "".join(character if character.isprintable() else "?" for character in text)


# --- Ed25519 (RFC 8032), verification only --------------------------------------------------------------------------

P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
SQRT_MINUS_1 = pow(2, (P - 1) // 4, P)
Point = tuple[int, int, int, int]  # extended coordinates X, Y, Z, T with x = X/Z, y = Y/Z, xy = T/Z
NEUTRAL: Point = (0, 1, 1, 0)


def _add(p: Point, q: Point) -> Point:
    a = (p[1] - p[0]) * (q[1] - q[0]) % P
    b = (p[1] + p[0]) * (q[1] + q[0]) % P
    c = 2 * p[3] * q[3] * D % P
    d = 2 * p[2] * q[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def _decompress(encoded: bytes) -> Point | None:
    y = int.from_bytes(encoded, "little")
    sign, y = y >> 255, y & ((1 << 255) - 1)
    if y >= P:
        return None
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * SQRT_MINUS_1 % P
    if (x * x - square) % P or (x == 0 and sign):
        return None
    if x & 1 != sign:
        x = P - x
    return x, y, 1, x * y % P


def _compress(point: Point) -> bytes:
    inverse = pow(point[2], P - 2, P)
    x, y = point[0] * inverse % P, point[1] * inverse % P
    return (y | (x & 1) << 255).to_bytes(HASH, "little")


def _multiples(point: Point) -> list[list[Point]]:
    """j * 16^i * point for i < 64, j < 16: with them a product is 64 additions. Keys are few and signatures many."""
    rows = []
    for _ in range(64):
        row = [NEUTRAL]
        for _ in range(15):
            row.append(_add(row[-1], point))
        rows.append(row)
        point = _add(row[-1], point)
    return rows


def _times(scalar: int, multiples: list[list[Point]]) -> Point:
    total = NEUTRAL
    for row in multiples:
        total = _add(total, row[scalar & 15])
        scalar >>= 4
    return total


_BASE_Y = 4 * pow(5, P - 2, P) % P
_base_multiples: list[list[list[Point]]] = []  # filled once, when the first signature is checked


class VerifierKey:
    """A signer's name and public key, as in `name+<key id>+<base64>`."""

    kind, wanted = 1, "the verifier key"

    def __init__(self, text: str) -> None:
        name, _, rest = text.strip().partition("+")
        identifier, _, encoded = rest.partition("+")
        material = _base64(encoded, self.wanted)
        if not name or not name.isprintable() or re.search(r"\s", name) or len(material) != 33:
            raise Malformed(f"{self.wanted} is not one of Ed25519 (name+id+key)")
        if material[0] != self.kind:
            raise Malformed(f"{self.wanted} is of kind {material[0]}; kind {self.kind} is needed")
        self.name = name
        self.public = material[1:]
        self.id = key_id(name, self.public, self.kind)
        point = _decompress(self.public)
        if self.id.hex() != identifier or point is None:
            raise Malformed(f"the id of {self.wanted} does not fit its key: was it copied completely?")
        self._negative: Point = (P - point[0], point[1], 1, P - point[3])
        self._multiples: list[list[Point]] = []  # made when the first signature is checked

    def verifies(self, message: bytes, signature: bytes) -> bool:
        """RFC 8032, 5.1.7, without cofactor: R must be the encoding of sB - hA."""
        if len(signature) != 64:
            return False
        encoded, s = signature[:32], int.from_bytes(signature[32:], "little")
        if s >= ORDER:
            return False
        if not _base_multiples:
            _base_multiples.append(_multiples(_decompress(_BASE_Y.to_bytes(HASH, "little")) or NEUTRAL))
        self._multiples = self._multiples or _multiples(self._negative)
        h = int.from_bytes(hashlib.sha512(encoded + self.public + message).digest(), "little") % ORDER
        return _compress(_add(_times(s, _base_multiples[0]), _times(h, self._multiples))) == encoded


class WitnessKey(VerifierKey):
    """The key of a witness (C2SP tlog-cosignature), who signs a time together with a checkpoint."""

    kind, wanted = 4, "the witness key"

    def cosigned_at(self, text: bytes, material: bytes) -> int | None:
        """Seconds since 1970 at which the witness saw this checkpoint; None if the cosignature is not good."""
        if len(material) != 72:
            return None
        seconds = int.from_bytes(material[:8], "big")
        signed = b"cosignature/v1\ntime %d\n" % seconds + text
        return seconds if self.verifies(signed, material[8:]) else None


class Witnesses(NamedTuple):
    """Who confirms checkpoints, how many of them must, and how old the newest confirmation may be (seconds)."""

    keys: tuple[WitnessKey, ...] = ()
    quorum: int = 0
    max_age_s: int | None = None
    now_s: int = 0


def key_id(name: str, public: bytes, kind: int = 1) -> bytes:
    """Four bytes that say which key signed."""
    return hashlib.sha256(name.encode() + b"\n" + bytes([kind]) + public).digest()[:4]


def key_text(name: str, public: bytes, kind: int = 1) -> str:
    """The verifier key as text."""
    encoded = base64.b64encode(bytes([kind]) + public).decode()
    return f"{name}+{key_id(name, public, kind).hex()}+{encoded}"


# --- notes, checkpoints, proofs -------------------------------------------------------------------------------------


class Checkpoint(NamedTuple):
    """A signed tree head, its signature verified."""

    size: int
    root: bytes
    note: str
    label: str
    signers: tuple[bytes, ...] = ()  # public keys of this log whose signatures are good
    cosigned: Mapping[str, int] = {}  # witness: seconds since 1970


def _base64(text: str, what: str) -> bytes:
    """Strict: one form for each value."""
    try:
        value = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, ValueError):
        raise Malformed(f"{what} is not base64") from None
    if base64.b64encode(value).decode() != text:
        raise Malformed(f"{what} is not base64 in its only form")
    return value


def _number(text: str, what: str) -> int:
    if not re.fullmatch(r"0|[1-9][0-9]{0,18}", text) or int(text) > NUMBER_MAX:
        raise Malformed(f"{what} is not a number without leading zeros")
    return int(text)


def open_checkpoint(
    raw: bytes, keys: Sequence[VerifierKey], label: str, witnesses: Sequence[WitnessKey] = ()
) -> Checkpoint:
    """Parse a signed note and verify it. Raises `Malformed`, or `Unsigned` without a good signature."""
    if len(raw) > NOTE_BYTES_MAX:
        raise Malformed(f"{label} is larger than {NOTE_BYTES_MAX} bytes")
    try:
        note = raw.decode()
    except UnicodeDecodeError:
        raise Malformed(f"{label} is not text") from None
    body, separator, signatures = note.rpartition("\n\n")
    if not separator or not signatures.endswith("\n") or re.search(r"[\x00-\x09\x0b-\x1f]", note):
        raise Malformed(f"{label} is not a signed note")
    text = body + "\n"
    signers, cosigned = _verify_signatures(text, signatures[:-1].split("\n"), keys, label, witnesses)
    lines = text.split("\n")
    if len(lines) != 4 or lines[0] != keys[0].name:
        raise Malformed(f"{label} is signed but is not a checkpoint of {keys[0].name}")
    root = _base64(lines[2], f"the root in {label}")
    if len(root) != HASH:
        raise Malformed(f"the root in {label} is not a hash")
    return Checkpoint(_number(lines[1], f"the size in {label}"), root, note, label, signers, cosigned)


def _verify_signatures(
    text: str, lines: Sequence[str], keys: Sequence[VerifierKey], label: str, witnesses: Sequence[WitnessKey]
) -> tuple[tuple[bytes, ...], dict[str, int]]:
    """Unknown signers are ignored; one bad signature of a known key spoils the note, as signed-note demands."""
    known = {(key.name, key.id): key for key in (*keys, *witnesses)}
    seen: set[tuple[bytes, bytes]] = set()
    strangers: set[bytes] = set()
    signers: dict[bytes, None] = {}
    cosigned: dict[str, int] = {}
    for line in lines:
        match = re.fullmatch(r"\u2014 ([^\s+]+) (\S+)", line)
        if match is None:
            raise Malformed(f"{label} has a line that is not a signature")
        material = _base64(match[2], f"a signature in {label}")
        key = known.get((match[1], material[:4]))
        if key is None:
            if match[1] == keys[0].name and len(strangers) < EVIDENCE_MAX:
                strangers.add(material[:4])
            continue
        if (key.id, material) in seen:
            continue
        if len(seen) == SIGNATURES_MAX:
            raise Malformed(f"{label} has more than {SIGNATURES_MAX} signatures")
        seen.add((key.id, material))
        if isinstance(key, WitnessKey):
            seconds = key.cosigned_at(text.encode(), material[4:])
            if seconds is None:
                raise Unsigned(f"the cosignature of the witness {key.name} on {label} is not valid")
            cosigned[key.name] = max(seconds, cosigned.get(key.name, 0))
        elif not key.verifies(text.encode(), material[4:]):
            raise Unsigned(f"the signature of {key.name} on {label} is not valid")
        else:
            signers[key.public] = None
    if not signers:
        raise Unsigned(f"{label} is not signed by {keys[0].name} with the given key", strangers)
    return tuple(signers), cosigned


class Receipt(NamedTuple):
    """A proof file whose signature and inclusion path were verified."""

    seq: int
    leaf: bytes
    t_commit_ms: int
    checkpoint: Checkpoint


def open_receipt(raw: bytes, keys: Sequence[VerifierKey], label: str, witnesses: Sequence[WitnessKey] = ()) -> Receipt:
    """Parse a C2SP tlog-proof and verify it. Raises `Malformed` or `Unsigned`."""
    if raw.startswith(PROOF_FIRST_LINE[:-2]) and not raw.startswith(PROOF_FIRST_LINE):
        raise Malformed(f"{label} is a proof file of a later version: {NEWER}")
    if len(raw) > NOTE_BYTES_MAX + 8192 or not raw.startswith(PROOF_FIRST_LINE):
        raise Malformed(f"{label} is not a proof file, or too large for one")
    head, separator, note = raw.partition(b"\n\n")
    if not separator or not head.isascii():
        raise Malformed(f"{label} is not a proof file")
    lines = head.decode().split("\n")
    if len(lines) < 3 or not lines[1].startswith("extra ") or not lines[2].startswith("index "):
        raise Malformed(f"{label} carries no header, or no index")
    if len(lines) - 3 > PROOF_HASHES_MAX:
        raise Malformed(f"the proof in {label} has more than {PROOF_HASHES_MAX} hashes")
    encoded = _base64(lines[1][6:], f"the header in {label}")
    seq = _number(lines[2][6:], f"the index in {label}")
    path = [_base64(line, f"a hash in {label}") for line in lines[3:]]
    checkpoint = open_checkpoint(note, keys, label, witnesses)
    fault, header = check_header(encoded, seq, log_id_of(keys[0].name))
    if fault is not None or header is None:
        raise Malformed(f"{label}: {fault}")
    leaf = leaf_hash(encoded)
    if root_of_path(seq, checkpoint.size, leaf, path) != checkpoint.root:
        raise Malformed(f"the proof in {label} does not lead to the root that is signed in it")
    return Receipt(seq, leaf, header[3], checkpoint)


# --- the tree (RFC 6962, C2SP tlog-tiles) ---------------------------------------------------------------------------


def leaf_hash(header: bytes) -> bytes:
    """Hash of a leaf."""
    return hashlib.sha256(b"\x00" + header).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash of an inner node."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def root_of_path(index: int, size: int, leaf: bytes, path: Sequence[bytes]) -> bytes | None:
    """The root that an inclusion path leads to, None where it has the wrong length or a hash has.

    Written from the definition (RFC 6962, 2.1.1): at each split of the tree, the leaf lies left or right of it.
    """
    turns = []
    while size > 1:
        split = 1 << ((size - 1).bit_length() - 1)
        turns.append(index >= split)
        index, size = (index - split, size - split) if index >= split else (index, split)
    if index != 0 or size != 1 or len(turns) != len(path) or any(len(sibling) != HASH for sibling in path):
        return None
    root = leaf
    for right, sibling in zip(reversed(turns), path):  # noqa: B905 - `strict` is not in 3.9; lengths are equal
        root = node_hash(sibling, root) if right else node_hash(root, sibling)
    return root


def subtree_roots(hashes: Sequence[bytes]) -> list[bytes]:
    """Roots of the largest complete subtrees over `hashes`, left to right."""
    roots, start = [], 0
    while start < len(hashes):
        width = 1 << ((len(hashes) - start).bit_length() - 1)
        row = list(hashes[start : start + width])
        while len(row) > 1:
            row = [node_hash(row[i], row[i + 1]) for i in range(0, len(row), 2)]
        roots.append(row[0])
        start += width
    return roots


class Tree:
    """A growing tree as its incomplete tiles, one for each level: at most 255 hashes each, seven levels for 2^56."""

    def __init__(self) -> None:
        self.size = 0
        self.edge: list[list[bytes]] = [[]]

    def append(self, leaf: bytes) -> list[tuple[int, int, list[bytes]]]:
        """Add a leaf; returns the tiles that it completed as (level, index, hashes)."""
        return self.extend((leaf,))

    def extend(self, leaves: Sequence[bytes]) -> list[tuple[int, int, list[bytes]]]:
        """Add leaves that lie in one tile; returns the tiles that they completed as (level, index, hashes)."""
        tile = self.edge[0]
        if len(tile) + len(leaves) > WIDTH:
            raise ValueError("leaves of two tiles")
        self.size += len(leaves)
        tile.extend(leaves)
        return self._carry() if len(tile) == WIDTH else []

    def _carry(self) -> list[tuple[int, int, list[bytes]]]:
        completed, level = [], 0
        while len(self.edge[level]) == WIDTH:
            full, self.edge[level] = self.edge[level], []
            completed.append((level, (self.size >> (8 * (level + 1))) - 1, full))
            if level + 1 == len(self.edge):
                self.edge.append([])
            self.edge[level + 1].append(subtree_roots(full)[0])
            level += 1
        return completed

    def frontier(self) -> list[bytes]:
        """Roots of the complete subtrees, largest first."""
        return [root for tile in reversed(self.edge) for root in subtree_roots(tile)]

    def root(self) -> bytes:
        """The root over all leaves."""
        roots = self.frontier()
        if not roots:
            return SHA256_OF_NOTHING
        root = roots.pop()
        while roots:
            root = node_hash(roots.pop(), root)
        return root

    def partial_tiles(self) -> Iterator[tuple[int, int, list[bytes]]]:
        """The incomplete tiles at the right edge, as (level, index, hashes)."""
        for level, hashes in enumerate(self.edge):
            if hashes:
                yield level, self.size >> (8 * (level + 1)), hashes


# --- headers and control records ------------------------------------------------------------------------------------


def log_id_of(origin: str) -> bytes:
    """How headers name the log of this origin."""
    return hashlib.sha256(origin.encode()).digest()[:8]


def check_header(encoded: bytes, seq: int, log_id: bytes) -> tuple[str | None, tuple | None]:
    """(what is wrong with it or None, its fields or None)."""
    if len(encoded) != HEADER.size:
        return f"the header of record {seq} has {len(encoded)} bytes", None
    fields = HEADER.unpack(encoded)
    magic, log, number, t_ms, cls, month, kind, _, env_key, scope, env_nonce, con_nonce, env_len, con_len = fields[:14]
    if magic != MAGIC or kind not in (SEALED, PUBLIC) or t_ms > NUMBER_MAX or env_len == 0:
        return f"the header of record {seq} is not one", None
    if number != seq:
        return f"record {number} stands in the place of record {seq}", None
    if log != log_id:
        return f"record {seq} belongs to another log", None
    if kind == PUBLIC:
        lawful = (cls, month, env_key, scope, env_nonce) == (0, 0, ZEROS16, ZEROS16, ZEROS24)
    else:
        lawful = env_key != ZEROS16
    if scope == ZEROS16:
        lawful = lawful and (con_nonce, con_len, fields[15]) == (ZEROS24, 0, SHA256_OF_NOTHING)
    else:
        lawful = lawful and con_len != 0
    return (None, fields) if lawful else (f"the header of record {seq} contradicts itself", None)


def parse_control(body: bytes) -> dict[str, Any] | None:
    """The fields of a control record; None unless it is in canonical form, and then it authorises nothing."""
    if len(body) > BODY_BYTES_MAX:
        return None
    try:
        fields = json.loads(body)
        if not isinstance(fields, dict) or not all(type(value) in (str, int) for value in fields.values()):
            return None
        again = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    except (ValueError, RecursionError):  # not JSON, not UTF-8, lone surrogates, numbers of thousands of digits
        return None
    return fields if again == body and fields.get("v") == 1 else None


def parse_ranges(text: object) -> list[tuple[int, int]]:
    """`5-9,12`, ascending and apart; anything else names nothing."""
    ranges: list[tuple[int, int]] = []
    for piece in text.split(",") if isinstance(text, str) else ():
        match = re.fullmatch(r"(0|[1-9][0-9]{0,18})(?:-([1-9][0-9]{0,18}))?", piece)
        if match is None:
            return []
        first, last = int(match[1]), int(match[2] or match[1])
        if (match[2] and last <= first) or (ranges and first <= ranges[-1][1] + 1):
            return []
        ranges.append((first, last))
    return ranges


def parse_ids(text: object, length: int) -> list[bytes] | None:
    """Hex ids of `length` bytes, ascending, each once, with commas between them; None for anything else."""
    if text == "":
        return []
    one = f"[0-9a-f]{{{2 * length}}}"
    if not isinstance(text, str) or re.fullmatch(f"{one}(?:,{one})*", text) is None:
        return None
    pieces = text.split(",")
    ascending = all(pieces[i] < pieces[i + 1] for i in range(len(pieces) - 1))
    return [bytes.fromhex(piece) for piece in pieces] if ascending else None


class Hold:
    """Nothing that it covers may be destroyed from `set_seq` until `released_seq`."""

    def __init__(self, seq: int, fields: Mapping[str, Any]) -> None:
        self.id = str(fields.get("hold"))
        self.set_seq, self.released_seq = seq, NUMBER_MAX
        self.fields = {name: fields.get(name) for name in ("hold", "scopes", "subjects", "classes")}
        self.scopes = frozenset(parse_ids(fields.get("scopes"), 16) or ())
        self.subjects = frozenset(str(fields.get("subjects")).split(",")) - {""}
        classes = str(fields.get("classes"))
        self.classes = frozenset(map(int, re.findall(r"\b[0-9]{1,3}\b", classes)))

    def covers(self, record_class: int, scope: bytes) -> bool:
        """Whether a record of this class, with this key of its content, is protected."""
        return record_class in self.classes or scope in self.scopes


class Authorisation:
    """A tombstone, purge or shred: ciphertexts before it may be absent."""

    def __init__(self, seq: int, fields: Mapping[str, Any]) -> None:
        self.seq, self.fields = seq, fields
        self.event = str(fields["event"])
        self.parts = (ENVELOPE, CONTENT) if fields.get("parts") == "all" else (CONTENT,)
        self.ranges = parse_ranges(fields.get("seqs")) if self.event == "tombstone" else []
        self.place = (fields.get("class"), fields.get("month")) if self.event == "purge" else None
        self.scopes = (parse_ids(fields.get("scopes"), 16) or []) if self.event == "shred" else []
        self.counted = {ENVELOPE: 0, CONTENT: 0}
        self.confirmed = False
        self.erased: int | None = None  # the record that says it is finished
        self.holds: list[Hold] = []  # active when it was written
        self.broken: Hold | None = None  # the hold that protects something it names

    def is_lawful(self) -> bool:
        """Whether it names something in the written form, and nothing that comes after it."""
        if self.event == "tombstone":
            return (
                self.fields.get("parts") in ("content", "all") and bool(self.ranges) and self.ranges[-1][1] < self.seq
            )
        if self.event == "purge":
            numbers = all(isinstance(value, int) for value in self.place or (None,))
            return self.fields.get("parts") in ("content", "all") and numbers
        return bool(self.scopes)

    def judge(self, holds: Iterable[Hold]) -> None:
        """Find the holds that were active, and whether one protects what this record names."""
        self.holds = [hold for hold in holds if hold.set_seq < self.seq < hold.released_seq]
        for hold in self.holds:
            named = hold.scopes.intersection(self.scopes) or self.fields.get("subject") in hold.subjects
            if named or (self.place is not None and self.place[0] in hold.classes):
                self.broken = self.broken or hold

    def what(self) -> str:
        """What it names, short."""
        if self.event == "tombstone":
            return f"{self.fields['parts']} of {str(self.fields['seqs'])[:80]}"
        if self.event == "purge":
            return f"{self.fields['parts']} of class {self.fields['class']}, month {_month(self.fields['month'])}"
        subject = str(self.fields.get("subject", ""))[:32]
        about = f" of subject {subject}" if subject else ""
        return f"contents under {len(self.scopes)} keys{about}, grade {str(self.fields.get('grade'))[:8]}"

    def line(self) -> str:
        """Which record authorised how much, why, and who approved it."""
        said = {name: str(self.fields.get(name, ""))[:80] or "none given" for name in ("reason", "approvals")}
        counts = f"{self.counted[CONTENT]} contents and {self.counted[ENVELOPE]} envelopes"
        done = f"; finished according to record {self.erased}" if self.erased else "; not said to be finished"
        return (
            f"record {self.seq} ({self.event}: {self.what()}) authorised it for {counts}; reason: {said['reason']};"
            f" approved by: {said['approvals']}{done if self.event != 'tombstone' else ''}"
        )

    def as_fields(self) -> dict[str, Any]:
        """The same for machines."""
        said = {name: str(self.fields.get(name, ""))[:200] for name in ("reason", "approvals")}
        counts = {"contents": self.counted[CONTENT], "envelopes": self.counted[ENVELOPE]}
        return {"seq": self.seq, "event": self.event, **said, **counts, "erased_seq": self.erased}


class Ledger:
    """What the log's control records say about destruction, and which absent ciphertexts that covers.

    It is filled twice: `announce` takes what stands ahead, unverified, when the first ciphertext is found absent;
    `confirm` takes each record as it is verified. What was used and never confirmed is a finding.
    """

    EVENTS = ("tombstone", "purge", "shred", "erased", "hold.set", "hold.release")

    def __init__(self, holds: Iterable[Mapping[str, Any]] = ()) -> None:
        self.holds: list[Hold] = [Hold(int(fields["set_seq"]), fields) for fields in holds]
        self.authorisations: dict[int, Authorisation] = {}
        self._seen: dict[int, Mapping[str, Any]] = {}
        self._purges: dict[tuple[Any, Any], list[Authorisation]] = {}
        self._shreds: dict[bytes, list[Authorisation]] = {}
        self._ranges: list[tuple[int, int, int, Authorisation]] = []  # a heap by first number
        self._open: dict[int, list[tuple[int, int, Authorisation]]] = {ENVELOPE: [], CONTENT: []}  # heaps by last

    def announce(self, seq: int, fields: Mapping[str, Any]) -> None:
        """Take one record. A second time, with the same fields, changes nothing."""
        if seq in self._seen or fields.get("event") not in self.EVENTS:
            return
        self._seen[seq] = fields
        event = fields["event"]
        if event == "hold.set":
            self.holds.append(Hold(seq, fields))
        elif event == "hold.release":
            self._release(seq, fields)
        elif event == "erased":
            one = self.authorisations.get(fields.get("authorised_by", -1))
            if one is not None:
                one.erased = seq
        else:
            self._authorise(Authorisation(seq, fields))

    def confirm(self, seq: int, fields: Mapping[str, Any]) -> None:
        """This record is verified."""
        self.announce(seq, fields)
        if seq in self.authorisations and self._seen[seq] == fields:
            self.authorisations[seq].confirmed = True

    def allows(self, seq: int, part: int, record_class: int, month: int, scope: bytes) -> str | None:
        """None if a record authorises that this part is absent, else why not. Numbers MUST ascend from call to call."""
        why = "no tombstone covers it"
        for one in self._candidates(seq, part, record_class, month, scope):
            if one.seq <= seq or part not in one.parts:
                continue
            hold = one.broken or next((hold for hold in one.holds if hold.covers(record_class, scope)), None)
            if hold is None:
                one.counted[part] += 1
                return None
            why = f"destroyed under legal hold {_printable(hold.id)} (of record {hold.set_seq}) by record {one.seq}"
        return why

    def active_holds(self) -> list[dict[str, Any]]:
        """Those that are not released, for the state of a later run."""
        return [{**hold.fields, "set_seq": hold.set_seq} for hold in self.holds if hold.released_seq == NUMBER_MAX]

    def _release(self, seq: int, fields: Mapping[str, Any]) -> None:
        """Two people end a hold; a record that names one person ends nothing."""
        if len(set(str(fields.get("approvals", "")).split(",")) - {""}) < 2:
            return
        for hold in self.holds:
            if hold.id == fields.get("hold") and hold.released_seq == NUMBER_MAX:
                hold.released_seq = seq

    def _authorise(self, one: Authorisation) -> None:
        if not one.is_lawful():
            return
        one.judge(self.holds)
        self.authorisations[one.seq] = one
        if one.place is not None:
            self._purges.setdefault(one.place, []).append(one)
        for scope in one.scopes:
            self._shreds.setdefault(scope, []).append(one)
        for first, last in one.ranges:
            heapq.heappush(self._ranges, (first, last, one.seq, one))

    def _candidates(self, seq: int, part: int, record_class: int, month: int, scope: bytes) -> Iterator[Authorisation]:
        yield from self._purges.get((record_class, month), ())
        if part == CONTENT:
            yield from self._shreds.get(scope, ())
        while self._ranges and self._ranges[0][0] <= seq:
            _, last, number, one = heapq.heappop(self._ranges)
            for covered in one.parts:
                heapq.heappush(self._open[covered], (last, number, one))
        heap = self._open[part]
        while heap and heap[0][0] < seq:
            heapq.heappop(heap)
        if heap:
            yield heap[0][2]
            if heap[0][2].holds:  # the nearest may stand against a hold and another not
                yield from (one for _, _, one in heap)


def _month(number: object) -> str:
    return f"{1970 + number // 12}-{number % 12 + 1:02d}" if isinstance(number, int) and 0 <= number < 65536 else "?"


# --- where records come from ----------------------------------------------------------------------------------------


class Part(NamedTuple):
    """A stored ciphertext, hashed while it was read; its bytes only where they are to be opened."""

    length: int
    digest: bytes
    content: bytes | None = None


class Block(NamedTuple):
    """Up to 256 records that look to be in order: (header, envelope, content) of each, and public bodies by number."""

    rows: Iterable[tuple[bytes, Any, Any]]
    bodies: dict[int, bytes]


class Row(NamedTuple):
    """One record as stored. `header` None: it is not there. `fault`: what contradicts it beside it.

    `unread`: its parts stand behind a fault in their file, so nothing can be said about them.
    """

    seq: int
    header: bytes | None
    env: Part | None = None
    con: Part | None = None
    body: bytes | None = None
    fault: str | None = None
    unread: bool = False


class KeptNote(NamedTuple):
    """A checkpoint that the log keeps, with the columns derived from it where there are any."""

    note: bytes
    size: int | None = None
    root: bytes | None = None


class Folder:
    """Files of a bundle in a folder. Links are not followed: a bundle has none, and they lead elsewhere."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._plain: set[str] = set()  # folders that are known to be folders

    def open(self, name: str) -> IO[bytes] | None:
        """The file, or None."""
        path, parent = self._root.joinpath(*name.split("/")), name.rpartition("/")[0]
        while parent and parent not in self._plain:
            if self._root.joinpath(*parent.split("/")).is_symlink():
                raise Malformed(f"{parent} in the bundle is a link")
            self._plain.add(parent)
            parent = parent.rpartition("/")[0]
        if path.is_symlink():
            raise Malformed(f"{name} in the bundle is a link")
        return path.open("rb") if path.is_file() else None

    def names(self) -> Iterator[str]:
        """Every file in it."""
        for folder, _, files in os.walk(self._root):
            for name in files:
                yield Path(folder, name).relative_to(self._root).as_posix()


class Zip:
    """Files of a bundle in a zip archive, or those below one of its folders."""

    def __init__(self, archive: zipfile.ZipFile, prefix: str = "") -> None:
        self._zip, self._prefix = archive, prefix
        names = archive.namelist()
        if len(set(names)) != len(names):
            raise Malformed("the archive holds two files of one name: programs would disagree which one counts")
        if any(name.startswith(("/", "\\")) or ".." in re.split(r"[/\\]", name) or "\x00" in name for name in names):
            raise Malformed("the archive names a file outside of itself")

    def open(self, name: str) -> IO[bytes] | None:
        """The file, or None."""
        try:
            return self._zip.open(self._prefix + name)
        except KeyError:
            return None
        except RuntimeError as error:  # encrypted
            raise Malformed(f"{name} in the archive cannot be read: {error}") from None

    def names(self) -> Iterator[str]:
        """Every file in it."""
        for name in self._zip.namelist():
            if name.startswith(self._prefix) and not name.endswith("/"):
                yield name[len(self._prefix) :]


def tile_path(index: int) -> str:
    """`x001/x234/067`."""
    text = f"{index:03d}"
    text = text.zfill(-(-len(text) // 3) * 3)
    groups = [text[i : i + 3] for i in range(0, len(text), 3)]
    return "/".join(["x" + group for group in groups[:-1]] + groups[-1:])


class Bundle:
    """An export bundle: every leaf hash is in it, so every fault has a number."""

    lowest_tile_level = 0
    signer_note: bytes | None = None

    def __init__(self, files: Any, keys: Sequence[VerifierKey], report: Report) -> None:
        self._files = files
        log = self._small("log.json", 1024)
        if log is not None and re.search(rb'"cloister-audit-bundle/(?!1")[0-9]+"', log):
            raise Malformed(f"this bundle is of a later format than {BUNDLE_FORMAT}: {NEWER}")
        if log not in (_log_json(True), _log_json(False)):
            raise Malformed("log.json is missing or not of this version: this is not an export bundle")
        self.ciphertexts = log == _log_json(True)
        self.note = self._small("checkpoint", NOTE_BYTES_MAX)
        self._size = 0
        self.carried_keys = self._small("verifier-keys", NOTE_BYTES_MAX)
        carried = self._small("verifier-key", KEY_BYTES_MAX)
        if carried is not None and carried not in [f"{key_text(key.name, key.public)}\n".encode() for key in keys]:
            report.fail(SIGNATURE, "the bundle carries another verifier key than the one given")
        self._keep = False
        if not self.ciphertexts:
            report.say("sealed texts are not in this bundle; only their hashes were verified")

    def keep_parts(self) -> None:
        """From now on rows carry ciphertexts, not their hashes alone: they are to be opened."""
        self._keep = True

    def block(self, first: int, upto: int) -> Block | None:
        """The records of one group from `first` on, read at once; None where anything in its files is unusual."""
        group, base = first // WIDTH, first // WIDTH * WIDTH
        width = min(WIDTH, self._size - base)
        packed = self._tile(f"tile/entries/{tile_path(group)}", width, WIDTH * ENTRY)
        plain = packed is not None and len(packed) == width * ENTRY and upto == base + width
        if not plain or packed is None or packed[0::ENTRY] != bytes(width) or packed[1::ENTRY] != b"\xc8" * width:
            return None
        headers = [packed[at + 2 : at + ENTRY] for at in range((first - base) * ENTRY, width * ENTRY, ENTRY)]
        publics = split_parts(self._whole(f"public/{tile_path(group)}"), base, width)
        sealed = split_parts(self._whole(f"ciphertexts/{tile_path(group)}") if self.ciphertexts else b"", base, width)
        if publics is None or sealed is None or any(publics[ENVELOPE]) or any(publics[CONTENT]) or any(sealed[BODY]):
            return None
        at = first - base
        bodies = {base + i: bytes(body) for i, body in enumerate(publics[BODY]) if body is not None and i >= at}
        return Block(zip(headers, sealed[ENVELOPE][at:], sealed[CONTENT][at:]), bodies)  # noqa: B905 - not in 3.9

    def control_bodies(self, start: int, end: int) -> Iterator[tuple[int, bytes]]:
        """Bodies of public records that speak of destruction, not verified."""
        for group in range(start // WIDTH, -(-end // WIDTH)):
            base, packed = group * WIDTH, self._whole(f"public/{tile_path(group)}")
            if packed and _DESTRUCTION.search(packed):
                split = split_parts(packed, base, WIDTH)
                for at, body in enumerate(split[BODY] if split else ()):
                    if body is not None and start <= base + at < end:
                        yield base + at, bytes(body)

    def remarks(self, report: Report) -> None:
        """Files that are no part of a bundle, or beyond its end: nobody verified them."""
        groups, strange, beyond, first = -(-self._size // WIDTH), 0, 0, ""
        for name in self._files.names():
            match = _BUNDLE_FILE.fullmatch(name)
            if match is None:
                if name not in BUNDLE_FILES:
                    strange, first = strange + 1, first or name
                continue
            level, path, width = match.groups()[1:]
            count = self._size if level is None or level == "entries" else self._size >> (8 * int(level))
            number = int(path.replace("/", "").replace("x", ""))
            if width is None:
                fits = number < (count // WIDTH if level else groups)
            else:
                fits = level is not None and number == count // WIDTH and width == str(count % WIDTH)
            beyond += not fits or tile_path(number) != path
        if strange:
            report.fail(
                MALFORMED,
                f"{strange} files in the bundle are no part of its format, so nothing vouches for them; one is "
                f"{_printable(first)[:100]!r}: take them out, and ask who put them there",
            )
        if beyond:
            report.fail(ALTERED, f"{beyond} files in the bundle belong to no record under its checkpoint")

    def size(self, signed: Checkpoint | None, report: Report) -> int:
        """How many records there are to check: as many as the checkpoint says, or all there are without one."""
        self._size = signed.size if signed else self._count()
        return self._size

    def rows(self, start: int, end: int) -> Iterator[Row]:
        """Records in order; ends at the first that is missing."""
        seq = start
        while seq < end:
            group = seq // WIDTH
            headers = self._headers(group)
            upto = min((group + 1) * WIDTH, end)
            parts = PartFiles(self._files, group, self.ciphertexts, self._keep)
            with closing(parts):
                for number in range(group * WIDTH, upto):
                    header = headers[number % WIDTH] if number % WIDTH < len(headers) else None
                    row = Row(number, None) if header is None else parts.row(number, header)
                    if number >= seq:
                        yield row
                    if header is None:
                        return
                if parts.left_over():
                    yield Row(upto - 1, headers[(upto - 1) % WIDTH], fault=f"something follows record {upto - 1}")
            seq = upto

    def tile(self, level: int, index: int, width: int) -> bytes | None:
        """The hashes of one tile."""
        return self._tile(f"tile/{level}/{tile_path(index)}", width, WIDTH * HASH)

    def kept_notes(self, after: int) -> Iterator[KeptNote]:
        """Checkpoints that the log kept of more than `after` records, smallest first."""
        file = self._files.open("checkpoints.jsonl")
        if file is None:
            return
        with file:
            while True:
                line = file.readline(2 * NOTE_BYTES_MAX)
                if not line:
                    return
                note = _note_of_line(line)
                if not (after and re.match(rb"[^\n]*\n[0-9]{1,19}\n", note) and int(note.split(b"\n", 2)[1]) <= after):
                    yield KeptNote(note)

    def contents(self, found: Sequence[tuple[int, bytes]]) -> None:
        """A bundle carries no index."""

    def finish(self, tree: Tree, start: int, told: bool, report: Report) -> list[int]:
        """What more could contradict the records: files beyond them."""
        if start == 0:
            self.remarks(report)
        return []

    def current_size(self) -> int:
        """A bundle does not grow."""
        return self._size

    def _whole(self, name: str) -> bytes | None:
        """A file of parts; b"" where there is none, None where it is too large to be read at once."""
        file = self._files.open(name)
        if file is None:
            return b""
        with file:
            content = file.read(BLOCK_BYTES_MAX + 1)
        return content if len(content) <= BLOCK_BYTES_MAX else None

    def _small(self, name: str, limit: int) -> bytes | None:
        file = self._files.open(name)
        if file is None:
            return None
        with file:
            content = file.read(limit + 1)
        if len(content) > limit:
            raise Malformed(f"{name} is larger than {limit} bytes")
        return content

    def _tile(self, path: str, width: int, limit: int) -> bytes | None:
        return self._small(path if width == WIDTH else f"{path}.p/{width}", limit)

    def _headers(self, group: int) -> list[bytes | None]:
        """Headers of one group; as many as are readable, each believed only if it hashes to its leaf."""
        width = min(WIDTH, self._size - group * WIDTH)
        entry = 2 + HEADER.size
        packed = self._tile(f"tile/entries/{tile_path(group)}", width, WIDTH * entry) or b""
        found: list[bytes | None] = []
        for at in range(0, len(packed), entry):
            length, header = packed[at : at + 2], packed[at + 2 : at + entry]
            # A wrong length prefix is no different from a wrong header: hand on something that cannot be one.
            found.append(header if length == HEADER.size.to_bytes(2, "big") else length + header)
        if len(found) > width:
            found[width - 1] = b"more entries than records"
        return found[:width]

    def _count(self) -> int:
        """Without a checkpoint to believe, count the entries: full groups, then the widest partial one."""
        full = 0
        while (file := self._files.open(f"tile/entries/{tile_path(full)}")) is not None:
            file.close()
            full += 1
        for width in range(WIDTH - 1, 0, -1):
            file = self._files.open(f"tile/entries/{tile_path(full)}.p/{width}")
            if file is not None:
                file.close()
                return full * WIDTH + width
        return full * WIDTH


BUNDLE_FILES = ("log.json", "checkpoint", "checkpoints.jsonl", "verifier-key", "verifier-keys")
_BUNDLE_FILE = re.compile(
    r"(tile/(entries|[0-9]{1,2})|public|ciphertexts)/((?:x[0-9]{3}/){0,5}[0-9]{3})(?:\.p/([0-9]{1,3}))?"
)
_DESTRUCTION = re.compile(rb'"event":"(?:tombstone|purge|shred|erased|hold\.set|hold\.release)"')


def split_parts(packed: bytes | None, base: int, width: int) -> list[list[Any]] | None:
    """The parts in one file as [body, envelope, content][number - base]; None where it is out of order."""
    if packed is None:
        return None
    found: list[list[Any]] = [[None] * width, [None] * width, [None] * width]
    view, unpack, at, end, before = memoryview(packed), PART.unpack_from, 0, len(packed), -1
    while at < end:
        if end - at < PART.size:
            return None
        seq, part, length = unpack(packed, at)
        at += PART.size
        order = 3 * (seq - base) + part
        if part > CONTENT or order <= before or seq - base >= width or length > end - at:
            return None
        found[part][seq - base] = view[at : at + length]
        at += length
        before = order
    return found


class PartFiles:
    """The bodies and ciphertexts of one group, read once, in order, beside the headers."""

    def __init__(self, files: Any, group: int, ciphertexts: bool, keep: bool) -> None:
        self._ciphertexts, self._keep = ciphertexts, keep
        self._readers = {
            name: PartReader(files.open(f"{name}/{tile_path(group)}")) for name in ("public", "ciphertexts")
        }

    def row(self, seq: int, header: bytes) -> Row:
        """The record with the parts that its header announces."""
        if len(header) != HEADER.size:
            return Row(seq, header)
        fields = HEADER.unpack(header)
        if fields[6] == PUBLIC:
            reader = self._readers["public"]
            _, body = reader.take(seq, BODY, fields[12])
            return Row(seq, header, body=body, fault=reader.fault_at(seq), unread=reader.is_lost)
        if not self._ciphertexts:
            return Row(seq, header)
        reader = self._readers["ciphertexts"]
        env, _ = reader.take(seq, ENVELOPE, fields[12], self._keep)
        con, _ = reader.take(seq, CONTENT, fields[13], self._keep) if fields[9] != ZEROS16 else (None, None)
        return Row(seq, header, env, con, fault=reader.fault_at(seq), unread=reader.is_lost)

    def left_over(self) -> bool:
        """Whether a file goes on after the last part that a header announces."""
        checked = ("public", "ciphertexts") if self._ciphertexts else ("public",)
        return any(self._readers[name].goes_on() for name in checked)

    def close(self) -> None:
        """Close the files."""
        for reader in self._readers.values():
            reader.close()


class PartReader:
    """One file of `public/` or `ciphertexts/`: entries ascending by (seq, part)."""

    def __init__(self, file: IO[bytes] | None) -> None:
        self._file = file
        self._next: tuple[int, int, int] | None = None
        self._fault: int | None = None  # the record at which it stopped making sense
        self._advance(0)

    def take(self, seq: int, part: int, length: int, keep: bool = False) -> tuple[Part | None, bytes | None]:
        """This part if it comes next: (hash of it, and the bytes of a public body). None: it is absent."""
        if self._next is None or self._fault is not None or self._next[:2] > (seq, part):
            return None, None
        if self._next[:2] != (seq, part) or self._next[2] != length or length > PART_BYTES_MAX:
            self._fault = seq
            return None, None
        digest, kept, left = hashlib.sha256(), bytearray(), length
        while left and self._file is not None:
            chunk = self._file.read(min(left, CHUNK))
            if not chunk:
                self._fault = seq
                return None, None
            digest.update(chunk)
            if keep or (part == BODY and length <= BODY_BYTES_MAX):
                kept += chunk
            left -= len(chunk)
        self._advance(seq)
        return Part(length, digest.digest(), bytes(kept) if keep else None), bytes(kept)

    @property
    def is_lost(self) -> bool:
        """Whether it stopped making sense, so that what follows proves nothing."""
        return self._fault is not None

    def fault_at(self, seq: int) -> str | None:
        """What to say about record `seq`: a fault is told once."""
        return f"the stored text of record {seq} is not where or what it should be" if self._fault == seq else None

    def goes_on(self) -> bool:
        """Whether there are entries that nobody asked for."""
        return self._fault is None and self._next is not None

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def _advance(self, seq: int) -> None:
        raw = self._file.read(PART.size) if self._file is not None else b""
        if raw and len(raw) < PART.size:
            self._fault = seq
        self._next = PART.unpack(raw) if len(raw) == PART.size else None


def _log_json(ciphertexts: bool) -> bytes:
    return json.dumps({"ciphertexts": ciphertexts, "format": BUNDLE_FORMAT}, separators=(",", ":")).encode()


def _note_of_line(line: bytes) -> bytes:
    try:
        note = json.loads(line)["note"]
        again = json.dumps({"note": note}, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"
    except (ValueError, KeyError, TypeError, RecursionError):
        raise Malformed("a line of checkpoints.jsonl is not of its format") from None
    if again != line or not isinstance(note, str):
        raise Malformed("a line of checkpoints.jsonl is not in its only form")
    return note.encode()


class Database:
    """A SQLite copy of the log, or the live one, read in short transactions and never written.

    Columns are named here by hand. Level 0 of the tree is not stored, so a changed header is found by the tile of its
    256 records. Rows beyond the first reading of the head belong to a log that goes on, and are left alone.
    """

    lowest_tile_level = 1
    ciphertexts = True
    carried_keys: bytes | None = None

    def __init__(self, path: Path, keys: Sequence[VerifierKey], report: Report) -> None:
        # The signer's memory first: what it has signed is in the database, whatever is appended meanwhile.
        self.signer_note = _signer_note(path.with_name("signer.json"))
        self._sql = _open_database(path)
        columns = "log_id, origin, epoch, size, frontier, root, signed_size, note"
        head = self._one(f"SELECT {columns} FROM log_head WHERE id = 1")  # noqa: S608 - a constant
        if head is None:
            raise Malformed("the database holds no log yet")
        log_id, origin, epoch, self._head_size, self._frontier, self._root, self._signed_size, self.note = head
        name = keys[0].name
        if (log_id, origin) != (log_id_of(name), name.encode()) or not name.endswith(f"/e{epoch}"):
            report.fail(ALTERED, f"the head of the database does not name the log {name}")
        self._keep = False
        self._index = BlindIndex(self._sql) if self._has_rows("blind") else None

    def keep_parts(self) -> None:
        """From now on rows carry ciphertexts, not their hashes alone: they are to be opened."""
        self._keep = True

    def block(self, first: int, upto: int) -> Block | None:
        """Records from `first` on; the rows raise `Odd` where one is unusual."""
        columns = f"seq, {_bounded('body', BODY_BYTES_MAX)}"
        query = f"SELECT {columns} FROM public_body WHERE seq >= ? AND seq < ?"  # noqa: S608 - constants
        bodies = dict(self._sql.execute(query, (first, upto)).fetchall())
        if not all(isinstance(body, bytes) for body in bodies.values()):
            return None
        return Block(self._plain_rows(first, upto), bodies)

    def _plain_rows(self, first: int, upto: int) -> Iterator[tuple[bytes, Any, Any]]:
        query = f"""
            SELECT seq, record_id, {_bounded("header", HEADER.size)}, {_bounded("env_ct", PART_BYTES_MAX)},
                   {_bounded("con_ct", PART_BYTES_MAX)}
            FROM record WHERE seq >= ? AND seq < ? ORDER BY seq"""  # noqa: S608 - constants
        blob = (bytes, type(None))
        with closing(self._sql.execute(query, (first, upto))) as cursor:
            for seq, record_id, header, env, con in cursor:
                if seq != first or type(header) is not bytes or record_id != header[32:48]:
                    raise Odd
                if type(env) not in blob or type(con) not in blob:
                    raise Odd
                yield header, env, con
                first += 1
        if first != upto:
            raise Odd

    def control_bodies(self, start: int, end: int) -> Iterator[tuple[int, bytes]]:
        """Bodies of public records that speak of destruction, not verified."""
        query = f"""SELECT seq, {_bounded("body", BODY_BYTES_MAX)} FROM public_body
                    WHERE seq >= ? AND seq < ? ORDER BY seq LIMIT {ROWS_AT_ONCE}"""  # noqa: S608 - constants
        while True:
            rows = self._sql.execute(query, (start, end)).fetchall()
            yield from ((seq, body) for seq, body in rows if isinstance(body, bytes) and _DESTRUCTION.search(body))
            if len(rows) < ROWS_AT_ONCE:
                return
            start = rows[-1][0] + 1

    def contents(self, found: Sequence[tuple[int, bytes]]) -> None:
        """These records have a content under these keys; is it in the index?"""
        if self._index is not None:
            self._index.look_up(found)

    def size(self, signed: Checkpoint | None, report: Report) -> int:
        """As many records as the head says."""
        if signed is not None and signed.size != self._signed_size:
            report.fail(ALTERED, "the head says that another number of records is signed than its note")
        return self._head_size

    def rows(self, start: int, end: int) -> Iterator[Row]:
        """Records in order; ends at the first that is missing."""
        query = f"""
            SELECT r.seq, r.record_id, {_bounded("r.header", HEADER.size)}, {_bounded("r.env_ct", PART_BYTES_MAX)},
                   {_bounded("r.con_ct", PART_BYTES_MAX)}, {_bounded("b.body", BODY_BYTES_MAX)}
            FROM record r LEFT JOIN public_body b ON b.seq = r.seq
            WHERE r.seq >= ? AND r.seq < ? ORDER BY r.seq LIMIT {ROWS_AT_ONCE}"""  # noqa: S608 - constants
        seq = start
        while seq < end:
            before = seq
            with closing(self._sql.execute(query, (seq, end))) as cursor:
                for values in cursor:
                    if values[0] != seq:
                        break
                    yield _row(*values, keep=self._keep)
                    seq += 1
            if seq - before < ROWS_AT_ONCE and seq < end:
                yield Row(seq, None)
                return

    def tile(self, level: int, index: int, width: int) -> bytes | None:
        """The first `width` hashes of one tile; a live one may have grown since."""
        query = f"SELECT width, {_bounded('hashes', WIDTH * HASH)} FROM tile WHERE level = ? AND idx = ?"  # noqa: S608
        row = self._one(query, (level, index))
        if row is None or not isinstance(row[1], bytes):
            return None
        return row[1][: width * HASH] if row[0] * HASH == len(row[1]) else b""

    def kept_notes(self, after: int) -> Iterator[KeptNote]:
        """Checkpoints that the log kept of more than `after` records, smallest first."""
        query = f"""SELECT size, {_bounded("root", HASH)}, {_bounded("note", NOTE_BYTES_MAX)},
                           {_bounded("cosigs", NOTE_BYTES_MAX)}
                    FROM checkpoint WHERE size > ? ORDER BY size LIMIT {NOTES_AT_ONCE}"""  # noqa: S608 - constants
        while True:
            rows = self._sql.execute(query, (after,)).fetchall()
            for size, root, note, cosigs in rows:
                yield KeptNote(_with_cosignatures(note, cosigs), size, root)
                after = size
            if len(rows) < NOTES_AT_ONCE:
                return

    def finish(self, tree: Tree, start: int, told: bool, report: Report) -> list[int]:
        """Columns of the head that follow from the records, and rows that no head counts.

        `told`: tiles showed already that records differ. Returns where records that no tile covers begin to differ.
        """
        faulty = []
        if not told and tree.root() != self._root:
            # Tiles confirmed the complete groups, so what differs is behind them.
            first = max(0, min(tree.size - 1, tree.size // WIDTH * WIDTH))
            text = f"one of the records {first} to {tree.size - 1}, or the stored root, was altered"
            report.fail(ALTERED, text, first)
            faulty.append(first)
        elif not told and self._frontier != tree.size.to_bytes(8, "big") + b"".join(tree.frontier()):
            report.fail(ALTERED, "derived column differs: the stored frontier is not that of the records")
        first, last = self._one("SELECT (SELECT min(seq) FROM record), (SELECT max(seq) FROM record)") or (None, None)
        if last is not None and (first < 0 or last >= self.current_size()):
            report.fail(ALTERED, f"record {last} lies beyond the end of the log", self._head_size)
        query = "SELECT seq FROM public_body WHERE seq >= ? AND seq NOT IN (SELECT seq FROM record) LIMIT 1"
        orphan = self._one(query, (start or -NUMBER_MAX,))
        if orphan is not None:
            report.fail(ALTERED, f"there is a public body without a record ({orphan[0]})")
        if start == 0 and not self._record_ids_are_unique():
            report.fail(ALTERED, "derived column differs from header: two records have one record_id")
        if self._index is not None and not told:
            self._index.judge(self.current_size(), start, report)
        return faulty

    def _record_ids_are_unique(self) -> bool:
        """The schema says so; a copy whose schema does not is sorted to see it."""
        for _, name, unique, *_ in self._sql.execute("PRAGMA index_list(record)").fetchall():
            columns = self._sql.execute("SELECT name FROM pragma_index_info(?)", (name,)).fetchall()
            if unique and columns == [(b"record_id",)]:
                return True
        return self._one("SELECT 1 FROM record GROUP BY record_id HAVING count(*) > 1 LIMIT 1") is None

    def _has_rows(self, table: str) -> bool:
        exists = self._one("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (table,)) is not None
        return exists and self._one(f"SELECT 1 FROM {table} LIMIT 1") is not None  # noqa: S608 - a constant

    def current_size(self) -> int:
        """A live log may have grown since the first look."""
        size = (self._one("SELECT size FROM log_head WHERE id = 1") or (0,))[0]
        return size if isinstance(size, int) else 0

    def _one(self, query: str, parameters: tuple = ()) -> tuple | None:
        with closing(self._sql.execute(query, parameters)) as cursor:
            return cursor.fetchone()


class BlindIndex:
    """The index of a database, as far as it can be checked without its keys: contents under the ids of their keys.

    A token is twelve bytes; that of a content is the start of `con_scope`. A record may have no tokens, for the index
    can be switched off; one that has some and not this one, or that has another's, was tampered with.
    """

    TOKEN, NONE = 12, bytes(12)

    def __init__(self, sql: sqlite3.Connection) -> None:
        self._sql = sql
        self._missing: set[int] = set()
        self._scopes: dict[bytes, int] = {}  # token of a content: how many records have it

    def look_up(self, found: Sequence[tuple[int, bytes]]) -> None:
        """Contents of one block, as (number, con_scope)."""
        pairs = [(scope[: self.TOKEN], seq) for seq, scope in found]
        for token, seq in pairs:
            if self._sql.execute("SELECT 1 FROM blind WHERE token = ? AND seq = ?", (token, seq)).fetchone() is None:
                if len(self._missing) < UNCOVERED_MAX:
                    self._missing.add(seq)
            elif token in self._scopes or len(self._scopes) < UNCOVERED_MAX:
                self._scopes[token] = self._scopes.get(token, 0) + 1

    def judge(self, size: int, start: int, report: Report) -> None:
        """One pass over the index; a later run makes it only where something is missing."""
        if start and not self._missing:
            return
        told, seen, runs = 0, set(), (None, 0)
        for token, seq in self._sql.execute("SELECT token, seq FROM blind"):
            if token != self.NONE and seq in self._missing:
                seen.add(seq)
            if not 0 <= seq < size and told < EVIDENCE_MAX:
                told += 1
                report.fail(ALTERED, f"derived column differs from header: the index names a record {seq}")
            runs = (token, runs[1] + 1) if token == runs[0] else self._end_of_run(runs, token, start, report)
        self._end_of_run(runs, None, start, report)
        for seq in sorted(seen)[:MESSAGES_MAX]:
            report.fail(
                ALTERED, f"derived column differs from header: record {seq} is not in the index under its key", seq
            )

    def _end_of_run(self, run: tuple, token: bytes | None, start: int, report: Report) -> tuple:
        """A token that more records have than have this key: find the one too many."""
        if start == 0 and self._scopes.get(run[0], run[1]) < run[1]:
            query = """SELECT b.seq FROM blind b JOIN record r ON r.seq = b.seq
                       WHERE b.token = ? AND substr(r.header, 65, 12) IS NOT b.token ORDER BY b.seq LIMIT 16"""
            for (seq,) in self._sql.execute(query, (run[0],)).fetchall():
                report.fail(
                    ALTERED,
                    f"derived column differs from header: record {seq} is in the index under another's key",
                    seq,
                )
        return token, 1


def _with_cosignatures(note: object, cosigs: object) -> bytes:
    """The lines of witnesses are kept beside the note; a note with all its lines may be kept there as well."""
    signed = note if isinstance(note, bytes) else b""
    if not isinstance(cosigs, bytes) or not cosigs:
        return signed
    return cosigs if b"\n\n" in cosigs else signed + cosigs


def _bounded(column: str, limit: int) -> str:
    """SQL that reads a value only if it is not too large; one that is too large reads as a wrong one."""
    return f"CASE WHEN length({column}) > {limit} THEN x'' ELSE {column} END"


def _row(seq: int, record_id: object, header: object, env: object, con: object, body: object, *, keep: bool) -> Row:
    if not isinstance(header, bytes):
        header = b""
    fault = None
    if len(header) == HEADER.size:
        public = header[31] == PUBLIC
        if record_id != header[32:48]:
            fault = f"derived column differs from header: record_id of record {seq}"
        elif public and env is not None:
            fault = f"public record {seq} has a sealed envelope"
        elif not public and body is not None:
            fault = f"sealed record {seq} has a public body"
        elif con is not None and header[64:80] == ZEROS16:
            fault = f"record {seq} has content that its header does not know"
    return Row(seq, header, _part(env, keep), _part(con, keep), body if isinstance(body, bytes) else None, fault)


def _part(value: object, keep: bool) -> Part | None:
    if value is None:
        return None
    content = value if isinstance(value, bytes) else b""
    return Part(len(content), hashlib.sha256(content).digest(), content if keep else None)


def _open_database(path: Path) -> sqlite3.Connection:
    address = path.absolute().as_uri()
    for options in ("mode=ro", "mode=ro&immutable=1"):
        connection = sqlite3.connect(f"{address}?{options}", uri=True, isolation_level=None)
        connection.text_factory = bytes
        try:
            connection.execute("PRAGMA cell_size_check = ON")
            connection.execute("SELECT count(*) FROM log_head").close()
            return connection
        except sqlite3.OperationalError:
            connection.close()
            # Without a write-ahead log beside it, the file is all there is; a read-only medium needs to be told so.
            if path.with_name(path.name + "-wal").exists() or "immutable" in options:
                raise
    raise AssertionError("unreachable")


def _signer_note(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            state = _signer_state(file.read(NOTE_BYTES_MAX))
        return state["note"].encode() or None
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise Malformed(f"{path.name} beside the database is damaged") from None


def _signer_state(content: bytes) -> Any:
    """The newest whole slot: 16 hex digits of the SHA-256 of the rest behind a space; or all of it is one object."""
    slots = [content[start : start + SIGNER_SLOT] for start in range(0, len(content), SIGNER_SLOT)]
    whole = [slot[17:] for slot in slots if hashlib.sha256(slot[17:]).hexdigest()[:16].encode() == slot[:16]]
    if not whole:
        return json.loads(content)
    return max((json.loads(slot) for slot in whole), key=lambda state: state["counter"])


# --- opening sealed parts, for `--keys` ------------------------------------------------------------------------------


class KeyFile:
    """Decryption keys that an auditor was given, one a line: id (32 hex), key (64 hex), and, at best, a check value.

    The check value (32 hex) is SHA-256("kcv" || key || id)[:16]. With it a wrong key is known at once; without it, a
    key that opens nothing is taken for wrong, and one that opens some records and not others for right.
    """

    def __init__(self, path: Path, report: Report) -> None:
        self._report = report
        self._keys: dict[bytes, tuple[bytes, bool]] = {}
        self._opened: dict[bytes, int] = {}
        self._failed: dict[bytes, list[tuple[int, str]]] = {}
        self.without_key = 0
        for number, line in enumerate(_read_file(path, KEY_FILE_BYTES_MAX).decode("ascii", "replace").splitlines(), 1):
            if line.strip() and not line.startswith("#"):
                self._take(line, f"line {number} of {path.name}")
        self._open = _xaes_256_gcm()

    def check(self, seq: int, part: int, header: bytes, content: bytes) -> None:
        """Open one part and forget what is in it."""
        identifier = header[48:64] if part == ENVELOPE else header[64:80]
        found = self._keys.get(identifier)
        if found is None:
            self.without_key += 1
            return
        name = "envelope" if part == ENVELOPE else "content"
        nonce = header[80:104] if part == ENVELOPE else header[104:128]
        aad = (
            MAGIC + header[4:12] + header[32:48] + (b"env" if part == ENVELOPE else b"con") + identifier + header[28:31]
        )
        plain = self._open(found[0], nonce, content, aad)
        if plain is not None and plain.rstrip(b"\0")[-1:] == b"\x80":
            self._opened[identifier] = self._opened.get(identifier, 0) + 1
        elif found[1]:
            self._report.fail(ALTERED, f"the sealed {name} of record {seq} does not open with its key", seq)
        else:
            failed = self._failed.setdefault(identifier, [])
            if len(failed) < MESSAGES_MAX:
                failed.append((seq, name))

    def conclude(self) -> None:
        """Keys without a check value: were they wrong, or were records altered?"""
        for identifier, failed in self._failed.items():
            if self._opened.get(identifier):
                for seq, name in failed:
                    text = f"the sealed {name} of record {seq} does not open with the key that opens others"
                    self._report.fail(ALTERED, text, seq)
            else:
                self._report.fail(WRONG_KEY, f"the key given for {identifier.hex()} opens nothing: it is a wrong key")
        opened = sum(self._opened.values())
        self._report.say(f"sealed parts opened with the given keys: {opened}; without a key: {self.without_key}")

    def _take(self, line: str, label: str) -> None:
        if re.fullmatch(r"[0-9a-f]{32} [0-9a-f]{64}(?: [0-9a-f]{32})?", line) is None:
            raise Malformed(f"{label} is not `<id, 32 hex> <key, 64 hex> [<check value, 32 hex>]`")
        identifier, key, *check = (bytes.fromhex(piece) for piece in line.split(" "))
        if check and hashlib.sha256(b"kcv" + key + identifier).digest()[:16] != check[0]:
            self._report.fail(WRONG_KEY, f"wrong key for {identifier.hex()} ({label}): it does not fit its check value")
            return
        self._keys[identifier] = (key, bool(check))


def _xaes_256_gcm() -> Callable[[bytes, bytes, bytes, bytes], bytes | None]:
    """c2sp.org/XAES-256-GCM: open(key, nonce, sealed, aad), None where it does not open."""
    try:
        ciphers = importlib.import_module("cryptography.hazmat.primitives.ciphers")
        aead = importlib.import_module("cryptography.hazmat.primitives.ciphers.aead")
        invalid = importlib.import_module("cryptography.exceptions").InvalidTag
    except ImportError:
        raise Malformed(
            "--keys needs the Python package `cryptography`: install it, or leave --keys out; integrity needs no keys"
        ) from None

    def opened(key: bytes, nonce: bytes, sealed: bytes, aad: bytes) -> bytes | None:
        block = ciphers.Cipher(ciphers.algorithms.AES(key), ciphers.modes.ECB()).encryptor()
        # K1 = L << 1, with the polynomial of CMAC where the top bit falls out; L = AES(0^128)
        shifted = int.from_bytes(block.update(bytes(16)), "big") << 1
        k1 = (shifted ^ 0x87 if shifted >> 128 else shifted) & ((1 << 128) - 1)
        # Kx = AES(M1 xor K1) || AES(M2 xor K1), Mi = 0x00 i "X" 0x00 || N[:12]
        masked = (int.from_bytes(bytes((0, i, 0x58, 0)) + nonce[:12], "big") ^ k1 for i in (1, 2))
        derived = b"".join(block.update(value.to_bytes(16, "big")) for value in masked)
        try:
            return aead.AESGCM(derived).decrypt(nonce[12:], sealed, aad)
        except (invalid, ValueError):
            return None

    return opened


# --- the verification -----------------------------------------------------------------------------------------------


class State:
    """How far an earlier run verified: `--since`. It stays with the auditor, so it is an anchor."""

    def __init__(self) -> None:
        self.tree = Tree()
        self.last_ms = 0
        self.running = False
        self.holds: list[dict[str, Any]] = []
        self.history: list[list[Any]] = []  # [record, old key, new key]
        self.distrusted: dict[str, int] = {}
        self.months: dict[str, int] = {}  # retention by class

    @classmethod
    def load(cls, path: Path, origin: str) -> State | None:
        """Read it; None where there is none yet. Raises `Malformed`."""
        if not path.exists():
            return None
        state = cls()
        try:
            fields = json.loads(_read_file(path, STATE_BYTES_MAX))
            state.tree.edge = [[bytes.fromhex(value) for value in level] for level in fields["edge"]] or [[]]
            state.tree.size = sum(len(level) << (8 * at) for at, level in enumerate(state.tree.edge))
            state.last_ms = int(fields["t_commit_ms"])
            state.running = bool(fields.get("running"))
            state.holds = [dict(hold) for hold in fields.get("holds", ())]
            state.history = [[int(seq), str(old), str(new)] for seq, old, new in fields.get("history", ())]
            state.distrusted = {str(key): int(size) for key, size in fields.get("distrusted", {}).items()}
            state.months = {str(number): int(months) for number, months in fields.get("months", {}).items()}
            expected = (STATE_FORMAT, origin, state.tree.size, state.tree.root().hex())
            lawful = (fields["format"], fields["origin"], fields["size"], fields["root"]) == expected
            lawful = lawful and all(type(hold["set_seq"]) is int for hold in state.holds)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            lawful = False
        if not lawful or any(len(level) >= WIDTH for level in state.tree.edge):
            raise Malformed(f"{path.name} is not the state of an earlier run for this log")
        return state

    def save(self, path: Path, origin: str) -> None:
        """Write it whole or not at all."""
        fields = {
            "format": STATE_FORMAT,
            "origin": origin,
            "size": self.tree.size,
            "root": self.tree.root().hex(),
            "t_commit_ms": self.last_ms,
            "edge": [[value.hex() for value in level] for level in self.tree.edge],
            "running": self.running,
            "holds": self.holds,
            "history": self.history,
            "distrusted": self.distrusted,
            "months": self.months,
        }
        beside = path.with_name(path.name + ".new")
        try:
            beside.write_text(json.dumps(fields))
            beside.replace(path)
        except OSError as error:
            raise Malformed(f"the state cannot be written to {path}: {error.strerror}") from None


class Outside:
    """What the auditor brought: checkpoints and receipts, their signatures verified; notes that no given key signed."""

    def __init__(self, witnesses: Witnesses | None = None) -> None:
        self.checkpoints: list[Checkpoint] = []
        self.receipts: dict[int, list[Receipt]] = {}
        self.unsigned: list[Unsigned] = []
        self.witnesses = witnesses or Witnesses()
        self.lost: tuple[int, int] | None = None  # records that the next epoch declares lost, both ends included
        self.keys: KeyFile | None = None

    def take_note(self, raw: bytes, keys: Sequence[VerifierKey], label: str) -> None:
        """A checkpoint that was kept."""
        try:
            self.checkpoints.append(open_checkpoint(raw, keys, label, self.witnesses.keys))
        except Unsigned as error:
            self.unsigned.append(error)

    def take_receipt(self, raw: bytes, keys: Sequence[VerifierKey], label: str) -> None:
        """A receipt that was kept."""
        try:
            receipt = open_receipt(raw, keys, label, self.witnesses.keys)
        except Unsigned as error:
            self.unsigned.append(error)
            return
        self.receipts.setdefault(receipt.seq, []).append(receipt)
        self.checkpoints.append(receipt.checkpoint)


class Verification:
    """One pass over the records, in order.

    Records are taken in blocks of up to 256 (`_plain_block`). Where a block is not plainly in order, it is gone through
    again record by record (`_each_row`), which says what is wrong. The first way decides nothing but that all is well.
    """

    def __init__(self, source: Any, keys: Sequence[VerifierKey], outside: Outside, report: Report) -> None:
        self._source = source
        self._keys = keys
        self._outside = outside
        self._report = report
        self._log_id = log_id_of(keys[0].name)
        self._ledger = Ledger()
        self._looked_ahead = False
        self._uncovered: list[tuple[int, int, str]] = []
        self._unlisted = 0
        self._faulty: list[int] = []  # records or groups whose hash is not the stored one
        self._missing_from: int | None = None
        self._start = self._size = 0
        self._interruptions = 0
        self._pauses: list[str] = []
        self._state = State()
        self._wanted: list[int] = []  # sizes whose roots are asked for, largest first
        self._roots: dict[int, bytes] = {}
        self._kept: Iterator[Checkpoint] = iter(())  # those that the log kept and this run has not reached
        self._waiting: Checkpoint | None = None
        self._misfits: list[Checkpoint] = []  # kept checkpoints that do not match the records
        self._anchor_size: int | None = None
        self._cosigned: list[tuple[int, int]] = []  # (seconds, size) by a quorum of witnesses, best last
        self._cosigners_max = 0
        self._needed: dict[bytes, int] = {}  # keys that signed and were not given: on how many notes
        self.epoch: dict[str, Any] | None = None  # what record 1 says of the log before this one

    def run(self, since: State | None) -> State:
        """Verify everything after `since`; findings go to the report."""
        if since is not None:
            self._state = since
            self._anchor_size = since.tree.size
        self._ledger = Ledger(self._state.holds)
        start = self._start = self._state.tree.size
        for error in self._outside.unsigned:
            self._unsigned(error, "")
        own = self._own_note(self._source.note, "the checkpoint in this copy")
        signer = self._own_note(self._source.signer_note, "signer.json") if self._source.signer_note else None
        size = self._size = self._source.size(own, self._report)
        if size < start:
            self._report.fail(TRUNCATED, f"the log has {size} records; an earlier run saw {start}", size)
            return self._state
        sizes = {one.size for one in (own, signer, *self._outside.checkpoints) if one is not None}
        self._wanted = sorted((one for one in sizes | {size} if one > start), reverse=True)
        self._roots = dict.fromkeys(sizes | {size}, b"")
        if self._outside.keys is not None:
            self._source.keep_parts()
        self._pass(start, size)
        self._report.records = self._state.tree.size
        self._compare(own, signer, size, start)
        self._account_for_absent()
        self._account_for_witnesses()
        self._account_for_keys()
        if self._outside.keys is not None:
            self._outside.keys.conclude()
        self._state.holds = self._ledger.active_holds()
        return self._state

    def _own_note(self, raw: bytes | None, label: str) -> Checkpoint | None:
        """A note inside the copy: one that cannot be read proves as little as one that is not signed."""
        if raw is None:
            self._report.fail(SIGNATURE, f"{label} is missing: nothing says that these records were signed")
            return None
        try:
            return open_checkpoint(raw, self._keys, label, self._outside.witnesses.keys)
        except Unsigned as error:
            self._unsigned(error, "")
        except Malformed as error:
            self._report.fail(MALFORMED if len(raw) > NOTE_BYTES_MAX else SIGNATURE, str(error))
        return None

    def _unsigned(self, error: Unsigned, more: str) -> None:
        """Told at once, or, where a key of this log signed that was not given, together at the end."""
        if not error.key_ids:
            self._report.fail(SIGNATURE, f"{error}{more}")
            return
        self._report.codes.add(SIGNATURE)
        for identifier in error.key_ids:
            self._needed[identifier] = self._needed.get(identifier, 0) + 1
        if sum(self._needed.values()) <= EVIDENCE_MAX:
            self._report.say(f"{error}{more}")

    # -- records

    def _pass(self, start: int, size: int) -> None:
        with closing(self._kept_notes(start)) as self._kept:
            self._waiting = next(self._kept, None)
            self._take_records(start, size)

    def _take_records(self, start: int, size: int) -> None:
        tree = self._state.tree
        if start in self._roots:
            self._roots[start] = tree.root()
        seq = start
        while seq < size and self._missing_from is None:
            upto = min((seq // WIDTH + 1) * WIDTH, size)
            leaves = self._plain_block(seq, upto)
            if leaves is not None:
                self._grow(leaves)
            else:
                self._each_row(seq, upto)
            seq = upto
        if self._missing_from is not None:
            return
        for level, index, hashes in tree.partial_tiles():
            self._check_tile(level, index, hashes)
        waiting = self._waiting
        if waiting is not None and waiting.size > self._source.current_size() and not self._is_declared(waiting.size):
            self._report.fail(TRUNCATED, f"the log once signed {waiting.size} records; {size} are here", size)

    def _plain_block(self, first: int, upto: int) -> list[bytes] | None:
        """The leaf hashes of records that are all in order; None: look at each of them."""
        block = self._source.block(first, upto)
        if block is None:
            return None
        sha256, unpack, log_id = hashlib.sha256, HEADER.unpack, self._log_id
        with_parts, bodies, receipts = self._source.ciphertexts, block.bodies, self._outside.receipts
        keys, last_ms, first_ms = self._outside.keys, self._state.last_ms, None
        leaves, gaps, contents, publics, sealed = [], [], [], [], []
        seq = first
        try:
            for header, env, con in block.rows:
                (magic, log, number, t_ms, cls, month, kind, _, env_key, scope, env_nonce, con_nonce, env_len, con_len,
                 env_sha, con_sha) = unpack(header)  # fmt: skip
                if number != seq or magic != MAGIC or log != log_id or not last_ms <= t_ms <= NUMBER_MAX or not env_len:
                    return None
                if scope == ZEROS16:
                    if con_len or con is not None or con_nonce != ZEROS24 or con_sha != SHA256_OF_NOTHING:
                        return None
                elif not con_len or kind != SEALED:
                    return None
                elif with_parts:
                    if con is None:
                        gaps.append((seq, CONTENT, cls, month, scope))
                    elif len(con) != con_len or sha256(con).digest() != con_sha:
                        return None
                    else:
                        contents.append((seq, scope))
                        if keys is not None:
                            sealed.append((seq, CONTENT, header, bytes(con)))
                if kind == SEALED:
                    if env_key == ZEROS16 or seq == 0:
                        return None
                    if with_parts:
                        if env is None:
                            gaps.append((seq, ENVELOPE, cls, month, scope))
                        elif len(env) != env_len or sha256(env).digest() != env_sha:
                            return None
                        elif keys is not None:
                            sealed.append((seq, ENVELOPE, header, bytes(env)))
                elif kind == PUBLIC:
                    if env is not None or cls or month or env_key != ZEROS16 or env_nonce != ZEROS24:
                        return None
                    body = bodies.get(seq)
                    if body is None or len(body) != env_len or sha256(body).digest() != env_sha:
                        return None
                    publics.append((seq, body))
                else:
                    return None
                last_ms = t_ms
                if first_ms is None:
                    first_ms = t_ms
                leaves.append(sha256(b"\x00" + header).digest())
                seq += 1
        except (Odd, struct.error):
            return None
        if seq != upto or len(bodies) != len(publics) or (receipts and any(n in receipts for n in range(first, upto))):
            return None
        self._state.last_ms = self._report.last_ms = last_ms
        self._report.first_ms = first_ms if self._report.first_ms is None else self._report.first_ms
        for number, body in publics:
            self._take_control(number, body)
        for gap in gaps:
            self._absent(*gap)
        if contents:
            self._source.contents(contents)
        for number, part, header, content in sealed:
            self._outside.keys.check(number, part, header, content)  # type: ignore[union-attr]
        return leaves

    def _each_row(self, first: int, upto: int) -> None:
        tree = self._state.tree
        for row in self._source.rows(first, upto):
            if row.header is None:
                self._missing_from = row.seq
                self._report.fail(ALTERED, f"record {row.seq} is missing", row.seq)
                return
            if row.seq < tree.size:  # a remark about a record that was counted already
                self._report.fail(ALTERED, row.fault or "", row.seq)
                continue
            self._check_row(row)
            self._grow((leaf_hash(row.header),))

    def _grow(self, leaves: Sequence[bytes]) -> None:
        """Add leaves of one block to the tree, with a stop at each size that a checkpoint is of."""
        tree, at = self._state.tree, 0
        while at < len(leaves):
            stop = tree.size + len(leaves) - at
            if self._wanted:
                stop = min(stop, self._wanted[-1])
            if self._waiting is not None and self._waiting.size > tree.size:
                stop = min(stop, self._waiting.size)
            upto = at + stop - tree.size
            for level, index, hashes in tree.extend(leaves[at:upto]):
                self._check_tile(level, index, hashes)
            at = upto
            if self._wanted and self._wanted[-1] == tree.size:
                self._wanted.pop()
                self._roots[tree.size] = tree.root()
            while self._waiting is not None and self._waiting.size <= tree.size:
                self._check_kept(self._waiting)
                self._waiting = next(self._kept, None)

    def _check_row(self, row: Row) -> None:
        report, seq = self._report, row.seq
        assert row.header is not None
        fault, fields = check_header(row.header, seq, self._log_id)
        if fault is not None or fields is None:
            report.fail(ALTERED, fault or "", seq)
            if len(self._faulty) < MESSAGES_MAX:
                self._faulty.append(seq)
            if re.match(rb"AUD[2-9]", row.header):
                report.say(f"if record {seq} was written by a newer release: {NEWER}")
            return
        if row.fault is not None:
            report.fail(ALTERED, row.fault, seq)
        self._check_time(seq, fields[3])
        for receipt in self._outside.receipts.get(seq, ()):
            if receipt.leaf != leaf_hash(row.header):
                report.fail(FORKED, f"record {seq} is not the one of {receipt.checkpoint.label}", seq)
                report.keep(receipt.checkpoint.note)
        if row.unread:
            return
        if fields[6] == PUBLIC:
            self._check_public(row, fields)
            return
        if seq == 0:
            report.fail(ALTERED, "record 0 is not the genesis of this log", 0)
        if self._source.ciphertexts:
            self._check_part(row.header, fields, ENVELOPE, row.env, fields[12], fields[14])
            if fields[9] != ZEROS16:
                self._check_part(row.header, fields, CONTENT, row.con, fields[13], fields[15])

    def _check_time(self, seq: int, t_ms: int) -> None:
        if t_ms < self._state.last_ms:
            self._report.fail(CLOCK, f"record {seq} was committed before the record before it", seq)
        self._state.last_ms = max(t_ms, self._state.last_ms)
        if self._report.first_ms is None:
            self._report.first_ms = t_ms
        self._report.last_ms = self._state.last_ms

    def _check_part(
        self, header: bytes, fields: tuple, part: int, stored: Part | None, length: int, digest: bytes
    ) -> None:
        seq = fields[2]
        if stored is None:
            self._absent(seq, part, fields[4], fields[5], fields[9])
        elif (stored.length, stored.digest) != (length, digest):
            name = "envelope" if part == ENVELOPE else "content"
            self._report.fail(ALTERED, f"the sealed {name} of record {seq} was altered", seq)
        else:
            if part == CONTENT:
                self._source.contents([(seq, fields[9])])
            if self._outside.keys is not None and stored.content is not None:
                self._outside.keys.check(seq, part, header, stored.content)

    def _check_public(self, row: Row, fields: tuple) -> None:
        """Public bodies are never destroyed: an absent one is a missing record."""
        seq = row.seq
        if row.body is None:
            self._report.fail(ALTERED, f"the body of public record {seq} is missing", seq)
            return
        if (len(row.body), hashlib.sha256(row.body).digest()) != (fields[12], fields[14]):
            self._report.fail(ALTERED, f"the body of public record {seq} was altered", seq)
            return
        self._take_control(seq, row.body)

    def _take_control(self, seq: int, body: bytes) -> None:
        """What a verified control record says of the log."""
        said, state = parse_control(body) or {}, self._state
        event = said.get("event")
        named = (event, said.get("origin"), said.get("log_id"))
        if seq == 0 and named != ("genesis", self._keys[0].name, self._log_id.hex()):
            self._report.fail(ALTERED, "record 0 is not the genesis of this log", 0)
        elif event == "genesis" and seq == 0:
            state.history.append([0, "", str(said.get("public_key"))])
        elif not said and b'"v":1' not in body and re.search(rb'"v":[0-9]', body):
            self._report.say(
                f"record {seq} is a control record of a later version, which authorises nothing here: {NEWER}"
            )
        elif event == "heartbeat":
            return
        elif event in Ledger.EVENTS:
            self._ledger.confirm(seq, said)
        elif event == "start":
            self._interruptions += state.running
            state.running = True
        elif event == "stop":
            state.running = False
        elif event == "epoch" and seq == 1:
            self.epoch = said
        elif event == "key.rotate":
            state.history.append([seq, str(said.get("old")), str(said.get("new"))])
        elif event == "key.distrust" and isinstance(said.get("after_size"), int):
            key = str(said.get("key"))
            state.distrusted[key] = min(said["after_size"], state.distrusted.get(key, NUMBER_MAX))
        elif event == "retention" and isinstance(said.get("months"), int):
            number = str(said.get("class"))
            if said["months"] < state.months.get(number, 0):
                self._report.say(
                    f"record {seq} shortens the retention of class {_printable(number)}, which it never may"
                )
            state.months[number] = max(said["months"], state.months.get(number, 0))
        elif event == "audit.paused":
            self._pauses.append(str(said.get("reason"))[:40]) if len(self._pauses) < MESSAGES_MAX else None

    def _absent(self, seq: int, part: int, record_class: int, month: int, scope: bytes) -> None:
        """A ciphertext is gone: does a later record authorise that?"""
        if not self._looked_ahead:
            self._looked_ahead = True
            for number, body in self._source.control_bodies(seq, self._size):
                self._ledger.announce(number, parse_control(body) or {})
        why = self._ledger.allows(seq, part, record_class, month, scope)
        if why is not None and len(self._uncovered) < UNCOVERED_MAX:
            self._uncovered.append((seq, part, why))
        elif why is not None:
            self._unlisted += 1

    def _check_tile(self, level: int, index: int, hashes: list[bytes]) -> None:
        if level < self._source.lowest_tile_level:
            return
        stored = self._source.tile(level, index, len(hashes))
        span = WIDTH**level
        if stored is None or len(stored) != len(hashes) * HASH:
            first = index * WIDTH * span
            self._report.fail(
                ALTERED,
                f"the tile of records {first} to {first + len(hashes) * span - 1} is missing or too short",
                first,
            )
            return
        if stored == b"".join(hashes):
            return
        for at, value in enumerate(hashes):
            first = (index * WIDTH + at) * span
            if stored[at * HASH : (at + 1) * HASH] == value:
                continue
            # One bad record makes every tile above it differ; it is told once.
            if any(first <= fault < first + span for fault in self._faulty):
                continue
            if len(self._faulty) < MESSAGES_MAX:
                self._faulty.append(first)
            which = f"record {first}" if span == 1 else f"one of the records {first} to {first + span - 1}"
            if first < self._start:
                self._report.fail(FORKED, f"{which} is not what an earlier run saw", first)
            else:
                self._report.fail(ALTERED, f"{which}, or the tile that holds its hash, was altered", first)

    # -- checkpoints

    def _kept_notes(self, start: int) -> Generator[Checkpoint, None, None]:
        """Kept checkpoints of more than `start` records with good signatures, ascending."""
        before, bad = start, 0
        for kept in self._source.kept_notes(start):
            if bad == MESSAGES_MAX:
                self._report.say("there are more kept checkpoints; so many are bad that the rest was not read")
                return
            try:
                label = "a checkpoint kept in the log"
                checkpoint = open_checkpoint(kept.note, self._keys, label, self._outside.witnesses.keys)
            except (Unsigned, Malformed) as error:
                size = "" if kept.size is None else f" (size {kept.size})"
                known = isinstance(error, Unsigned) and error.key_ids
                self._unsigned(error if isinstance(error, Unsigned) else Unsigned(str(error)), size)
                bad += not known
                continue
            if (kept.size, kept.root) not in ((None, None), (checkpoint.size, checkpoint.root)):
                self._report.fail(ALTERED, f"derived column differs: kept checkpoint of {checkpoint.size} records")
            if checkpoint.size <= before:
                self._report.fail(ALTERED, "the kept checkpoints are not in order")
                bad += 1
                continue
            before = checkpoint.size
            yield checkpoint

    def _check_kept(self, checkpoint: Checkpoint) -> None:
        if self._explained(checkpoint.size):
            return
        if self._state.tree.root() == checkpoint.root:
            self._count_witnesses(checkpoint)
        elif len(self._misfits) < MESSAGES_MAX:
            self._misfits.append(checkpoint)

    def _explained(self, size: int) -> bool:
        """Whether a fault that was told already makes the root of the first `size` records differ."""
        faults = self._faulty if self._missing_from is None else [*self._faulty, self._missing_from]
        return any(fault < size for fault in faults)

    def _counts(self, checkpoint: Checkpoint) -> bool:
        """Whether a key that is trusted for this size signed it."""
        limits = self._state.distrusted
        return any(checkpoint.size <= limits.get(signer.hex(), NUMBER_MAX) for signer in checkpoint.signers)

    def _compare(self, own: Checkpoint | None, signer: Checkpoint | None, size: int, start: int) -> None:
        report = self._report
        if self._missing_from is None:
            self._faulty.extend(self._source.finish(self._state.tree, start, bool(self._faulty), report))
        for checkpoint in self._misfits:
            self._judge_misfit(checkpoint)
        if start == 0 and self._missing_from is None:
            self._check_carried_keys()
        if own is not None:
            report.checkpoint_size = own.size
            if not self._counts(own):
                report.fail(
                    SIGNATURE, f"the checkpoint of {own.size} records is signed by a key that the log distrusts"
                )
            elif self._differs(own):
                code, since = (FORKED, " and those of the earlier run") if start else (SIGNATURE, "")
                code = FORKED if own.cosigned else code
                report.fail(code, f"the signed root of {own.size} records is not the root of these records{since}")
                report.keep(*([own.note] if own.cosigned else []))
            elif own.size > size:
                if not self._is_declared(own.size):
                    report.fail(
                        TRUNCATED, f"the checkpoint in this copy is of {own.size} records; {size} are here", size
                    )
            elif self._roots.get(own.size) == own.root:
                self._count_witnesses(own)
        if signer is not None:
            self._compare_outside(signer, own, size, start)
        for checkpoint in self._outside.checkpoints:
            if self._compare_outside(checkpoint, own, size, start):
                self._anchor_size = max(self._anchor_size or 0, checkpoint.size)
                self._count_witnesses(checkpoint)
        self._compare_among_themselves()
        self._cover(own, signer, size)
        if self._faulty and own is not None and self._roots.get(own.size) == own.root:
            report.say("the records are those that were signed: what was altered is the stored tiles")
        if self._interruptions:
            report.say(f"recordings cut off without an orderly end (a start without a stop): {self._interruptions}")
        if self._pauses:
            report.say(f"recording paused {len(self._pauses)} times: {', '.join(sorted(set(self._pauses)))}")

    def _check_carried_keys(self) -> None:
        """`verifier-keys` of a bundle repeats what the records say; it is for reading, and must not say otherwise."""
        named = dict.fromkeys(new for _, _, new in self._state.history if re.fullmatch(r"[0-9a-f]{64}", new))
        lines = "".join(f"{key_text(self._keys[0].name, bytes.fromhex(new))}\n" for new in named)
        if self._source.carried_keys not in (None, lines.encode()):
            self._report.fail(
                SIGNATURE, "the verifier keys that the bundle carries are not those that its records name"
            )

    def _judge_misfit(self, checkpoint: Checkpoint) -> None:
        """A checkpoint that the log kept and that its records do not lead to."""
        size, report = checkpoint.size, self._report
        if not self._counts(checkpoint):
            report.say(f"a kept checkpoint of {size} records is by a key that the log distrusts: it counts for nothing")
        elif checkpoint.cosigned:
            names = ", ".join(checkpoint.cosigned)
            report.fail(FORKED, f"the first {size} records are not those that {names} cosigned")
            report.keep(checkpoint.note)
        else:
            report.fail(SIGNATURE, f"the log's own kept checkpoint of {size} records does not match them")

    def _differs(self, checkpoint: Checkpoint) -> bool:
        root = self._roots.get(checkpoint.size)
        return bool(root) and root != checkpoint.root and not self._explained(checkpoint.size)

    def _is_declared(self, signed: int) -> bool:
        """Whether the next epoch declared lost what a checkpoint of this size covers and is not here."""
        lost = self._outside.lost
        return lost is not None and lost[0] <= self._size and signed <= lost[1] + 1

    def _compare_outside(self, checkpoint: Checkpoint, own: Checkpoint | None, size: int, start: int) -> bool:
        """Whether the log agrees with a checkpoint from elsewhere."""
        report, label = self._report, _printable(checkpoint.label)
        if not self._counts(checkpoint):
            report.say(
                f"{label} is signed by a key that the log distrusts for {checkpoint.size} records: it does not count"
            )
            return False
        if checkpoint.size > size:
            if not self._is_declared(checkpoint.size):
                text = f"the log has {size} records; {checkpoint.size} were signed according to {label}"
                report.fail(TRUNCATED, text, size)
            return False
        if checkpoint.size < start:
            report.say(f"{label} is of {checkpoint.size} records, before the part that this run verified")
            return False
        if self._differs(checkpoint):
            report.fail(FORKED, f"the first {checkpoint.size} records are not those that were signed in {label}")
            report.keep(*(note.note for note in (checkpoint, own) if note is not None))
            return False
        return bool(self._roots.get(checkpoint.size)) and not self._explained(checkpoint.size)

    def _compare_among_themselves(self) -> None:
        """Two signed heads of one size with different roots prove a fork without any record."""
        seen: dict[int, Checkpoint] = {}
        for checkpoint in filter(self._counts, self._outside.checkpoints):
            other = seen.setdefault(checkpoint.size, checkpoint)
            if other.root != checkpoint.root:
                text = f"{other.label} and {checkpoint.label} are signed heads of one size with different roots"
                self._report.fail(FORKED, _printable(text))
                self._report.keep(other.note, checkpoint.note)

    def _cover(self, own: Checkpoint | None, signer: Checkpoint | None, size: int) -> None:
        """How far signatures reach, and how far anchors do."""
        report = self._report
        notes = [one for one in (own, signer, *self._outside.checkpoints) if one is not None and self._counts(one)]
        covered = max((one.size for one in notes if one.size <= size), default=0)
        if covered < size and own is not None:
            unsigned = f"records {covered} to {size - 1} are under no signature"
            if size - covered > UNSIGNED_ROWS_MAX:
                report.fail(SIGNATURE, unsigned, covered)
            else:
                report.say(f"{unsigned} yet (a batch in progress): they are not part of the verdict")
        report.anchored_size = self._anchor_size
        if self._anchor_size is None and not report.codes & {ALTERED, FORKED, TRUNCATED}:
            report.fail(NOT_ANCHORED, "NOT ANCHORED: no checkpoint, receipt or state from outside confirms this log")
        elif self._anchor_size is not None and self._anchor_size < size:
            report.say(
                f"records {self._anchor_size} to {size - 1} are newer than the newest anchor: they are signed, but"
                " only a later checkpoint kept outside can show that they stay as they are"
            )

    # -- witnesses, keys, destruction

    def _count_witnesses(self, checkpoint: Checkpoint) -> None:
        """A checkpoint that the records lead to, cosigned by enough witnesses, is an anchor."""
        witnesses = self._outside.witnesses
        if not witnesses.keys or not self._counts(checkpoint):
            return
        self._cosigners_max = max(self._cosigners_max, len(checkpoint.cosigned))
        if len(checkpoint.cosigned) >= witnesses.quorum:
            seconds = sorted(checkpoint.cosigned.values())[-witnesses.quorum]
            self._cosigned = [max([*self._cosigned, (seconds, checkpoint.size)])]
            self._anchor_size = max(self._anchor_size or 0, checkpoint.size)

    def _account_for_witnesses(self) -> None:
        witnesses, report = self._outside.witnesses, self._report
        if not witnesses.keys:
            return
        if not self._cosigned:
            report.fail(
                NOT_ANCHORED,
                f"no checkpoint of these records is cosigned by {witnesses.quorum} of the given witnesses"
                f" (at most by {self._cosigners_max})",
            )
            return
        seconds, size = self._cosigned[0]
        age = witnesses.now_s - seconds
        report.say(
            f"{witnesses.quorum} of {len(witnesses.keys)} witnesses saw {size} records at {_time(seconds * 1000)}"
        )
        if witnesses.max_age_s is None:
            return
        if age > witnesses.max_age_s:
            report.fail(
                NOT_ANCHORED, f"the newest cosigned checkpoint is {age} s old; {witnesses.max_age_s} s are allowed"
            )
        elif age < -CLOCK_SKEW_S:
            report.fail(NOT_ANCHORED, f"the newest cosigned checkpoint is of the future ({-age} s): a clock is wrong")

    def _account_for_keys(self) -> None:
        """Which keys signed and were not given. The log's own word for them is a hint, never a reason to trust them."""
        name, history = self._keys[0].name, self._state.history
        hexes = {key: seq for seq, old, new in history for key in (old, new) if re.fullmatch(r"[0-9a-f]{64}", key)}
        known = {key_id(name, bytes.fromhex(key)): (key, seq) for key, seq in hexes.items()}
        for identifier, count in self._needed.items():
            key, seq = known.get(identifier, (None, None))
            text = f"checkpoints signed by key {identifier.hex()}, which was not given with --pub: {count}"
            if key is not None:
                said = key_text(name, bytes.fromhex(key))
                text += f"; record {seq} says that it is {said}: compare it with what you were given elsewhere"
            self._report.say(text)

    def _account_for_absent(self) -> None:
        report, ledger = self._report, self._ledger
        if self._missing_from is not None:
            return  # the tombstones may be among what is missing
        for one in ledger.authorisations.values():
            if one.broken is not None and one.confirmed:
                text = f"record {one.seq} ({one.event}) names what was under legal hold {_printable(one.broken.id)}"
                report.fail(MISSING, f"{text} since record {one.broken.set_seq}: it authorises nothing", one.seq)
        for seq, part, why in self._uncovered:
            name = "envelope" if part == ENVELOPE else "content"
            report.fail(MISSING, f"the sealed {name} of record {seq} is gone and {_because(why)}", seq)
        if self._unlisted:
            report.fail(MISSING, f"sealed parts that are gone without authorisation, not listed: {self._unlisted}")
        used = [one for one in ledger.authorisations.values() if any(one.counted.values())]
        for part, name in ((ENVELOPE, "envelope"), (CONTENT, "content")):
            lawful = sum(one.counted[part] for one in used)
            if lawful:
                report.fail(GAPS, f"sealed {name}s destroyed with authorisation: {lawful}")
        for one in used:
            if not one.confirmed:
                report.fail(
                    MISSING, f"record {one.seq}, which authorises absent texts, is not verified itself", one.seq
                )
            report.say(one.line())
            report.gaps.append(one.as_fields())


def _because(why: str) -> str:
    return why if why.startswith("no ") else f"was {why}"


# --- the command ----------------------------------------------------------------------------------------------------


def verify(argv: Sequence[str]) -> int:
    """Run the command and print; returns the exit code."""
    report = Report()
    judge(report, lambda: _run(_arguments(argv), report))
    as_json = "--json" in argv
    print(report.as_json() if as_json else report.as_text(), end="\n" if as_json else "")
    return report.exit_code


def judge(report: Report, work: Callable[[], None]) -> None:
    """Do the work; input that ends it early is a finding like any other."""
    try:
        work()
    except Malformed as error:
        report.fail(MALFORMED, str(error))
    except Unsigned as error:
        report.fail(SIGNATURE, str(error))
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        report.fail(MALFORMED, f"the input cannot be read: {error}")
    except sqlite3.Error as error:
        report.fail(MALFORMED, f"the database cannot be read: {error}")


def main() -> NoReturn:
    """Entry point of the command."""
    sys.exit(verify(sys.argv[1:]))


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Wrong usage is 30: argparse's own 2 means here that the log is in order."""
        raise Malformed(f"{message}; see --help")


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    description = (__doc__ or "").split("\n\n", 1)
    parser = _Parser("auditverify", description=description[0], epilog=description[1],
                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("log", type=Path, nargs="+", help="export bundle, SQLite copy, or .tlog-proof; several: epochs")
    parser.add_argument("--pub", action="append", required=True, help="verifier key, or a file with one on each line")
    parser.add_argument("--trusted", action="append", default=[], type=Path, help="a checkpoint kept outside")
    parser.add_argument("--receipts", type=Path, help="folder of .tlog-proof files")
    parser.add_argument("--witness-key", action="append", default=[], help="key of a witness, or a file with them")
    parser.add_argument("--quorum", type=int, help="so many witnesses must confirm one checkpoint; default: all given")
    parser.add_argument("--max-age", type=int, metavar="SECONDS", help="how old their confirmation may be")
    parser.add_argument("--now", type=int, metavar="SECONDS", help="since 1970, instead of this machine's clock")
    parser.add_argument("--keys", type=Path, help="decryption keys: sealed texts are opened as well")
    parser.add_argument("--since", type=Path, help="state of the last run; written when all is well")
    parser.add_argument("--json", action="store_true", help="machine-readable output")
    return parser.parse_args(argv)


def _run(options: argparse.Namespace, report: Report) -> None:
    with ExitStack() as opened:
        _verify_given(options, opened, report)


def _verify_given(options: argparse.Namespace, opened: ExitStack, report: Report) -> None:
    keys = _read_keys(options.pub)
    witnesses = _read_witnesses(options)
    report.origin = keys[0].name
    inputs = [one for path in options.log for one in _inputs(path, opened)]
    if len(inputs) > 1:
        _verify_epochs(inputs, keys, witnesses, options, report)
        return
    if inputs[0].kind == "proof":
        _verify_receipt(options.log[0], keys, witnesses, report)
        return
    keys = _keys_of(inputs[0], keys)
    report.origin = keys[0].name
    outside = _read_outside(options, witnesses, {keys[0].name: keys}, report)[keys[0].name]
    since = State.load(options.since, keys[0].name) if options.since else None
    verification = Verification(inputs[0].source(keys, report), keys, outside, report)
    state = verification.run(since)
    if verification.epoch is not None:
        report.say("this log continues another after a declared loss; give both to verify what was lost")
    if options.since and report.exit_code in (OK, GAPS, NOT_ANCHORED):
        state.save(options.since, keys[0].name)
        report.say(f"the state was written to {options.since.name}; the next run begins after record {state.tree.size}")


# -- several epochs


def _verify_epochs(
    inputs: Sequence[Input],
    keys: Sequence[VerifierKey],
    witnesses: Witnesses,
    options: argparse.Namespace,
    report: Report,
) -> None:
    """From the newest to the oldest, because each epoch says how the one before it ended; told in order."""
    if options.since:
        raise Malformed("--since takes one log at a time")
    if any(one.kind == "proof" for one in inputs):
        raise Malformed("receipts are given in a folder with --receipts, beside the log")
    logs = sorted(
        ((_epoch_of(one.origin), one, _keys_of(one, keys, several=True)) for one in inputs), key=lambda log: log[0]
    )
    numbers = [log[0][1] for log in logs]
    if len({log[0][0] for log in logs}) > 1 or numbers != list(range(numbers[0], numbers[0] + len(logs))):
        raise Malformed("the inputs are not consecutive epochs of one log")
    by_name = {log[2][0].name: log[2] for log in logs}
    outsides = _read_outside(options, witnesses, by_name, report)
    reports: list[tuple[str, Report]] = []
    following: Verification | None = None
    for (_, number), one, own_keys in reversed(logs):
        found, outside = Report(), outsides[own_keys[0].name]
        found.origin = own_keys[0].name
        state: list[Any] = [following]
        judge(found, lambda state=state, one=one, own_keys=own_keys, outside=outside, found=found:  # type: ignore[misc]
              _verify_epoch(state, one, own_keys, outside, found))  # fmt: skip
        following = state[0]
        reports.append((f"e{number}", found))
    for name, found in reversed(reports):
        report.absorb(found, name)


def _verify_epoch(state: list[Any], one: Input, keys: Sequence[VerifierKey], outside: Outside, report: Report) -> None:
    """One epoch; `state` holds the verification of the next one, and afterwards this one's."""
    following: Verification | None = state[0]
    state[0] = None
    claim = None
    if following is not None:
        claim = _read_claim(following.epoch, keys, outside, report)
    verification = state[0] = Verification(one.source(keys, report), keys, outside, report)
    verification.run(None)
    if claim is None:
        return
    (lost_from, lost_to), size = claim, report.records
    if (report.checkpoint_size or 0) > lost_to + 1:
        text = f"this epoch was declared to end at {lost_to + 1} records and was signed further, up to {size}"
        report.fail(FORKED, text, lost_to + 1)
    elif size < lost_from and not report.codes & {ALTERED}:
        report.fail(TRUNCATED, f"{size} records are here; the next epoch declares {lost_from} to be left", size)
    elif size <= lost_to:
        report.fail(GAPS, f"records {size} to {lost_to} are lost; record 1 of the next epoch declares it")
        report.gaps.append({"event": "epoch", "seq": 1, "lost_from": size, "lost_to": lost_to})


def _read_claim(
    said: dict[str, Any] | None, keys: Sequence[VerifierKey], outside: Outside, report: Report
) -> tuple[int, int] | None:
    """The range that the next epoch declares lost, if its record 1 carries a genuine checkpoint of this one."""
    said = said or {}
    lost_from, lost_to, note = said.get("lost_from"), said.get("lost_to"), said.get("previous")
    if not isinstance(lost_from, int) or not isinstance(lost_to, int) or not isinstance(note, str):
        report.fail(FORKED, "record 1 of the next epoch does not say how this one ended: they do not belong together")
        return None
    try:
        previous = open_checkpoint(note.encode(), keys, "record 1 of the next epoch", outside.witnesses.keys)
    except (Malformed, Unsigned, UnicodeEncodeError) as error:
        report.fail(FORKED, f"the next epoch names no genuine end of this one: {error}")
        return None
    if not 0 <= lost_from <= lost_to + 1 or previous.size not in (lost_from, lost_to + 1):
        report.fail(FORKED, "the next epoch contradicts itself about which records were lost")
        return None
    outside.lost = (lost_from, lost_to)
    outside.checkpoints.append(previous)
    return lost_from, lost_to


def _epoch_of(origin: str) -> tuple[str, int]:
    match = re.fullmatch(r"(.+)/e([1-9][0-9]{0,8})", origin)
    if match is None:
        raise Malformed("an input does not say which epoch it is")
    return match[1], int(match[2])


# -- what is given


class Input(NamedTuple):
    """One log to verify: what it is, the name that it gives itself, and how to open it."""

    kind: str
    origin: str
    open: Callable[[Sequence[VerifierKey], Report], Any]

    def source(self, keys: Sequence[VerifierKey], report: Report) -> Any:
        """The records."""
        return self.open(keys, report)


def _inputs(path: Path, opened: ExitStack) -> Iterator[Input]:
    """The logs at this path: one, or those of the folders `e1`, `e2`, ... of an export of several epochs."""
    kind = _kind(path)
    if kind == "proof":
        yield Input(kind, "", lambda keys, report: None)
    elif kind == "database":
        yield Input(kind, _origin_of_database(path), lambda keys, report: Database(path, keys, report))
    elif kind == "folder":
        children = sorted(path.iterdir())
        epochs = [child for child in children if re.fullmatch(_EPOCH, child.name)]
        if not epochs or (path / "log.json").exists():
            epochs = [path]
        else:
            _refuse_beside(child.name for child in children if child not in epochs)
        for root in epochs:
            yield _bundle(Folder(root))
    else:
        archive = opened.enter_context(zipfile.ZipFile(path))
        names = archive.namelist()
        prefixes = {match[0] for match in map(re.compile(f"{_EPOCH}/").match, names) if match}
        if not prefixes or "log.json" in names:
            prefixes = {""}
        else:
            _refuse_beside(name for name in names if not re.match(f"{_EPOCH}/", name))
        for prefix in sorted(prefixes):
            yield _bundle(Zip(archive, prefix))


_EPOCH = r"e[1-9][0-9]{0,8}"


def _refuse_beside(names: Iterable[str]) -> None:
    for name in names:
        raise Malformed(
            f"{_printable(name)[:100]!r} lies beside the epochs and is no part of an export: take it out, and ask who "
            "put it there"
        )


def _bundle(files: Any) -> Input:
    file = files.open("checkpoint")
    with file if file is not None else closing(_Nothing()) as opened:
        first = opened.readline(KEY_BYTES_MAX)
    return Input(
        "bundle", first.decode("utf-8", "replace").rstrip("\n"), lambda keys, report: Bundle(files, keys, report)
    )


class _Nothing:
    def readline(self, limit: int) -> bytes:
        return b""

    def close(self) -> None:
        return


def _origin_of_database(path: Path) -> str:
    with closing(_open_database(path)) as connection:
        row = connection.execute(f"SELECT {_bounded('origin', KEY_BYTES_MAX)} FROM log_head").fetchone()  # noqa: S608
    return row[0].decode("utf-8", "replace") if row and isinstance(row[0], bytes) else ""


def _keys_of(one: Input, keys: Sequence[VerifierKey], *, several: bool = False) -> list[VerifierKey]:
    """The given keys of the log that the input says it is. Its word is checked by its signature."""
    own = [key for key in keys if key.name == one.origin]
    if not own and (several or len({key.name for key in keys}) > 1):
        raise Unsigned(f"no key was given with --pub for {_printable(one.origin)[:200]!r}")
    return own or list(keys)


def _read_keys(texts: Sequence[str]) -> list[VerifierKey]:
    keys = [VerifierKey(line) for text in texts for line in _key_lines(text)]
    bases = {re.sub(r"/e[1-9][0-9]{0,8}$", "", key.name) for key in keys}
    if len(bases) > 1:
        raise Malformed("the keys given with --pub are of different logs")
    return keys


def _read_witnesses(options: argparse.Namespace) -> Witnesses:
    keys = tuple(WitnessKey(line) for text in options.witness_key for line in _key_lines(text))
    if not keys:
        if options.quorum is not None or options.max_age is not None:
            raise Malformed("--quorum and --max-age need --witness-key")
        return Witnesses()
    names = {key.name for key in keys}
    quorum = len(names) if options.quorum is None else options.quorum
    if not 1 <= quorum <= len(names):
        raise Malformed(f"--quorum must be between 1 and {len(names)}, the number of witnesses")
    if options.max_age is not None and options.max_age < 0:
        raise Malformed("--max-age is a number of seconds")
    return Witnesses(keys, quorum, options.max_age, int(time.time()) if options.now is None else options.now)


def _key_lines(text: str) -> list[str]:
    # A key has two plus signs and base64 at its end; a path could, but then it would be the key's own text.
    if re.fullmatch(r"[^\s+]+\+[0-9a-f]{8}\+[A-Za-z0-9+/=]{44}", text):
        return [text]
    lines = _read_file(Path(text), NOTE_BYTES_MAX).decode("utf-8", "replace").split("\n")
    return [line for line in lines if line.strip()] or [""]


def _read_outside(
    options: argparse.Namespace, witnesses: Witnesses, by_name: Mapping[str, list[VerifierKey]], report: Report
) -> dict[str, Outside]:
    """Notes and receipts, each with the log that it names; those that name none go to the first and fail there."""
    outsides = {name: Outside(witnesses) for name in by_name}
    first = next(iter(by_name))
    if options.keys is not None:
        opener = KeyFile(options.keys, report)
        for outside in outsides.values():
            outside.keys = opener
    for path in options.trusted:
        raw = _read_file(path, NOTE_BYTES_MAX)
        name = raw.partition(b"\n")[0].decode("utf-8", "replace")
        name = name if name in by_name else first
        outsides[name].take_note(raw, by_name[name], path.name)
    if options.receipts is None:
        return outsides
    paths = sorted(path for path in options.receipts.iterdir() if path.suffix == ".tlog-proof")
    if not 0 < len(paths) <= RECEIPTS_MAX:
        raise Malformed(f"{options.receipts.name} holds {len(paths)} receipts (.tlog-proof); at least one is needed")
    for path in paths:
        raw = _read_file(path, NOTE_BYTES_MAX + 8192)
        name = raw.partition(b"\n\n")[2].partition(b"\n")[0].decode("utf-8", "replace")
        name = name if name in by_name else first
        outsides[name].take_receipt(raw, by_name[name], path.name)
    return outsides


def _verify_receipt(path: Path, keys: Sequence[VerifierKey], witnesses: Witnesses, report: Report) -> None:
    raw = _read_file(path, NOTE_BYTES_MAX + 8192)
    name = raw.partition(b"\n\n")[2].partition(b"\n")[0].decode("utf-8", "replace")
    keys = [key for key in keys if key.name == name] or keys
    report.origin = keys[0].name
    receipt = open_receipt(raw, keys, path.name, witnesses.keys)
    report.records, report.checkpoint_size = 1, receipt.checkpoint.size
    report.first_ms = report.last_ms = receipt.t_commit_ms
    report.say(f"record {receipt.seq} is under the signed checkpoint of {receipt.checkpoint.size} records")
    report.say("the receipt was verified by itself; with the log, give it in a folder with --receipts")
    if witnesses.keys and len(receipt.checkpoint.cosigned) < witnesses.quorum:
        report.fail(
            NOT_ANCHORED, f"the receipt's checkpoint is cosigned by {len(receipt.checkpoint.cosigned)} witnesses"
        )


def _kind(path: Path) -> str:
    if path.is_dir():
        return "folder"
    with path.open("rb") as file:
        start = file.read(32)
    if start.startswith(b"SQLite format 3\x00"):
        return "database"
    if start.startswith(PROOF_FIRST_LINE[:-2]):
        return "proof"
    if zipfile.is_zipfile(path):
        return "zip"
    raise Malformed(f"{path.name} is neither an export bundle, nor a SQLite database, nor a proof file")


def _read_file(path: Path, limit: int) -> bytes:
    with path.open("rb") as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise Malformed(f"{path.name} is larger than {limit} bytes")
    return content


if __name__ == "__main__":
    main()
