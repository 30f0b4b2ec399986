"""Edge in memory, stored tiles and RFC 6962 agree on every node, and the head moves only from where it is.

Sizes around the width of a tile and of a tile of tiles are where an off-by-one would hide.
"""

import dataclasses
import secrets

import pytest
from pysqlite3.dbapi2 import IntegrityError

from appliance.audit import store
from appliance.audit.store import Head, StoredRecord
from appliance.audit.tiles import StoredTree, TreeEdge, root_of, stored_levels
from appliance.crypto.merkle import EMPTY_ROOT, Frontier, inclusion_proof, leaf_hash, root_from_inclusion
from appliance.errors import AuditLogInvalid
from appliance.storage.database import open_database, reading, writing

HEAD = Head(bytes(8), "clinic.example/audit/x/e1", 1, 0, Frontier.empty().to_bytes(), EMPTY_ROOT, 0, None)


@pytest.fixture
def engine(home):
    engine = open_database(home.audit_database, mode="rw", connections=1)
    yield engine
    engine.dispose()


def rows(first, count):
    return [
        StoredRecord(seq, secrets.token_bytes(16), b"header %d" % seq, None, None)
        for seq in range(first, first + count)
    ]


def no_tiles(level, index):
    return ()


@pytest.mark.parametrize("batch", [1, 7, 255, 256, 300])
def test_edge_and_stored_tiles_give_the_same_proofs_as_the_frontier(engine, batch):
    edge, frontier = TreeEdge(0, no_tiles), Frontier.empty()
    total = batch * 3 if batch > 1 else 20
    for first in range(0, total, batch):
        added = rows(first, batch)
        edge.begin_batch()
        for row in added:
            edge.append(leaf_hash(row.header))
            frontier = frontier.append(leaf_hash(row.header))
        with writing(engine) as connection:
            store.insert_records(connection, added)
            for level, index, hashes in edge.grown_tiles():
                store.put_tile(connection, level, index, hashes)
        for row in (added[0], added[-1]):
            proof = inclusion_proof(row.seq, edge.size, edge.node)
            assert root_from_inclusion(row.seq, edge.size, leaf_hash(row.header), proof) == frontier.root()
        with reading(engine) as connection:
            tree = StoredTree(connection)
            assert root_of(edge.size, tree.node) == frontier.root()
            proof = inclusion_proof(0, edge.size, tree.node)
            assert root_from_inclusion(0, edge.size, leaf_hash(b"header 0"), proof) == frontier.root()


def test_an_edge_that_is_loaded_again_goes_on_where_the_other_was(engine):
    edge, frontier = TreeEdge(0, no_tiles), Frontier.empty()
    leaves = [leaf_hash(b"%d" % i) for i in range(70_000)]  # more than a tile of tiles
    tiles = {}
    for first in range(0, len(leaves), 1000):
        edge.begin_batch()
        for leaf in leaves[first : first + 1000]:
            edge.append(leaf)
            frontier = frontier.append(leaf)
        tiles |= {(level, index): hashes for level, index, hashes in edge.grown_tiles()}

    def read(level, index):
        if level == 0:
            return tuple(leaves[index * 256 : (index + 1) * 256])
        hashes = tiles.get((level, index), b"")
        return tuple(hashes[i : i + 32] for i in range(0, len(hashes), 32))

    again = TreeEdge(edge.size, read)
    for tree in (edge, again):
        tree.begin_batch()
        tree.append(leaf_hash(b"next"))
        proof = inclusion_proof(70_000, 70_001, tree.node)
        assert (
            root_from_inclusion(70_000, 70_001, leaf_hash(b"next"), proof) == frontier.append(leaf_hash(b"next")).root()
        )
    assert stored_levels(70_000) == 3 and stored_levels(255) == 1 and stored_levels(256) == 2


def test_a_tree_with_a_hole_is_incomplete(engine):
    with writing(engine) as connection:
        store.insert_records(connection, [*rows(0, 3), *rows(4, 2)])
    with reading(engine) as connection, pytest.raises(AuditLogInvalid, match="record 3 is missing"):
        root_of(6, StoredTree(connection).node)


def test_the_head_moves_only_from_where_this_writer_left_it(engine):
    with writing(engine) as connection:
        store.create_head(connection, HEAD)
    with writing(engine) as connection:
        store.move_head(connection, expected_size=0, head=dataclasses.replace(HEAD, size=5))
    with pytest.raises(AuditLogInvalid, match="another program wrote"), writing(engine) as connection:
        store.move_head(connection, expected_size=0, head=dataclasses.replace(HEAD, size=6))
    with pytest.raises(AuditLogInvalid), writing(engine) as connection:
        store.move_head(connection, expected_size=5, head=dataclasses.replace(HEAD, size=6, epoch=2))
    with reading(engine) as connection:
        assert store.read_head(connection).size == 5


def test_a_number_and_a_record_id_are_given_once(engine):
    (row,) = rows(0, 1)
    with writing(engine) as connection:
        store.insert_records(connection, [row])
    for repeated in (dataclasses.replace(row, seq=1), dataclasses.replace(row, record_id=bytes(16))):
        with pytest.raises(IntegrityError), writing(engine) as connection:
            store.insert_records(connection, [repeated])
