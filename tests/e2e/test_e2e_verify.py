"""What leaves the appliance convinces somebody who trusts nothing of it: an exported log and a receipt verify with
one copied file and a public key, on an interpreter that cannot even import the appliance; any changed byte is found
and its record is named.

The log is a real one, of a real server with answers in it; the verifier runs as an auditor would run it.
"""

import contextlib
import importlib.util
import io
import json
import random
import shutil
import sqlite3
import struct
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

import appliance.audit
from appliance.audit.header import HEADER_BYTES
from tests.conftest import link_or_copy, run_appliance
from tests.e2e.sites import configure, running_site

VERIFIER = Path(appliance.audit.__file__).with_name("auditverify.py")
NOTES = ("Call ana@example.org", "MRN 4471-90823", "Ana Lima, born 14 March 1931", "nothing")
SEED = 20260301
POSITIONS_PER_FILE = 16
ENTRY_BYTES = 2 + HEADER_BYTES
OK, ALTERED, SIGNATURE, MALFORMED = 0, 10, 13, 30


@dataclass(frozen=True)
class Exported:
    """An exported log in a folder, with what an auditor got beforehand and from users."""

    bundle: Path
    key: Path
    trusted: Path
    receipt: dict
    proof: Path
    verifier: Path


@pytest.fixture(scope="module")
def exported(home_template, tmp_path_factory) -> Exported:
    folder = tmp_path_factory.mktemp("verify")
    home = folder / "home"
    shutil.copytree(home_template, home, copy_function=link_or_copy)
    configure(home)
    with running_site(home, folder) as site:
        answers = [site.client.post("/v1/deidentify", json={"text": note}).json() for note in NOTES]
        receipt = site.client.get(f"/v1/audit/receipts/{answers[1]['receipt']['record_id']}").json()
        view = site.client.get("/v1/audit/checkpoint").json()
    (folder / "key.txt").write_text(view["verifier_key"] + "\n")
    (folder / "trusted.txt").write_text(view["checkpoint"])
    (folder / "receipts").mkdir()
    (folder / "receipts" / "mine.tlog-proof").write_text(receipt["proof_file"])
    (folder / "receipts" / "as-answered.tlog-proof").write_text(answers[0]["receipt"]["proof_file"])
    done = run_appliance("audit", "export", str(folder / "log.zip"), home=home)
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(folder / "log.zip") as archive:
        archive.extractall(folder / "bundle")
    alone = folder / "laptop" / "auditverify.py"
    alone.parent.mkdir()
    shutil.copyfile(VERIFIER, alone)
    return Exported(folder / "bundle", folder / "key.txt", folder / "trusted.txt", receipt, folder / "receipts", alone)


def verify(exported: Exported, target: Path, *options: str) -> tuple[int, dict]:
    """Exit status and verdict of the copied verifier, isolated from every installed package."""
    command = [sys.executable, "-I", "-S", exported.verifier, target, "--pub", exported.key, "--json", *options]
    done = subprocess.run(command, capture_output=True, timeout=120, check=False, cwd=exported.verifier.parent)
    assert not done.stderr, done.stderr
    return done.returncode, json.loads(done.stdout)


def test_exported_log_is_accepted_as_folder_and_as_zip(exported):
    for target in (exported.bundle, exported.bundle.with_name("log.zip")):
        status, verdict = verify(exported, target, "--trusted", exported.trusted)
        assert (status, verdict["verdict"]) == (OK, "ok"), verdict
        assert verdict["records"] >= 2 * len(NOTES)


def test_copied_verifier_cannot_import_the_appliance(exported):
    command = [sys.executable, "-I", "-S", "-c", "import appliance"]
    done = subprocess.run(command, capture_output=True, check=False, cwd=exported.verifier.parent)
    assert b"ModuleNotFoundError" in done.stderr


