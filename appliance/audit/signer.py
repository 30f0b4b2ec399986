"""Signs tree heads, never two of one size and never a smaller one after a larger.

    signer = Signer.open(path, keys, origin, log_is_new=False)
    signer.sign(size=42, root=root, now_ms=commit_ms)      # refuses a smaller tree, and another of the same size

How far it has signed is in `audit/signer.json` (`signer_memory.py`): an old copy of the database that is put back
looks perfect by itself; beside this file it does not. Signing comes after the commit, never before: a commit that
reported an error may still be there after a restart, and a signature given out for a tree that then differs would be
two histories under one name. Ed25519 is deterministic, so that signing the same head again gives the same bytes.

After a rotation the key before signs too, for a while, so that whoever does not have the new key yet can verify.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from appliance.audit.checkpoint import checkpoint_text
from appliance.audit.signer_memory import SignedHead, SignerMemory, read_signed_head
from appliance.crypto.merkle import EMPTY_ROOT
from appliance.crypto.note import NoteSigner, key_id, split_note
from appliance.errors import AuditLogInvalid

__all__ = ["SignedHead", "Signer", "SigningKeys", "read_signed_head"]


@dataclass(frozen=True, slots=True, repr=False)
class SigningKeys:
    """Seeds that sign: the newest, and those before it, newest first. `public`: of all keys that ever signed."""

    newest: bytes
    retiring: tuple[bytes, ...] = ()
    public: tuple[bytes, ...] = ()


class Signer:
    """Holds the signing seeds. One owner: the writer."""

    def __init__(self, path: Path, keys: SigningKeys, origin: str, head: SignedHead) -> None:
        self._memory = SignerMemory(path, origin, head)
        self._keys = keys
        self._origin = origin
        self._signers = self._ready()
        self.head = head

    @classmethod
    def open(cls, path: Path, keys: SigningKeys, origin: str, *, log_is_new: bool) -> Signer:
        """Read the memory. Only for a log without a single record may it be missing; then it begins here."""
        head = read_signed_head(path, origin)
        if head is None and not log_is_new:
            raise AuditLogInvalid(
                f"{path} is missing: without it nobody can tell whether the log was put back to an older state",
                hint="restore it from the newest backup and verify the log against a checkpoint kept elsewhere",
            )
        return cls(path, keys, origin, head or SignedHead(0, EMPTY_ROOT, ""))

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

    def sign(self, size: int, root: bytes, *, now_ms: int) -> str:
        """The signed note of this tree head, remembered before it is returned.

        MUST be called after the commit only. A crash between the two loses nothing: the next start signs again.
        """
        self.check(size, root)
        text = checkpoint_text(self._origin, size, root)
        signers = self._signers if now_ms < self.head.overlap_until_ms else self._signers[:1]
        note = f"{text}\n{''.join(str(signer.line(text)) for signer in signers)}"
        self.head = SignedHead(size, root, note, self.head.overlap_until_ms)
        self._memory.write(self.head)
        return note

    @property
    def public_key(self) -> bytes:
        """Of the newest key."""
        return self._signers[0].public

    @property
    def public_keys(self) -> tuple[bytes, ...]:
        """Of every key that ever signed this log, newest first."""
        return (self.public_key, *(public for public in self._keys.public if public != self.public_key))

    def replaced_key(self) -> bytes | None:
        """The public key that signed last, if the newest never did: a rotation that the log has not recorded yet."""
        if not self.head.note or _signed_by(self.head.note, self._origin, self.public_key):
            return None
        for public in self._keys.public:
            if _signed_by(self.head.note, self._origin, public):
                return public
        raise AuditLogInvalid(
            "the keystore has none of the keys that signed this log", hint="restore the data folder as a whole"
        )

    def replace(self, seed: bytes) -> bytes:
        """Take `seed` as the newest key and return the public key that was; recording it is the caller's."""
        old = self.public_key
        self._keys = SigningKeys(seed, (self._keys.newest, *self._keys.retiring), self.public_keys)
        self._signers = self._ready()
        return old

    def overlap(self, until_ms: int) -> None:
        """From the next signature on the key before signs too, until then. 0 ends it."""
        self.head = SignedHead(self.head.size, self.head.root, self.head.note, until_ms)

    def sync(self) -> None:
        """What was remembered survives a power cut."""
        self._memory.sync()

    def close(self) -> None:
        """Sync and let go of the file."""
        self._memory.close()

    def _ready(self) -> tuple[NoteSigner, ...]:
        """The newest key and the one before it."""
        return tuple(NoteSigner(self._origin, seed) for seed in (self._keys.newest, *self._keys.retiring[:1]))


def _signed_by(note: str, origin: str, public: bytes) -> bool:
    """Whether a line of `note` says that it is by this key; it is our own note, so the line is believed."""
    _, lines = split_note(note)
    return any((line.name, line.key_id) == (origin, key_id(origin, public)) for line in lines)
