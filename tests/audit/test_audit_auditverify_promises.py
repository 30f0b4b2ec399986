"""What the verifier promises beyond single vectors: every bit counts, mutants die, witnesses of others are understood.

The long tests are exhaustive; the ordinary run takes a sample of them, drawn with a printed seed.
"""

import io
import json
import os
import random
import sqlite3
import time
import zipfile
from pathlib import Path

import pytest
import verifier_checks
import verifier_mutants
from audit_bundle import Log, b64, canonical, cosigned, scope_id, sha256, verifier_key, witness_key

from appliance.audit import auditverify
from appliance.audit.auditverify import (
    Bundle,
    Database,
    Outside,
    Report,
    Unsigned,
    Verification,
    VerifierKey,
    WitnessKey,
    judge,
    open_checkpoint,
)
from tests.audit import audit_fuzz

KEYS = [VerifierKey(verifier_key())]
SEED = random.SystemRandom().randrange(2**32)
SAMPLE = 200
MUTANTS = 2
NOW = 1_767_300_000
COSIGNATURES = Path(__file__).parents[1] / "crypto" / "vectors" / "cosignature.json"


class Memory:
    """Files of a bundle that were never on a disk."""

    def __init__(self, files):
        self.files = files

    def open(self, name):
        return io.BytesIO(self.files[name]) if name in self.files else None

    def names(self):
        return iter(self.files)


def verdict(make_source, trusted):
    report, outside = Report(), Outside()
    outside.checkpoints.append(open_checkpoint(trusted.encode(), KEYS, "trusted"))
    judge(report, lambda: Verification(make_source(report), KEYS, outside, report).run(None))
    return report


# --- T1: every bit ---------------------------------------------------------------------------------------------------


def bits_of_bundle(log):
    """Every bit of every file but one: `verifier-key` decides nothing that another file does not."""
    files = log.files()
    return [(name, at, bit) for name, content in files.items() for at in range(len(content)) for bit in range(8)]


def check_bundle_bits(places):
    log = Log.of(20)
    log.kept = [log.head(7)]
    files, head = log.files(), log.head()
    for name, at, bit in places:
        content = files[name]
        changed = {**files, name: content[:at] + bytes([content[at] ^ 1 << bit]) + content[at + 1 :]}
        report = verdict(lambda report, changed=changed: Bundle(Memory(changed), KEYS, report), head)
        expected = (10, 14) if name.startswith(("tile/", "public/", "ciphertexts/")) else (10, 13, 30)
        assert report.exit_code in expected, f"bit {bit} of byte {at} of {name}: {report.messages}"
        if name.startswith("tile/entries/"):
            assert report.first_bad_seq == at // 202, f"bit {bit} of byte {at} of {name}"


EVIDENCE = {
    "record": ("header", "env_ct", "con_ct", "record_id", "seq"),
    "public_body": ("body",),
    "log_head": ("root", "frontier", "log_id", "origin", "note"),
    "checkpoint": ("root", "note"),
}


def check_database_bits(tmp_path, chance, count):
    log = Log.of(20)
    log.kept = [log.head(7)]
    path, head = log.write_database(tmp_path / "log.db"), log.head()
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("PRAGMA foreign_keys = OFF")
    cells = []
    for table, columns in EVIDENCE.items():
        for column in columns:
            query = f"SELECT rowid, CAST({column} AS BLOB) FROM {table} WHERE {column} IS NOT NULL"
            cells += [(table, column, row, value) for row, value in connection.execute(query) if value]
    places = [(cell, at, bit) for cell in cells if cell[1] != "seq" for at in range(len(cell[3])) for bit in range(8)]
    for (table, column, row, value), at, bit in chance.sample(places, count) if count else places:
        changed = value[:at] + bytes([value[at] ^ 1 << bit]) + value[at + 1 :]
        connection.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (changed, row))
        report = verdict(lambda report: Database(path, KEYS, report), head)
        expected = 13 if column == "note" else 10
        assert report.exit_code == expected, f"bit {bit} of byte {at} of {table}.{column}: {report.messages}"
        connection.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (value, row))
    for seq in range(1, 20):  # a number that is another record's, or nobody's
        connection.execute("UPDATE record SET seq = ? WHERE seq = ?", (seq + 64, seq))
        assert verdict(lambda report: Database(path, KEYS, report), head).exit_code == 10
        connection.execute("UPDATE record SET seq = ? WHERE seq = ?", (seq, seq + 64))
    assert verdict(lambda report: Database(path, KEYS, report), head).exit_code == 0
    connection.close()


