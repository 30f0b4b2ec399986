#!/usr/bin/env python3
"""Verify an audit log offline: one file, the standard library, a public key, and what you kept outside the machine.

    python auditverify.py bundle.zip --pub key.txt --trusted checkpoint-2026-03-01.txt
    python auditverify.py log.db --pub key.txt --trusted checkpoint.txt --json
    python auditverify.py receipt.tlog-proof --pub key.txt

Exit codes: 0 ok, 2 ok with authorised gaps, 10 altered, 11 truncated, 12 forked, 13 signature, 14 ciphertext missing,
15 clock order, 16 not anchored, 30 malformed input or wrong usage (20, wrong key, is for programs that take one).

It decrypts nothing, contacts nobody and shares no code with the program that writes the log: formats are implemented
here a second time, from `README.md`. It needs Python 3.9. Input is taken for hostile: what is read is bounded, and
memory does not grow with the log but for eight bytes for each destroyed ciphertext.
"""

from __future__ import annotations

import argparse
import base64
import binascii
import hashlib
import json
import re
import sqlite3
import struct
import sys
import zipfile
import zlib
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from datetime import datetime, timezone
from pathlib import Path
from typing import IO, Any, NamedTuple, NoReturn

OK, GAPS, ALTERED, TRUNCATED, FORKED, SIGNATURE = 0, 2, 10, 11, 12, 13
MISSING, CLOCK, NOT_ANCHORED, MALFORMED = 14, 15, 16, 30
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
    MALFORMED: "malformed",
}
# Of several findings the first of these decides; a record that was altered explains a root that does not match.
PRECEDENCE = (MALFORMED, ALTERED, FORKED, TRUNCATED, SIGNATURE, MISSING, CLOCK, NOT_ANCHORED, GAPS)

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
UNSIGNED_ROWS_MAX = 4096  # a batch in progress of a live database
ROWS_AT_ONCE = 1024
NOTES_AT_ONCE = 64
CHUNK = 1024 * 1024
WIDTH = 256
HASH = 32

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


class Malformed(Exception):
    """Input that is not of the written format, or exceeds a bound."""


class Unsigned(Exception):
    """A note without a good signature of a key that was given."""


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

    def as_json(self) -> str:
        """The machine form."""
        fields = {
            "verdict": VERDICTS[self.exit_code],
            "exit_code": self.exit_code,
            "origin": self.origin,
            "records": self.records,
            "first_bad_seq": self.first_bad_seq,
            "checkpoint_size": self.checkpoint_size,
            "anchored_size": self.anchored_size,
            "first_time": _time(self.first_ms),
            "last_time": _time(self.last_ms),
            "messages": self.messages,
            "evidence": self.evidence,
        }
        return json.dumps(fields, indent=2, ensure_ascii=True)

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
    NOT_ANCHORED: "Nothing in this copy contradicts itself, but it was compared with nothing from outside"
    " the machine. Whoever holds the signing key could have rebuilt it. Give a checkpoint that you kept (--trusted).",
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

    def __init__(self, text: str) -> None:
        name, _, rest = text.strip().partition("+")
        identifier, _, encoded = rest.partition("+")
        material = _base64(encoded, "the verifier key")
        if not name or not name.isprintable() or re.search(r"\s", name) or len(material) != 33 or material[0] != 1:
            raise Malformed("the verifier key is not one of Ed25519 (name+id+key)")
        self.name = name
        self.public = material[1:]
        self.id = hashlib.sha256(name.encode() + b"\n" + material).digest()[:4]
        point = _decompress(self.public)
        if self.id.hex() != identifier or point is None:
            raise Malformed("the verifier key's id does not fit its key: was it copied completely?")
        self._negative = _multiples((P - point[0], point[1], 1, P - point[3]))

    def verifies(self, message: bytes, signature: bytes) -> bool:
        """RFC 8032, 5.1.7, without cofactor: R must be the encoding of sB - hA."""
        if len(signature) != 64:
            return False
        encoded, s = signature[:32], int.from_bytes(signature[32:], "little")
        if s >= ORDER:
            return False
        if not _base_multiples:
            _base_multiples.append(_multiples(_decompress(_BASE_Y.to_bytes(HASH, "little")) or NEUTRAL))
        h = int.from_bytes(hashlib.sha512(encoded + self.public + message).digest(), "little") % ORDER
        return _compress(_add(_times(s, _base_multiples[0]), _times(h, self._negative))) == encoded


