"""One backup as a file: a header in clear, and a tar archive sealed in pieces. README.md has the format.

    header, file_key = new_header(access, about)
    write_archive(out, header, file_key, members, note)
    header = read_header(file)                                  # who made it, when it expires; believed after opening
    manifest = read_archive(file, backup_key, take)             # take(path, size, reader) for every file in it

Knows bytes and no data folder. Everything that is read is authentic when it is handed out, and complete only when
`read_archive` returns.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, BinaryIO, Protocol

import msgspec

from appliance.audit.recovery_kit import BackupAccess, RecoverySlot
from appliance.crypto import keys
from appliance.crypto.chunks import CHUNK_BYTES, open_chunks, seal_chunks
from appliance.errors import BackupInvalid, DecryptionFailed

MAGIC = b"cloister-backup/1\n"
SUFFIX = ".cloister-backup"
MANIFEST = "manifest.json"
HEADER_BYTES_MAX = 64 * 1024
FILES_MAX = 100_000
_MANIFEST_BYTES_MAX = 32 * 1024 * 1024
_LENGTH_BYTES = 4
_KEY_LABEL = b"cloister-backup-1/key"
_PAYLOAD_LABEL = b"cloister-backup-1/payload"
_BLOCK = tarfile.BLOCKSIZE
_ID_BYTES = 16
_WRAPPED_BYTES = 72

# Everything that a backup may hold; nothing else is ever written by a restore.
PATHS = re.compile(
    r"home\.json|config\.toml|db/appliance\.db|keys/keystore\.db|audit/(e[1-9][0-9]{0,5}/)?(log\.db|signer\.json)"
    r"|specialists/[0-9a-f]{64}\.gguf|models/[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}/[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}"
    r"|tls/[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}"
)


class Reader(Protocol):
    """What a file in an archive offers."""

    def read(self, size: int, /) -> bytes: ...


Take = Callable[[str, int, Reader], None]


@dataclass(frozen=True, slots=True)
class Member:
    """One file to be backed up: its path in the data folder, and where its bytes are now."""

    path: str
    source: Path


@dataclass(frozen=True, slots=True)
class About:
    """What a header says in clear. `records`: size of the log; `expires_ms`: when the backup may be deleted."""

    created_ms: int
    expires_ms: int
    origin: str
    records: int
    release: str
    revision: str


@dataclass(frozen=True, slots=True)
class Header:
    """A header and its bytes, which the sealed part depends on."""

    backup_id: bytes
    about: About
    slots: tuple[RecoverySlot, ...]
    wrapped: bytes
    encoded: bytes


class FileEntry(msgspec.Struct, frozen=True):
    """One file as the manifest names it."""

    path: str
    sha256: str
    size: int


class Manifest(msgspec.Struct, frozen=True):
    """What an archive held. `note`: the newest signed head of the log that was known when it was made."""

    files: tuple[FileEntry, ...]
    note: str
    v: int


_Hex = Annotated[str, msgspec.Meta(pattern="^([0-9a-f]{2})*$")]


class _Slot(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    kcv: _Hex
    number: Annotated[int, msgspec.Meta(ge=0, lt=2**31)]
    wrapped: _Hex


class _Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    backup: _Hex
    created_ms: Annotated[int, msgspec.Meta(ge=0, lt=2**53)]
    expires_ms: Annotated[int, msgspec.Meta(ge=0, lt=2**53)]
    key: _Hex
    origin: Annotated[str, msgspec.Meta(max_length=400)]
    records: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
    release: Annotated[str, msgspec.Meta(max_length=100)]
    revision: Annotated[str, msgspec.Meta(max_length=100)]
    slots: Annotated[tuple[_Slot, ...], msgspec.Meta(min_length=1, max_length=64)]
    v: Annotated[int, msgspec.Meta(ge=1, le=1)]


def new_header(
    access: BackupAccess, about: About, *, backup_id: bytes | None = None, file_key: bytes | None = None
) -> tuple[Header, bytes]:
    """A header and the key of its archive, drawn here; the two arguments are for vectors."""
    backup_id, file_key = backup_id or keys.random_id(), file_key or keys.random_key()
    wrapped = keys.wrap_key(access.key, file_key, _KEY_LABEL + backup_id)
    return make_header(backup_id, about, access.slots, wrapped), file_key


def make_header(backup_id: bytes, about: About, slots: tuple[RecoverySlot, ...], wrapped: bytes) -> Header:
    """The header in its one encoding."""
    said = _Header(
        backup_id.hex(),
        about.created_ms,
        about.expires_ms,
        wrapped.hex(),
        about.origin,
        about.records,
        about.release,
        about.revision,
        tuple(_Slot(slot.kcv.hex(), slot.number, slot.wrapped.hex()) for slot in slots),
        1,
    )
    return Header(backup_id, about, slots, wrapped, _canonical(said))


def write_archive(out: BinaryIO, header: Header, file_key: bytes, members: Iterable[Member], note: str) -> Manifest:
    """Write header and sealed files to `out`; returns what was written. The files MUST NOT change meanwhile."""
    out.write(MAGIC + len(header.encoded).to_bytes(_LENGTH_BYTES, "big") + header.encoded)
    entries: list[FileEntry] = []
    for piece in seal_chunks(_payload_key(file_key, header), _tar(members, note, header.about.created_ms, entries)):
        out.write(piece)
    return Manifest(tuple(entries), note, 1)


def read_header(file: BinaryIO) -> Header:
    """The header at the beginning of `file`. Raises `BackupInvalid`. It is believed only when the rest opens."""
    if file.read(len(MAGIC)) != MAGIC:
        raise BackupInvalid("this is no backup of Cloister, or one of a later release", hint="name another file")
    length = int.from_bytes(file.read(_LENGTH_BYTES), "big")
    encoded = file.read(length) if 0 < length <= HEADER_BYTES_MAX else b""
    try:
        said = msgspec.json.decode(encoded, type=_Header)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise _damaged("its header") from None
    if len(encoded) != length or _canonical(said) != encoded:
        raise _damaged("its header")
    backup_id, wrapped = bytes.fromhex(said.backup), bytes.fromhex(said.key)
    if len(backup_id) != _ID_BYTES or len(wrapped) != _WRAPPED_BYTES:
        raise _damaged("its header")
    about = About(said.created_ms, said.expires_ms, said.origin, said.records, said.release, said.revision)
    slots = tuple(RecoverySlot(one.number, bytes.fromhex(one.wrapped), bytes.fromhex(one.kcv)) for one in said.slots)
    return Header(backup_id, about, slots, wrapped, encoded)


def read_archive(file: BinaryIO, header: Header, backup_key: bytes, take: Take) -> Manifest:
    """Open everything behind the header and hand each file to `take`, which MUST read it to its end or leave it.

    Raises `BackupInvalid` for anything altered, missing, additional or unknown. What `take` was given is authentic, but
    only the return says that it was all.
    """
    try:
        file_key = keys.unwrap_key(backup_key, header.wrapped, _KEY_LABEL + header.backup_id)
        reader = _Pieces(open_chunks(_payload_key(file_key, header), file.read))
        manifest = _read_tar(reader, take)
        reader.drain()
    except DecryptionFailed:
        raise BackupInvalid(
            "this backup was altered, is incomplete, or was made under another root key",
            hint="copy it again from where it was kept, or take another; a recovery kit of that time opens it",
        ) from None
    except tarfile.TarError:
        raise _damaged("its table of files") from None
    return manifest


def _tar(members: Iterable[Member], note: str, created_ms: int, entries: list[FileEntry]) -> Iterator[bytes]:
    """The archive in pieces; `entries` grows as files are written, the manifest names them all and comes last."""
    for member in members:
        digest, written = hashlib.sha256(), 0
        with member.source.open("rb") as source:
            size = source.seek(0, io.SEEK_END)
            source.seek(0)
            yield _tar_header(member.path, size, created_ms)
            while piece := source.read(CHUNK_BYTES):
                digest.update(piece)
                written += len(piece)
                yield piece
        if written != size:
            raise BackupInvalid(f"{member.path} changed while it was backed up", hint="make the backup again")
        yield bytes(-size % _BLOCK)
        entries.append(FileEntry(member.path, digest.hexdigest(), size))
    encoded = _canonical(Manifest(tuple(entries), note, 1))
    yield _tar_header(MANIFEST, len(encoded), created_ms) + encoded + bytes(-len(encoded) % _BLOCK)
    yield bytes(2 * _BLOCK)


def _tar_header(path: str, size: int, created_ms: int) -> bytes:
    info = tarfile.TarInfo(path)
    info.size, info.mode, info.mtime = size, 0o600, created_ms // 1000
    return info.tobuf(tarfile.PAX_FORMAT)


def _read_tar(reader: _Pieces, take: Take) -> Manifest:
    found: list[FileEntry] = []
    manifest: Manifest | None = None
    with tarfile.open(fileobj=reader, mode="r|", bufsize=CHUNK_BYTES) as archive:  # type: ignore[call-overload]
        for member in archive:
            if manifest is not None or len(found) > FILES_MAX:
                raise _damaged("its table of files")
            source = archive.extractfile(member) if member.isreg() else None
            if source is None:
                raise _damaged("its table of files")
            if member.name == MANIFEST:
                manifest = _read_manifest(source.read(_MANIFEST_BYTES_MAX))
                continue
            if not PATHS.fullmatch(member.name) or member.name in {entry.path for entry in found[-1:]}:
                raise BackupInvalid("this backup holds a file that belongs to no data folder", hint="take another")
            hashed = _Hashed(source)
            take(member.name, member.size, hashed)
            hashed.drain()
            found.append(FileEntry(member.name, hashed.digest.hexdigest(), hashed.size))
    if manifest is None or tuple(found) != manifest.files or len({entry.path for entry in found}) != len(found):
        raise _damaged("its manifest")
    return manifest


def _read_manifest(encoded: bytes) -> Manifest:
    try:
        return msgspec.json.decode(encoded, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise _damaged("its manifest") from None


class _Pieces:
    """Pieces as a file that is read forwards."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._waiting = b""

    def read(self, size: int) -> bytes:
        while len(self._waiting) < size and (piece := next(self._pieces, None)) is not None:
            self._waiting += piece
        given, self._waiting = self._waiting[:size], self._waiting[size:]
        return given

    def drain(self) -> None:
        """To the end: only there is it known that nothing is missing. Behind the archive MUST be zeros alone."""
        rest = self._waiting
        self._waiting = b""
        while True:
            if rest.strip(b"\0"):
                raise _damaged("its end")
            following = next(self._pieces, None)
            if following is None:
                return
            rest = following


class _Hashed:
    """A file in the archive, hashed as it is read."""

    def __init__(self, source: Reader) -> None:
        self._source = source
        self.digest = hashlib.sha256()
        self.size = 0

    def read(self, size: int) -> bytes:
        piece = self._source.read(size)
        self.digest.update(piece)
        self.size += len(piece)
        return piece

    def drain(self) -> None:
        while self.read(CHUNK_BYTES):
            pass


def _payload_key(file_key: bytes, header: Header) -> bytes:
    """The key of the sealed part. It depends on every byte of the header, so that no other header opens it."""
    return keys.derive_subkey(file_key, _PAYLOAD_LABEL + hashlib.sha256(MAGIC + header.encoded).digest())


def _canonical(said: msgspec.Struct) -> bytes:
    plain = msgspec.to_builtins(said)
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _damaged(what: str) -> BackupInvalid:
    return BackupInvalid(f"this backup is damaged: {what} cannot be read", hint="copy it again, or take another")