def test_t1_a_sample_of_bits_is_found_in_a_bundle_and_in_a_database(tmp_path):
    print("seed", SEED)
    chance = random.Random(SEED)
    check_bundle_bits(chance.sample(bits_of_bundle(Log.of(20)), SAMPLE))
    check_database_bits(tmp_path, chance, SAMPLE)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_t1_every_bit_of_a_bundle_is_found():
    check_bundle_bits(bits_of_bundle(Log.of(20)))


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_t1_every_bit_of_a_database_is_found(tmp_path):
    check_database_bits(tmp_path, random.Random(SEED), 0)


# --- the verifier's own mistakes -------------------------------------------------------------------------------------


@pytest.mark.timeout(600)
def test_a_sample_of_mutants_of_the_verifier_is_noticed():
    print("seed", SEED)
    assert verifier_checks.passes(auditverify), "the verifier itself must pass what its mutants are put through"
    telling = verifier_mutants.telling()
    assert len(telling) >= 40, "the operators find nothing to change"
    survivors = [m for m in random.Random(SEED).sample(telling, MUTANTS) if verifier_mutants.survives(m)]
    assert survivors == [], [str(m) for m in survivors]


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_every_mutant_of_the_verifier_that_drops_a_finding_is_noticed():
    survivors = [str(mutant) for mutant in verifier_mutants.telling() if verifier_mutants.survives(mutant)]
    assert survivors == []


# --- hostile bytes ---------------------------------------------------------------------------------------------------


def test_t29_no_parser_takes_hostile_bytes_for_what_they_are_not_sample():
    print("seed", SEED)
    assert audit_fuzz.fuzz(4000, SEED).keys() == audit_fuzz.TARGETS.keys()


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_t29_no_parser_takes_a_million_hostile_inputs_for_what_they_are_not():
    print("seed", SEED)
    print(dict(audit_fuzz.fuzz(1_000_000, SEED)))


# --- witnesses -------------------------------------------------------------------------------------------------------


def test_a_cosignature_of_a_public_witness_is_understood():
    case = json.loads(COSIGNATURES.read_text())
    name, _, _ = case["verifier_key"].split("+", 2)
    key = WitnessKey(case["verifier_key"])
    line = case["line"].split(" ")
    assert line[1] == name
    material = auditverify._base64(line[2].rstrip("\n"), "line")
    assert material[:4] == key.id
    assert key.cosigned_at(case["text"].encode(), material[4:]) == case["time_s"]
    for at in range(4, len(material), 5):
        changed = material[4:at] + bytes([material[at] ^ 1]) + material[at + 1 :]
        assert key.cosigned_at(case["text"].encode(), changed) is None
    assert key.cosigned_at(case["text"].encode(), material[4:-1]) is None


