"""Signs tree heads and remembers, outside the database, how far it has signed.

    signer = Signer.open(path, seed, origin)
    signer.sign(size=42, root=root)              # refuses a smaller tree, and another tree of the same size

The memory is `audit/signer.json`. An old copy of the database that is put back looks perfect by itself; beside this
file it does not. Signing comes after the commit, never before: a commit that reported an error may still be there
after a restart, and a signature given out for a tree that then differs would be two histories under one name.
Ed25519 is deterministic, so that signing the same head again after a crash gives the same bytes.
"""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass
from pathlib import Path

import msgspec

from appliance.audit.checkpoint import checkpoint_text
from appliance.crypto.merkle import EMPTY_ROOT
from appliance.crypto.note import sign_note
from appliance.errors import AuditLogInvalid

STATE_BYTES_MAX = 64 * 1024


@dataclass(frozen=True, slots=True)
class SignedHead:
    """The last tree head that was signed; `note` is empty only before the first signature."""

    size: int
    root: bytes
    note: str


class _StateFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    origin: str
    size: int
    root: str
    note: str


def read_signed_head(path: Path, origin: str) -> SignedHead | None:
    """The signer's memory, None when there is none. Raises `AuditLogInvalid` for a foreign or damaged file."""
    try:
        with path.open("rb") as file:
            content = file.read(STATE_BYTES_MAX + 1)
    except FileNotFoundError:
        return None
    try:
        state = msgspec.json.decode(content, type=_StateFile)
        root = base64.b64decode(state.root, validate=True)
    except (msgspec.DecodeError, ValueError):
        raise _damaged(path) from None
    if state.origin != origin:
        raise AuditLogInvalid(
            f"{path} belongs to the log {state.origin}, not to {origin}", hint="restore the data folder as a whole"
        )
    if state.size < 0 or len(root) != len(EMPTY_ROOT):
        raise _damaged(path)
    return SignedHead(state.size, root, state.note)


class Signer:
    """Holds the signing seed. One owner: the sequencer."""

    def __init__(self, path: Path, seed: bytes, origin: str, head: SignedHead) -> None:
        self._path = path
        self._seed = seed
        self._origin = origin
        self.head = head

    @classmethod
    def open(cls, path: Path, seed: bytes, origin: str, *, log_is_new: bool) -> Signer:
        """Read the memory. Only for a log without a single record may it be missing; then it begins here."""
        head = read_signed_head(path, origin)
        if head is None:
            if not log_is_new:
                raise AuditLogInvalid(
                    f"{path} is missing: without it nobody can tell whether the log was put back to an older state",
                    hint="restore it from the newest backup and verify the log against a checkpoint kept elsewhere",
                )
            signer = cls(path, seed, origin, SignedHead(0, EMPTY_ROOT, ""))
            signer._remember(signer.head)
            return signer
        return cls(path, seed, origin, head)

    def check(self, size: int, root: bytes) -> None:
        """Refuse a tree that this signer may not sign. Raises `AuditLogInvalid`."""
        if size < self.head.size:
            raise AuditLogInvalid(
                f"the log ends at {size} records but {self.head.size} were signed: it was cut or put back to an older "
                "state",
                hint="keep all files for analysis and restore the newest backup",
            )
        if size == self.head.size and root != self.head.root:
            raise AuditLogInvalid(
                f"the {size} records of the log are not those that were signed",
                hint="keep all files for analysis; run `appliance audit verify` with a trusted checkpoint",
            )

    def sign(self, size: int, root: bytes) -> str:
        """The signed note of this tree head, remembered on the disk before it is returned.

        MUST be called after the commit only. A crash between the two loses nothing: the next start signs again.
        """
        self.check(size, root)
        note = sign_note(checkpoint_text(self._origin, size, root), self._origin, self._seed)
        self._remember(SignedHead(size, root, note))
        return note

    def _remember(self, head: SignedHead) -> None:
        state = _StateFile(self._origin, head.size, base64.b64encode(head.root).decode(), head.note)
        beside = self._path.with_name(self._path.name + ".new")
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.encode(state))
            file.flush()
            os.fsync(file.fileno())
        # The folder is not synced: a rename that a power cut undoes leaves an older memory, which is a smaller size
        # and refuses nothing that is true. The record itself is durable already.
        beside.replace(self._path)
        self.head = head


def _damaged(path: Path) -> AuditLogInvalid:
    return AuditLogInvalid(f"{path} is damaged", hint="restore it from the newest backup")
