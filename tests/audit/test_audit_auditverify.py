"""The verifier passes over nothing: every byte of a copy is covered, every attack gets its own exit code.

Logs are made by `audit_bundle.py`, which shares no code with the appliance or with the verifier. Attacks are those of
an intruder without the signing key (who can rewrite rows, tiles and head, but not sign) and of one with it (who can
sign anything, but not change what left the machine). T1, T2, ... are the attacks listed in `appliance/audit/README.md`.
"""

import ast
import base64
import io
import json
import sqlite3
import struct
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import pytest
from audit_bundle import (
    ORIGIN,
    SEED,
    Log,
    b64,
    canonical,
    frontier_of,
    make_record,
    mth,
    note,
    public_of,
    sha256,
    signature_line,
    verifier_key,
    write_files,
)
from audit_vectors import load
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.audit import auditverify
from appliance.audit.auditverify import (
    Bundle,
    Database,
    Outside,
    Report,
    Tree,
    Verification,
    VerifierKey,
    judge,
    open_checkpoint,
)

KEYS = [VerifierKey(verifier_key())]
OTHER_SEED = bytes(32)


class Memory:
    """Files of a bundle that were never on a disk."""

    def __init__(self, files):
        self.files = files

    def open(self, name):
        return io.BytesIO(self.files[name]) if name in self.files else None

    def names(self):
        return iter(self.files)


def outside_of(trusted):
    """What an auditor brings: notes, their signatures verified."""
    outside = Outside()
    outside.checkpoints.extend(open_checkpoint(n.encode(), KEYS, f"trusted-{i}") for i, n in enumerate(trusted))
    return outside


def verify_source(make_source, outside):
    """The report over one copy, without the cost of a process or of preparing keys."""
    report = Report()
    judge(report, lambda: Verification(make_source(report), KEYS, outside, report).run(None))
    return report


def verify_files(files, trusted=()):
    """The report over a bundle in memory; `trusted` are notes from outside."""
    return verify_source(lambda report: Bundle(Memory(files), KEYS, report), outside_of(trusted))


@pytest.fixture
def verify(tmp_path, capsys):
    """Run the command; returns its JSON, whose exit code is the process's."""

    def run(log, *, trusted=(), arguments=(), pub=None):
        for number, text in enumerate(trusted):
            kept = tmp_path / f"trusted-{number}.txt"
            kept.write_text(text)
            arguments = [*arguments, "--trusted", str(kept)]
        code = auditverify.verify([str(log), "--pub", pub or verifier_key(), "--json", *map(str, arguments)])
        answer = json.loads(capsys.readouterr().out)
        assert answer["exit_code"] == code
        return answer

    return run


@pytest.fixture(params=["bundle", "zip", "database"])
def written(request, tmp_path):
    """Write a log in each of the three forms."""

    def write(log, name="log"):
        if request.param == "bundle":
            return log.write(tmp_path / name)
        if request.param == "zip":
            return log.write_zip(tmp_path / f"{name}.zip")
        return log.write_database(tmp_path / f"{name}.db")

    write.form = request.param
    return write


