"""Attacks T1 to T12 on a log of ten thousand records that the appliance itself wrote, and T21 and T23.

The log is that of `audit_recorded.py`: fifty subjects, three classes, one rotation of the signing key, one shredded
subject. So its own verdict is 2, and whatever an attacker does must be worse than that. The attacker of
`audit_attacker.py` rewrites rows, hashes, tiles and head; with the signing key only where it is said.
"""

import asyncio
import copy
import json
import random
import shutil
import sqlite3
import struct
import zipfile
from contextlib import closing

import pytest

import migrations
from appliance.audit.epochs import recover_declaring_loss
from appliance.audit.keystore import open_keystore
from appliance.audit.log import AuditLog
from appliance.audit.root_key import read_root_key
from appliance.crypto import signing
from appliance.crypto.note import verifier_key
from appliance.errors import AuditLogInvalid, RetentionShortened
from tests.audit.audit_attacker import Attacker
from tests.audit.audit_home import an_event, config_of, opened
from tests.audit.audit_recorded import MONDAY, NIGHTLY, SIZE, verify

SEED = random.SystemRandom().randrange(2**32)
SAMPLE, SAMPLE_LONG = 9, 1500
MIDDLE = 5000
EXCHANGE = 1
PART = struct.Struct(">QBI")


@pytest.fixture
def check(recorded, tmp_path):
    """The verdict over a copy: (exit code, first bad record), and the whole answer."""

    def run(source, trusted=(NIGHTLY, SIZE), *words, keys=None):
        notes = [recorded.notes[kept] if isinstance(kept, int) else kept for kept in trusted]
        answer = verify(source, keys or recorded.keys, notes, *words, folder=tmp_path)
        return answer["exit_code"], answer["first_bad_seq"], answer

    return run


@pytest.fixture
def database(recorded, tmp_path):
    return recorded.database(tmp_path)


@pytest.fixture(scope="session")
def exported(recorded, tmp_path_factory):
    """The bundle, with ciphertexts, as the auditor carries it away."""
    folder = tmp_path_factory.mktemp("exported")

    async def run():
        home = recorded.copy(folder / "home")
        log = await AuditLog.open(config_of(home), read_root_key(home.root_key_file))
        with log._reading(None) as reader:
            target = folder / "bundle"
            assert log.export(target, ciphertexts=True).records == reader.signed_head().size
        await log.close()
        return target

    return asyncio.run(run())


def execute(path, statement, *values):
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        changed = connection.execute(statement, values).rowcount
    assert changed != 0, statement


def seed_of(home):
    keystore = open_keystore(home, read_root_key(home.root_key_file))
    return keystore.signing_seed()


# --- nothing is wrong -------------------------------------------------------------------------------------------------


def test_the_log_itself_is_in_order_with_one_authorised_gap(recorded, check, tmp_path):
    code, bad, answer = check(recorded.home.audit_database)
    assert (code, bad, answer["records"], answer["anchored_size"]) == (2, None, SIZE, SIZE)
    (gap,) = answer["gaps"]
    assert (gap["event"], gap["approvals"]) == ("shred", "user:3")
    assert gap["contents"] > len(recorded.shredded) > 1  # of both days
    with closing(sqlite3.connect(recorded.home.audit_database)) as connection:
        classes = connection.execute("SELECT DISTINCT substr(hex(header), 57, 2) FROM record ORDER BY 1").fetchall()
    assert classes == [("00",), ("01",), ("02",)]


def test_every_kept_receipt_proves_its_record_and_anchors_the_log(recorded, check):
    kept = sorted(recorded.receipts.iterdir())
    assert len(kept) == 100
    code, _, answer = check(recorded.home.audit_database, (), "--receipts", recorded.receipts)
    assert (code, answer["anchored_size"] > 9000) == (2, True)
    assert any(recorded.shredded[0].record_id.hex() in path.name for path in kept)


def test_one_witness_is_a_quorum_of_one(recorded, check):
    words = ("--witness-key", recorded.witness_key, "--quorum", "1")
    assert check(recorded.home.audit_database, [recorded.cosigned], *words)[2]["anchored_size"] == SIZE
    assert check(recorded.home.audit_database, [recorded.notes[SIZE]], *words[:2], "--quorum", "1")[0] == 16


