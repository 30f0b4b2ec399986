"""Other people's program reads our log: Go's checksum-database library opens our notes, walks our tiles, believes our
receipts, and refuses whatever was changed.

`interop/fsck.go` is compiled from Debian's packages (`tests/setup/go.sh`), so this runs with the long tests only. The
formats are those of C2SP tlog-tiles, signed-note, tlog-checkpoint and tlog-proof.
"""

import asyncio
import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from appliance.audit.log import AuditLog
from appliance.audit.root_key import read_root_key
from tests.audit.audit_home import config_of
from tests.audit.audit_recorded import NIGHTLY

SEED = random.SystemRandom().randrange(2**32)
SOURCE = Path(__file__).parent / "interop" / "fsck.go"
LIBRARY = "/usr/share/gocode"

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    assert shutil.which("go"), "Go is missing; `make test-long` installs it: tests/setup/go.sh"
    folder = tmp_path_factory.mktemp("go")
    settings = {"GO111MODULE": "off", "GOPATH": LIBRARY, "GOCACHE": str(folder / "cache"), "GOFLAGS": ""}
    subprocess.run(
        ["go", "build", "-o", folder / "fsck", SOURCE], env={**os.environ, **settings}, check=True, timeout=600
    )
    return folder / "fsck"


@pytest.fixture(scope="module")
def static_log(recorded, tmp_path_factory):
    """The tree of the ten thousand records, as anybody may publish it, and receipts under its checkpoint."""
    folder = tmp_path_factory.mktemp("static")
    home = recorded.copy(folder / "home")

    async def run():
        log = await AuditLog.open(config_of(home), read_root_key(home.root_key_file))
        log.export_tiles(folder / "log")
        receipts = []
        for view in log.records(limit=40):
            receipts.append(folder / f"{view.seq}.tlog-proof")
            receipts[-1].write_text(log.proof_text(bytes.fromhex(view.record_id)))
        await log.close()
        return receipts

    return folder / "log", asyncio.run(run())


def fsck(program, recorded, log, folder, receipts=()):
    older = folder / "older.txt"
    older.write_text(recorded.notes[NIGHTLY])
    words = [recorded.keys[0], log, older, recorded.keys[1], *receipts]
    return subprocess.run([program, *words], capture_output=True, text=True, timeout=300, check=False)


def test_t30_the_static_log_and_its_receipts_are_believed_and_an_older_checkpoint_is_its_beginning(
    program, recorded, static_log, tmp_path
):
    log, receipts = static_log
    done = fsck(program, recorded, log, tmp_path, receipts)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "10001 records\n"
    assert len(receipts) == 40


def test_t30_any_changed_byte_of_the_static_log_is_refused(program, recorded, static_log, tmp_path):
    print("seed", SEED)
    chance = random.Random(SEED)
    whole, _ = static_log
    log = tmp_path / "log"
    shutil.copytree(whole, log)
    files = sorted(path for path in log.rglob("*") if path.is_file())
    assert len(files) > 80
    for path in files:
        content = path.read_bytes()
        at = chance.randrange(len(content))
        path.write_bytes(content[:at] + bytes([content[at] ^ 1 << chance.randrange(8)]) + content[at + 1 :])
        done = fsck(program, recorded, log, tmp_path)
        assert done.returncode == 1, f"byte {at} of {path.relative_to(log)}"
        assert done.stderr.startswith("fsck: ")
        path.write_bytes(content)
    assert fsck(program, recorded, log, tmp_path).returncode == 0


def test_t30_an_altered_receipt_is_refused(program, recorded, static_log, tmp_path):
    log, receipts = static_log
    text = receipts[0].read_text()
    lines = text.split("\n")
    for number in range(1, lines.index("") + 5):
        if not lines[number] or "—" in lines[number - 1]:
            continue
        altered = tmp_path / "altered.tlog-proof"
        swapped = lines[number].translate({ord("A"): "B", ord("B"): "A", ord("1"): "2", ord("2"): "1"})
        if swapped == lines[number]:
            continue
        altered.write_text("\n".join([*lines[:number], swapped, *lines[number + 1 :]]))
        assert fsck(program, recorded, log, tmp_path, [altered]).returncode == 1, lines[number]