# --- notes, checkpoints, proofs -------------------------------------------------------------------------------------


class Checkpoint(NamedTuple):
    """A signed tree head, its signature verified."""

    size: int
    root: bytes
    note: str
    label: str


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


def open_checkpoint(raw: bytes, keys: Sequence[VerifierKey], label: str) -> Checkpoint:
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
    _verify_signatures(text, signatures[:-1].split("\n"), keys, label)
    lines = text.split("\n")
    if len(lines) != 4 or lines[0] != keys[0].name:
        raise Malformed(f"{label} is signed but is not a checkpoint of {keys[0].name}")
    root = _base64(lines[2], f"the root in {label}")
    if len(root) != HASH:
        raise Malformed(f"the root in {label} is not a hash")
    return Checkpoint(_number(lines[1], f"the size in {label}"), root, note, label)


def _verify_signatures(text: str, lines: Sequence[str], keys: Sequence[VerifierKey], label: str) -> None:
    """Unknown signers are ignored; one bad signature of a known key spoils the note, as signed-note demands."""
    known = {(key.name, key.id): key for key in keys}
    seen = set()
    for line in lines:
        match = re.fullmatch(r"\u2014 ([^\s+]+) (\S+)", line)
        if match is None:
            raise Malformed(f"{label} has a line that is not a signature")
        material = _base64(match[2], f"a signature in {label}")
        key = known.get((match[1], material[:4]))
        if key is None or (key.id, material) in seen:
            continue
        if not key.verifies(text.encode(), material[4:]):
            raise Unsigned(f"the signature of {key.name} on {label} is not valid")
        seen.add((key.id, material))
    if not seen:
        raise Unsigned(f"{label} is not signed by {keys[0].name} with the given key")


class Receipt(NamedTuple):
    """A proof file whose signature and inclusion path were verified."""

    seq: int
    leaf: bytes
    t_commit_ms: int
    checkpoint: Checkpoint


def open_receipt(raw: bytes, keys: Sequence[VerifierKey], label: str) -> Receipt:
    """Parse a C2SP tlog-proof and verify it. Raises `Malformed` or `Unsigned`."""
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
    checkpoint = open_checkpoint(note, keys, label)
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
        self.size += 1
        tile = self.edge[0]
        tile.append(leaf)
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


class Tombstones:
    """Ranges of records whose ciphertexts may be absent."""

    def __init__(self) -> None:
        self._ranges: dict[int, list[tuple[int, int]]] = {ENVELOPE: [], CONTENT: []}
        self.listed: list[str] = []

    def add(self, seq: int, fields: dict[str, Any]) -> None:
        """Take a tombstone record. It covers only what came before it."""
        ranges = parse_ranges(fields.get("seqs"))
        if fields.get("parts") not in ("content", "all") or not ranges or ranges[-1][1] >= seq:
            return
        for part in (CONTENT, ENVELOPE) if fields["parts"] == "all" else (CONTENT,):
            self._ranges[part].extend(ranges)
        if len(self.listed) < MESSAGES_MAX:
            reason = f"{fields.get('reason', '')}"[:80]
            self.listed.append(f"record {seq} authorised it for {fields['parts']} of {fields['seqs'][:80]} ({reason})")

    def uncovered(self, part: int, missing: Iterable[int]) -> Iterator[int]:
        """Which of the missing parts nothing authorises."""
        ranges = sorted(self._ranges[part])
        merged: list[tuple[int, int]] = []
        for first, last in ranges:
            if merged and first <= merged[-1][1] + 1:
                merged[-1] = (merged[-1][0], max(merged[-1][1], last))
            else:
                merged.append((first, last))
        starts = [first for first, _ in merged]
        for seq in missing:
            at = bisect_right(starts, seq) - 1
            if at < 0 or merged[at][1] < seq:
                yield seq


