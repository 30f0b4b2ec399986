"""A proof file holds what anybody needs to check a receipt offline, in one form."""

import dataclasses

import pytest
from audit_vectors import load

from appliance.audit import auditverify
from appliance.audit.proof import format_proof, parse_proof
from appliance.crypto.merkle import root_from_inclusion

VECTORS = load("proof")
KEYS = [auditverify.VerifierKey(VECTORS["verifier_key"])]


@pytest.mark.parametrize("case", VECTORS["valid"], ids=lambda case: f"{case['seq']}-of-{case['size']}")
def test_vectors_parse_prove_and_are_written_back(case):
    receipt, header = parse_proof(case["proof"])
    assert (receipt.seq, receipt.size, receipt.leaf.hex()) == (case["seq"], case["size"], case["leaf"])
    assert receipt.record_id == header.record_id
    assert format_proof(receipt, header) == case["proof"]
    root = root_from_inclusion(receipt.seq, receipt.size, receipt.leaf, receipt.proof)
    verified = auditverify.open_receipt(case["proof"].encode(), KEYS, "receipt")
    assert (verified.seq, verified.leaf, verified.checkpoint.root) == (receipt.seq, receipt.leaf, root)


@pytest.mark.parametrize("case", VECTORS["invalid"], ids=lambda case: case["why"])
def test_other_forms_are_refused_by_reader_and_verifier(case):
    with pytest.raises(ValueError):
        parse_proof(case["proof"])
    with pytest.raises((auditverify.Malformed, auditverify.Unsigned)):
        auditverify.open_receipt(case["proof"].encode(), KEYS, "receipt")


def test_a_proof_of_any_length_is_refused_without_reading_it():
    with pytest.raises(ValueError, match="at most a megabyte"):
        parse_proof(VECTORS["valid"][0]["proof"] + "x" * 1_100_000)


def test_a_receipt_is_not_written_with_the_header_of_another_record():
    receipt, header = parse_proof(VECTORS["valid"][0]["proof"])
    for other in (dataclasses.replace(header, seq=header.seq + 1), dataclasses.replace(header, month=1)):
        with pytest.raises(ValueError, match="not that of the receipt"):
            format_proof(receipt, other)