# --- T1 ---------------------------------------------------------------------------------------------------------------

EVIDENCE = {
    ("record", "header"): 10,
    ("record", "env_ct"): 10,
    ("record", "con_ct"): 10,
    ("record", "record_id"): 10,
    ("public_body", "body"): 10,
    ("tile", "hashes"): 10,
    ("log_head", "root"): 10,
    ("log_head", "frontier"): 10,
    ("log_head", "note"): 13,
}


def flip_bits(path, check, chance, count):
    """Flip so many bits, one at a time, in cells drawn at random; every one must be found, and where it is told."""
    places = list(EVIDENCE)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA foreign_keys = OFF")
        connection.execute("PRAGMA ignore_check_constraints = ON")
        rows = {table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table, _ in places}
        for number in range(count):
            table, column = places[number % len(places)]
            as_stored = "CAST(? AS TEXT)" if column == "note" else "?"
            query = f"SELECT rowid, CAST({column} AS BLOB) FROM {table} WHERE {column} IS NOT NULL LIMIT 1 OFFSET ?"
            row = value = None
            while value is None:
                row, value = connection.execute(query, (chance.randrange(rows[table]),)).fetchone() or (None, None)
            at, bit = chance.randrange(len(value)), chance.randrange(8)
            changed = value[:at] + bytes([value[at] ^ 1 << bit]) + value[at + 1 :]
            connection.execute(f"UPDATE {table} SET {column} = {as_stored} WHERE rowid = ?", (changed, row))
            code, bad, answer = check(path)
            connection.execute(f"UPDATE {table} SET {column} = {as_stored} WHERE rowid = ?", (value, row))
            where = f"bit {bit} of byte {at} of {table}.{column}, row {row}: {answer['messages'][:3]}"
            assert code == EVIDENCE[table, column], where
            if table == "record":
                assert bad in ((row, row // 256 * 256) if column == "header" else (row,)), where
            elif table == "public_body":  # where it authorised a gap, the first record of that gap is bad as well
                assert f"the body of public record {row} was altered" in answer["messages"], where
    assert check(path)[0] == 2


def test_t1_flipped_bits_of_the_database_are_found_sample(database, check):
    print("seed", SEED)
    flip_bits(database, check, random.Random(SEED), SAMPLE)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_t1_flipped_bits_of_the_database_are_found(database, check):
    print("seed", SEED)
    flip_bits(database, check, random.Random(SEED), SAMPLE_LONG)


def test_t1_an_index_that_contradicts_the_headers_is_told(database, check):
    with closing(sqlite3.connect(database)) as connection:
        token, seq = connection.execute(
            "SELECT substr(header, 65, 12), seq FROM record WHERE con_ct IS NOT NULL AND seq > ? LIMIT 1", (MIDDLE,)
        ).fetchone()
    execute(database, "DELETE FROM blind WHERE token = ? AND seq = ?", token, seq)
    code, bad, answer = check(database)
    assert (code, bad) == (10, seq)
    assert any(message.startswith("derived column differs from header") for message in answer["messages"])


def test_t1_a_record_id_that_two_rows_have_is_told(database, check):
    with closing(sqlite3.connect(database)) as connection:  # a table that does not forbid it
        connection.executescript(
            "CREATE TABLE other (seq INTEGER PRIMARY KEY, record_id BLOB, header BLOB, env_ct BLOB, con_ct BLOB);"
            "INSERT INTO other SELECT seq, record_id, header, env_ct, con_ct FROM record;"
            "DROP TABLE record; ALTER TABLE other RENAME TO record;"
        )
    execute(database, "UPDATE record SET record_id = (SELECT record_id FROM record WHERE seq = 4000) WHERE seq = 5000")
    code, bad, answer = check(database)
    assert (code, bad) == (10, 5000)
    assert any(message.startswith("derived column differs from header") for message in answer["messages"])


def test_t1_flipped_bits_of_a_bundle_are_found_sample(recorded, exported, check):
    """One bit in a file of every kind; the record is named where the file belongs to records."""
    print("seed", SEED)
    chance = random.Random(SEED)
    files = sorted(path for path in exported.rglob("*") if path.is_file())
    kinds = {}
    for path in files:
        kinds.setdefault(path.relative_to(exported).parts[0:2], []).append(path)
    for kind, paths in kinds.items():
        if kind[0] in ("verifier-keys", "verifier-key", "checkpoints.jsonl"):
            continue  # for information; what they must not do is tested byte by byte on a small bundle
        path = chance.choice(paths)
        whole = path.read_bytes()
        at = chance.randrange(len(whole))
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << chance.randrange(8)]) + whole[at + 1 :])
        code, bad, answer = check(exported)
        path.write_bytes(whole)
        expected = {"checkpoint": (13,), "log.json": (30,)}.get(kind[0], (10, 14))
        assert code in expected, (path, at, answer["messages"][:3])
        assert bad is not None or kind[0] in ("checkpoint", "log.json"), (path, at)
    assert check(exported)[0] == 2


