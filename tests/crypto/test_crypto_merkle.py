"""The tree is that of RFC 6962: known trees, and for random ones the recursive definition, written out below.

Proofs verify for every size and index, and no longer after any change: of a hash, of the root, of index or size, of
the proof's length.
"""

import hashlib

import pytest
from crypto_vectors import load
from hypothesis import given
from hypothesis import strategies as st

from appliance.crypto.merkle import (
    EMPTY_ROOT,
    Frontier,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    node_hash,
    root_from_inclusion,
    verify_consistency,
)

VECTORS = load("merkle")
LEAVES = [leaf_hash(bytes.fromhex(leaf)) for leaf in VECTORS["leaves"]]
ROOTS = [bytes.fromhex(root) for root in VECTORS["roots"]]
sizes = st.integers(1, 300)


def mth(leaves):
    """RFC 6962, 2.1, over leaf hashes."""
    if len(leaves) <= 1:
        return leaves[0] if leaves else hashlib.sha256().digest()
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    return hashlib.sha256(b"\x01" + mth(leaves[:k]) + mth(leaves[k:])).digest()


def leaves_of(size):
    return [leaf_hash(b"%d" % number) for number in range(size)]


def nodes_of(leaves):
    """Complete subtrees only, as a store would hold them."""

    def node(height, index):
        part = leaves[index << height : (index + 1) << height]
        assert len(part) == 1 << height, "an incomplete subtree was asked for"
        return mth(part)

    return node


def unhex(values):
    return [bytes.fromhex(value) for value in values]


def test_the_known_trees_have_the_known_roots():
    frontier = Frontier.empty()
    assert frontier.root() == EMPTY_ROOT == hashlib.sha256().digest()
    for leaf, root in zip(LEAVES, ROOTS, strict=True):
        frontier = frontier.append(leaf)
        assert frontier.root() == root


@pytest.mark.parametrize("case", VECTORS["inclusion"])
def test_the_known_inclusion_proofs_are_reproduced(case):
    index, size, proof = case["index"], case["size"], unhex(case["proof"])
    assert inclusion_proof(index, size, nodes_of(LEAVES)) == proof
    assert root_from_inclusion(index, size, LEAVES[index], proof) == ROOTS[size - 1]


@pytest.mark.parametrize("case", VECTORS["consistency"])
def test_the_known_consistency_proofs_are_reproduced(case):
    old, size, proof = case["old"], case["size"], unhex(case["proof"])
    assert consistency_proof(old, size, nodes_of(LEAVES)) == proof
    assert verify_consistency(old, size, ROOTS[old - 1], ROOTS[size - 1], proof)


@given(st.integers(0, 500))
def test_the_frontier_has_the_root_of_the_definition(size):
    frontier, leaves = Frontier.empty(), leaves_of(size)
    for leaf in leaves:
        frontier = frontier.append(leaf)
    assert frontier.root() == mth(leaves)
    assert Frontier.from_bytes(frontier.to_bytes()) == frontier


@given(sizes, st.data())
def test_inclusion_proofs_verify_and_any_change_shows(size, data):
    leaves = leaves_of(size)
    index = data.draw(st.integers(0, size - 1))
    proof, root = inclusion_proof(index, size, nodes_of(leaves)), mth(leaves)
    assert root_from_inclusion(index, size, leaves[index], proof) == root
    for at in range(len(proof)):
        changed = [*proof[:at], leaf_hash(b"other"), *proof[at + 1 :]]
        assert root_from_inclusion(index, size, leaves[index], changed) != root
    assert root_from_inclusion(index, size, leaf_hash(b"other"), proof) != root
    for wrong in (proof[:-1], [*proof, root]):
        if wrong != proof:
            with pytest.raises(ValueError):
                root_from_inclusion(index, size, leaves[index], wrong)
    other = data.draw(st.integers(0, size - 1))
    if other != index and len(inclusion_proof(other, size, nodes_of(leaves))) == len(proof):
        assert root_from_inclusion(other, size, leaves[index], proof) != root


def subproof(m, leaves, whole):
    """RFC 6962, 2.1.2, over leaf hashes."""
    if m == len(leaves):
        return [] if whole else [mth(leaves)]
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    if m <= k:
        return [*subproof(m, leaves[:k], whole), mth(leaves[k:])]
    return [*subproof(m - k, leaves[k:], False), mth(leaves[:k])]


@given(sizes, st.data())
def test_consistency_proofs_are_those_of_the_recursive_definition(size, data):
    leaves, old = leaves_of(size), data.draw(st.integers(1, size))
    assert consistency_proof(old, size, nodes_of(leaves)) == subproof(old, leaves, True)


@given(sizes, st.data())
def test_consistency_proofs_verify_and_any_change_shows(size, data):
    leaves = leaves_of(size)
    old = data.draw(st.integers(1, size))
    proof = consistency_proof(old, size, nodes_of(leaves))
    old_root, root = mth(leaves[:old]), mth(leaves)
    assert verify_consistency(old, size, old_root, root, proof)
    other = leaf_hash(b"other")
    for at in range(len(proof)):
        assert not verify_consistency(old, size, old_root, root, [*proof[:at], other, *proof[at + 1 :]])
    assert not verify_consistency(old, size, other, root, proof)
    assert not verify_consistency(old, size, old_root, other, proof)
    assert not verify_consistency(old, size, old_root, root, [*proof, other])
    if proof:
        assert not verify_consistency(old, size, old_root, root, proof[:-1])


@given(sizes, st.data())
def test_a_rewritten_record_cannot_be_shown_to_be_consistent(size, data):
    leaves = leaves_of(size)
    old, changed = data.draw(st.integers(1, size)), list(leaves)
    changed[data.draw(st.integers(0, old - 1))] = leaf_hash(b"rewritten")
    proof = consistency_proof(old, size, nodes_of(changed))
    assert not verify_consistency(old, size, mth(leaves[:old]), mth(changed), proof)


def test_leaves_and_nodes_never_share_an_input():
    assert leaf_hash(b"x" * 64) != node_hash(b"x" * 32, b"x" * 32)


@pytest.mark.parametrize("cut", [31, 33, 0])
def test_siblings_that_are_not_hashes_are_refused(cut):
    leaves = leaves_of(2)
    sibling = (leaves[1] + b"x")[:cut]
    with pytest.raises(ValueError):
        root_from_inclusion(0, 2, leaves[0], [sibling])
    assert not verify_consistency(1, 2, leaves[0], mth(leaves), [sibling])


@pytest.mark.parametrize(("index", "size"), [(-1, 3), (3, 3), (0, 0)])
def test_a_leaf_outside_the_tree_has_no_proof(index, size):
    with pytest.raises(ValueError):
        inclusion_proof(index, size, nodes_of(leaves_of(3)))
    with pytest.raises(ValueError):
        root_from_inclusion(index, size, leaf_hash(b""), [])


@pytest.mark.parametrize("old", [0, 4, -1])
def test_there_is_no_consistency_with_nothing_or_with_more(old):
    with pytest.raises(ValueError):
        consistency_proof(old, 3, nodes_of(leaves_of(3)))
    assert not verify_consistency(old, 3, EMPTY_ROOT, mth(leaves_of(3)), [])


@given(st.binary(max_size=120))
def test_a_stored_frontier_has_one_form(noise):
    try:
        frontier = Frontier.from_bytes(noise)
    except ValueError:
        return
    assert frontier.to_bytes() == noise