def test_receipt_of_an_answer_verifies_with_the_log_and_alone(exported):
    status, verdict = verify(exported, exported.bundle, "--trusted", exported.trusted, "--receipts", exported.proof)
    assert status == OK, verdict
    for name in ("mine", "as-answered"):
        status, verdict = verify(exported, exported.proof / f"{name}.tlog-proof")
        assert status == OK, verdict


def test_receipt_with_any_other_leaf_or_signature_is_refused(exported, tmp_path):
    lines = (exported.proof / "mine.tlog-proof").read_text().splitlines(keepends=True)
    for number in range(1, len(lines)):
        if lines[number].strip():
            altered = lines.copy()
            altered[number] = altered[number][:-3] + ("A" if altered[number][-3] != "A" else "B") + altered[number][-2:]
            (tmp_path / "altered.tlog-proof").write_text("".join(altered))
            status, _ = verify(exported, tmp_path / "altered.tlog-proof")
            assert status in (ALTERED, SIGNATURE, MALFORMED), lines[number]


def test_log_without_anything_from_outside_is_not_called_intact(exported):
    status, verdict = verify(exported, exported.bundle)
    assert (status, verdict["verdict"]) == (16, "not_anchored")


def test_any_changed_byte_of_any_file_is_found_and_its_record_named(exported):
    judge = judge_of(exported)
    print(f"seed {SEED}")
    choose = random.Random(SEED)
    for path in sorted(path for path in exported.bundle.rglob("*") if path.is_file()):
        whole = path.read_bytes()
        owners = owners_of(path.relative_to(exported.bundle), whole)
        for position in sorted({0, len(whole) - 1, *(choose.randrange(len(whole)) for _ in range(POSITIONS_PER_FILE))}):
            changed = bytearray(whole)
            changed[position] ^= 1 << choose.randrange(8)
            path.write_bytes(changed)
            verdict = judge()
            where = f"byte {position} of {path.name}: {verdict}"
            assert verdict["exit_code"] in (ALTERED, SIGNATURE, MALFORMED), where
            if owners and verdict["exit_code"] == ALTERED:
                assert verdict["first_bad_seq"] == owners[position], where
        path.write_bytes(whole)
    assert judge()["exit_code"] == OK


def test_running_server_says_which_record_was_altered_under_it(home, tmp_path):
    configure(home.root)
    with running_site(home.root, tmp_path) as site:
        receipt = site.client.post("/v1/deidentify", json={"text": NOTES[0]}).json()["receipt"]
        connection = sqlite3.connect(home.audit_database)
        with connection:
            connection.execute("UPDATE record SET con_ct = zeroblob(length(con_ct)) WHERE seq = ?", (receipt["seq"],))
        connection.close()
        verdict = site.verdict()
        assert (verdict["exit_code"], verdict["first_bad_seq"]) == (ALTERED, receipt["seq"])


def judge_of(exported: Exported):
    """The copied verifier in this process, so that a few hundred runs take seconds."""
    spec = importlib.util.spec_from_file_location("auditverify_copy", exported.verifier)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its named tuples look themselves up there
    spec.loader.exec_module(module)
    command = [str(exported.bundle), "--pub", str(exported.key), "--trusted", str(exported.trusted), "--json"]

    def judge() -> dict:
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            status = module.verify(command)
        verdict = json.loads(printed.getvalue())
        assert verdict["exit_code"] == status
        return verdict

    return judge


def owners_of(name: Path, content: bytes) -> list[int]:
    """Which record each byte of a bundle's file belongs to; empty for a file that belongs to the whole log."""
    if name.is_relative_to("tile/entries"):
        return [position // ENTRY_BYTES for position in range(len(content))]
    if name.is_relative_to("tile/0"):
        return [position // 32 for position in range(len(content))]
    if name.parts[0] not in ("public", "ciphertexts"):
        return []
    owners: list[int] = []
    while len(owners) < len(content):
        seq, _, length = struct.unpack_from(">QBI", content, len(owners))
        owners += [seq] * (13 + length)
    return owners
