"""How fast `auditverify` reads a log, how its time and memory grow, and what hashing alone would cost.

    python -m benchmarks.audit_verify [--sizes 10000,100000,1000000] [--folder DIR] [--json]

Logs are synthetic and written here directly, whole tiles at a time: random ciphertexts under correct headers, tree and
signature. Each run of the verifier is a process of its own, as an auditor runs it. The peer is `hashlib` over every
file of the same bundle, in the same run: nothing that reads all bytes can be faster. What an empty run costs (start of
Python, signature tables) is measured and left out of rates and ratios. Compare runs on one machine only.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import random
import sqlite3
import struct
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from appliance.audit import auditverify, control
from appliance.audit.header import HEADER_BYTES
from appliance.crypto.note import sign_note, verifier_key
from appliance.crypto.signing import public_key

ORIGIN = "bench.example/audit/00000000-0000-0000-0000-000000000000/e1"
SEED = bytes(range(32))
LOG_ID = hashlib.sha256(ORIGIN.encode()).digest()[:8]
START_MS, STEP_MS = 1_767_225_600_000, 1000
WIDTH = 256
ENVELOPE_BYTES, CONTENT_BYTES = 272, 2064  # the padded sizes of a usual exchange, with tags
SUBJECTS = 500
HEADER = struct.Struct(">4s8sQQBHB16s16s16s24s24sII32s32s")
PART = struct.Struct(">QBI")
INCREMENT = 10_000
PROOFS = 200


@dataclass(frozen=True, slots=True)
class Block:
    """Up to 256 records as stored."""

    first: int
    headers: list[bytes]
    parts: list[tuple[bytes, bytes] | None]  # envelope and content; None: a public record
    bodies: dict[int, bytes]


@dataclass(frozen=True, slots=True)
class Written:
    """A synthetic log on disk."""

    path: Path
    size: int
    note: Path
    tree: Levels


class Levels:
    """Every level of the tree, from the leaves; kept whole, because a benchmark may."""

    def __init__(self) -> None:
        self.leaves: list[bytes] = []

    def root(self, size: int | None = None) -> bytes:
        """Of the first `size` leaves."""
        return _mth(self.leaves, 0, len(self.leaves) if size is None else size)

    def path(self, index: int) -> list[bytes]:
        """RFC 6962, 2.1.1, over complete subtrees that were computed once."""
        found: list[bytes] = []
        start, size = 0, len(self.leaves)
        while size > 1:
            split = 1 << ((size - 1).bit_length() - 1)
            if index < start + split:
                found.append(_mth(self.leaves, start + split, size - split))
                size = split
            else:
                found.append(_mth(self.leaves, start, split))
                start, size = start + split, size - split
        return found[::-1]


def blocks(size: int, *, ciphertexts: bool, seed: int = 1) -> Iterator[Block]:
    """The records of a log, 256 at a time: genesis, a heartbeat in each block, the rest sealed."""
    chance = random.Random(seed)
    pool = chance.randbytes(1 << 20)
    scopes = [chance.randbytes(16) for _ in range(SUBJECTS)]
    env_key = chance.randbytes(16)
    for first in range(0, size, WIDTH):
        block = Block(first, [], [], {})
        for seq in range(first, min(first + WIDTH, size)):
            t_ms = START_MS + STEP_MS * seq
            random_part = chance.randbytes(64)
            if seq % WIDTH == 0:
                body = _genesis() if seq == 0 else control.heartbeat()
                digest = hashlib.sha256(body).digest()
                place = (0, 0, 2, random_part[:16], bytes(16), bytes(16), bytes(24), bytes(24))
                digests = (digest, hashlib.sha256(b"").digest())
                header = HEADER.pack(b"AUD1", LOG_ID, seq, t_ms, *place, len(body), 0, *digests)
                block.bodies[seq] = body
                block.parts.append(None)
            else:
                at = chance.randrange(len(pool) - ENVELOPE_BYTES - CONTENT_BYTES)
                env = pool[at : at + ENVELOPE_BYTES]
                con = pool[at + ENVELOPE_BYTES : at + ENVELOPE_BYTES + CONTENT_BYTES]
                hashes = (
                    (hashlib.sha256(env).digest(), hashlib.sha256(con).digest()) if ciphertexts else (bytes(32),) * 2
                )
                scope = scopes[seq % SUBJECTS]
                place = (1, 672, 1, random_part[:16], env_key, scope, random_part[16:40], random_part[40:64])
                lengths = (ENVELOPE_BYTES, CONTENT_BYTES)
                header = HEADER.pack(b"AUD1", LOG_ID, seq, t_ms, *place, *lengths, *hashes)
                block.parts.append((env, con))
            block.headers.append(header)
        yield block


def write_bundle(target: Path, size: int, *, ciphertexts: bool) -> Written:
    """An export bundle as a zip file, byte for byte as `export.py` writes one."""
    tree = Levels()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:

        def put(name: str, content: bytes) -> None:
            archive.writestr(zipfile.ZipInfo(name), content)

        log = {"ciphertexts": ciphertexts, "format": "cloister-audit-bundle/1"}
        put("log.json", json.dumps(log, separators=(",", ":")).encode())
        put("checkpoints.jsonl", b"")
        put("verifier-key", f"{verifier_key(ORIGIN, public_key(SEED))}\n".encode())
        for block in blocks(size, ciphertexts=ciphertexts):
            index, width = block.first // WIDTH, len(block.headers)
            leaves = [hashlib.sha256(b"\0" + header).digest() for header in block.headers]
            tree.leaves += leaves
            put(_tile("tile/0", index, width), b"".join(leaves))
            put(_tile("tile/entries", index, width), b"".join(b"\x00\xc8" + header for header in block.headers))
            put(_tile("public", index), b"".join(PART.pack(seq, 0, len(b)) + b for seq, b in block.bodies.items()))
            if ciphertexts:
                put(_tile("ciphertexts", index), b"".join(_entries(block)))
        for level, index, hashes in _upper_tiles(tree.leaves):
            put(_tile(f"tile/{level}", index, len(hashes)), b"".join(hashes))
        note = _note(size, tree.root())
        put("checkpoint", note.encode())
    kept = target.with_suffix(".kept")
    kept.write_text(note)
    return Written(target, size, kept, tree)


def write_database(target: Path, size: int) -> Written:
    """A copy of the database with ciphertexts; only what the verifier reads."""
    tree = Levels()
    connection = sqlite3.connect(target, isolation_level=None)
    connection.executescript(SCHEMA)
    connection.execute("BEGIN")
    for block in blocks(size, ciphertexts=True):
        tree.leaves += [hashlib.sha256(b"\0" + header).digest() for header in block.headers]
        rows = [
            (block.first + i, header[32:48], header, *(parts or (None, None)))
            for i, (header, parts) in enumerate(zip(block.headers, block.parts, strict=True))
        ]
        connection.executemany("INSERT INTO record VALUES (?, ?, ?, ?, ?)", rows)
        connection.executemany("INSERT INTO public_body VALUES (?, ?)", block.bodies.items())
    for level, index, hashes in _upper_tiles(tree.leaves):
        row = (level, index, len(hashes), b"".join(hashes))
        connection.execute("INSERT INTO tile VALUES (?, ?, ?, ?)", row)
    note = _note(size, tree.root())
    roots = b"".join(_mth(tree.leaves, start, width) for start, width in _complete(size))
    head = (LOG_ID, ORIGIN, 1, size, size.to_bytes(8, "big") + roots, tree.root(), size, note)
    connection.execute("INSERT INTO log_head VALUES (1, ?, ?, ?, ?, ?, ?, ?, ?)", head)
    connection.execute("COMMIT")
    connection.close()
    kept = target.with_suffix(".kept")
    kept.write_text(note)
    return Written(target, size, kept, tree)


SCHEMA = """
PRAGMA journal_mode = OFF;
CREATE TABLE log_head (id INTEGER PRIMARY KEY, log_id BLOB, origin TEXT, epoch INTEGER, size INTEGER, frontier BLOB,
                       root BLOB, signed_size INTEGER, note TEXT);
