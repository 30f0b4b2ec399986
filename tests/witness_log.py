"""A small log for tests of the witness: leaves in memory, signed checkpoints and proofs of any size, and its forks."""

from __future__ import annotations

from dataclasses import dataclass, field

from appliance.audit.checkpoint import checkpoint_text
from appliance.crypto.merkle import Frontier, consistency_proof, leaf_hash, node_hash
from appliance.crypto.note import sign_note, verifier_key
from appliance.crypto.signing import public_key

ORIGIN = "clinic.example/audit/7/e1"
SEED = bytes(range(32))


@dataclass
class SmallLog:
    """A log of so many leaves. A `fork` shares its beginning and its key, and differs from there on."""

    leaves: list[bytes] = field(default_factory=list)
    origin: str = ORIGIN
    seed: bytes = SEED

    def grow(self, count: int, label: str = "record") -> SmallLog:
        self.leaves += [leaf_hash(f"{label} {len(self.leaves) + number}".encode()) for number in range(count)]
        return self

    def fork(self, at: int) -> SmallLog:
        return SmallLog(self.leaves[:at], self.origin, self.seed)

    def root(self, size: int) -> bytes:
        frontier = Frontier.empty()
        for leaf in self.leaves[:size]:
            frontier = frontier.append(leaf)
        return frontier.root()

    def note(self, size: int | None = None) -> str:
        size = len(self.leaves) if size is None else size
        return sign_note(checkpoint_text(self.origin, size, self.root(size)), self.origin, self.seed)

    def node(self, height: int, index: int) -> bytes:
        row = self.leaves[index << height : (index + 1) << height]
        assert len(row) == 1 << height
        while len(row) > 1:
            row = [node_hash(row[at], row[at + 1]) for at in range(0, len(row), 2)]
        return row[0]

    def proof(self, old: int, size: int | None = None) -> list[bytes]:
        size = len(self.leaves) if size is None else size
        return consistency_proof(old, size, self.node) if old else []

    @property
    def key(self) -> str:
        return verifier_key(self.origin, public_key(self.seed))