# --- nothing is wrong -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [2, 3, 20, 256, 257, 600])
def test_an_intact_anchored_log_is_ok_in_every_form(written, verify, size):
    log = Log.of(size)
    log.kept = [log.head(kept) for kept in (1, size // 2, size - 1) if kept] if size > 3 else []
    answer = verify(written(log), trusted=[log.head(), log.head(size // 2)])
    assert (answer["verdict"], answer["exit_code"], answer["messages"]) == ("ok", 0, [])
    assert (answer["records"], answer["checkpoint_size"], answer["anchored_size"]) == (size, size, size)
    assert (answer["origin"], answer["first_bad_seq"]) == (ORIGIN, None)


def test_t7_without_anything_from_outside_it_is_never_ok(written, verify):
    answer = verify(written(Log.of(5)))
    assert (answer["verdict"], answer["exit_code"]) == ("not_anchored", 16)
    assert any("NOT ANCHORED" in message for message in answer["messages"])


def test_records_newer_than_the_newest_anchor_are_named(written, verify):
    log = Log.of(9)
    answer = verify(written(log), trusted=[log.head(4)])
    assert answer["exit_code"] == 0 and "records 4 to 8 are newer" in answer["messages"][0]


def test_a_bundle_without_ciphertexts_says_so(tmp_path, verify):
    log = Log.of(6)
    answer = verify(log.write(tmp_path / "log", ciphertexts=False), trusted=[log.head()])
    assert answer["exit_code"] == 0 and "only their hashes were verified" in answer["messages"][0]


# --- T1: every single byte ------------------------------------------------------------------------------------------


def owners(log, files):
    """Which record each byte of a bundle belongs to; None where it belongs to the whole."""
    found = {}
    for name, content in files.items():
        if name.startswith("tile/entries/"):
            found[name] = [at // 202 for at in range(len(content))]
        elif name.startswith("tile/0/"):
            found[name] = [at // 32 for at in range(len(content))]
        elif name.startswith(("public/", "ciphertexts/")):
            seqs, at = [], 0
            while at < len(content):
                seq, _, length = struct.unpack_from(">QBI", content, at)
                seqs += [seq] * (13 + length)
                at += 13 + length
            found[name] = seqs
        else:
            found[name] = [None] * len(content)
    return found


def test_t1_every_changed_byte_of_a_bundle_is_found_and_its_record_named():
    log = Log.of(6)
    log.kept = [log.head(3)]
    outside, files = outside_of([log.head()]), log.files()
    assert verify_source(lambda report: Bundle(Memory(files), KEYS, report), outside).exit_code == 0
    for name, owner in owners(log, files).items():
        for at, seq in enumerate(owner):
            content = files[name]
            changed = {**files, name: content[:at] + bytes([content[at] ^ 1 << at % 8]) + content[at + 1 :]}
            report = verify_source(lambda report, changed=changed: Bundle(Memory(changed), KEYS, report), outside)
            where = f"byte {at} of {name}: {report.messages}"
            if seq is not None:
                assert report.exit_code in (10, 14) and report.first_bad_seq == seq, where
            elif name in ("checkpoint", "verifier-key"):
                assert report.exit_code == 13, where
            else:
                assert report.exit_code in (10, 13, 30), where


def test_t1_every_missing_file_and_every_cut_is_found():
    log = Log.of(8)
    log.kept = [log.head(3)]
    files = log.files()
    for name, content in files.items():
        if name in ("checkpoints.jsonl", "verifier-key"):
            continue  # a bundle need not have them
        remaining = {other: kept for other, kept in files.items() if other != name}
        assert verify_files(remaining, [log.head()]).exit_code in (10, 13, 14, 30), name
        for cut in (content[:-1], content[: len(content) // 2], content + b"\x00", b""):
            assert verify_files({**files, name: cut}, [log.head()]).exit_code in (10, 13, 14, 30), name


@pytest.mark.parametrize(
    ("table", "column", "where", "expected"),
    [
        ("record", "header", "seq = 3", 10),
        ("record", "record_id", "seq = 3", 10),
        ("record", "env_ct", "seq = 3", 10),
        ("record", "con_ct", "seq = 4", 10),
        ("public_body", "body", "seq = 1", 10),
        ("log_head", "root", "id = 1", 10),
        ("log_head", "frontier", "id = 1", 10),
        ("log_head", "log_id", "id = 1", 10),
        ("log_head", "origin", "id = 1", 10),
        ("log_head", "note", "id = 1", 13),
        ("checkpoint", "root", "size = 3", 10),
        ("checkpoint", "note", "size = 3", 13),
    ],
)
def test_t1_every_changed_byte_of_a_database_is_found(tmp_path, table, column, where, expected):
    log = Log.of(6)
    log.kept = [log.head(3)]
    path, outside = log.write_database(tmp_path / "log.db"), outside_of([log.head()])
    connection = sqlite3.connect(path, isolation_level=None)
    (stored,) = connection.execute(f"SELECT CAST({column} AS BLOB) FROM {table} WHERE {where}").fetchone()
    connection.execute("PRAGMA synchronous = OFF")
    for at in range(len(stored)):
        changed = stored[:at] + bytes([stored[at] ^ 1 << at % 8]) + stored[at + 1 :]
        connection.execute(f"UPDATE {table} SET {column} = ? WHERE {where}", (changed,))
        report = verify_source(lambda report: Database(path, KEYS, report), outside)
        assert report.exit_code == expected, f"byte {at} of {table}.{column}: {report.messages}"
        if table in ("record", "public_body") and column != "header":
            assert report.first_bad_seq == int(where.split()[-1])
    connection.close()


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("UPDATE log_head SET size = 7", 10),
        ("UPDATE log_head SET size = 9", 10),
        ("UPDATE log_head SET epoch = 2", 10),
        ("UPDATE log_head SET signed_size = 3", 10),
        ("UPDATE log_head SET note = NULL", 13),
        ("UPDATE checkpoint SET size = 4", 10),
        ("INSERT INTO record SELECT -1, zeroblob(16), header, env_ct, con_ct FROM record WHERE seq = 3", 10),
        ("INSERT INTO public_body VALUES (3, x'7b7d')", 10),
        ("INSERT INTO public_body VALUES (99, x'7b7d')", 10),
        ("UPDATE record SET env_ct = x'00' WHERE seq = 1", 10),
        ("UPDATE record SET con_ct = x'00' WHERE seq = 3", 10),
        ("DELETE FROM public_body WHERE seq = 1", 10),
        ("DELETE FROM record WHERE seq = 5", 10),
        ("DELETE FROM log_head", 30),
        ("DROP TABLE public_body", 30),
        ("UPDATE record SET header = zeroblob(100000) WHERE seq = 5", 10),
        ("UPDATE record SET header = 'text' WHERE seq = 5", 10),
    ],
)
def test_rows_and_columns_that_contradict_the_headers_are_found(tmp_path, verify, statement, expected):
    log = Log.of(8)
    log.kept = [log.head(3)]
    path = log.write_database(tmp_path / "log.db")
    with sqlite3.connect(path) as connection:
        connection.execute(statement)
    connection.close()
    assert verify(path, trusted=[log.head()])["exit_code"] == expected


def test_a_header_altered_in_a_database_is_narrowed_to_its_group(tmp_path, verify):
    log = Log.of(600)
    log.records[300].fields["env_nonce"] = bytes(24)  # seen by nothing but the hash
    forged = log.records[300].header()
    log = Log.of(600)
    path = log.write_database(tmp_path / "log.db")
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE record SET header = ? WHERE seq = 300", (forged,))
    connection.close()
    answer = verify(path, trusted=[log.head()])
    assert (answer["exit_code"], answer["first_bad_seq"]) == (10, 256)
    assert answer["messages"] == ["one of the records 256 to 511, or the tile that holds its hash, was altered"]


def test_a_changed_tile_is_told_from_a_changed_record(tmp_path, verify):
    log = Log.of(600)
    files = log.files()
    files["tile/0/001"] = bytes(32) + files["tile/0/001"][32:]
    answer = verify(write_files(tmp_path / "log", files), trusted=[log.head()])
    assert (answer["exit_code"], answer["first_bad_seq"]) == (10, 256)
    assert answer["messages"][-1] == "the records are those that were signed: what was altered is the stored tiles"


# --- T2 to T9: attacks ------------------------------------------------------------------------------------------------


def swapped(log):
    """Rows 5 and 9 in each other's place, with each other's number."""
    forged = log.copy()
    a, b = forged.records[5], forged.records[9]
    a.fields["seq"], b.fields["seq"] = 9, 5
    forged.records[5], forged.records[9] = b, a
    return forged


def test_t2_swapped_rows_are_found_at_the_lower():
    log = Log.of(12)
    entries = {name: content for name, content in swapped(log).files().items() if "entries" in name}
    report = verify_files(log.files() | entries, [log.head()])
    assert (report.exit_code, report.first_bad_seq) == (10, 5)


def test_t2_swapped_rows_of_a_database_are_found(tmp_path, verify):
    log = Log.of(12)
    path = swapped(log).write_database(tmp_path / "log.db")
    leaves = log.leaves()
    frontier = len(leaves).to_bytes(8, "big") + b"".join(frontier_of(leaves))
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE log_head SET root = ?, frontier = ?, note = ?", (mth(leaves), frontier, log.head()))
    connection.close()
    assert verify(path, trusted=[log.head()])["exit_code"] == 10


@pytest.mark.parametrize(("anchored", "expected"), [(False, 13), (True, 12)])
def test_t3_moved_content_with_a_recomputed_tree_fits_no_signature(written, verify, anchored, expected):
    log = Log.of(12)
    genuine = log.head()
    log.records[8].con = log.records[4].con
    log.records[8].rehash()
    log.note = genuine
    answer = verify(written(log), trusted=[genuine] if anchored else [])
    assert answer["exit_code"] == expected


def test_t4_a_gap_is_named(written, verify):
    log = Log.of(600)
    trusted = [log.head()]
    if written.form == "database":
        path = written(log)
        with sqlite3.connect(path) as connection:
            connection.execute("DELETE FROM record WHERE seq = 500")
        connection.close()
        answer = verify(path, trusted=trusted)
        assert (answer["exit_code"], answer["first_bad_seq"]) == (10, 500)
        assert "record 500 is missing" in answer["messages"]
        return
    files = log.files()
    entries = files["tile/entries/001"]
    files["tile/entries/001"] = entries[: 202 * 244] + entries[202 * 245 :]
    report = verify_files(files, trusted)
    assert (report.exit_code, report.first_bad_seq) == (10, 500)


@pytest.mark.parametrize("signing", [None, SEED])
def test_t5_a_deleted_record_and_a_recomputed_log_contradict_the_anchor(written, verify, signing):
    log = Log.of(30)
    trusted, genuine = [log.head(20), log.head()], log.head(29)
    del log.records[10]
    log.renumber()
    log.note = genuine if signing is None else log.head(seed=signing)  # T7: the real key does not help
    answer = verify(written(log), trusted=trusted)
    assert answer["exit_code"] == 12 and answer["evidence"]
    assert verify(written(log, "again"), trusted=[])["exit_code"] == (13 if signing is None else 16)


def test_t6_an_inserted_record_contradicts_the_anchor(written, verify):
    log = Log.of(30)
    trusted = [log.head(20)]
    log.records.insert(10, make_record(1000))
    log.renumber()
    assert verify(written(log), trusted=trusted)["exit_code"] == 12


def test_t8_a_missing_ciphertext_needs_a_tombstone(written, verify):
    log = Log.of(12)
    log.records[6].con = None
    log.note = Log.of(12).head()
    answer = verify(written(log), trusted=[log.note])
    assert (answer["exit_code"], answer["first_bad_seq"]) == (14, 6)


def test_t8_with_a_covering_tombstone_it_is_an_authorised_gap(written, verify):
    log = Log.of(12, tombstone=(4, 7))
    answer = verify(written(log), trusted=[log.head()])
    assert (answer["verdict"], answer["exit_code"], answer["first_bad_seq"]) == ("ok_with_gaps", 2, None)
    assert answer["messages"] == [
        "sealed contents destroyed with authorisation: 2",
        "record 11 (tombstone: content of 4-7) authorised it for 2 contents and 0 envelopes; reason: retention;"
        " approved by: a,b",
    ]
    assert answer["gaps"] == [
        {"seq": 11, "event": "tombstone", "reason": "retention", "approvals": "a,b", "contents": 2, "envelopes": 0,
         "erased_seq": None}
    ]  # fmt: skip


@pytest.mark.parametrize(
    "body",
    [
        canonical(v=1, event="tombstone", parts="content", seqs="4-5", reason="", approvals=""),  # another record
        canonical(v=1, event="tombstone", parts="content", seqs="6-11", reason="", approvals=""),  # covers itself
        canonical(v=1, event="tombstone", parts="everything", seqs="6", reason="", approvals=""),
        canonical(v=1, event="tombstone", parts="content", seqs="7,6", reason="", approvals=""),
        canonical(v=1, event="tombstone", parts="content", seqs="06", reason="", approvals=""),
        canonical(v=2, event="tombstone", parts="content", seqs="6", reason="", approvals=""),
        b'{"event":"tombstone", "parts":"content","seqs":"6","v":1}',
        b'{"event":"tombstone","event":"tombstone","parts":"content","seqs":"6","v":1}',
        b'{"event":"tombstone","parts":"content","seqs":["6"],"v":1}',
        b"\xff",
        b"[" * 60_000,
    ],
)
def test_t8_a_tombstone_that_is_not_one_authorises_nothing(body):
    log = Log.of(12)
    log.records[11] = make_record(11, body=body)
    log.records[6].con = None
    report = verify_files(log.files(), [log.head()])
    assert (report.exit_code, report.first_bad_seq) == (14, 6)


def test_t8_a_tombstone_for_content_does_not_cover_the_envelope():
    log = Log.of(12, tombstone=(4, 7))
    log.records[5].env = None
    report = verify_files(log.files(), [log.head()])
    assert (report.exit_code, report.first_bad_seq) == (14, 5)


@pytest.mark.parametrize("cut", [1, 10, 299])
def test_t9_a_cut_log_under_an_older_genuine_head_is_truncated(written, verify, cut):
    log = Log.of(300)
    newest = log.head()
    del log.records[300 - cut :]
    answer = verify(written(log), trusted=[newest])
    assert (answer["exit_code"], answer["first_bad_seq"]) == (11, 300 - cut)


def test_t9_the_signers_memory_beside_a_database_shows_a_cut(tmp_path, verify):
    log = Log.of(12)
    (tmp_path / "signer.json").write_text(json.dumps({"size": 12, "note": log.head()}))
    del log.records[10:]
    assert verify(log.write_database(tmp_path / "log.db"), trusted=[log.head(5)])["exit_code"] == 11


def test_t9_a_checkpoint_that_the_log_kept_shows_a_cut(written, verify):
    log = Log.of(12)
    log.kept = [log.head(11)]
    del log.records[10:]
    assert verify(written(log), trusted=[log.head(5)])["exit_code"] == 11


def test_t9_a_head_whose_note_signs_more_than_is_there_is_truncated(tmp_path, verify):
    log = Log.of(12)
    log.note = log.head()
    del log.records[10:]
    path = log.write_database(tmp_path / "log.db", signed_size=12)
    assert verify(path, trusted=[log.head(5)])["exit_code"] == 11


def test_checkpoints_that_the_log_kept_must_fit_its_records_and_each_other(written, verify):
    log, other = Log.of(12), Log.of(12)
    other.records[2].fields["env_nonce"] = bytes(24)
    log.kept = [other.head(4), log.head(8)]
    answer = verify(written(log), trusted=[log.head()])
    assert answer["exit_code"] == 13
    assert answer["messages"] == ["the log's own kept checkpoint of 4 records does not match them"]


def test_kept_checkpoints_out_of_order_are_found(tmp_path, verify):
    log = Log.of(12)
    log.kept = [log.head(8), log.head(4)]
    assert verify(log.write(tmp_path / "log"), trusted=[log.head()])["exit_code"] == 10


def test_t10_an_older_copy_is_found_by_a_later_receipt(written, verify, tmp_path):
    log = Log.of(20)
    receipts = tmp_path / "receipts"
    write_files(receipts, {"a.tlog-proof": log.receipt(7, 15).encode()})
    old = log.copy()
    del old.records[10:]
    assert verify(written(log), arguments=["--receipts", receipts])["exit_code"] == 0
    assert verify(written(old, "old"), arguments=["--receipts", receipts])["exit_code"] == 11


def test_t12_two_heads_of_one_size_prove_a_fork_and_are_kept_as_evidence(written, verify):
    log, other = Log.of(10), Log.of(10)
    other.records[5].fields["env_nonce"] = bytes(24)
    answer = verify(written(log), trusted=[log.head(), other.head()])
    assert answer["exit_code"] == 12
    assert set(answer["evidence"]) == {log.head(), other.head()}


def test_t12_two_heads_prove_a_fork_even_beyond_the_end_of_the_copy(written, verify):
    log, other = Log.of(10), Log.of(10)
    other.records[5].fields["env_nonce"] = bytes(24)
    assert verify(written(Log.of(5)), trusted=[log.head(), other.head()])["exit_code"] == 12


def test_a_rewritten_record_contradicts_its_receipt_and_is_named(written, verify, tmp_path):
    log = Log.of(20)
    receipts = tmp_path / "receipts"
    write_files(receipts, {"a.tlog-proof": log.receipt(7).encode(), "note.txt": b"ignored"})
    log.records[7].con = None
    log.records[7].fields["con_scope"], log.records[7].fields["con_nonce"] = bytes(16), bytes(24)
    log.records[7].env = b"a quite different story"
    log.records[7].rehash()
    answer = verify(written(log), arguments=["--receipts", receipts])
    assert (answer["exit_code"], answer["first_bad_seq"]) == (12, 7)


def test_times_that_run_backwards_are_found_though_signed(written, verify):
    log = Log.of(10)
    log.records[6].fields["t_commit_ms"] -= 60_000
    answer = verify(written(log), trusted=[log.head()])
    assert (answer["exit_code"], answer["first_bad_seq"]) == (15, 6)


@pytest.mark.parametrize(
    "change",
    [
        {"log_id": bytes(8)},
        {"kind": 3},
        {"class": 1, "kind": 2},
        {"env_key": bytes(16)},
        {"con_nonce": b"\x01" * 24},
        {"con_sha256": bytes(32)},
        {"t_commit_ms": 2**63},
        {"seq": 2**63 + 5},
    ],
)
def test_a_header_that_no_writer_makes_is_refused_even_if_signed(change):
    log = Log.of(8)
    log.records[5].fields |= change
    report = verify_files(log.files(), [log.head()])
    assert (report.exit_code, report.first_bad_seq) == (10, 5)


def test_a_log_without_its_genesis_is_refused_even_if_signed():
    log = Log.of(8)
    log.records[0] = make_record(0)
    assert verify_files(log.files(), [log.head()]).exit_code == 10
    log.records[0] = make_record(0, body=canonical(v=1, event="genesis", origin="other.example/e1", log_id="00"))
    assert verify_files(log.files(), [log.head()]).first_bad_seq == 0


def test_a_faulty_part_does_not_accuse_the_records_behind_it():
    log = Log.of(12)
    files = log.files()
    at = files["ciphertexts/000"].index(log.records[6].env) - 1
    changed = bytearray(files["ciphertexts/000"])
    changed[at] ^= 0x10  # the length of one part: where the next begins is unknown from here
    report = verify_files({**files, "ciphertexts/000": bytes(changed)}, [log.head()])
    assert (report.exit_code, report.first_bad_seq) == (10, 6)
    assert report.messages == ["the stored text of record 6 is not where or what it should be"]


@pytest.mark.parametrize(("seq", "expected"), [(3, 4), (5, 5), (9, 5)])
def test_stored_text_that_no_header_announces_is_found(seq, expected):
    log = Log.of(6)
    files = log.files()
    extra = struct.pack(">QBI", seq, 2, 3) + b"???"
    at = files["ciphertexts/000"].index(struct.pack(">QBI", 4, 1, 20)) if seq == 3 else len(files["ciphertexts/000"])
    files["ciphertexts/000"] = files["ciphertexts/000"][:at] + extra + files["ciphertexts/000"][at:]
    report = verify_files(files, [log.head()])
    assert (report.exit_code, report.first_bad_seq) == (10, expected), report.messages


def test_interruptions_are_told():
    log = Log.of(8)
    log.records[5] = make_record(5, body=canonical(v=1, event="start", software="", warnings=""))
    report = verify_files(log.files(), [log.head()])
    assert report.exit_code == 0 and report.messages[0].endswith("(a start without a stop): 1")


# --- signatures -------------------------------------------------------------------------------------------------------


def test_unknown_signers_are_ignored(written, verify):
    log = Log.of(5)
    text = log.head().split("\n\n")[0] + "\n"
    witness = signature_line(text, "witness.example/w1", OTHER_SEED)
    same_name = signature_line(text, ORIGIN, OTHER_SEED)
    log.note = f"{text}\n{witness}{signature_line(text)}{same_name}"
    assert verify(written(log), trusted=[log.note])["exit_code"] == 0


def test_a_bad_signature_of_the_known_key_spoils_a_note_that_also_has_a_good_one(written, verify):
    log = Log.of(5)
    genuine = log.head()
    line = genuine.split("\n")[-2]
    bad = f"— {ORIGIN} " + b64(KEYS[0].id + bytes(64))
    log.note = genuine.replace(line, f"{line}\n{bad}")
    assert verify(written(log), trusted=[genuine])["exit_code"] == 13


def test_another_key_of_the_same_name_is_13(written, verify):
    log = Log.of(5)
    assert verify(written(log), pub=verifier_key(seed=OTHER_SEED))["exit_code"] == 13


def test_both_keys_of_a_rotation_are_accepted_and_the_old_alone_is_not(written, verify):
    log = Log.of(5)
    log.note = log.head(seed=OTHER_SEED)
    new = verifier_key(seed=OTHER_SEED)
    answer = verify(written(log), trusted=[log.head(3)], arguments=["--pub", new])
    assert answer["exit_code"] == 0
    assert verify(written(log, "again"), trusted=[log.head(3)])["exit_code"] == 13


def test_a_database_beyond_its_last_signature_is_judged_up_to_it(tmp_path, verify):
    log = Log.of(12)
    path = log.write_database(tmp_path / "log.db", signed_size=9)
    answer = verify(path, trusted=[log.head(9)])
    assert answer["exit_code"] == 0
    assert "records 9 to 11 are under no signature yet" in answer["messages"][0]
    (tmp_path / "signer.json").write_text(json.dumps({"note": log.head()}))
    assert verify(path, trusted=[log.head(9)])["messages"][0].startswith("records 9 to 11 are newer")


# --- incremental ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("first", "second"), [(5, 5), (5, 9), (256, 300), (300, 700), (3, 512)])
def test_since_continues_where_the_last_run_ended(written, verify, tmp_path, first, second):
    log, state = Log.of(second), tmp_path / "state.json"
    early = log.copy()
    del early.records[first:]
    assert verify(written(early, "early"), arguments=["--since", state])["exit_code"] == 16
    answer = verify(written(log), arguments=["--since", state])
    assert (answer["exit_code"], answer["records"], answer["anchored_size"]) == (0, second, first)
    assert verify(written(log, "same"), arguments=["--since", state], trusted=[log.head()])["exit_code"] == 0


def test_a_state_that_cannot_be_written_is_named_as_that(written, verify, tmp_path):
    log = Log.of(5)
    answer = verify(written(log), trusted=[log.head()], arguments=["--since", tmp_path / "none" / "state.json"])
    assert answer["exit_code"] == 30
    assert any(message.startswith("the state cannot be written to ") for message in answer["messages"])


@pytest.mark.parametrize("size", [256, 300])
def test_since_contradicts_a_log_that_was_rewritten_with_the_real_key(written, verify, tmp_path, size):
    log, state = Log.of(size), tmp_path / "state.json"
    assert verify(written(log), trusted=[log.head()], arguments=["--since", state])["exit_code"] == 0
    before = state.read_bytes()
    log.records[10].env = b"a quite different story"
    log.records[10].rehash()
    log.records.append(make_record(size))
    assert verify(written(log, "rewritten"), arguments=["--since", state])["exit_code"] == 12
    assert verify(written(Log.of(size - 1), "cut"), arguments=["--since", state])["exit_code"] == 11
    assert state.read_bytes() == before


@pytest.mark.parametrize("damage", [b"", b"{}", b"[1]", b'{"format":"cloister-audit-state/1"}', b"\xff"])
def test_a_damaged_state_is_refused(written, verify, tmp_path, damage):
    state = tmp_path / "state.json"
    state.write_bytes(damage)
    assert verify(written(Log.of(5)), arguments=["--since", state])["exit_code"] == 30


# --- hostile input ----------------------------------------------------------------------------------------------------


def signed(text):
    """A note over any text: what a key holder could make."""
    return f"{text}\n{signature_line(text)}"


ROOT = b64(bytes(32))
MALFORMED_NOTES = {
    "no signature": "text\n",
    "empty": "",
    "two megabytes": "x" * 2_000_000,
    "extension line": signed(f"{ORIGIN}\n5\n{ROOT}\nmore\n"),
    "leading zero": signed(f"{ORIGIN}\n05\n{ROOT}\n"),
    "sign": signed(f"{ORIGIN}\n+5\n{ROOT}\n"),
    "other digits": signed(f"{ORIGIN}\n٥\n{ROOT}\n"),
    "huge size": signed(f"{ORIGIN}\n{'9' * 5000}\n{ROOT}\n"),
    "size of 2^63": signed(f"{ORIGIN}\n{2**63}\n{ROOT}\n"),
    "short root": signed(f"{ORIGIN}\n5\n{b64(bytes(31))}\n"),
    "loose base64": signed(f"{ORIGIN}\n5\n{ROOT[:-2]}B=\n"),
    "other origin": signed(f"other.example/log\n5\n{ROOT}\n"),
    "no root": signed(f"{ORIGIN}\n5\n"),
    "control character": signed(f"{ORIGIN}\n5\n{ROOT}\n").replace("5", "5\r"),
    "no dash": f"{ORIGIN}\n5\n{ROOT}\n\n{ORIGIN} AAAA\n",
    "no final newline": signed(f"{ORIGIN}\n5\n{ROOT}\n")[:-1],
    "loose signature": f"{ORIGIN}\n5\n{ROOT}\n\n— {ORIGIN} AAB=\n",
}


@pytest.mark.parametrize("name", MALFORMED_NOTES)
def test_t29_malformed_notes_are_30_at_once(verify, tmp_path, name):
    path = Log.of(5).write(tmp_path / "log")
    begun = time.process_time()
    assert verify(path, trusted=[MALFORMED_NOTES[name]])["exit_code"] == 30
    assert time.process_time() - begun < 1


def test_t29_a_megabyte_of_signatures_costs_no_time(verify, tmp_path):
    log = Log.of(5)
    text = log.head().split("\n\n")[0] + "\n"
    foreign = signature_line(text, "w.example/w", OTHER_SEED)
    again = signature_line(text)
    begun = time.process_time()
    for line in (foreign, again, f"— {ORIGIN} {b64(KEYS[0].id + bytes(64))}\n"):
        note_of_many = f"{text}\n{again}" + line * ((990_000 - len(text)) // len(line.encode()))
        assert verify(log.write(tmp_path / "log"), trusted=[note_of_many])["exit_code"] in (0, 13)
    assert time.process_time() - begun < 3


def hostile_proofs():
    good = Log.of(9).receipt(4)
    lines = good.split("\n")
    yield good.replace("index 4", "index 04")
    yield good.replace("index 4", "index 5")
    yield good.replace("index 4", "index -4")
    yield good.replace("index 4\n", f"index 4\n{lines[3]}\n")
    yield good.replace(f"{lines[3]}\n", "")
    yield good.replace(f"{lines[3]}\n", f"{b64(bytes(32))}\n")
    yield good.replace(f"{lines[3]}\n", f"{b64(bytes(31))}\n")
    yield good.replace("index 4\n", "index 4\n" + f"{lines[3]}\n" * 64)
    yield good.replace("index 4\n", "index 4\n" + f"{lines[3]}\n" * 20_000)
    yield good.replace(f"{lines[1]}\n", "")
    yield good.replace(lines[1], f"extra {b64(Log.of(9).records[5].header())}")
    yield good.replace(lines[1], f"extra {lines[1][6:-1]}")
    yield "c2sp.org/tlog-proof@v1\n"
    yield "c2sp.org/tlog-proof@v1\n\n\n\n"
    yield good + "x" * 1_100_000


@pytest.mark.parametrize("text", list(hostile_proofs()))
def test_t29_malformed_proofs_are_30_at_once(verify, tmp_path, text):
    path = tmp_path / "receipt.tlog-proof"
    path.write_text(text)
    begun = time.process_time()
    assert verify(path)["exit_code"] == 30
    assert time.process_time() - begun < 1


def test_every_changed_character_of_a_receipt_is_found(tmp_path):
    good = Log.of(9).receipt(4).encode()
    path = tmp_path / "receipt.tlog-proof"
    for at in range(len(good)):
        changed = good[:at] + bytes([good[at] ^ 1 << at % 7]) + good[at + 1 :]
        report = Report()
        judge(report, lambda changed=changed: auditverify.open_receipt(changed, KEYS, path.name))
        assert report.exit_code in (13, 30), at


def test_a_receipt_verifies_alone(verify, tmp_path):
    path = tmp_path / "receipt.tlog-proof"
    path.write_text(Log.of(9).receipt(4))
    answer = verify(path)
    assert answer["exit_code"] == 0 and "record 4 is under the signed checkpoint of 9" in answer["messages"][0]


@settings(max_examples=300)
@given(st.binary(max_size=400))
def test_noise_is_refused_and_never_accepted(noise):
    for parse in (open_checkpoint, auditverify.open_receipt):
        report = Report()
        judge(report, lambda parse=parse: parse(noise, KEYS, "noise"))
        assert report.exit_code in (13, 30)
    assert auditverify.parse_control(noise) is None or noise.startswith(b"{")


def test_names_from_the_input_cannot_steer_a_terminal(tmp_path, capsys):
    path = tmp_path / "\x1b[2Jlog"
    path.write_bytes(b"junk")
    assert auditverify.verify([str(path), "--pub", verifier_key()]) == 30
    assert "\x1b" not in capsys.readouterr().out


@pytest.mark.parametrize("content", [b"", b"junk", b"SQLite format 3\x00" + bytes(84), b"PK\x05\x06" + bytes(18)])
def test_other_files_are_30(verify, tmp_path, content):
    path = tmp_path / "log"
    path.write_bytes(content)
    assert verify(path)["exit_code"] == 30


def test_a_damaged_zip_is_30(verify, tmp_path):
    path = Log.of(20).write_zip(tmp_path / "log.zip")
    content = path.read_bytes()
    at = content.index(Log.of(20).records[7].env)
    path.write_bytes(content[:at] + b"\x00" + content[at + 1 :])
    assert verify(path)["exit_code"] == 30


def test_an_empty_folder_of_receipts_is_refused(verify, tmp_path):
    (tmp_path / "receipts").mkdir()
    answer = verify(Log.of(5).write(tmp_path / "log"), arguments=["--receipts", tmp_path / "receipts"])
    assert answer["exit_code"] == 30


@pytest.mark.parametrize(
    "pub", ["", "junk", "a+b+c", verifier_key()[:-4] + "AAA=", verifier_key().replace("+", "+0", 1)]
)
def test_a_key_that_is_not_one_is_30(verify, tmp_path, pub):
    assert verify(Log.of(5).write(tmp_path / "log"), pub=pub or " ")["exit_code"] == 30


# --- as a program -----------------------------------------------------------------------------------------------------


def test_it_runs_alone_and_says_what_a_person_needs(tmp_path):
    log = Log.of(5)
    (tmp_path / "key.txt").write_text(verifier_key() + "\n")
    (tmp_path / "kept.txt").write_text(log.head())
    command = [sys.executable, "-I", auditverify.__file__, log.write(tmp_path / "log"), "--pub", tmp_path / "key.txt"]
    done = subprocess.run([*command, "--trusted", tmp_path / "kept.txt"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("OK. Every record checked is exactly as it was signed")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 16 and done.stdout.startswith("NOT ANCHORED.")
    done = subprocess.run(command[:3], capture_output=True, text=True, check=False)
    assert done.returncode == 30, "2 would mean that the log is in order"


def test_it_is_one_file_of_the_standard_library_for_python_3_9():
    source = Path(auditverify.__file__).read_text()
    tree = ast.parse(source, feature_version=(3, 9))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in imported} <= sys.stdlib_module_names


def test_memory_does_not_grow_with_the_log(tmp_path):
    def peak(size):
        path = Log.of(size).write(tmp_path / str(size))
        report = Report()
        source = Bundle(auditverify.Folder(path), KEYS, report)
        tracemalloc.start()
        Verification(source, KEYS, Outside(), report).run(None)
        _, highest = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert report.exit_code == 16
        return highest

    peak(512)
    assert peak(4096) < peak(1024) * 1.5


# --- the parts that others share with no one ------------------------------------------------------------------------


@settings(max_examples=60)
@given(st.integers(0, 700))
def test_the_growing_tree_is_that_of_the_definition(size):
    leaves = [sha256(b"%d" % number) for number in range(size)]
    tree = Tree()
    for leaf in leaves:
        tree.append(leaf)
    assert tree.root() == mth(leaves)
    assert tree.frontier() == frontier_of(leaves)


def test_signatures_agree_with_another_implementation():
    for number in range(8):
        seed = sha256(b"seed %d" % number)
        key = VerifierKey(verifier_key(seed=seed))
        message = b"message %d" % number
        signature = Ed25519PrivateKey.from_private_bytes(seed).sign(message)
        assert key.public == public_of(seed)
        assert key.verifies(message, signature)
        assert not key.verifies(message + b".", signature)
        order = auditverify.ORDER
        beyond = (int.from_bytes(signature[32:], "little") + order).to_bytes(33, "little")[:32]
        assert not key.verifies(message, signature[:32] + beyond), "s + L is the same number and another signature"
        for at in range(0, 64, 7):
            changed = signature[:at] + bytes([signature[at] ^ 1]) + signature[at + 1 :]
            assert not key.verifies(message, changed)
        assert not key.verifies(message, signature[:63])


def test_a_note_of_the_builder_is_a_note():
    assert open_checkpoint(note(3, bytes(32)).encode(), KEYS, "note").size == 3


# --- vectors: one failure each ----------------------------------------------------------------------------------------

VECTORS = load("bundle")


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: case["name"])
def test_bundles_with_one_failure_get_their_code(case):
    files = {name: base64.b64decode(content) for name, content in VECTORS["files"].items()}
    for name, content in case["change"].items():
        files.pop(name, None)
        if content is not None:
            files[name] = base64.b64decode(content)
    report = verify_files(files, VECTORS["trusted"])
    assert (report.exit_code, report.first_bad_seq) == (case["exit_code"], case["first_bad_seq"]), report.messages
