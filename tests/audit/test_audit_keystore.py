"""Keys are on the disk only wrapped, a key that does not fit is called that, and nothing but the right key opens them.

The keystore is the real file with its real journal. Secrets are searched for in its bytes; damage is done to its rows.
"""

import os
import secrets
import stat
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from audit_home import WAIT_S
from pysqlite3 import dbapi2

from appliance.audit.key_slots import PassphraseCost, add_passphrase_slot, root_key_from_passphrase
from appliance.audit.keystore import create_keystore, open_keystore, public_material
from appliance.audit.root_key import create_root_key, read_root_key
from appliance.audit.wrapped_keys import RootProtector
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


def test_opening_waits_for_nobody_who_waits_for_it(home, root_key, monkeypatch):
    """A writer that commits waits for who reads; were the reader to read anew meanwhile, both would wait in vain."""
    running = open_keystore(home, root_key)
    reveal = RootProtector.reveal
    with ThreadPoolExecutor(1) as threads:
        begun = []

        def reveal_beside_a_commit(protector, generation, blob):
            if not begun:
                begun.append(None)
                begun[0] = threads.submit(running.env_key, 1, 800)
                while not is_being_committed(home.keystore):
                    assert not begun[0].done()
            return reveal(protector, generation, blob)

        monkeypatch.setattr(RootProtector, "reveal", reveal_beside_a_commit)
        opened = open_keystore(home, root_key)
        assert begun[0].result(WAIT_S) == opened.env_key(1, 800)


def is_being_committed(path):
    """Whether a writer waits for the last reader: nobody else may begin to read then."""
    with closing(dbapi2.connect(path, timeout=0)) as connection:
        try:
            connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()
        except dbapi2.OperationalError:
            return True
    return False


def test_two_holders_of_one_keystore_make_one_key(home, root_key):
    one, other = open_keystore(home, root_key), open_keystore(home, root_key)
    assert one.env_key(1, 700) == other.env_key(1, 700)


def test_subjects_that_arrive_together_get_one_key_each_whoever_asks_first(home, root_key):
    holders = [open_keystore(home, root_key) for _ in range(2)]
    with ThreadPoolExecutor(8) as threads:
        asked = [threads.submit(holders[n % 2].content_key, 1, 600, f"subject:{n // 4}") for n in range(160)]
        made = [each.result(timeout=4 * WAIT_S) for each in asked]
    assert len({key.id for key in made}) == 40
    assert all(len({key.id for key in made[n : n + 4]}) == 1 for n in range(0, 160, 4))


def test_what_a_crash_left_half_written_is_undone_by_whoever_opens_it_next(home, root_key):
    before = open_keystore(home, root_key).env_key(1, 600)
    crash_while_writing(home.keystore)
    assert open_keystore(home, root_key).env_key(1, 600) == before
    assert not home.keystore.with_name("keystore.db-journal").exists()


def test_a_process_that_runs_goes_on_when_another_crashed_while_writing(home, root_key):
    running = open_keystore(home, root_key)
    made = [running.env_key(1, 600), running.content_key(1, 600, "user:7")]
    crash_while_writing(home.keystore)
    assert [running.env_key(1, 600), running.content_key(1, 600, "user:7")] == made
    assert running.key_by_id(made[0].id) == made[0].key and running.months() == [(1, 600)]


def crash_while_writing(path):
    """A process that ends when some pages are in the file and the commit is not: its journal is hot."""
    child = os.fork()
    if child == 0:
        try:
            connection = dbapi2.connect(path, isolation_level=None)
            connection.execute("PRAGMA cache_size=1")
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("UPDATE scope_key SET wrapped = zeroblob(length(wrapped))")
            connection.execute("CREATE TABLE large (data)")
            for _ in range(20):
                connection.execute("INSERT INTO large VALUES (zeroblob(4096))")
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert path.with_name(path.name + "-journal").stat().st_size > 0


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


def test_what_there_is_can_be_listed_by_owner_and_by_month(home, root_key):
    keystore = open_keystore(home, root_key)
    own = keystore.content_key(1, 600, "subject:5")
    env, index = keystore.env_key(1, 600), keystore.index_key(600)
    other = [keystore.content_key(1, 601, f"user:{number}") for number in range(3)]
    assert [info.scope_id for info in keystore.scopes_of_owner(keystore.owner_id("subject:5"))] == [own.id]
    assert {(info.scope_id, info.kind) for info in keystore.scopes_of(1, 600)} == {(own.id, "con"), (env.id, "env")}
    assert {info.scope_id for info in keystore.scopes_of(1, 601)} == {key.id for key in other}
    assert [(info.scope_id, info.kind, info.record_class) for info in keystore.scopes_of(0, 600)] == [
        (index.id, "idx", 0)
    ]
    assert keystore.months() == [(1, 600), (1, 601)]
    assert keystore.owner_id("subject:5") == open_keystore(home, root_key).owner_id("subject:5")
    assert keystore.owner_id("subject:5") != keystore.owner_id("subject:6") and len(keystore.owner_id("x")) == 16


def wrapped_in(home, scope_id):
    connection = dbapi2.connect(home.keystore)
    (wrapped,) = connection.execute("SELECT wrapped FROM scope_key WHERE scope_id = ?", [scope_id]).fetchone()
    connection.close()
    return wrapped


