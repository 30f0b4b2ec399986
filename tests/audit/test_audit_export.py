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
from audit_bundle import b64, cosigned, sha256, witness_key
from audit_home import WAIT_S, an_event, opened

from appliance.audit import auditverify
from appliance.audit.export import export_bundle, export_tiles
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


@pytest.mark.parametrize("wherever", [3, 9, 22, 23, 24])
def test_an_export_that_was_cut_off_goes_on_and_ends_at_the_newest_checkpoint(home, tmp_path, wherever):
    async def run():
        async with opened(home) as log:
            await asyncio.gather(*(log.append(an_event(i, content=b"note")) for i in range(300)))
            with log._reading(None) as reader:
                broken = BrokenReader(reader, reads=wherever)
                with pytest.raises(HomeError, match="cannot write"):
                    export_bundle(broken, tmp_path / "bundle", ciphertexts=True, resume=True)
                draft = tmp_path / "bundle.partial"
                before = {path.relative_to(draft): path.stat().st_mtime_ns for path in files_of(draft)}
                await log.append(an_event(99))
                summary = export_bundle(reader, tmp_path / "bundle", ciphertexts=True, resume=True)
                assert summary.records == 303
                for path, moment in before.items():
                    if path.name == "000":  # of the complete block: it was not written again
                        assert (tmp_path / "bundle" / path).stat().st_mtime_ns == moment
                assert not list(tmp_path.rglob("*.unfinished")) and not draft.exists()
                (tmp_path / "kept").write_text(summary.checkpoint)
                return log.verifier_key()

    code, verdict = verify(tmp_path / "bundle", asyncio.run(run()), tmp_path / "kept")
    assert (code, verdict["records"]) == (0, 303), verdict


def test_the_checkpoint_is_chosen_when_everything_was_copied(home, tmp_path):
    """What is destroyed while an export runs is authorised by a record that is in it."""

    async def run():
        async with opened(home) as log:
            await asyncio.gather(*(log.append(an_event(i, content=b"note")) for i in range(300)))
            with log._reading(None) as reader:
                signed = []
                growing = BrokenReader(reader, reads=1000)
                growing.signed_head = lambda: signed.append(reader.signed_head()) or signed[-1]
                export_bundle(growing, tmp_path / "bundle.zip", ciphertexts=True)
                assert len(signed) >= 2, "asked again after the complete blocks"

    asyncio.run(run())
    with zipfile.ZipFile(tmp_path / "bundle.zip") as archive:
        names = archive.namelist()
    assert names[-1] == "checkpoint" and names.index("ciphertexts/000") < names.index("ciphertexts/001")


class BrokenReader:
    """A reader whose disk fails after some reads."""

    def __init__(self, reader, reads):
        self._reader, self._left = reader, reads

    def __getattr__(self, name):
        return getattr(self._reader, name)

    def snapshot(self):
        self._left -= 1
        if self._left < 0:
            raise OSError(5, "Input/output error")
        return self._reader.snapshot()


def test_the_tree_alone_is_a_static_log(home, tmp_path):
    async def run():
        async with opened(home) as log:
            await asyncio.gather(*(log.append(an_event(i, content=b"note")) for i in range(300)))
            with log._reading(None) as reader:
                summary = export_tiles(reader, tmp_path / "tiles")
                export_bundle(reader, tmp_path / "bundle", ciphertexts=False)
                assert summary.records == 302
            return log.verifier_key()

    asyncio.run(run())
    written = {p.relative_to(tmp_path / "tiles").as_posix(): p.read_bytes() for p in files_of(tmp_path / "tiles")}
    assert set(written) == {
        "checkpoint", "tile/0/000", "tile/0/001.p/46", "tile/1/000.p/1", "tile/entries/000", "tile/entries/001.p/46",
    }  # fmt: skip
    for name, content in written.items():
        assert (tmp_path / "bundle" / name).read_bytes() == content
    tree = auditverify.Tree()
    for at in range(0, 302 * 32, 32):
        tree.append((written["tile/0/000"] + written["tile/0/001.p/46"])[at : at + 32])
    assert written["checkpoint"].decode().split("\n")[2] == b64(tree.root())


def files_of(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


def test_the_keys_that_the_log_names_and_the_lines_of_witnesses_are_in_the_bundle(home, tmp_path):
    seed = sha256(b"a witness")

    async def run():
        async with opened(home) as log:
            await log.append(an_event(1))
            first = log.verifier_key()
            await log.rotate_signing_key("scheduled")
            await log.append(an_event(2))
            await log.keep_cosigned(cosigned(log.checkpoint(), "witness.example/w", seed, 1_767_300_000))
            log.export(tmp_path / "bundle", ciphertexts=True)
            return first, log.verifier_key()

    keys = asyncio.run(run())
    assert (tmp_path / "bundle" / "verifier-keys").read_text().split() == list(keys)
    words = [tmp_path / "bundle", "--pub", tmp_path / "bundle" / "verifier-keys", "--json"]
    witness = ["--witness-key", witness_key("witness.example/w", seed), "--now", "1767300000"]
    done = run_verifier([*words, *witness])
    assert (done["exit_code"], done["anchored_size"]) == (0, done["checkpoint_size"]), done
    assert run_verifier(words)["exit_code"] == 16


def run_verifier(words):
    command = [sys.executable, "-I", auditverify.__file__, *map(str, words)]
    return json.loads(subprocess.run(command, capture_output=True, timeout=WAIT_S, check=False).stdout)
