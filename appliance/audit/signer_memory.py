"""The signer's memory, `audit/signer.json`: how far it has signed, outside the database. Read by many, written by one.

    memory = SignerMemory(path, origin, head)     # goes on with the file, or makes one that says `head`
    memory.write(head); memory.sync()
    head = read_signed_head(path, origin)

Three slots of 4,096 bytes, each one line: the first 16 hex digits of a SHA-256, a space, a JSON object, spaces, a line
feed. The hash covers everything behind its space, line feed included. The whole slot with the largest `counter` counts.

A write goes to a slot that is neither the newest nor the one that was newest at the last sync, and is not synced: it
costs no wait for the disk. Whatever a power cut leaves of two slots, the third is whole. It MAY be an older memory (by
a second, see `writer.py`), which is a smaller size and refuses nothing that is true: what a receipt covers is in the
database, which is synced in every batch. A reader meets at most one slot that is being written and takes the next best.

The file of earlier releases, one JSON object, is read as well.
"""

from __future__ import annotations

import base64
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import msgspec

from appliance.crypto.merkle import EMPTY_ROOT
from appliance.errors import AuditLogInvalid

SLOT_BYTES = 4096
SLOTS = 3
FILE_BYTES_MAX = 64 * 1024
_CHECK_DIGITS = 16


@dataclass(frozen=True, slots=True)
class SignedHead:
    """The last tree head that was signed; `note` is empty only before the first signature.

    `overlap_until_ms`: until then (milliseconds UTC) the key before the newest one signs too; 0: there was none.
    """

    size: int
    root: bytes
    note: str
    overlap_until_ms: int = 0


class _Slot(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    counter: int
    origin: str
    size: int
    root: str
    note: str
    overlap_until_ms: int = 0


class _EarlierFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    origin: str
    size: int
    root: str
    note: str


def read_signed_head(path: Path, origin: str) -> SignedHead | None:
    """The signer's memory, None when there is none. Raises `AuditLogInvalid` for a foreign or damaged file."""
    try:
        with path.open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
    except FileNotFoundError:
        return None
    _, slot = _newest(content)
    state = slot or _earlier(content)
    if state is None:
        raise _damaged(path)
    if state.origin != origin:
        raise AuditLogInvalid(
            f"{path} belongs to the log {state.origin}, not to {origin}", hint="restore the data folder as a whole"
        )
    try:
        root = base64.b64decode(state.root, validate=True)
    except ValueError:
        raise _damaged(path) from None
    if state.size < 0 or len(root) != len(EMPTY_ROOT):
        raise _damaged(path)
    return SignedHead(state.size, root, state.note, slot.overlap_until_ms if slot else 0)


def sync_folder(folder: Path) -> None:
    """The names in a folder are on the disk: until then a power cut may take a file that was synced itself."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class SignerMemory:
    """Writes the file; one owner, the signer. Opened for one origin."""

    def __init__(self, path: Path, origin: str, head: SignedHead) -> None:
        """Go on with an existing file, or make one that says `head`; a file of an earlier release is replaced."""
        self._origin = origin
        try:
            index, slot = _newest(path.read_bytes())
        except FileNotFoundError:
            index, slot = 0, None
        if slot is None:
            _replace(path, _encode(_slot(1, origin, head)))
            index, counter = 0, 1
        else:
            counter = slot.counter
        self._newest, self._counter = index, counter
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        self._whole = index
        self._synced_counter = 0
        self.sync()

    def write(self, head: SignedHead) -> None:
        """Remember; survives the death of this process, and a power cut from the next `sync` on."""
        index = next(i for i in range(SLOTS) if i not in (self._newest, self._whole))
        self._counter += 1
        encoded = _encode(_slot(self._counter, self._origin, head))
        written = os.pwrite(self._descriptor, encoded, index * SLOT_BYTES)
        if written != SLOT_BYTES:
            raise OSError(f"{written} of {SLOT_BYTES} bytes of the signer's memory were written")
        self._newest = index

    def sync(self) -> None:
        """What was written survives a power cut; nothing happens when it does already."""
        if self._synced_counter == self._counter:
            return
        os.fdatasync(self._descriptor)
        self._synced_counter, self._whole = self._counter, self._newest

    def close(self) -> None:
        """Sync and let go."""
        self.sync()
        os.close(self._descriptor)


def _slot(counter: int, origin: str, head: SignedHead) -> _Slot:
    root = base64.b64encode(head.root).decode()
    return _Slot(counter, origin, head.size, root, head.note, head.overlap_until_ms)


def _encode(slot: _Slot) -> bytes:
    said = msgspec.json.encode(slot).ljust(SLOT_BYTES - _CHECK_DIGITS - 2) + b"\n"
    encoded = _check(said) + b" " + said
    if len(encoded) != SLOT_BYTES:
        raise ValueError("a signed head does not fit the signer's memory: its origin is too long")
    return encoded


def _decode(line: bytes) -> _Slot | None:
    """None for a slot that was never, or not wholly, written."""
    check, said = line[:_CHECK_DIGITS], line[_CHECK_DIGITS + 1 :]
    if len(line) != SLOT_BYTES or check != _check(said):
        return None
    try:
        return msgspec.json.decode(said, type=_Slot)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _newest(content: bytes) -> tuple[int, _Slot | None]:
    found = [
        (slot.counter, index, slot)
        for index in range(SLOTS)
        if (slot := _decode(content[index * SLOT_BYTES : (index + 1) * SLOT_BYTES])) is not None
    ]
    if not found:
        return 0, None
    _, index, slot = max(found, key=lambda item: item[0])
    return index, slot


def _earlier(content: bytes) -> _EarlierFile | None:
    try:
        return msgspec.json.decode(content, type=_EarlierFile)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _check(said: bytes) -> bytes:
    return hashlib.sha256(said).hexdigest()[:_CHECK_DIGITS].encode()


def _replace(path: Path, slot: bytes) -> None:
    """A new file that says one thing, on the disk under its name before this returns."""
    beside = path.with_name(path.name + ".new")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(slot.ljust(SLOT_BYTES * SLOTS))
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    sync_folder(path.parent)


def _damaged(path: Path) -> AuditLogInvalid:
    return AuditLogInvalid(f"{path} is damaged", hint="restore it from the newest backup")
