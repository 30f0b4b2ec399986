"""Writes the log as a bundle for `auditverify`: stored bytes, copied; the layout is in `README.md`, "Export bundle".

    summary = export_bundle(reader, Path("audit.zip"), ciphertexts=True)     # or a folder that does not exist yet

Nothing is judged, repaired or left out on the way: finding faults is the verifier's work. The bundle ends at the
checkpoint that was newest when the export began; records before it never change, so that many short reads see one
state and a long export does not keep the write-ahead log from being recycled. Memory is bounded by a few records.
"""

from __future__ import annotations

import errno
import json
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from appliance.audit import store
from appliance.audit.reader import LogReader
from appliance.audit.store import StoredRecord
from appliance.audit.tiles import TILE_WIDTH, stored_levels
from appliance.crypto.merkle import leaf_hash
from appliance.errors import Conflict, HomeError, HomeFull

FORMAT = "cloister-audit-bundle/1"
_CHECKPOINTS_A_READ = 256
_CONTENTS_A_READ = 16  # a content may have megabytes
_BODY, _ENVELOPE, _CONTENT = 0, 1, 2


@dataclass(frozen=True, slots=True)
class ExportSummary:
    """What was written."""

    path: Path
    records: int
    checkpoint: str
    ciphertexts: bool


def export_bundle(reader: LogReader, target: Path, *, ciphertexts: bool) -> ExportSummary:
    """Write a zip file where the name ends in `.zip`, else a folder. It appears under its name when it is complete.

    Raises `Conflict` if `target` exists, `HomeFull` or `HomeError` if it cannot be written; nothing is left then.
    """
    if target.exists():
        raise Conflict(f"{target} exists already", hint="choose another name for the export")
    draft = target.with_name(target.name + ".partial")
    signed = reader.signed_head()
    try:
        with _zip_bundle(draft) if target.suffix == ".zip" else _folder_bundle(draft) as bundle:
            _write(bundle, "log.json", _json({"ciphertexts": ciphertexts, "format": FORMAT}))
            _write(bundle, "checkpoint", signed.note.encode())
            _write(bundle, "verifier-key", f"{reader.verifier_key}\n".encode())
            _copy_checkpoints(bundle, reader, signed.size)
            _copy_tiles(bundle, reader, signed.size)
            for block in range(-(-signed.size // TILE_WIDTH)):
                _copy_block(bundle, reader, block, signed.size, ciphertexts=ciphertexts)
        draft.rename(target)
    except OSError as error:
        raise _unwritable(target, error) from None
    finally:
        _remove(draft)
    return ExportSummary(target, signed.size, signed.note, ciphertexts)


class _Bundle(Protocol):
    """Where the files go: a folder or a zip file."""

    def open(self, path: str) -> BinaryIO:
        """A new file to write to and close."""


class _Folder:
    def __init__(self, root: Path) -> None:
        self._root = root

    def open(self, path: str) -> BinaryIO:
        place = self._root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        return place.open("xb")


class _Zip:
    """Stored, not compressed: hashes and ciphertexts do not shrink. Fixed dates: equal logs give equal files."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive

    def open(self, path: str) -> BinaryIO:
        return self._archive.open(zipfile.ZipInfo(path), "w", force_zip64=True)  # type: ignore[return-value]


@contextmanager
def _folder_bundle(root: Path) -> Iterator[_Bundle]:
    root.mkdir(mode=0o700)
    yield _Folder(root)


@contextmanager
def _zip_bundle(path: Path) -> Iterator[_Bundle]:
    with zipfile.ZipFile(path, "x", zipfile.ZIP_STORED) as archive:
        yield _Zip(archive)


def _copy_checkpoints(bundle: _Bundle, reader: LogReader, size: int) -> None:
    after = 0
    with bundle.open("checkpoints.jsonl") as file:
        while True:
            with reader.snapshot() as connection:
                kept = store.read_checkpoints(connection, after, _CHECKPOINTS_A_READ)
            for checkpoint in kept:
                if checkpoint.size <= size:
                    file.write(_json({"note": checkpoint.note}) + b"\n")
            if len(kept) < _CHECKPOINTS_A_READ or kept[-1].size >= size:
                return
            after = kept[-1].size


def _copy_tiles(bundle: _Bundle, reader: LogReader, size: int) -> None:
    """Levels from 1. A tile may have grown since the checkpoint: its first hashes are those of that time."""
    for level in range(1, stored_levels(size)):
        count = size >> (8 * level)
        for index in range(-(-count // TILE_WIDTH)):
            width = min(TILE_WIDTH, count - index * TILE_WIDTH)
            with reader.snapshot() as connection:
                hashes = store.read_tile(connection, level, index)
            _write(bundle, _tile_path(str(level), index, width), hashes[: width * 32])


def _copy_block(bundle: _Bundle, reader: LogReader, block: int, size: int, *, ciphertexts: bool) -> None:
    """Headers, leaf hashes, public bodies and ciphertexts of up to 256 records."""
    first = block * TILE_WIDTH
    width = min(TILE_WIDTH, size - first)
    with reader.snapshot() as connection:
        rows = [row for row in store.read_records(connection, first, width) if row.seq < first + width]
    _write(bundle, _tile_path("0", block, width), b"".join(leaf_hash(row.header) for row in rows))
    entries = b"".join(len(row.header).to_bytes(2, "big") + row.header for row in rows)
    _write(bundle, _tile_path("entries", block, width), entries)
    bodies = b"".join(_entry(row.seq, _BODY, row.body) for row in rows if row.body is not None)
    if bodies:
        _write(bundle, f"public/{_grouped(block)}", bodies)
    if ciphertexts:
        _copy_ciphertexts(bundle, reader, block, rows)


def _copy_ciphertexts(bundle: _Bundle, reader: LogReader, block: int, rows: Sequence[StoredRecord]) -> None:
    file: BinaryIO | None = None
    try:
        for start in range(0, len(rows), _CONTENTS_A_READ):
            seqs = [row.seq for row in rows[start : start + _CONTENTS_A_READ]]
            with reader.snapshot() as connection:
                whole = store.read_records(connection, seqs[0], len(seqs), content=True)
            for row in whole:
                for part, stored in ((_ENVELOPE, row.env_ct), (_CONTENT, row.con_ct)):
                    if stored is not None and row.seq <= seqs[-1]:
                        # Opened only now: a file without entries is not part of a bundle.
                        file = file or bundle.open(f"ciphertexts/{_grouped(block)}")
                        file.write(_entry(row.seq, part, stored))
    finally:
        if file is not None:
            file.close()


def _entry(seq: int, part: int, stored: bytes) -> bytes:
    return seq.to_bytes(8, "big") + bytes((part,)) + len(stored).to_bytes(4, "big") + stored


def _tile_path(level: str, index: int, width: int) -> str:
    partial = "" if width == TILE_WIDTH else f".p/{width}"
    return f"tile/{level}/{_grouped(index)}{partial}"


def _grouped(number: int) -> str:
    """`x001/x234/067` for 1234067, as in C2SP tlog-tiles: no folder gets more than a thousand entries."""
    groups = [f"{number % 1000:03d}"]
    while number >= 1000:
        number //= 1000
        groups.append(f"x{number % 1000:03d}")
    return "/".join(reversed(groups))


def _write(bundle: _Bundle, path: str, content: bytes) -> None:
    with bundle.open(path) as file:
        file.write(content)


def _json(value: dict[str, object]) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _remove(draft: Path) -> None:
    if draft.is_dir():
        shutil.rmtree(draft)
    else:
        draft.unlink(missing_ok=True)


def _unwritable(target: Path, error: OSError) -> HomeError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return HomeFull(f"no space left on the disk for the export {target}", hint="free space, or name another disk")
    return HomeError(f"cannot write the export {target}: {error.strerror}", hint="check that its folder exists")
