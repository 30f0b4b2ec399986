"""Nodes of the tree: the growing edge in memory, and any node of a stored tree from headers and tiles.

    edge.append(leaf_hash(header)); merkle.inclusion_proof(seq, edge.size, edge.node)
    merkle.inclusion_proof(seq, size, StoredTree(connection).node)

Stored are only tiles of level 1 and higher (256 hashes of 256-record subtrees, and so on, as in C2SP tlog-tiles);
level 0 is the headers. A node is addressed by (height, index): height 0 is a leaf, and node (h, i) covers the leaves
from i·2^h up to, not including, (i+1)·2^h. Only complete subtrees are nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

from appliance.audit import store
from appliance.crypto.merkle import EMPTY_ROOT, leaf_hash, node_hash
from appliance.errors import AuditLogInvalid
from appliance.storage.database import Connection

TILE_WIDTH = 256
_TILE_HEIGHT = 8
_HASH_BYTES = 32
_CACHED_TILES = 64


def subtree_root(hashes: Sequence[bytes]) -> bytes:
    """Root of a complete subtree over `hashes`, whose number is a power of two."""
    row = list(hashes)
    while len(row) > 1:
        row = [node_hash(row[i], row[i + 1]) for i in range(0, len(row), 2)]
    return row[0]


def stored_levels(size: int) -> int:
    """How many levels of tiles a tree of `size` leaves has, level 0 included."""
    levels = 1
    while size >= TILE_WIDTH:
        size //= TILE_WIDTH
        levels += 1
    return levels


def root_of(size: int, node: Callable[[int, int], bytes]) -> bytes:
    """Root of the first `size` leaves: the complete subtrees of which they consist, joined from the right."""
    root, first = None, size
    for height in range(size.bit_length()):
        if size >> height & 1:
            first -= 1 << height
            part = node(height, first >> height)
            root = part if root is None else node_hash(part, root)
    return EMPTY_ROOT if root is None else root


class StoredTree:
    """Nodes of the stored tree, as `connection` sees it. Reads at most 256 rows a node; keeps the tiles it read."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._tile = lru_cache(maxsize=_CACHED_TILES)(self._read_tile)

    def node(self, height: int, index: int) -> bytes:
        """One node. Raises `AuditLogInvalid` where the stored tree is incomplete."""
        level, rest = divmod(height, _TILE_HEIGHT)
        tile, offset = divmod(index << rest, TILE_WIDTH)
        hashes = self._tile(level, tile)[offset : offset + (1 << rest)]
        if len(hashes) != 1 << rest:
            raise _incomplete(f"tree node {index} of height {height}")
        return subtree_root(hashes)

    def tile(self, level: int, index: int) -> tuple[bytes, ...]:
        """The hashes of one tile, fewer than 256 at the edge."""
        return self._tile(level, index)

    def _read_tile(self, level: int, index: int) -> tuple[bytes, ...]:
        if level:
            packed = store.read_tile(self._connection, level, index)
            return tuple(packed[i : i + _HASH_BYTES] for i in range(0, len(packed), _HASH_BYTES))
        first = index * TILE_WIDTH
        rows = store.read_headers(self._connection, first, TILE_WIDTH)
        for expected, (seq, _) in enumerate(rows, start=first):
            if seq != expected:
                raise _incomplete(f"record {expected}")
        return tuple(leaf_hash(header) for _, header in rows)


class TreeEdge:
    """The right edge of a growing tree: per level the hashes of the incomplete tile, and of some before it.

    One owner, the writer. Holds what inclusion proofs for the records of one batch need, at most two tiles and one
    batch per level.
    """

    def __init__(self, size: int, read_tile: Callable[[int, int], tuple[bytes, ...]]) -> None:
        self.size = size
        self._levels: list[list[bytes]] = []
        self._starts: list[int] = []  # index of the first hash held, a multiple of 256
        self._grown: set[tuple[int, int]] = set()
        for level in range(stored_levels(size)):
            count = size >> (_TILE_HEIGHT * level)
            tile, width = divmod(count, TILE_WIDTH)
            hashes = read_tile(level, tile)[:width] if width else ()
            if len(hashes) != width:
                raise _incomplete(f"part of tile {tile} of level {level}")
            self._levels.append(list(hashes))
            self._starts.append(tile * TILE_WIDTH)

    def begin_batch(self) -> None:
        """Forget tiles that are complete: no proof for a record from here on needs them. Clears `grown_tiles`."""
        self._grown.clear()
        for level, hashes in enumerate(self._levels):
            complete = len(hashes) // TILE_WIDTH * TILE_WIDTH
            del hashes[:complete]
            self._starts[level] += complete

    def append(self, leaf: bytes) -> None:
        """Add one leaf, and every node that it completes."""
        self.size += 1
        self._push(0, leaf)

    def node(self, height: int, index: int) -> bytes:
        """One node at or right of the first record of this batch, or a sibling on its way to the root."""
        level, rest = divmod(height, _TILE_HEIGHT)
        first = (index << rest) - self._starts[level]
        hashes = self._levels[level][first : first + (1 << rest)] if first >= 0 else []
        assert len(hashes) == 1 << rest, "only nodes of this batch's proofs are held"
        return subtree_root(hashes)

    def grown_tiles(self) -> list[tuple[int, int, bytes]]:
        """(level, index, hashes) of the stored tiles that this batch changed."""
        return [(level, tile, b"".join(self._held(level, tile))) for level, tile in sorted(self._grown)]

    def _held(self, level: int, tile: int) -> list[bytes]:
        first = tile * TILE_WIDTH - self._starts[level]
        return self._levels[level][first : first + TILE_WIDTH]

    def _push(self, level: int, value: bytes) -> None:
        if level == len(self._levels):
            self._levels.append([])
            self._starts.append(0)
        hashes = self._levels[level]
        hashes.append(value)
        index = self._starts[level] + len(hashes) - 1
        if level:
            self._grown.add((level, index // TILE_WIDTH))
        if (index + 1) % TILE_WIDTH == 0:
            self._push(level + 1, subtree_root(hashes[-TILE_WIDTH:]))


def _incomplete(what: str) -> AuditLogInvalid:
    return AuditLogInvalid(
        f"{what} is missing from the log",
        hint="keep all files for analysis and run `appliance audit verify`; then restore the newest backup",
    )