CREATE TABLE record (seq INTEGER PRIMARY KEY, record_id BLOB UNIQUE, header BLOB, env_ct BLOB, con_ct BLOB);
CREATE TABLE public_body (seq INTEGER PRIMARY KEY REFERENCES record (seq), body BLOB);
CREATE TABLE tile (level INTEGER, idx INTEGER, width INTEGER, hashes BLOB, PRIMARY KEY (level, idx));
CREATE TABLE checkpoint (size INTEGER PRIMARY KEY, root BLOB, note TEXT, t_signed_ms INTEGER, cosigs TEXT);
"""


# --- measuring ------------------------------------------------------------------------------------------------------

_CHILD = """
import runpy, sys, time, io, contextlib
script, sys.argv = sys.argv[1], sys.argv[1:]
began = time.process_time()
out = io.StringIO()
try:
    with contextlib.redirect_stdout(out): runpy.run_path(script, run_name="__main__")
except SystemExit as done: code = done.code
# not ru_maxrss: that begins with the memory of the parent that was forked
peak = next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM'))
print(code, time.process_time() - began, peak)
if code not in (0, 2, 16): print(out.getvalue(), file=sys.stderr)
"""


def run_verifier(path: Path, *options: str | Path) -> dict[str, float]:
    """One run in a process of its own: exit code, CPU seconds, peak memory in MiB, wall seconds."""
    key = verifier_key(ORIGIN, public_key(SEED))
    command = [sys.executable, "-I", "-c", _CHILD, auditverify.__file__, str(path), "--pub", key, *map(str, options)]
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    code, cpu_s, peak_kib = done.stdout.split()
    assert int(code) in (0, 2), f"exit {code}: {done.stderr}"
    return {"cpu_s": float(cpu_s), "peak_mib": int(peak_kib) / 1024, "wall_s": time.perf_counter() - began}


def run_hashlib(path: Path) -> float:
    """CPU seconds of SHA-256 over every file of a bundle, read as the verifier reads it."""
    began = time.process_time()
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            hashlib.sha256(archive.read(name)).digest()
    return time.process_time() - began


def measure(folder: Path, sizes: Sequence[int], with_ciphertexts: int, say: Callable[[str], None]) -> dict[str, object]:
    """Every figure."""
    growth: list[dict[str, float]] = []
    empty = write_bundle(folder / "empty.zip", 2, ciphertexts=False)
    base_s = min(run_verifier(empty.path, "--trusted", empty.note)["cpu_s"] for _ in range(3))
    say(f"an empty run: {base_s:.3f} s CPU")
    for size in sizes:
        written = write_bundle(folder / f"bare-{size}.zip", size, ciphertexts=False)
        run = run_verifier(written.path, "--trusted", written.note)
        net_s = run["cpu_s"] - base_s
        row = {"records": size, "per_s": size / net_s, "net_s": net_s, **run, "hashlib_s": run_hashlib(written.path)}
        if growth:
            row["ratio"] = net_s / growth[-1]["net_s"]
        growth.append(row)
        say(f"headers only {size:>9,}: {_line(row)}")
        row |= _incremental(folder, written)
        say(f"  {INCREMENT:,} new records after --since: {row['incremental_s']:.2f} s CPU")
        row |= _inclusion(folder, written)
        say(f"  inclusion proof: {row['proof_hashes']:.0f} hashes, checked in {row['proof_ms']:.2f} ms")
        written.path.unlink()
    full: dict[str, object] = {}
    bundle = write_bundle(folder / "full.zip", with_ciphertexts, ciphertexts=True)
    database = write_database(folder / "full.db", with_ciphertexts)
    for name, written in (("bundle", bundle), ("database", database)):
        run = run_verifier(written.path, "--trusted", written.note)
        row = {"records": with_ciphertexts, "per_s": with_ciphertexts / (run["cpu_s"] - base_s), **run}
        if name == "bundle":
            row["hashlib_s"] = run_hashlib(written.path)
        full[name] = row
        say(f"with ciphertexts, {name:>8} {with_ciphertexts:,}: {_line(row)}")
    return {"empty_s": base_s, "growth": growth, "with_ciphertexts": full}


def _incremental(folder: Path, written: Written) -> dict[str, float]:
    """The last records only, after a state that was saved before them."""
    begin = written.size - min(INCREMENT, written.size // 2)
    state, tree = folder / "state.json", auditverify.Tree()
    for leaf in written.tree.leaves[:begin]:
        tree.append(leaf)
    saved = auditverify.State()
    saved.tree = tree
    saved.save(state, ORIGIN)
    run = run_verifier(written.path, "--since", state)
    return {"incremental_s": run["cpu_s"]}


def _inclusion(folder: Path, written: Written) -> dict[str, float]:
    """One receipt, checked in this process."""
    seq = written.size * 2 // 3
    header = next(block for block in blocks(written.size, ciphertexts=False) if block.first + WIDTH > seq)
    path = written.tree.path(seq)
    encoded = header.headers[seq - header.first]
    assert len(encoded) == HEADER_BYTES
    lines = ["c2sp.org/tlog-proof@v1", f"extra {_b64(encoded)}", f"index {seq}", *map(_b64, path)]
    text = ("\n".join(lines) + "\n\n" + written.note.read_text()).encode()
    keys = [auditverify.VerifierKey(verifier_key(ORIGIN, public_key(SEED)))]
    auditverify.open_receipt(text, keys, "receipt")
    began = time.perf_counter()
    for _ in range(PROOFS):
        auditverify.open_receipt(text, keys, "receipt")
    return {"proof_hashes": len(path), "proof_ms": (time.perf_counter() - began) / PROOFS * 1000}


def _line(row: dict[str, float]) -> str:
    pieces = [f"{row['per_s']:>9,.0f} records/s", f"{row['cpu_s']:.2f} s CPU", f"{row['peak_mib']:.0f} MiB"]
    if "hashlib_s" in row:
        pieces.append(f"hashlib {row['hashlib_s']:.2f} s")
    if "ratio" in row:
        pieces.append(f"x{row['ratio']:.1f}")
    return ", ".join(pieces)


# --- formats --------------------------------------------------------------------------------------------------------


def _genesis() -> bytes:
    return control.genesis(LOG_ID, ORIGIN, public_key(SEED), "0.0.0")


def _entries(block: Block) -> Iterator[bytes]:
    for i, parts in enumerate(block.parts):
        for number, part in enumerate(parts or (), 1):
            yield PART.pack(block.first + i, number, len(part)) + part


def _note(size: int, root: bytes) -> str:
    return sign_note(f"{ORIGIN}\n{size}\n{_b64(root)}\n", ORIGIN, SEED)


def _b64(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _tile(folder: str, index: int, width: int = WIDTH) -> str:
    partial = "" if width == WIDTH else f".p/{width}"
    return f"{folder}/{auditverify.tile_path(index)}{partial}"


def _upper_tiles(leaves: list[bytes]) -> Iterator[tuple[int, int, list[bytes]]]:
    level, hashes = 1, _parents(leaves)
    while hashes:
        for start in range(0, len(hashes), WIDTH):
            yield level, start // WIDTH, hashes[start : start + WIDTH]
        level, hashes = level + 1, _parents(hashes)


def _parents(hashes: list[bytes]) -> list[bytes]:
    return [_mth(hashes, start, WIDTH) for start in range(0, len(hashes) - WIDTH + 1, WIDTH)]


def _mth(leaves: list[bytes], start: int, size: int) -> bytes:
    """RFC 6962 over `size` leaves from `start`, level by level: an odd node is carried up."""
    row = leaves[start : start + size]
    while len(row) > 1:
        paired = [hashlib.sha256(b"\x01" + row[i] + row[i + 1]).digest() for i in range(0, len(row) - 1, 2)]
        row = paired + row[len(row) & ~1 :]
    return row[0]


def _complete(size: int) -> Iterator[tuple[int, int]]:
    start = 0
    while start < size:
        width = 1 << ((size - start).bit_length() - 1)
        yield start, width
        start += width


def main() -> None:
    """Measure in a folder that is removed afterwards."""
    parser = argparse.ArgumentParser(description="Speed, growth and memory of the verifier.")
    parser.add_argument("--sizes", default="10000,100000,1000000", help="records of the logs without ciphertexts")
    parser.add_argument("--full", type=int, default=100_000, help="records of the logs with 2 KB of ciphertext each")
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    sizes = [int(size) for size in options.sizes.split(",")]
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="audit-verify-") as folder:
        say = (lambda _: None) if options.json else lambda text: print(text, flush=True)
        figures = measure(Path(folder), sizes, options.full, say)
    if options.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
