"""A checkpoint is three lines with one way to write them; what parses is written the same way again."""

import pytest
from audit_vectors import load
from hypothesis import given
from hypothesis import strategies as st

from appliance.audit.checkpoint import Checkpoint, checkpoint_text, parse_checkpoint
from appliance.crypto.note import parse_verifier_key, sign_note, verify_note

VECTORS = load("checkpoint")


@pytest.mark.parametrize("case", VECTORS["valid"], ids=lambda case: f"size-{case['size']}")
def test_vectors_are_signed_verified_and_parsed(case):
    name, public = parse_verifier_key(VECTORS["verifier_key"])
    text = checkpoint_text(case["origin"], case["size"], bytes.fromhex(case["root"]))
    assert sign_note(text, name, bytes.fromhex(VECTORS["seed"])) == case["note"]
    parsed = parse_checkpoint(verify_note(case["note"], name, public))
    assert parsed == Checkpoint(case["origin"], case["size"], bytes.fromhex(case["root"]))


@pytest.mark.parametrize("case", VECTORS["invalid_text"], ids=lambda case: case["why"])
def test_other_forms_are_refused(case):
    with pytest.raises(ValueError):
        parse_checkpoint(case["text"])


@given(st.integers(0, 2**63 - 1), st.binary(min_size=32, max_size=32))
def test_what_is_written_parses_to_itself(size, root):
    assert parse_checkpoint(checkpoint_text("a.example/log/e1", size, root)) == Checkpoint(
        "a.example/log/e1", size, root
    )


@given(st.text(st.characters(codec="utf-8"), max_size=80))
def test_what_parses_is_written_the_same_way(text):
    try:
        parsed = parse_checkpoint(text)
    except ValueError:
        return
    assert checkpoint_text(parsed.origin, parsed.size, parsed.root) == text


@pytest.mark.parametrize(
    ("origin", "size", "root"),
    [
        ("", 1, bytes(32)),
        ("a\nb", 1, bytes(32)),
        ("a b", 1, bytes(32)),
        ("a", -1, bytes(32)),
        ("a", 2**63, bytes(32)),
        ("a", 1, b""),
    ],
)
def test_what_could_not_be_parsed_is_not_written(origin, size, root):
    with pytest.raises(ValueError):
        checkpoint_text(origin, size, root)
