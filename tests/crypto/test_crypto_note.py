"""Signed notes are those of c2sp.org/signed-note, byte for byte, and have one reading.

The vector is the example of Go's package, whose format the specification took over.
"""

import pytest
from crypto_vectors import load
from hypothesis import given
from hypothesis import strategies as st

from appliance.crypto.note import key_id, parse_verifier_key, sign_note, verifier_key, verify_note
from appliance.crypto.signing import public_key

VECTOR = load("note")
NAME, PUBLIC = parse_verifier_key(VECTOR["verifier_key"])
SEED = bytes.fromhex(VECTOR["seed"])
OTHER = bytes(32)


def test_the_example_of_the_go_package_is_reproduced():
    assert ("PeterNeumann", public_key(SEED)) == (NAME, PUBLIC)
    assert key_id(NAME, PUBLIC).hex() == "c74f20a3"
    assert verifier_key(NAME, PUBLIC) == VECTOR["verifier_key"]
    assert sign_note(VECTOR["text"], NAME, SEED) == VECTOR["note"]
    assert verify_note(VECTOR["note"], NAME, PUBLIC) == VECTOR["text"]


def line_of(text, name, seed):
    return sign_note(text, name, seed).removeprefix(f"{text}\n")


def test_unknown_signers_are_ignored_even_under_the_same_name():
    text = VECTOR["text"]
    good, witness, namesake = line_of(text, NAME, SEED), line_of(text, "w.example/1", OTHER), line_of(text, NAME, OTHER)
    assert verify_note(f"{text}\n{witness}{good}{namesake}", NAME, PUBLIC) == text
    with pytest.raises(ValueError, match="not signed by PeterNeumann"):
        verify_note(f"{text}\n{witness}{namesake}", NAME, PUBLIC)


def test_a_bad_signature_of_the_known_key_fails_the_note_though_a_good_one_is_there():
    text = VECTOR["text"]
    good, of_another_text = line_of(text, NAME, SEED), line_of("another\n", NAME, SEED)
    for lines in (good + of_another_text, of_another_text + good):
        with pytest.raises(ValueError, match="is not valid"):
            verify_note(f"{text}\n{lines}", NAME, PUBLIC)


def test_a_text_with_empty_lines_is_divided_at_the_last():
    text = "one\n\ntwo\n"
    assert verify_note(sign_note(text, NAME, SEED), NAME, PUBLIC) == text


def test_every_changed_byte_of_a_note_is_refused():
    note = VECTOR["note"].encode()
    for at in range(len(note)):
        changed = note[:at] + bytes([note[at] ^ 1 << at % 7]) + note[at + 1 :]
        with pytest.raises(ValueError):
            verify_note(changed.decode(), NAME, PUBLIC)


@pytest.mark.parametrize(
    "change",
    [
        lambda note: note[:-1],
        lambda note: note + "\n",
        lambda note: note + "x",
        lambda note: note.replace("\n\n", "\n"),
        lambda note: note.replace("— ", "- "),
        lambda note: note.replace("JnAM=", "JnAN="),  # other bits behind the last byte
        lambda note: note.replace("JnAM=", "JnAM"),
        lambda note: note.replace("x08", "x0 8"),
        lambda note: note.replace("answer", "ans\twer"),
        lambda note: note.replace("PeterNeumann x", "PeterNeumann  x"),
        lambda note: note + note.split("\n\n")[1] * 200,
        lambda note: "x" * 1_000_001 + note,
        lambda note: "",
        lambda note: "\n\n",
        lambda note: note + "\ud800",
    ],
)
def test_notes_in_another_form_are_refused(change):
    with pytest.raises(ValueError):
        verify_note(change(VECTOR["note"]), NAME, PUBLIC)


@given(st.text(max_size=200))
def test_noise_is_never_a_note(noise):
    with pytest.raises(ValueError):
        verify_note(noise, NAME, PUBLIC)


@pytest.mark.parametrize(("text", "name"), [("no end", NAME), ("a\rb\n", NAME), ("a\n", "two words"), ("a\n", "a+b")])
def test_what_could_not_be_read_back_is_not_signed(text, name):
    with pytest.raises(ValueError):
        sign_note(text, name, SEED)


@pytest.mark.parametrize("text", ["", "a", "a+b", "a+00000000+AAAA", VECTOR["verifier_key"][:-1] + "X"])
def test_verifier_keys_that_do_not_fit_themselves_are_refused(text):
    with pytest.raises(ValueError):
        parse_verifier_key(text)
