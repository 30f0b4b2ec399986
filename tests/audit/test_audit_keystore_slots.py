"""Several ways to unlock, one keystore: each is added, changed and removed alone, and there is always one that works.

The derivation is the real one at the lowest cost that the keystore believes.
"""

import secrets

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.audit.key_slots import (
    SLOTS_MAX,
    PassphraseCost,
    add_file_slot,
    add_passphrase_slot,
    change_passphrase,
    list_slots,
    remove_slot,
    root_key_from_passphrase,
    slot_of,
)
from appliance.audit.keystore import open_keystore
from appliance.audit.wrapped_keys import RootProtector, opened, scope_aad
from appliance.crypto import keys
from appliance.errors import Conflict, DecryptionFailed, InvalidRequest, KeystoreInvalid, NotFound, WrongKey

CHEAP = PassphraseCost(memory_kib=8, iterations=1, lanes=1)
FIRST, SECOND = "correct horse battery", "river lantern copper"


def test_each_slot_opens_the_same_keys_and_none_shows_anything(home, root_key):
    other_key = secrets.token_bytes(32)
    assert add_passphrase_slot(home, root_key, FIRST, cost=CHEAP) == 1
    assert add_passphrase_slot(home, root_key, SECOND, cost=CHEAP) == 2
    assert add_file_slot(home, root_key, other_key) == 3
    seed = open_keystore(home, root_key).signing_seed()
    unlocked = [root_key_from_passphrase(home, FIRST), root_key_from_passphrase(home, SECOND), other_key]
    assert [slot_of(home, key) for key in (root_key, *unlocked)] == [0, 1, 2, 3]
    assert all(open_keystore(home, key).signing_seed() == seed for key in unlocked)
    assert [(slot.number, slot.kind, slot.cost) for slot in list_slots(home)] == [
        (0, "file", None), (1, "passphrase", CHEAP), (2, "passphrase", CHEAP), (3, "file", None),
    ]  # fmt: skip
    image = home.keystore.read_bytes()
    assert not [key for key in (root_key, *unlocked, FIRST.encode()) if key in image]


def test_a_changed_passphrase_opens_nothing_any_more_and_its_slot_keeps_its_number(home, root_key):
    add_passphrase_slot(home, root_key, FIRST, cost=CHEAP)
    assert change_passphrase(home, root_key_from_passphrase(home, FIRST), SECOND, cost=CHEAP) == 1
    with pytest.raises(WrongKey, match="slot 1"):
        root_key_from_passphrase(home, FIRST)
    assert slot_of(home, root_key_from_passphrase(home, SECOND)) == 1
    with pytest.raises(Conflict):
        change_passphrase(home, root_key, "not a passphrase slot", cost=CHEAP)


def test_a_removed_slot_is_gone_from_the_file_and_the_one_in_use_stays(home, root_key):
    add_passphrase_slot(home, root_key, FIRST, cost=CHEAP)
    unlocked = root_key_from_passphrase(home, FIRST)
    for used, number in ((root_key, 0), (unlocked, 1)):
        with pytest.raises(Conflict, match="unlocked the keystore just now"):
            remove_slot(home, used, number)
    check_value = keys.key_check_value(root_key, b"cloister/keystore/1/slot" + bytes(4))
    assert check_value in home.keystore.read_bytes()
    remove_slot(home, unlocked, 0)
    assert check_value not in home.keystore.read_bytes()
    with pytest.raises(WrongKey):
        open_keystore(home, root_key)
    with pytest.raises(Conflict, match="the only one"):
        remove_slot(home, unlocked, 1)
    with pytest.raises(NotFound):
        remove_slot(home, unlocked, 0)
    assert open_keystore(home, unlocked).origin


@pytest.mark.parametrize(
    "change",
    [
        lambda home, key: add_passphrase_slot(home, key, "an intruder's own", cost=CHEAP),
        lambda home, key: add_file_slot(home, key, bytes(32)),
        lambda home, key: remove_slot(home, key, 0),
        lambda home, key: change_passphrase(home, key, "an intruder's own", cost=CHEAP),
    ],
)
def test_who_cannot_unlock_changes_nothing(home, change):
    before = home.keystore.read_bytes()
    with pytest.raises(WrongKey):
        change(home, secrets.token_bytes(32))
    assert home.keystore.read_bytes() == before


def test_short_passphrases_second_slots_for_one_key_and_too_many_slots_are_refused(home, root_key):
    with pytest.raises(InvalidRequest):
        add_passphrase_slot(home, root_key, "elevenchars", cost=CHEAP)
    with pytest.raises(Conflict, match="opens slot 0 already"):
        add_file_slot(home, root_key, root_key)
    for number in range(SLOTS_MAX - 1):
        add_file_slot(home, root_key, number.to_bytes(32, "big"))
    with pytest.raises(Conflict, match="at most"):
        add_file_slot(home, root_key, secrets.token_bytes(32))


def test_a_passphrase_opens_one_slot_alone_so_that_changing_it_there_ends_it(home, root_key):
    add_passphrase_slot(home, root_key, "cr\u00e8me br\u00fbl\u00e9e, twice", cost=CHEAP)
    add_passphrase_slot(home, root_key, SECOND, cost=CHEAP)
    before = home.keystore.read_bytes()
    with pytest.raises(Conflict, match="opens slot 1 already"):
        add_passphrase_slot(home, root_key, "cre\u0300me bru\u0302le\u0301e, twice", cost=CHEAP)
    for number, passphrase in ((1, "cr\u00e8me br\u00fbl\u00e9e, twice"), (2, SECOND)):
        with pytest.raises(Conflict, match=f"opens slot {number} already"):
            change_passphrase(home, root_key_from_passphrase(home, SECOND), passphrase, cost=CHEAP)
    assert home.keystore.read_bytes() == before


def test_a_passphrase_is_the_same_however_the_keyboard_composes_it(home, root_key):
    add_passphrase_slot(home, root_key, "cr\u00e8me br\u00fbl\u00e9e, twice", cost=CHEAP)
    assert root_key_from_passphrase(home, "cre\u0300me bru\u0302le\u0301e, twice")


PLACES = st.tuples(
    st.binary(min_size=16, max_size=16),
    st.sampled_from(["env", "con", "idx"]),
    st.integers(0, 255),
    st.integers(0, 0xFFFF),
    st.integers(1, 2**32 - 1),
)


@settings(max_examples=200, deadline=None)
@given(PLACES, PLACES, st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_a_wrapped_key_opens_in_its_own_place_and_in_no_other(place, other, wrapping, key):
    wrapped = keys.wrap_key(wrapping, key, scope_aad(*place))
    kcv = keys.key_check_value(key, place[0])
    assert opened(wrapping, wrapped, scope_aad(*place), kcv, place[0]) == key
    if other != place:
        assert scope_aad(*place) != scope_aad(*other)
        with pytest.raises(KeystoreInvalid):
            opened(wrapping, wrapped, scope_aad(*other), kcv, place[0])


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.binary(min_size=32, max_size=32))
def test_a_generation_opens_under_its_own_number_only(generation, other, key):
    protector = RootProtector(bytes(32))
    blob = protector.protect(generation, key)
    assert protector.reveal(generation, blob) == key
    assert repr(bytes(32)) not in repr(protector)
    if other != generation:
        with pytest.raises(DecryptionFailed):
            protector.reveal(other, blob)
