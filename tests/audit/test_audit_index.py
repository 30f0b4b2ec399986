"""Tokens are equal exactly for equal values of one field in one month, and say nothing else."""

import dataclasses
import secrets
import unicodedata

from audit_home import an_event

from appliance.audit.index import FIELDS, NOT_INDEXED, TOKEN_BYTES, public_token, scope_token, token, tokens_of
from appliance.audit.protocol import TOKENS_MAX

KEY = secrets.token_bytes(32)
FULL = dataclasses.replace(an_event(3), attributes={"specialist": "phi-deid", "address": "10.0.0.7", "number": 3})


def test_a_record_has_one_token_for_each_field_that_it_has():
    assert tokens_of(KEY, FULL) == tuple(
        token(KEY, field, value)
        for field, value in zip(FIELDS, ("x3", "10.0.0.7", "user:7", "phi-deid", "deidentify"), strict=True)
    )
    assert len(tokens_of(KEY, FULL)) < TOKENS_MAX  # one more is for the content's key
    assert len(tokens_of(KEY, dataclasses.replace(FULL, attributes={"specialist": 7}, exchange_id=""))) == 2


def test_tokens_differ_by_key_field_and_value_and_have_one_length():
    tokens = {
        token(key, field, value) for key in (KEY, bytes(32)) for field in FIELDS for value in ("a", "b", "", "a\0b")
    }
    assert len(tokens) == 2 * len(FIELDS) * 4
    assert {len(value) for value in tokens} == {TOKEN_BYTES} == {len(NOT_INDEXED)}
    # A field's name ends before the value begins.
    assert token(KEY, "actor", "x") != token(KEY, "event", "x")


def test_two_spellings_of_one_character_are_one_value():
    composed, apart = unicodedata.normalize("NFC", "Müller"), unicodedata.normalize("NFD", "Müller")
    assert composed != apart and token(KEY, "actor", composed) == token(KEY, "actor", apart)


def test_what_hides_nothing_needs_no_key():
    assert public_token("start") != public_token("stop")
    assert scope_token(b"0123456789abcdef") == b"0123456789ab"
