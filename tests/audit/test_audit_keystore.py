"""Keys are on the disk only wrapped, a key that does not fit is called that, and nothing but the right key opens them.

The keystore is the real file with its real journal. Secrets are searched for in its bytes; damage is done to its rows.
"""

import secrets
import stat

import pytest
from pysqlite3 import dbapi2

from appliance.audit.key_slots import PassphraseCost, add_passphrase_slot, root_key_from_passphrase
from appliance.audit.keystore import create_keystore, open_keystore
from appliance.audit.root_key import create_root_key, read_root_key
from appliance.crypto.signing import public_key
from appliance.errors import DecryptionFailed, HomeExists, KeystoreInvalid, WrongKey

CHEAP = PassphraseCost(memory_kib=8 * 1024, iterations=1, lanes=1)


def test_the_same_purpose_has_the_same_key_after_opening_again(home, root_key):
    first = open_keystore(home, root_key)
    made = (first.env_key(1, 600), first.content_key(1, 600, "user:7"))
    again = open_keystore(home, root_key)
    assert (again.env_key(1, 600), again.content_key(1, 600, "user:7")) == made
    assert again.signing_seed() == first.signing_seed()
    assert public_key(first.signing_seed()) == first.public_key
    assert first.origin.startswith("clinic.example/audit/") and first.origin.endswith("/e1")


def test_every_class_month_kind_and_owner_has_a_key_of_its_own(home, root_key):
    keystore = open_keystore(home, root_key)
    made = [
        keystore.env_key(1, 600),
        keystore.env_key(2, 600),
        keystore.env_key(1, 601),
        keystore.content_key(1, 600, "user:7"),
        keystore.content_key(1, 600, "user:8"),
    ]
    assert len({key.key for key in made}) == len({key.id for key in made}) == 5


def test_a_key_is_found_by_the_id_that_records_carry(home, root_key):
    made = open_keystore(home, root_key).content_key(1, 600, "user:7")
    assert open_keystore(home, root_key).key_by_id(made.id) == made.key
    with pytest.raises(DecryptionFailed):
        open_keystore(home, root_key).key_by_id(bytes(16))


def test_two_holders_of_one_keystore_make_one_key(home, root_key):
    one, other = open_keystore(home, root_key), open_keystore(home, root_key)
    assert one.env_key(1, 700) == other.env_key(1, 700)


def test_a_wrong_key_names_its_slot_and_changes_nothing(home):
    before = home.keystore.read_bytes()
    with pytest.raises(WrongKey, match=r"wrong key \(slot 0\)"):
        open_keystore(home, secrets.token_bytes(32))
    assert home.keystore.read_bytes() == before


def test_a_passphrase_opens_the_same_keys_beside_the_key_file(home, root_key):
    slot = add_passphrase_slot(home, root_key, "correct horse battery", cost=CHEAP)
    unlocked = root_key_from_passphrase(home, "correct horse battery")
    assert slot == 1
    assert unlocked != root_key
    assert open_keystore(home, unlocked).signing_seed() == open_keystore(home, root_key).signing_seed()
    with pytest.raises(WrongKey, match=r"wrong key \(slot 1\)"):
        root_key_from_passphrase(home, "incorrect horse")
    with pytest.raises(WrongKey):
        add_passphrase_slot(home, secrets.token_bytes(32), "intruder's own", cost=CHEAP)


def test_an_absurd_cost_in_the_file_is_refused_instead_of_paid(home, root_key):
    add_passphrase_slot(home, root_key, "correct horse battery", cost=CHEAP)
    sql(home, """UPDATE root_slot SET parameters = replace(parameters, '8192', '999999999') WHERE slot = 1""")
    with pytest.raises(KeystoreInvalid):
        root_key_from_passphrase(home, "correct horse battery")


def test_neither_keys_nor_names_are_in_the_file_and_no_journal_stays_behind(home, root_key):
    keystore = open_keystore(home, root_key)
    made = [keystore.env_key(1, 600), keystore.content_key(1, 600, "user:dr.who")]
    stored = home.keystore.read_bytes()
    for secret in (*(key.key for key in made), keystore.signing_seed(), root_key, b"dr.who"):
        assert secret not in stored
    assert sorted(path.name for path in home.keystore.parent.iterdir()) == ["keystore.db", "root.key"]


def test_keys_do_not_show_themselves(home, root_key):
    keystore = open_keystore(home, root_key)
    made = keystore.env_key(1, 600)
    assert made.key.hex() not in repr(made) and repr(made.key) not in repr(made)
    assert repr(keystore.signing_seed()) not in repr(vars(keystore))


def sql(home, statement):
    connection = dbapi2.connect(home.keystore)
    with connection:
        assert connection.execute(statement).rowcount >= 1
    connection.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE root_slot SET wrapped = zeroblob(length(wrapped))",
        "UPDATE kek SET blob = zeroblob(length(blob))",
        "UPDATE kek SET kcv = zeroblob(16)",
        "UPDATE signing_key SET wrapped = zeroblob(length(wrapped))",
        "UPDATE signing_key SET origin = 'other.example/audit'",
        "UPDATE signing_key SET public = zeroblob(32)",
        "DELETE FROM signing_key",
        "DELETE FROM root_slot",
    ],
)
def test_a_damaged_keystore_is_called_damaged_and_not_wrong_key(home, root_key, statement):
    sql(home, statement)
    with pytest.raises(KeystoreInvalid):
        open_keystore(home, root_key)


@pytest.mark.parametrize("column", ["month = month + 1", "class = 2", "kcv = zeroblob(16)"])
def test_a_relabelled_key_does_not_open(home, root_key, column):
    made = open_keystore(home, root_key).env_key(1, 600)
    sql(home, f"UPDATE scope_key SET {column}")
    with pytest.raises(KeystoreInvalid):
        open_keystore(home, root_key).key_by_id(made.id)


def test_keys_are_never_made_over_existing_ones(home, root_key):
    before = home.keystore.read_bytes()
    with pytest.raises(HomeExists):
        create_keystore(home, root_key)
    with pytest.raises(HomeExists):
        create_root_key(home.root_key_file)
    assert home.keystore.read_bytes() == before
    assert read_root_key(home.root_key_file) == root_key


def test_the_key_file_is_for_its_owner_only_and_refused_otherwise(home, tmp_path):
    assert stat.S_IMODE(home.root_key_file.stat().st_mode) == 0o400
    home.root_key_file.chmod(0o440)
    with pytest.raises(KeystoreInvalid, match="readable by others"):
        read_root_key(home.root_key_file)
    with pytest.raises(KeystoreInvalid, match="no root key"):
        read_root_key(tmp_path / "absent")
    for size in (0, 31, 33):
        other = tmp_path / f"key{size}"
        other.write_bytes(bytes(size))
        other.chmod(0o400)
        with pytest.raises(KeystoreInvalid, match="not a root key"):
            read_root_key(other)