def test_what_was_destroyed_is_in_no_page_of_the_file_nor_of_the_journal_that_held_it(home, root_key):
    keystore = open_keystore(home, root_key)
    owners = [f"subject:{number}" for number in range(60)]
    made = [keystore.content_key(1, 600, owner) for owner in owners]
    doomed, kept = made[::3], [key for key in made if key not in made[::3]]
    wrapped = {key.id: wrapped_in(home, key.id) for key in made}
    # The same bytes under a second name: what the journal leaves on the disk stays readable when it is unlinked.
    journal, remnant = home.keystore.with_name("keystore.db-journal"), home.root / "remnant"
    journal.touch()
    os.link(journal, remnant)
    assert keystore.destroy(key.id for key in doomed) == len(doomed)
    assert remnant.stat().st_size > 0 and not journal.exists()
    for image in (home.keystore.read_bytes(), remnant.read_bytes()):
        assert not [key for key in doomed if wrapped[key.id] in image or key.id in image]
    assert all(wrapped[key.id] in home.keystore.read_bytes() for key in kept)
    for key in doomed:
        with pytest.raises(DecryptionFailed):
            keystore.key_by_id(key.id)
    assert [keystore.key_by_id(key.id) for key in kept] == [key.key for key in kept]
    assert keystore.destroy(key.id for key in doomed) == 0


def test_other_processes_forget_what_one_destroyed_and_make_a_new_key(home, root_key):
    one, other = open_keystore(home, root_key), open_keystore(home, root_key)
    made = one.content_key(1, 600, "subject:5")
    assert other.key_by_id(made.id) == other.content_key(1, 600, "subject:5").key == made.key
    one.destroy([made.id])
    with pytest.raises(DecryptionFailed):
        other.key_by_id(made.id)
    assert other.content_key(1, 600, "subject:5").id != made.id


def test_a_copy_from_before_opens_what_was_destroyed_since_until_it_is_destroyed_itself(home, root_key):
    """The honest limit of grade B, of which the certificate speaks: backups of the keystore have to expire."""
    keystore = open_keystore(home, root_key)
    made = keystore.content_key(1, 600, "subject:5")
    copy = home.keystore.read_bytes()
    keystore.destroy([made.id])
    assert keystore.grade == "B"
    home.keystore.write_bytes(copy)
    assert open_keystore(home, root_key).key_by_id(made.id) == made.key


def test_a_rotated_signing_key_signs_beside_the_new_one_until_its_overlap_ends(home, root_key):
    keystore, other = open_keystore(home, root_key), open_keystore(home, root_key)
    first = keystore.signing_seed()
    made = keystore.rotate_signing_key(overlap_s=3600)
    assert keystore.signing_seeds(3600) == other.signing_seeds(3600) == [keystore.signing_seed(), first]
    assert keystore.signing_seeds(0) == [keystore.signing_seed()]
    assert made.public == keystore.public_key == other.public_key == public_key(keystore.signing_seed())
    history = other.public_keys()
    assert [key.public for key in history] == [made.public, public_key(first)]
    assert history[0].retired_ms is None and history[1].retired_ms >= history[1].created_ms
    assert public_material(home).verifier_keys == tuple(key.verifier_key for key in history)


def test_seeds_whose_overlap_ended_are_gone_at_the_next_rotation(home, root_key):
    keystore = open_keystore(home, root_key)
    keystore.rotate_signing_key(overlap_s=3600)
    keystore.rotate_signing_key(overlap_s=0)
    assert len(keystore.signing_seeds(3600)) == 1 and len(keystore.public_keys()) == 3
    keystore.rotate_signing_key(overlap_s=3600)
    assert len(keystore.signing_seeds(3600)) == 2
    keystore.distrust_signing_keys()
    assert keystore.signing_seeds(3600) == [keystore.signing_seed()]


def test_after_a_new_epoch_nothing_can_be_signed_under_the_old_origin(home, root_key):
    keystore = open_keystore(home, root_key)
    before, log_id = keystore.origin, keystore.log_id
    origin = keystore.begin_epoch("clinic.example/audit")
    assert origin == before.removesuffix("e1") + "e2" == keystore.origin and keystore.log_id != log_id
    again = open_keystore(home, root_key)
    assert again.origin == origin and again.origin_history() == [before, origin]
    assert again.signing_seeds(1e9) == [keystore.signing_seed()]
    assert [key.origin for key in again.public_keys()] == [origin, before]
    connection = dbapi2.connect(home.keystore)
    assert connection.execute("SELECT wrapped FROM signing_key WHERE origin = ?", [before]).fetchall() == [(b"",)]
    connection.close()
    assert again.begin_epoch("clinic.example/audit").endswith("/e3")


def test_public_material_needs_no_key_and_no_damage_to_wrapped_keys_hides_it(home, root_key):
    keystore = open_keystore(home, root_key)
    sql(home, "UPDATE root_slot SET wrapped = zeroblob(length(wrapped))")
    material = public_material(home)
    assert material.origin == keystore.origin and material.verifier_keys == (keystore.verifier_key,)


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
