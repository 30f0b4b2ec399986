"""The Merkle tree of RFC 6962 (and C2SP tlog-tiles): hashes, the growing frontier, proofs and their checks.

    frontier = Frontier.empty().append(leaf_hash(header))
    frontier.root()                                           # after every append, without the other leaves
    proof = inclusion_proof(index, size, node)                # node(height, index) -> hash of a complete subtree
    root_from_inclusion(index, size, leaf, proof) == root

A leaf is hashed as SHA-256(0x00 || data) and a node as SHA-256(0x01 || left || right): the two prefixes make it
impossible to pass a node off as a leaf. An odd node is carried up, never duplicated; duplication would give two
different lists the same root.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

HASH_BYTES = 32
PROOF_HASHES_MAX = 63  # the depth of a tree of 2^63 leaves
EMPTY_ROOT = hashlib.sha256(b"").digest()

Node = Callable[[int, int], bytes]


def leaf_hash(data: bytes) -> bytes:
    """Hash of one leaf."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash of a node over its two children."""
    return hashlib.sha256(b"\x01" + left + right).digest()


@dataclass(frozen=True, slots=True)
class Frontier:
    """A tree of `size` leaves as the roots of its complete subtrees, largest first: all that an append needs.

    There is one subtree for every one bit of `size`, so it never holds more than 64 hashes.
    """

    size: int
    hashes: tuple[bytes, ...]

    def __post_init__(self) -> None:
        if self.size < 0 or len(self.hashes) != self.size.bit_count():
            raise ValueError("a frontier has one hash for every one bit of its size")
        if any(len(value) != HASH_BYTES for value in self.hashes):
            raise ValueError(f"a frontier holds hashes of {HASH_BYTES} bytes")

    @staticmethod
    def empty() -> Frontier:
        """The tree without leaves."""
        return Frontier(0, ())

    def append(self, leaf: bytes) -> Frontier:
        """The tree with one more leaf. Equal subtrees merge, as carries do in binary addition."""
        hashes, carry, size = list(self.hashes), leaf, self.size
        while size & 1:
            carry = node_hash(hashes.pop(), carry)
            size >>= 1
        return Frontier(self.size + 1, (*hashes, carry))

    def root(self) -> bytes:
        """The root: the subtrees joined from the right, as RFC 6962's MTH does."""
        if not self.hashes:
            return EMPTY_ROOT
        root = self.hashes[-1]
        for left in reversed(self.hashes[:-1]):
            root = node_hash(left, root)
        return root

    def to_bytes(self) -> bytes:
        """Eight bytes of big-endian size and the hashes."""
        return self.size.to_bytes(8, "big") + b"".join(self.hashes)

    @staticmethod
    def from_bytes(value: bytes) -> Frontier:
        """The inverse of `to_bytes`. Raises `ValueError` for anything it cannot have made."""
        size, rest = int.from_bytes(value[:8], "big"), value[8:]
        if len(value) < 8 or len(rest) % HASH_BYTES:
            raise ValueError("not a frontier: its length is wrong")
        return Frontier(size, tuple(rest[i : i + HASH_BYTES] for i in range(0, len(rest), HASH_BYTES)))


def inclusion_proof(index: int, size: int, node: Node) -> list[bytes]:
    """The audit path of leaf `index` in the tree of `size` leaves (RFC 6962, 2.1.1), leaf to root."""
    if not 0 <= index < size:
        raise ValueError(f"leaf {index} is not in a tree of {size}")
    return _path(index, 0, size, node)


def root_from_inclusion(index: int, size: int, leaf: bytes, proof: Sequence[bytes]) -> bytes:
    """The root that `proof` leads to (RFC 9162, 2.1.3.2). Raises `ValueError` when its length is not that of a path.

    The caller MUST compare the result with a root that it trusts, and take `index` and `size` from what was signed:
    a proof by itself shows nothing.
    """
    if not 0 <= index < size or not _are_hashes(leaf, *proof):
        raise ValueError("not a proof for this leaf")
    position, last, root = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            raise ValueError("the proof is too long")
        if position & 1 or position == last:
            root = node_hash(sibling, root)
            while not position & 1 and position:
                position, last = position >> 1, last >> 1
        else:
            root = node_hash(root, sibling)
        position, last = position >> 1, last >> 1
    if last:
        raise ValueError("the proof is too short")
    return root


def consistency_proof(old: int, size: int, node: Node) -> list[bytes]:
    """Proof that the tree of `old` leaves is a prefix of that of `size` (RFC 6962, 2.1.2)."""
    if not 0 < old <= size:
        raise ValueError(f"a tree of {size} has no prefix of {old}")
    return _subproof(old, 0, size, node, complete=True)


def verify_consistency(old: int, size: int, old_root: bytes, root: bytes, proof: Sequence[bytes]) -> bool:
    """Whether `proof` shows that nothing under `old_root` was changed on the way to `root` (RFC 9162, 2.1.4.2)."""
    if not 0 < old <= size or not _are_hashes(old_root, root, *proof):
        return False
    if old == size:
        return not proof and old_root == root
    path = list(proof)
    if old & (old - 1) == 0:
        path.insert(0, old_root)
    if not path:
        return False
    position, last = old - 1, size - 1
    while position & 1:
        position, last = position >> 1, last >> 1
    first = second = path[0]
    for sibling in path[1:]:
        if last == 0:
            return False
        if position & 1 or position == last:
            first, second = node_hash(sibling, first), node_hash(sibling, second)
            while not position & 1 and position:
                position, last = position >> 1, last >> 1
        else:
            second = node_hash(second, sibling)
        position, last = position >> 1, last >> 1
    return last == 0 and first == old_root and second == root


def _are_hashes(*values: bytes) -> bool:
    """Whether all have the length of one. A node is hashed as its two halves joined: with a half of another length,
    one input of SHA-256 would have two readings, and a proof could lead to a root it does not belong to.
    """
    return all(len(value) == HASH_BYTES for value in values)


def _split(size: int) -> int:
    """The largest power of two smaller than `size`."""
    return 1 << (size - 1).bit_length() - 1


def _subtree(start: int, size: int, node: Node) -> bytes:
    """Root of the leaves from `start`, `size` of them; complete subtrees are looked up, the rest is joined."""
    if size & (size - 1) == 0:
        height = size.bit_length() - 1
        return node(height, start >> height)
    left = _split(size)
    return node_hash(_subtree(start, left, node), _subtree(start + left, size - left, node))


def _path(index: int, start: int, size: int, node: Node) -> list[bytes]:
    if size == 1:
        return []
    left = _split(size)
    if index < left:
        return [*_path(index, start, left, node), _subtree(start + left, size - left, node)]
    return [*_path(index - left, start + left, size - left, node), _subtree(start, left, node)]


def _subproof(old: int, start: int, size: int, node: Node, *, complete: bool) -> list[bytes]:
    if old == size:
        return [] if complete else [_subtree(start, size, node)]
    left = _split(size)
    if old <= left:
        return [*_subproof(old, start, left, node, complete=complete), _subtree(start + left, size - left, node)]
    return [*_subproof(old - left, start + left, size - left, node, complete=False), _subtree(start, left, node)]
