"""Writes the log as a bundle for `auditverify`: stored bytes, copied; the layout is in `README.md`, "Export bundle".

    summary = export_bundle(reader, Path("audit.zip"), ciphertexts=True)     # or a folder that does not exist yet
    export_epochs([reader_e1, reader_e2], Path("audit.zip"), ciphertexts=False)   # one folder for each: e1/, e2/
    export_tiles(reader, Path("tiles"))                                      # C2SP tlog-tiles for anybody's tools

Nothing is judged, repaired or left out on the way: finding faults is the verifier's work. Many short reads, so that a
long export does not keep the write-ahead log from being recycled; memory is bounded by a few records.

The bundle ends at the checkpoint that is newest when everything before it has been copied. Records never change, but
ciphertexts may be destroyed meanwhile; the record that authorises it comes first, and so it is in the bundle too.

An export to a folder that was cut off goes on where it ended when it is asked for again with `resume=True`: a file that
is there under its name is complete.
"""

from __future__ import annotations

import errno
import io
import json
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from appliance.audit import store
from appliance.audit.control import parse_control
from appliance.audit.header import epoch_of
from appliance.audit.reader import LogReader
from appliance.audit.store import StoredRecord
from appliance.audit.tiles import TILE_WIDTH, stored_levels
from appliance.crypto.merkle import leaf_hash
from appliance.crypto.note import verifier_key
from appliance.errors import Conflict, HomeError, HomeFull

FORMAT = "cloister-audit-bundle/1"
_UNFINISHED = ".unfinished"
_ROUNDS_MAX = 64  # a log that grows faster than it is copied is cut here
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


def export_bundle(reader: LogReader, target: Path, *, ciphertexts: bool, resume: bool = False) -> ExportSummary:
    """Write a zip file where the name ends in `.zip`, else a folder. It appears under its name when it is complete.

    Raises `Conflict` if `target` exists, `HomeFull` or `HomeError` if it cannot be written. Nothing is left then,
    except with `resume` and a folder: what was written stays beside it under `.partial`, for the next attempt.
    """
    if resume:
        _forget_the_end(_partial(target), _log_json(ciphertexts))
    with _draft(target, resume=resume) as bundle:
        head = _write_bundle(bundle, reader, ciphertexts=ciphertexts)
    return ExportSummary(target, head.size, head.note, ciphertexts)


def export_epochs(readers: Sequence[LogReader], target: Path, *, ciphertexts: bool) -> tuple[ExportSummary, ...]:
    """Bundles of several epochs in one file or folder, each below `e<number>/`; errors as `export_bundle`."""
    summaries = []
    with _draft(target, resume=False) as bundle:
        for reader in readers:
            below = _Below(bundle, f"e{epoch_of(reader.origin)}/")
            head = _write_bundle(below, reader, ciphertexts=ciphertexts)
            summaries.append(ExportSummary(target, head.size, head.note, ciphertexts))
    return tuple(summaries)