def test_lines_of_witnesses_kept_beside_a_note_in_a_database_count(tmp_path, capsys):
    log, seed = Log.of(14), sha256(b"witness")
    log.kept = [log.head(9)]
    log.cosigs = {9: cosigned(log.head(9), "w.example/w", seed, NOW - 5).removeprefix(log.head(9))}
    path = log.write_database(tmp_path / "log.db")
    words = [str(path), "--pub", verifier_key(), "--witness-key", witness_key("w.example/w", seed), "--now", str(NOW)]
    assert auditverify.verify([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["anchored_size"] == 9
    assert auditverify.verify([*words, "--max-age", "4"]) == 16


def test_a_note_that_a_witness_spoilt_is_no_note():
    log, seed = Log.of(5), sha256(b"witness")
    witness = WitnessKey(witness_key("w.example/w", seed))
    good = cosigned(log.head(), "w.example/w", seed, NOW)
    assert open_checkpoint(good.encode(), KEYS, "note", [witness]).cosigned == {"w.example/w": NOW}
    other = cosigned(Log.of(6).head(), "w.example/w", seed, NOW).split("\n")[-2]
    with pytest.raises(Unsigned, match="witness"):
        open_checkpoint(f"{log.head()}{other}\n".encode(), KEYS, "note", [witness])


# --- who did what ----------------------------------------------------------------------------------------------------


def test_a_gap_says_which_record_authorised_it_why_and_who_approved(tmp_path, capsys):
    scope = scope_id(0).hex()
    body = canonical(v=1, event="shred", scopes=scope, subject="ab" * 16, grade="B", reason="erasure_request",
                     approvals="user:3,user:7")  # fmt: skip
    done = canonical(v=1, event="erased", authorised_by=11, records=1)
    log = Log.of(14, bodies={11: body, 13: done}, scopes=3)
    log.records[6].con = None
    (tmp_path / "kept").write_text(log.head())
    words = [str(log.write(tmp_path / "log")), "--pub", verifier_key(), "--trusted", str(tmp_path / "kept"), "--json"]
    assert auditverify.verify(words) == 2
    answer = json.loads(capsys.readouterr().out)
    assert answer["gaps"] == [
        {"seq": 11, "event": "shred", "reason": "erasure_request", "approvals": "user:3,user:7", "contents": 1,
         "envelopes": 0, "erased_seq": 13}
    ]  # fmt: skip
    assert "grade B" in answer["messages"][1] and "finished according to record 13" in answer["messages"][1]


def test_the_key_that_is_missing_is_named_with_where_the_log_names_it(capsys):
    vector = next(one for one in verifier_checks.VECTORS if one["name"] == "rotation-new-only")
    answer = verifier_checks.run(auditverify, *verifier_checks.words_of(vector))
    assert any(verifier_key() in message and "record" in message for message in answer["messages"]), answer["messages"]


# --- hostile and large -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("link", ["public/000", "tile/0", "checkpoint"])
def test_links_in_a_bundle_are_not_followed(tmp_path, capsys, link):
    log = Log.of(14)
    bundle = log.write(tmp_path / "log")
    place = bundle / link
    aside = tmp_path / "aside"
    place.rename(aside)
    place.symlink_to(aside)
    assert auditverify.verify([str(bundle), "--pub", verifier_key()]) == 30
    assert "is a link" in capsys.readouterr().out


def test_a_pipe_or_a_folder_in_the_place_of_a_file_does_not_hang(tmp_path, capsys):
    bundle = Log.of(14).write(tmp_path / "log")
    (bundle / "ciphertexts" / "000").unlink()
    os.mkfifo(bundle / "ciphertexts" / "000")
    (bundle / "checkpoint").unlink()
    (bundle / "checkpoint").mkdir()
    assert auditverify.verify([str(bundle), "--pub", verifier_key()]) in (10, 13, 14)


@pytest.mark.parametrize("name", ["checkpoint", "public/000", "ciphertexts/000", "tile/entries/000.p/14", "log.json"])
def test_t29_a_file_that_inflates_to_a_gigabyte_costs_little(tmp_path, capsys, name):
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for other, content in Log.of(14).files().items():
            if other != name:
                archive.writestr(other, content)
        with archive.open(name, "w", force_zip64=True) as file:
            for _ in range(64):
                file.write(bytes(1 << 20))
    began = time.process_time()
    assert auditverify.verify([str(path), "--pub", verifier_key(), "--json"]) in (10, 13, 30)
    assert time.process_time() - began < 1


def test_t29_many_bad_kept_notes_are_not_all_read(tmp_path):
    log = Log.of(14)
    line = canonical(note=f"{log.head()[:-10]}{b64(bytes(6))}=\n") + b"\n"
    files = log.files() | {"checkpoints.jsonl": line * 20_000}
    began = time.process_time()
    report = verdict(lambda report: Bundle(Memory(files), KEYS, report), log.head())
    assert report.exit_code in (13, 30) and time.process_time() - began < 2


def test_a_block_too_large_to_be_read_at_once_is_read_piece_by_piece(monkeypatch):
    log = Log.of(300)
    monkeypatch.setattr(auditverify, "BLOCK_BYTES_MAX", 1000)
    report = verdict(lambda report: Bundle(Memory(log.files()), KEYS, report), log.head())
    assert (report.exit_code, report.records) == (0, 300)


def test_both_ways_through_a_block_say_the_same(monkeypatch):
    def every():
        return [verifier_checks.run(auditverify, *verifier_checks.words_of(v)) for v in verifier_checks.VECTORS[::3]]

    quick = every()
    monkeypatch.setattr(auditverify.Verification, "_plain_block", lambda self, first, upto: None)
    for fast, slow, vector in zip(quick, every(), verifier_checks.VECTORS[::3], strict=True):
        assert fast == slow, vector["name"]
