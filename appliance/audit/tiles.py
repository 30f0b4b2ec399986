"""Nodes of the tree: the growing edge in memory, and any node of a stored tree from headers and tiles.

    edge.append(leaf_hash(header)); edge.proof(seq); edge.root()
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
    """The right edge of a growing tree: the complete nodes of every height inside the incomplete tiles.

    One owner, the writer. An append makes one hash on average; a proof for a record of the batch only looks up. Holds
    at most two tiles and one batch per level, whatever the size of the tree.
    """

    def __init__(self, size: int, read_tile: Callable[[int, int], tuple[bytes, ...]]) -> None:
        self.size = size
        self._nodes: list[list[bytes]] = []  # by height; the first one held is number `_starts[height]`
        self._starts: list[int] = []
        self._grown: set[tuple[int, int]] = set()
        self._last: list[bytes] = []
        for level in range(stored_levels(size)):
            count = size >> (_TILE_HEIGHT * level)
            tile, width = divmod(count, TILE_WIDTH)
            hashes = read_tile(level, tile)[:width] if width else ()
            if len(hashes) != width:
                raise _incomplete(f"part of tile {tile} of level {level}")
            row = list(hashes)
            for rest in range(_TILE_HEIGHT):
                self._nodes.append(row)
                self._starts.append(tile * TILE_WIDTH >> rest)
                row = [node_hash(row[i], row[i + 1]) for i in range(0, len(row) - 1, 2)]

    def begin_batch(self) -> None:
        """Forget tiles that are complete: no proof for a record from here on needs them. Clears `grown_tiles`."""
        self._grown.clear()
        for height, nodes in enumerate(self._nodes):
            tile_height = (height // _TILE_HEIGHT + 1) * _TILE_HEIGHT
            start = self.size >> tile_height << tile_height >> height
            del nodes[: start - self._starts[height]]
            self._starts[height] = start

    def append(self, leaf: bytes) -> None:
        """Add one leaf, and every node that it completes."""
        index, value, height = self.size, leaf, 0
        self.size += 1
        self._last.clear()
        while True:
            self._push(height, value)
            if height and height % _TILE_HEIGHT == 0:
                self._grown.add((height // _TILE_HEIGHT, index // TILE_WIDTH))
            if not index & 1:
                return
            value = node_hash(self._nodes[height][-2], value)
            index >>= 1
            height += 1

    def node(self, height: int, index: int) -> bytes:
        """One node at or right of the first record of this batch, or a sibling on its way to the root."""
        place = index - self._starts[height]
        assert 0 <= place < len(self._nodes[height]), "only nodes of this batch's proofs are held"
        return self._nodes[height][place]

    def proof(self, seq: int) -> tuple[bytes, ...]:
        """The audit path of a record of this batch (RFC 6962, 2.1.1), leaf to root, without computing a hash."""
        path, last = [], self._last_nodes()
        index, end = seq, self.size - 1
        for height, final in enumerate(last[:-1]):
            sibling = index ^ 1
            if sibling < end:
                path.append(self.node(height, sibling))
            elif sibling == end:
                path.append(final)
            index, end = index >> 1, end >> 1
        return tuple(path)

    def root(self) -> bytes:
        """Of the tree as it is now."""
        return self._last_nodes()[-1] if self.size else EMPTY_ROOT

    def frontier(self) -> bytes:
        """The roots of the complete subtrees, as `merkle.Frontier` is stored."""
        held = (
            self.node(height, (self.size >> height) - 1)
            for height in reversed(range(self.size.bit_length()))
            if self.size >> height & 1
        )
        return self.size.to_bytes(8, "big") + b"".join(held)

    def grown_tiles(self) -> list[tuple[int, int, bytes]]:
        """(level, index, hashes) of the stored tiles that this batch changed."""
        return [(level, tile, b"".join(self._held(level, tile))) for level, tile in sorted(self._grown)]

    def _held(self, level: int, tile: int) -> list[bytes]:
        first = tile * TILE_WIDTH - self._starts[level * _TILE_HEIGHT]
        return self._nodes[level * _TILE_HEIGHT][first : first + TILE_WIDTH]

    def _push(self, height: int, value: bytes) -> None:
        if height == len(self._nodes):
            self._nodes.append([])
            self._starts.append(0)
        self._nodes[height].append(value)

    def _last_nodes(self) -> list[bytes]:
        """The rightmost node of every height, from the last leaf to the root; an odd one is carried up as it is."""
        if not self._last:
            end = self.size - 1
            value = self.node(0, end)
            self._last.append(value)
            for height in range(end.bit_length()):
                if end >> height & 1:
                    value = node_hash(self.node(height, (end >> height) - 1), value)
                self._last.append(value)
        return self._last


def _incomplete(what: str) -> AuditLogInvalid:
    return AuditLogInvalid(
        f"{what} is missing from the log",
        hint="keep all files for analysis and run `appliance audit verify`; then restore the newest backup",
    )