# --- T2 to T8 ---------------------------------------------------------------------------------------------------------


def test_t2_two_rows_swapped_with_their_numbers_are_found_at_the_lower(recorded, exported, database, check, tmp_path):
    attacker = Attacker(database)
    one, other = attacker.rows[4000], attacker.rows[6000]
    attacker.rows[4000], attacker.rows[6000] = other, one
    attacker.renumber()
    entries = tmp_path / "bundle"
    shutil.copytree(exported, entries)
    for seq in (4000, 6000):
        folder, index = entries / "tile" / "entries", seq // 256
        path = folder / f"{index:03d}"
        packed = bytearray(path.read_bytes())
        at = seq % 256 * 202
        packed[at + 2 : at + 202] = attacker.rows[seq].header()
        path.write_bytes(packed)
    assert check(entries)[:2] == (10, 4000)
    for seq in (4000, 6000):
        execute(database, "UPDATE record SET header = ? WHERE seq = ?", attacker.rows[seq].header(), seq)
    # A database has no leaf hashes: what only a hash shows is narrowed to its tile.
    assert check(database)[:2] == (10, 4000 // 256 * 256)


def contents_of_one_key(attacker):
    """Two records whose contents are under one key: moving between them needs no other key."""
    first = {}
    for seq, row in enumerate(attacker.rows[MIDDLE:], start=MIDDLE):
        if row.con is None:
            continue
        if (before := first.setdefault(row.fields["con_scope"], seq)) != seq:
            return before, seq
    raise AssertionError("no two contents under one key")


def test_t3_a_moved_ciphertext_fits_no_signature_and_does_not_open(recorded, database, check, tmp_path):
    genuine = recorded.notes[SIZE]
    attacker = Attacker(database)
    a, b = contents_of_one_key(attacker)
    attacker.rows[b].con = attacker.rows[a].con
    attacker.rows[b].rehash()
    attacker.write(genuine)
    assert check(database, ())[0] == 13
    assert check(database)[0] == 12
    keystore = open_keystore(recorded.home, read_root_key(recorded.home.root_key_file))
    fields = attacker.rows[b].fields
    keys = tmp_path / "keys"
    lines = [f"{fields[name].hex()} {keystore.key_by_id(fields[name]).hex()}\n" for name in ("con_scope", "env_key")]
    keys.write_text("".join(lines))
    assert check(database, (), "--keys", keys)[:2] == (10, b)
    # Not even with the signing key: what is signed is that it is there, not that it opens.
    attacker.write(attacker.sign(seed_of(recorded.home)))
    assert check(database, (), "--keys", keys)[:2] == (10, b)


def test_t4_a_deleted_row_leaves_a_gap_that_is_named(database, check):
    execute(database, "DELETE FROM record WHERE seq = ?", MIDDLE)
    code, bad, answer = check(database)
    assert (code, bad) == (10, MIDDLE)
    assert f"record {MIDDLE} is missing" in answer["messages"]


@pytest.mark.parametrize("attack", ["T5: deleted", "T6: inserted"])
def test_t5_t6_a_log_rebuilt_without_or_with_a_record_contradicts_what_was_kept(recorded, database, check, attack):
    attacker = Attacker(database)
    if "deleted" in attack:
        del attacker.rows[MIDDLE]
        genuine = recorded.notes[9999]
    else:
        forged = copy.deepcopy(attacker.rows[MIDDLE])
        forged.fields["record_id"] = b"forged" + bytes(10)
        attacker.rows.insert(MIDDLE, forged)
        genuine = recorded.notes[SIZE]
    attacker.renumber()
    attacker.write(genuine)
    assert check(database)[0] == 12
    assert check(database, [NIGHTLY])[0] == 12
    assert check(database, ())[0] == 13


def test_t7_the_real_signing_key_does_not_help_against_what_left_the_machine(recorded, database, check):
    attacker = Attacker(database)
    del attacker.rows[MIDDLE]
    attacker.renumber()
    attacker.write(attacker.sign(seed_of(recorded.home)))
    assert check(database)[0] == 12
    witness = ("--witness-key", recorded.witness_key, "--quorum", "1")
    assert check(database, [recorded.cosigned], *witness)[0] in (11, 12)
    assert check(database, (), "--receipts", recorded.receipts)[0] in (11, 12)
    code, _, answer = check(database, ())
    assert code == 16
    assert any("NOT ANCHORED" in message for message in answer["messages"])


def test_t8_a_missing_ciphertext_is_named_unless_it_was_destroyed_with_authorisation(recorded, database, check):
    attacker = Attacker(database)
    seq = contents_of_one_key(attacker)[0]
    execute(database, "UPDATE record SET con_ct = NULL WHERE seq = ?", seq)
    assert check(database)[:2] == (14, seq)
    assert check(recorded.home.audit_database)[0] == 2  # the shredded ones are gone as well


# --- T9 to T12 --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", [1, 100, 1000])
def test_t9_a_cut_log_under_an_older_genuine_head_is_truncated_and_does_not_start(recorded, check, tmp_path, cut):
    home = recorded.copy(tmp_path / "home")
    attacker = Attacker(home.audit_database)
    del attacker.rows[SIZE - cut :]
    attacker.write(recorded.notes[SIZE - cut])
    shutil.copy(home.audit_database, tmp_path / "alone.db")  # without the signer's memory beside it
    assert check(tmp_path / "alone.db")[:2] == (11, SIZE - cut)
    with pytest.raises(AuditLogInvalid, match="put back to an older state"):
        asyncio.run(start(home))


async def start(home):
    async with opened(home):
        pass


def test_t10_last_nights_backup_is_truncated_against_the_witness_and_against_any_later_receipt(recorded, check):
    nightly = recorded.nightly.audit_database
    old = recorded.keys[1:]
    assert check(nightly, [NIGHTLY], keys=old)[0] == 0  # by itself it is in order
    assert check(nightly, [SIZE])[0] == 11
    witness = ("--witness-key", recorded.witness_key, "--quorum", "1")
    assert check(nightly, [recorded.cosigned], *witness)[0] == 11
    assert check(nightly, (), "--receipts", recorded.receipts)[0] == 11


def test_t11_a_declared_restore_is_an_authorised_gap_and_the_old_name_signs_nothing_more(recorded, check, tmp_path):
    home = recorded.copy(tmp_path / "home")
    shutil.copy(recorded.nightly.audit_database, home.audit_database)
    with pytest.raises(AuditLogInvalid, match="put back to an older state"):
        asyncio.run(start(home))
    root_key = read_root_key(home.root_key_file)
    recovery = recover_declaring_loss(config_of(home), root_key, lambda home: migrations.upgrade(home.root))
    lost = (NIGHTLY - 1, SIZE - 1)  # the signature of the backup's last batch was lost with what came later
    assert (recovery.lost_from, recovery.lost_to) == lost

    async def go_on():
        async with opened(home) as log:
            await log.append(an_event())
            exports = [log.export(tmp_path / f"e{epoch}.zip", ciphertexts=True, epoch=epoch) for epoch in (1, 2)]
            together = [*log.export_epochs(tmp_path / "all.zip", ciphertexts=True)]
            assert [each.records for each in together] == [each.records for each in exports]
            log.export_epochs(tmp_path / "all")
            return log.verifier_key(), exports[1].checkpoint

    key, newest = asyncio.run(go_on())
    epochs = [tmp_path / "e1.zip", tmp_path / "e2.zip"]
    for given in (epochs, [tmp_path / "all.zip"], [tmp_path / "all"]):
        code, _, answer = check(given, [MONDAY, SIZE, newest], keys=(key, *recorded.keys))
        assert code == 2, answer["messages"]
        assert any("records {} to {} are lost".format(*lost) in message for message in answer["messages"])
    # The new epoch begins with what is known of the old one: its last head, signed, and what is missing.
    with zipfile.ZipFile(epochs[1]) as bundle:
        body = next(body for body in bodies_of(bundle.read("public/000")) if body["event"] == "epoch")
    assert body["previous"] == recorded.notes[SIZE]
    assert (body["lost_from"], body["lost_to"]) == lost
    seeds = [signing.public_key(seed) for seed in open_keystore(home, root_key).signing_seeds()]
    assert [verifier_key(key.partition("+")[0], public) for public in seeds] == [key]
    # Without the declaration, the first epoch alone is what it is: cut.
    assert check(epochs[0], [SIZE])[0] == 11


def bodies_of(packed):
    """The public bodies of one file of a bundle."""
    at = 0
    while at < len(packed):
        _, _, length = PART.unpack_from(packed, at)
        yield json.loads(packed[at + PART.size : at + PART.size + length])
        at += PART.size + length


def test_t12_of_two_heads_of_one_size_both_are_kept_as_evidence(recorded, database, check):
    attacker = Attacker(database)
    attacker.rows[MIDDLE].fields["env_nonce"] = bytes(24)
    other = attacker.sign(seed_of(recorded.home))
    code, _, answer = check(recorded.home.audit_database, [SIZE, other])
    assert code == 12
    assert set(answer["evidence"]) >= {recorded.notes[SIZE], other}


# --- T21, T23: what is destroyed with authorisation -------------------------------------------------------------------


def test_t21_t23_a_purged_month_is_listed_and_headers_receipts_and_other_classes_stay(recorded, check, tmp_path):
    home = recorded.copy(tmp_path / "home")
    before = Attacker(home.audit_database)

    async def run():
        async with opened(home) as log:
            (month,) = {row.fields["month"] for row in before.rows if row.fields["class"] == EXCHANGE}
            await log.set_retention(EXCHANGE, 24)
            with pytest.raises(RetentionShortened):
                await log.set_retention(EXCHANGE, 23)
            certificate = await log.purge(EXCHANGE, month, "retention", "user:3")
            async with asyncio.timeout(60):
                while not log.erasures()[0].done:
                    await asyncio.sleep(0.01)
            for event in recorded.shredded:
                assert log.content(event.record_id) is None
            assert log.content(recorded.kept.record_id) is None
            assert log.record(recorded.administration.record_id).readable
            return certificate, log.checkpoint()

    certificate, newest = asyncio.run(run())
    code, _, answer = check(home.audit_database, [NIGHTLY, SIZE, newest], "--receipts", recorded.receipts)
    assert code == 2
    gaps = {gap["event"]: gap for gap in answer["gaps"]}
    assert gaps["purge"]["envelopes"] == certificate.records
    after = Attacker(home.audit_database)
    assert after.leaves()[:SIZE] == before.leaves()
    for row in after.rows[:SIZE]:
        assert (row.env is None, row.con is None) == ((True, True) if row.fields["class"] == EXCHANGE else (
            row.body is not None, True
        ))  # fmt: skip
    with closing(sqlite3.connect(home.audit_database)) as connection:
        purged = "SELECT count(*) FROM blind JOIN record USING (seq) WHERE substr(hex(header), 57, 2) = '01'"
        assert connection.execute(purged).fetchone() == (0,)
