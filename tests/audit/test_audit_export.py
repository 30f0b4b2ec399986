"""A bundle of a real log satisfies the stand-alone verifier, and no single byte of it can change unnoticed.

The verifier runs as the auditor runs it: another process, isolated, with the public key and a kept checkpoint. Every
file of the bundle gets one byte flipped, at a place drawn with a printed seed.
"""

import asyncio
import json
import random
import subprocess
import sys
import zipfile

import pytest
from audit_home import WAIT_S, an_event, opened

from appliance.audit import auditverify
from appliance.errors import Conflict, HomeError

SEED = random.SystemRandom().randrange(2**32)


def verify(bundle, key, trusted):
    arguments = [sys.executable, "-I", auditverify.__file__, str(bundle), "--pub", key]
    done = subprocess.run(
        [*arguments, "--trusted", str(trusted), "--json"], capture_output=True, timeout=WAIT_S, check=False
    )
    return done.returncode, json.loads(done.stdout)


@pytest.fixture
def exported(home, tmp_path):
    """A log of 50 records as a folder, its public key, and its checkpoint kept elsewhere."""

    async def run():
        async with opened(home) as log:
            await asyncio.gather(*(log.append(an_event(i, content=b"note %d" % i)) for i in range(50)))
            summary = log.export(tmp_path / "bundle", ciphertexts=True)
            log.export(tmp_path / "bundle.zip", ciphertexts=True)
            log.export(tmp_path / "bare", ciphertexts=False)
            (tmp_path / "kept").write_text(summary.checkpoint)
            assert summary.records == 52
            with pytest.raises(Conflict, match="exists already"):
                log.export(tmp_path / "bundle", ciphertexts=True)
            with pytest.raises(HomeError, match="cannot write the export"):
                log.export(tmp_path / "absent" / "bundle", ciphertexts=True)
            return log.verifier_key()

    return tmp_path / "bundle", asyncio.run(run()), tmp_path / "kept"


def test_the_verifier_accepts_a_folder_a_zip_file_and_a_bundle_without_ciphertexts(exported):
    bundle, key, kept = exported
    for form in (bundle, bundle.with_name("bundle.zip"), bundle.with_name("bare")):
        code, verdict = verify(form, key, kept)
        assert (code, verdict["verdict"], verdict["records"]) == (0, "ok", 52), verdict
    assert not (bundle.with_name("bare") / "ciphertexts").exists()
    assert not list(bundle.parent.glob("*.partial"))


def test_a_changed_byte_in_any_file_is_found_and_a_changed_record_is_named(exported):
    bundle, key, kept = exported
    print("seed", SEED)
    chance = random.Random(SEED)
    files = [path for path in sorted(bundle.rglob("*")) if path.is_file() and path.stat().st_size]
    assert len(files) >= 7
    for path in files:
        intact = path.read_bytes()
        if path.name == "verifier-key":
            continue  # for information only: the auditor's own key decides
        place = chance.randrange(len(intact))
        path.write_bytes(intact[:place] + bytes((intact[place] ^ 1,)) + intact[place + 1 :])
        code, verdict = verify(bundle, key, kept)
        assert code not in (0, 2), f"{path.relative_to(bundle)} at {place}"
        if path.parent.name == "ciphertexts":
            assert verdict["first_bad_seq"] is not None or code == 30
        path.write_bytes(intact)
    assert verify(bundle, key, kept)[0] == 0


def test_a_changed_ciphertext_byte_names_its_record(exported):
    bundle, key, kept = exported
    path = bundle / "ciphertexts" / "000"
    intact = path.read_bytes()
    path.write_bytes(intact[:100] + bytes((intact[100] ^ 1,)) + intact[101:])  # in the first sealed record's envelope
    code, verdict = verify(bundle, key, kept)
    assert (code, verdict["first_bad_seq"]) == (10, 2)


def test_a_zip_file_holds_the_same_bytes_as_the_folder(exported):
    bundle, _, _ = exported
    with zipfile.ZipFile(bundle.with_name("bundle.zip")) as archive:
        zipped = {name: archive.read(name) for name in archive.namelist()}
    assert zipped == {
        path.relative_to(bundle).as_posix(): path.read_bytes() for path in bundle.rglob("*") if path.is_file()
    }