# --- where records come from ----------------------------------------------------------------------------------------


class Part(NamedTuple):
    """A stored ciphertext, hashed while it was read."""

    length: int
    digest: bytes


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
    """Files of a bundle in a folder."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def open(self, name: str) -> IO[bytes] | None:
        """The file, or None."""
        path = self._root.joinpath(*name.split("/"))
        return path.open("rb") if path.is_file() else None


class Zip:
    """Files of a bundle in a zip archive."""

    def __init__(self, path: Path) -> None:
        self._zip = zipfile.ZipFile(path)

    def open(self, name: str) -> IO[bytes] | None:
        """The file, or None."""
        try:
            return self._zip.open(name)
        except KeyError:
            return None


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
        if log not in (_log_json(True), _log_json(False)):
            raise Malformed("log.json is missing or not of this version: this is not an export bundle")
        self.ciphertexts = log == _log_json(True)
        self.note = self._small("checkpoint", NOTE_BYTES_MAX)
        self._size = 0
        carried = self._small("verifier-key", KEY_BYTES_MAX)
        if carried is not None and carried.strip() not in [_key_text(key).encode() for key in keys]:
            report.fail(SIGNATURE, "the bundle carries another verifier key than the one given")
        if not self.ciphertexts:
            report.say("sealed texts are not in this bundle; only their hashes were verified")

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
            parts = PartFiles(self._files, group, self.ciphertexts)
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

    def finish(self, tree: Tree, told: bool, report: Report) -> list[int]:
        """A bundle has nothing more that could contradict its records."""
        return []

    def current_size(self) -> int:
        """A bundle does not grow."""
        return self._size

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


class PartFiles:
    """The bodies and ciphertexts of one group, read once, in order, beside the headers."""

    def __init__(self, files: Any, group: int, ciphertexts: bool) -> None:
        self._ciphertexts = ciphertexts
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
        env, _ = reader.take(seq, ENVELOPE, fields[12])
        con, _ = reader.take(seq, CONTENT, fields[13]) if fields[9] != ZEROS16 else (None, None)
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

    def take(self, seq: int, part: int, length: int) -> tuple[Part | None, bytes | None]:
        """This part if it comes next: (hash of it, and the bytes themselves for a public body). None: it is absent."""
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
            if part == BODY and length <= BODY_BYTES_MAX:
                kept += chunk
            left -= len(chunk)
        self._advance(seq)
        return Part(length, digest.digest()), bytes(kept)

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


def _key_text(key: VerifierKey) -> str:
    return f"{key.name}+{key.id.hex()}+{base64.b64encode(bytes([1]) + key.public).decode()}"


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
                    yield _row(*values)
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
        query = f"""SELECT size, {_bounded("root", HASH)}, {_bounded("note", NOTE_BYTES_MAX)} FROM checkpoint
                    WHERE size > ? ORDER BY size LIMIT {NOTES_AT_ONCE}"""  # noqa: S608 - constants
        while True:
            rows = self._sql.execute(query, (after,)).fetchall()
            for size, root, note in rows:
                yield KeptNote(note if isinstance(note, bytes) else b"", size, root)
                after = size
            if len(rows) < NOTES_AT_ONCE:
                return

    def finish(self, tree: Tree, told: bool, report: Report) -> list[int]:
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
        orphan = self._one("SELECT seq FROM public_body WHERE seq NOT IN (SELECT seq FROM record) LIMIT 1")
        if orphan is not None:
            report.fail(ALTERED, f"there is a public body without a record ({orphan[0]})")
        return faulty

    def current_size(self) -> int:
        """A live log may have grown since the first look."""
        size = (self._one("SELECT size FROM log_head WHERE id = 1") or (0,))[0]
        return size if isinstance(size, int) else 0

    def _one(self, query: str, parameters: tuple = ()) -> tuple | None:
        with closing(self._sql.execute(query, parameters)) as cursor:
            return cursor.fetchone()


def _bounded(column: str, limit: int) -> str:
    """SQL that reads a value only if it is not too large; one that is too large reads as a wrong one."""
    return f"CASE WHEN length({column}) > {limit} THEN x'' ELSE {column} END"


def _row(seq: int, record_id: object, header: object, env: object, con: object, body: object) -> Row:
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
    return Row(seq, header, _part(env), _part(con), body if isinstance(body, bytes) else None, fault)


def _part(value: object) -> Part | None:
    if value is None:
        return None
    content = value if isinstance(value, bytes) else b""
    return Part(len(content), hashlib.sha256(content).digest())


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
            state = json.loads(file.read(NOTE_BYTES_MAX))
        return state["note"].encode() or None
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise Malformed(f"{path.name} beside the database is damaged") from None


# --- the verification -----------------------------------------------------------------------------------------------


class State:
    """How far an earlier run verified: `--since`. It stays with the auditor, so it is an anchor."""

    def __init__(self) -> None:
        self.tree = Tree()
        self.last_ms = 0

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
            expected = (STATE_FORMAT, origin, state.tree.size, state.tree.root().hex())
            lawful = (fields["format"], fields["origin"], fields["size"], fields["root"]) == expected
        except (ValueError, KeyError, TypeError, RecursionError):
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
        }
        beside = path.with_name(path.name + ".new")
        beside.write_text(json.dumps(fields))
        beside.replace(path)


class Outside:
    """What the auditor brought: checkpoints and receipts, their signatures verified."""

    def __init__(self) -> None:
        self.checkpoints: list[Checkpoint] = []
        self.receipts: dict[int, list[Receipt]] = {}


class Verification:
    """One pass over the records, in order."""

    def __init__(self, source: Any, keys: Sequence[VerifierKey], outside: Outside, report: Report) -> None:
        self._source = source
        self._keys = keys
        self._outside = outside
        self._report = report
        self._log_id = log_id_of(keys[0].name)
        self._tombstones = Tombstones()
        self._absent = {ENVELOPE: array("Q"), CONTENT: array("Q")}
        self._faulty: list[int] = []  # records or groups whose hash is not the stored one
        self._missing_from: int | None = None
        self._start = 0
        self._running = False
        self._interruptions = 0
        self._state = State()
        self._roots: dict[int, bytes] = {}
        self._anchor_size: int | None = None

    def run(self, since: State | None) -> State:
        """Verify everything after `since`; findings go to the report."""
        if since is not None:
            self._state = since
            self._anchor_size = since.tree.size
        start = self._start = self._state.tree.size
        own = self._own_note(self._source.note, "the checkpoint in this copy")
        signer = self._own_note(self._source.signer_note, "signer.json") if self._source.signer_note else None
        size = self._source.size(own, self._report)
        if size < start:
            self._report.fail(TRUNCATED, f"the log has {size} records; an earlier run saw {start}", size)
            return self._state
        for checkpoint in (own, signer, *self._outside.checkpoints):
            if checkpoint is not None:
                self._roots[checkpoint.size] = b""
        self._roots[size] = b""
        self._pass(start, size)
        self._report.records = self._state.tree.size
        self._compare(own, signer, size, start)
        self._account_for_absent()
        return self._state

    def _own_note(self, raw: bytes | None, label: str) -> Checkpoint | None:
        """A note inside the copy: one that cannot be read proves as little as one that is not signed."""
        if raw is None:
            self._report.fail(SIGNATURE, f"{label} is missing: nothing says that these records were signed")
            return None
        try:
            return open_checkpoint(raw, self._keys, label)
        except Unsigned as error:
            self._report.fail(SIGNATURE, str(error))
        except Malformed as error:
            self._report.fail(MALFORMED if len(raw) > NOTE_BYTES_MAX else SIGNATURE, str(error))
        return None

    # -- records

    def _pass(self, start: int, size: int) -> None:
        tree, kept = self._state.tree, self._kept(start)
        waiting = next(kept, None)
        self._reached(tree)
        for row in self._source.rows(start, size):
            if row.header is None:
                self._missing_from = row.seq
                self._report.fail(ALTERED, f"record {row.seq} is missing", row.seq)
                return
            if row.seq < tree.size:  # a remark about a record that was counted already
                self._report.fail(ALTERED, row.fault or "", row.seq)
                continue
            self._check_row(row)
            for level, index, hashes in tree.append(leaf_hash(row.header)):
                self._check_tile(level, index, hashes)
            if tree.size in self._roots:
                self._reached(tree)
            while waiting is not None and waiting[0] <= tree.size:
                self._check_kept(tree, *waiting)
                waiting = next(kept, None)
        for level, index, hashes in tree.partial_tiles():
            self._check_tile(level, index, hashes)
        if waiting is not None and waiting[0] > self._source.current_size():
            self._report.fail(TRUNCATED, f"the log once signed {waiting[0]} records; {size} are here", size)

    def _reached(self, tree: Tree) -> None:
        self._roots[tree.size] = tree.root()

    def _check_row(self, row: Row) -> None:
        report, seq = self._report, row.seq
        assert row.header is not None
        fault, fields = check_header(row.header, seq, self._log_id)
        if fault is not None or fields is None:
            report.fail(ALTERED, fault or "", seq)
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
            self._check_part(seq, ENVELOPE, row.env, fields[12], fields[14])
            if fields[9] != ZEROS16:
                self._check_part(seq, CONTENT, row.con, fields[13], fields[15])

    def _check_time(self, seq: int, t_ms: int) -> None:
        if t_ms < self._state.last_ms:
            self._report.fail(CLOCK, f"record {seq} was committed before the record before it", seq)
        self._state.last_ms = max(t_ms, self._state.last_ms)
        if self._report.first_ms is None:
            self._report.first_ms = t_ms
        self._report.last_ms = self._state.last_ms

    def _check_part(self, seq: int, part: int, stored: Part | None, length: int, digest: bytes) -> None:
        if stored is None:
            self._absent[part].append(seq)
        elif stored != Part(length, digest):
            name = "envelope" if part == ENVELOPE else "content"
            self._report.fail(ALTERED, f"the sealed {name} of record {seq} was altered", seq)

    def _check_public(self, row: Row, fields: tuple) -> None:
        """Public bodies are never destroyed: an absent one is a missing record."""
        seq = row.seq
        if row.body is None:
            self._report.fail(ALTERED, f"the body of public record {seq} is missing", seq)
            return
        if (len(row.body), hashlib.sha256(row.body).digest()) != (fields[12], fields[14]):
            self._report.fail(ALTERED, f"the body of public record {seq} was altered", seq)
            return
        said = parse_control(row.body) or {}
        event = said.get("event")
        named = (event, said.get("origin"), said.get("log_id"))
        if seq == 0 and named != ("genesis", self._keys[0].name, self._log_id.hex()):
            self._report.fail(ALTERED, "record 0 is not the genesis of this log", 0)
        elif event == "tombstone":
            self._tombstones.add(seq, said)
        elif event == "start":
            self._interruptions += self._running
            self._running = True
        elif event == "stop":
            self._running = False

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

    def _kept(self, start: int) -> Iterator[tuple[int, Checkpoint]]:
        """Kept checkpoints of more than `start` records with good signatures, ascending."""
        before = start
        for kept in self._source.kept_notes(start):
            try:
                checkpoint = open_checkpoint(kept.note, self._keys, "a checkpoint kept in the log")
            except (Unsigned, Malformed) as error:
                size = "" if kept.size is None else f" (size {kept.size})"
                self._report.fail(SIGNATURE, f"{error}{size}")
                continue
            if (kept.size, kept.root) not in ((None, None), (checkpoint.size, checkpoint.root)):
                self._report.fail(ALTERED, f"derived column differs: kept checkpoint of {checkpoint.size} records")
            if checkpoint.size <= before:
                self._report.fail(ALTERED, "the kept checkpoints are not in order")
                continue
            before = checkpoint.size
            yield checkpoint.size, checkpoint

    def _check_kept(self, tree: Tree, size: int, checkpoint: Checkpoint) -> None:
        if not self._explained(size) and tree.root() != checkpoint.root:
            self._report.fail(SIGNATURE, f"the log's own kept checkpoint of {size} records does not match them")

    def _explained(self, size: int) -> bool:
        """Whether a fault that was told already makes the root of the first `size` records differ."""
        faults = self._faulty if self._missing_from is None else [*self._faulty, self._missing_from]
        return any(fault < size for fault in faults)

    def _compare(self, own: Checkpoint | None, signer: Checkpoint | None, size: int, start: int) -> None:
        report = self._report
        if self._missing_from is None:
            self._faulty.extend(self._source.finish(self._state.tree, bool(self._faulty), report))
        if own is not None:
            report.checkpoint_size = own.size
            if self._differs(own):
                code, since = (FORKED, " and those of the earlier run") if start else (SIGNATURE, "")
                report.fail(code, f"the signed root of {own.size} records is not the root of these records{since}")
            elif own.size > size:
                report.fail(TRUNCATED, f"the checkpoint in this copy is of {own.size} records; {size} are here", size)
        if signer is not None:
            self._compare_outside(signer, own, size, start)
        for checkpoint in self._outside.checkpoints:
            if self._compare_outside(checkpoint, own, size, start):
                self._anchor_size = max(self._anchor_size or 0, checkpoint.size)
        self._compare_among_themselves()
        self._cover(own, signer, size)
        if self._faulty and own is not None and self._roots.get(own.size) == own.root:
            report.say("the records are those that were signed: what was altered is the stored tiles")
        if self._interruptions:
            report.say(f"recordings cut off without an orderly end (a start without a stop): {self._interruptions}")

    def _differs(self, checkpoint: Checkpoint) -> bool:
        root = self._roots.get(checkpoint.size)
        return bool(root) and root != checkpoint.root and not self._explained(checkpoint.size)

    def _compare_outside(self, checkpoint: Checkpoint, own: Checkpoint | None, size: int, start: int) -> bool:
        """Whether the log agrees with a checkpoint from elsewhere."""
        report, label = self._report, _printable(checkpoint.label)
        if checkpoint.size > size:
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
        for checkpoint in self._outside.checkpoints:
            other = seen.setdefault(checkpoint.size, checkpoint)
            if other.root != checkpoint.root:
                text = f"{other.label} and {checkpoint.label} are signed heads of one size with different roots"
                self._report.fail(FORKED, _printable(text))
                self._report.keep(other.note, checkpoint.note)

    def _cover(self, own: Checkpoint | None, signer: Checkpoint | None, size: int) -> None:
        """How far signatures reach, and how far anchors do."""
        report = self._report
        signed = [one.size for one in (own, signer, *self._outside.checkpoints) if one is not None and one.size <= size]
        covered = max(signed, default=0)
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

    def _account_for_absent(self) -> None:
        report = self._report
        if self._missing_from is not None:
            return  # the tombstones may be among what is missing
        for part, name in ((ENVELOPE, "envelope"), (CONTENT, "content")):
            absent = self._absent[part]
            unlawful = 0
            for seq in self._tombstones.uncovered(part, absent):
                unlawful += 1
                report.fail(MISSING, f"the sealed {name} of record {seq} is gone and no tombstone covers it", seq)
            if len(absent) > unlawful:
                report.fail(GAPS, f"sealed {name}s destroyed under tombstones: {len(absent) - unlawful}")
        if GAPS in report.codes:
            for line in self._tombstones.listed:
                report.say(line)


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
    parser.add_argument("log", type=Path, help="export bundle (folder or zip), SQLite copy, or one .tlog-proof file")
    parser.add_argument("--pub", action="append", required=True, help="verifier key, or a file that holds one")
    parser.add_argument("--trusted", action="append", default=[], type=Path, help="a checkpoint kept outside")
    parser.add_argument("--receipts", type=Path, help="folder of .tlog-proof files")
    parser.add_argument("--since", type=Path, help="state of the last run; written when all is well")
    parser.add_argument("--json", action="store_true", help="machine-readable output")
    return parser.parse_args(argv)


def _run(options: argparse.Namespace, report: Report) -> None:
    keys = _read_keys(options.pub)
    report.origin = keys[0].name
    kind = _kind(options.log)
    if kind == "proof":
        _verify_receipt(options.log, keys, report)
        return
    outside = _read_outside(options, keys)
    if kind == "database":
        source: Any = Database(options.log, keys, report)
    else:
        source = Bundle(Folder(options.log) if kind == "folder" else Zip(options.log), keys, report)
    since = State.load(options.since, keys[0].name) if options.since else None
    state = Verification(source, keys, outside, report).run(since)
    if options.since and report.exit_code in (OK, GAPS, NOT_ANCHORED):
        state.save(options.since, keys[0].name)
        report.say(f"the state was written to {options.since.name}; the next run begins after record {state.tree.size}")


def _read_keys(texts: Sequence[str]) -> list[VerifierKey]:
    keys = []
    for text in texts:
        # A key has two plus signs and base64 at its end; a path could, but then it would be the key's own text.
        if not re.fullmatch(r"[^\s+]+\+[0-9a-f]{8}\+[A-Za-z0-9+/=]{44}", text):
            text = _read_file(Path(text), KEY_BYTES_MAX).decode("ascii", "replace").strip()
        keys.append(VerifierKey(text))
    if len({key.name for key in keys}) > 1:
        raise Malformed("the keys given with --pub are of different logs")
    return keys


def _read_outside(options: argparse.Namespace, keys: Sequence[VerifierKey]) -> Outside:
    outside = Outside()
    for path in options.trusted:
        outside.checkpoints.append(open_checkpoint(_read_file(path, NOTE_BYTES_MAX), keys, path.name))
    if options.receipts is None:
        return outside
    paths = sorted(path for path in options.receipts.iterdir() if path.suffix == ".tlog-proof")
    if not 0 < len(paths) <= RECEIPTS_MAX:
        raise Malformed(f"{options.receipts.name} holds {len(paths)} receipts (.tlog-proof); at least one is needed")
    for path in paths:
        receipt = open_receipt(_read_file(path, NOTE_BYTES_MAX + 8192), keys, path.name)
        outside.receipts.setdefault(receipt.seq, []).append(receipt)
        outside.checkpoints.append(receipt.checkpoint)
    return outside


def _verify_receipt(path: Path, keys: Sequence[VerifierKey], report: Report) -> None:
    receipt = open_receipt(_read_file(path, NOTE_BYTES_MAX + 8192), keys, path.name)
    report.records, report.checkpoint_size = 1, receipt.checkpoint.size
    report.first_ms = report.last_ms = receipt.t_commit_ms
    report.say(f"record {receipt.seq} is under the signed checkpoint of {receipt.checkpoint.size} records")
    report.say("the receipt was verified by itself; with the log, give it in a folder with --receipts")


def _kind(path: Path) -> str:
    if path.is_dir():
        return "folder"
    with path.open("rb") as file:
        start = file.read(32)
    if start.startswith(b"SQLite format 3\x00"):
        return "database"
    if start.startswith(PROOF_FIRST_LINE):
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