def export_tiles(reader: LogReader, target: Path) -> ExportSummary:
    """The tree alone as a static C2SP tlog-tiles log: `checkpoint` and `tile/`; errors as `export_bundle`."""
    head = _newest(reader)
    with _draft(target, resume=False) as bundle:
        _copy_tiles(bundle, reader, head.size)
        for block in range(-(-head.size // TILE_WIDTH)):
            _copy_headers(bundle, reader, block, head.size)
        _write(bundle, "checkpoint", head.note.encode())
    return ExportSummary(target, head.size, head.note, ciphertexts=False)


@dataclass(frozen=True, slots=True)
class _Head:
    """Where an export ends."""

    size: int
    note: str


def _write_bundle(bundle: _Bundle, reader: LogReader, *, ciphertexts: bool) -> _Head:
    _write(bundle, "log.json", _log_json(ciphertexts))
    keys: dict[str, None] = {}
    copied = 0  # complete blocks; the incomplete one at the end grows until the checkpoint is chosen
    for _ in range(_ROUNDS_MAX):
        complete = _newest(reader).size // TILE_WIDTH
        if complete == copied:
            break
        for block in range(copied, complete):
            keys |= _copy_block(bundle, reader, block, complete * TILE_WIDTH, ciphertexts=ciphertexts)
        copied = complete
    head = _newest(reader)
    for block in range(copied, -(-head.size // TILE_WIDTH)):
        keys |= _copy_block(bundle, reader, block, head.size, ciphertexts=ciphertexts)
    _copy_tiles(bundle, reader, head.size)
    _copy_checkpoints(bundle, reader, head.size)
    _write(bundle, "verifier-key", f"{reader.verifier_key}\n".encode())
    lines = (f"{verifier_key(reader.origin, bytes.fromhex(key))}\n" for key in keys)
    _write(bundle, "verifier-keys", "".join(lines).encode())
    _write(bundle, "checkpoint", head.note.encode())
    return head


def _newest(reader: LogReader) -> _Head:
    """The newest signed head, with the cosignatures that are kept of it.

    The signer may remember more records than a restored database has: then the database's own newest note is taken,
    because a bundle holds what is there. That something is missing is for the verifier, by what was kept elsewhere.
    """
    signed = reader.signed_head()
    with reader.snapshot() as connection:
        stored = store.read_head(connection)
        size, note = signed.size, signed.note
        if stored is not None and stored.size < size and stored.note:
            size, note = stored.signed_size, stored.note
        kept = store.read_checkpoints(connection, size - 1, 1)
    if kept and kept[0].size == size and kept[0].cosigs and kept[0].note == note:
        note += kept[0].cosigs
    return _Head(size, note)


def _signing_keys(row: StoredRecord) -> Iterator[str]:
    """The public keys (hex) that a control record names as those of this log: its first, and what replaced it."""
    if row.body is None or not (row.seq == 0 or b'"key.rotate"' in row.body):
        return
    try:
        said = parse_control(row.body)
    except ValueError:
        return
    named = said.get("public_key") if said["event"] == "genesis" else said.get("new")
    if isinstance(named, str) and len(named) == 64 and set(named) <= set("0123456789abcdef"):
        yield named


@contextmanager
def _draft(target: Path, *, resume: bool) -> Iterator[_Bundle]:
    """Where to write; it gets its name when all is written, and goes when something fails."""
    if target.exists():
        raise Conflict(f"{target} exists already", hint="choose another name for the export")
    draft, is_zip = _partial(target), target.suffix == ".zip"
    complete = False
    try:
        if draft.exists() and not (resume and draft.is_dir()):
            _remove(draft)
        with _zip_bundle(draft) if is_zip else _folder_bundle(draft, resume=resume) as bundle:
            yield bundle
        draft.rename(target)
        complete = True
    except OSError as error:
        raise _unwritable(target, error) from None
    finally:
        if not complete and not (resume and not is_zip):
            _remove(draft)


def _forget_the_end(draft: Path, log_json: bytes) -> None:
    """Of an export that was cut off, keep the complete blocks: all else follows from the checkpoint still to come.

    A block that was incomplete then is known by its partial tile, which is written first. Another kind of export is no
    beginning of this one.
    """
    try:
        if not draft.is_dir() or (draft / "log.json").read_bytes() != log_json:
            _remove(draft)
            return
        for partial in draft.glob("tile/0/**/*.p"):
            block = partial.relative_to(draft / "tile" / "0").with_suffix("")
            for folder in ("public", "ciphertexts"):
                (draft / folder / block).unlink(missing_ok=True)
        for partial in [*draft.glob("tile/**/*.p"), *draft.glob("tile/[1-9]*")]:
            shutil.rmtree(partial, ignore_errors=True)
        for name in ("checkpoint", "checkpoints.jsonl", "verifier-key", "verifier-keys"):
            (draft / name).unlink(missing_ok=True)
    except OSError:
        _remove(draft)


def _log_json(ciphertexts: bool) -> bytes:
    return _json({"ciphertexts": ciphertexts, "format": FORMAT})


def _partial(target: Path) -> Path:
    return target.with_name(target.name + ".partial")


class _Bundle(Protocol):
    """Where the files go: a folder or a zip file."""

    def open(self, path: str) -> BinaryIO:
        """A new file to write to and close."""


class _Folder:
    """A file gets its name when it is closed, so that one under its name is complete and is not written again."""

    def __init__(self, root: Path, *, resume: bool) -> None:
        self._root, self._resume = root, resume

    def open(self, path: str) -> BinaryIO:
        place = self._root / path
        if self._resume and place.exists():
            return _Discarded()
        place.parent.mkdir(parents=True, exist_ok=True)
        if not self._resume:
            return place.open("xb")
        return _Renamed(place.with_name(place.name + _UNFINISHED), place)


class _Renamed(io.FileIO):
    """A file that takes its name when it is closed without an error."""

    def __init__(self, beside: Path, place: Path) -> None:
        super().__init__(beside, "wb")
        self._beside, self._place = beside, place

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self.close()
        if kind is None:
            self._beside.rename(self._place)


class _Discarded(io.BytesIO):
    """For what is there already."""

    def write(self, content: Any, /) -> int:
        return len(memoryview(content))


class _Below:
    """The files of one epoch, in a folder of their own."""

    def __init__(self, bundle: _Bundle, prefix: str) -> None:
        self._bundle, self._prefix = bundle, prefix

    def open(self, path: str) -> BinaryIO:
        return self._bundle.open(self._prefix + path)


class _Zip:
    """Stored, not compressed: hashes and ciphertexts do not shrink. Fixed dates: equal logs give equal files."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive

    def open(self, path: str) -> BinaryIO:
        return self._archive.open(zipfile.ZipInfo(path), "w", force_zip64=True)  # type: ignore[return-value]


@contextmanager
def _folder_bundle(root: Path, *, resume: bool) -> Iterator[_Bundle]:
    root.mkdir(mode=0o700, exist_ok=resume)
    yield _Folder(root, resume=resume)


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
                    file.write(_json({"note": checkpoint.note + (checkpoint.cosigs or "")}) + b"\n")
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


def _copy_headers(bundle: _Bundle, reader: LogReader, block: int, size: int) -> list[StoredRecord]:
    """Headers and leaf hashes of up to 256 records; returns their rows, without contents."""
    first = block * TILE_WIDTH
    width = min(TILE_WIDTH, size - first)
    with reader.snapshot() as connection:
        rows = [row for row in store.read_records(connection, first, width) if row.seq < first + width]
    _write(bundle, _tile_path("0", block, width), b"".join(leaf_hash(row.header) for row in rows))
    entries = b"".join(len(row.header).to_bytes(2, "big") + row.header for row in rows)
    _write(bundle, _tile_path("entries", block, width), entries)
    return rows


def _copy_block(bundle: _Bundle, reader: LogReader, block: int, size: int, *, ciphertexts: bool) -> dict[str, None]:
    """The same, and public bodies and ciphertexts; returns the signing keys that its records name."""
    rows = _copy_headers(bundle, reader, block, size)
    bodies = b"".join(_entry(row.seq, _BODY, row.body) for row in rows if row.body is not None)
    if bodies:
        _write(bundle, f"public/{_grouped(block)}", bodies)
    if ciphertexts:
        _copy_ciphertexts(bundle, reader, block, rows)
    return {key: None for row in rows for key in _signing_keys(row)}


def _copy_ciphertexts(bundle: _Bundle, reader: LogReader, block: int, rows: Sequence[StoredRecord]) -> None:
    with ExitStack() as opened:
        file: BinaryIO | None = None
        for start in range(0, len(rows), _CONTENTS_A_READ):
            seqs = [row.seq for row in rows[start : start + _CONTENTS_A_READ]]
            with reader.snapshot() as connection:
                whole = store.read_records(connection, seqs[0], len(seqs), content=True)
            for row in whole:
                for part, stored in ((_ENVELOPE, row.env_ct), (_CONTENT, row.con_ct)):
                    if stored is not None and row.seq <= seqs[-1]:
                        # Opened only now: a file without entries is not part of a bundle.
                        file = file or opened.enter_context(bundle.open(f"ciphertexts/{_grouped(block)}"))
                        file.write(_entry(row.seq, part, stored))


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
