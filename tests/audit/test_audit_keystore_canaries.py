"""A thief of the files reads nothing: a thousand canaries in contents, subjects, names and attributes are in no file.

A real process records them, runs into an error that it logs with its trace, and is killed together with its sequencer
in mid-work, so that the write-ahead log, its index and whatever else a crash leaves are searched as they lie. What it
printed is searched, too. Each canary begins alike; it is searched for in UTF-8, UTF-16, base64 and hexadecimal.
"""

import base64
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from pysqlite3 import dbapi2

from appliance.config import Home

MARK = "Qx7CanaryVz3"
CANARIES = 1000
ROOT = Path(__file__).parents[2]

# Runs in a process of its own: `python -c RECORD HOME MARK COUNT`.
RECORD = """
import asyncio, dataclasses, logging, os, secrets, signal, sys
from appliance.audit.keystore import open_keystore
from appliance.audit.log import AuditLog
from appliance.audit.root_key import read_root_key
from appliance.config import load_config
from appliance.types import AuditEvent, Outcome

logging.basicConfig(level=logging.DEBUG)
home, mark, count = sys.argv[1], sys.argv[2], int(sys.argv[3])

def event(number):
    canary = [f"{mark}{number:06}{part}" for part in range(5)]
    content = f"{canary[0]} Patient, {canary[1]}".encode() + canary[2].encode("utf-16-le")
    return AuditEvent("specialist.deidentify", f"user:{number % 7}", Outcome.COMPLETED, f"x{number}",
        secrets.token_bytes(16), {"file": f"/home/ward/{canary[3]}.txt"}, content, subject=canary[4])

async def main():
    config = load_config(home)
    config = dataclasses.replace(config, audit=config.audit.model_copy(update={"append_s": 60.0, "start_s": 60.0}))
    key = read_root_key(config.home.root_key_file)
    log = await AuditLog.open(config, key)
    await asyncio.gather(*(log.append(event(number)) for number in range(count // 5)))
    try:
        await log.append(dataclasses.replace(event(0), content=mark.encode() * 10**6))
    except Exception:
        logging.exception("an append that is refused")
    try:
        open_keystore(config.home, key)._for_purpose("env", f"{mark}", 1, b"")
    except Exception:
        logging.exception("a statement that fails")
    print("recorded", flush=True)
    pending = [asyncio.create_task(log.append(event(number))) for number in range(50)]
    await asyncio.sleep(0)
    if sys.argv[4] == "exception":
        raise RuntimeError("ends in a trace")
    os.killpg(log.client._link.process.pid, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


def patterns(mark: str) -> dict[str, bytes]:
    found = {
        "utf-8": mark.encode(),
        "utf-16-le": mark.encode("utf-16-le"),
        "utf-16-be": mark.encode("utf-16-be"),
        "hex": mark.encode().hex().encode(),
        "HEX": mark.encode().hex().upper().encode(),
        "hex of utf-16": mark.encode("utf-16-le").hex().encode(),
    }
    for shift in range(3):
        # The characters of base64 that depend on the mark alone, wherever in a longer text it stands.
        encoded = base64.b64encode(b"\0" * shift + mark.encode() + b"\0" * 3)
        first = (shift * 8 + 5) // 6
        found[f"base64+{shift}"] = encoded[first : (shift + len(mark)) * 8 // 6]
    return found


def hits(image: bytes) -> list[str]:
    return [name for name, pattern in patterns(MARK).items() if pattern in image]


def test_the_search_finds_what_is_there_in_every_form():
    text = f"{MARK}000001"
    images = [text.encode(), text.encode("utf-16-le"), text.encode("utf-16-be"), text.encode().hex().encode()]
    images += [base64.b64encode(b"x" * shift + text.encode()) for shift in range(3)]
    assert all(hits(image) for image in images)
    assert not hits(b"CanaryVz3 and Qx7 apart")


def found_in(files):
    return {str(path): found for path in files if (found := hits(path.read_bytes()))}


def backups_of(home: Home) -> list[Path]:
    """Copies of both databases, made by SQLite of what the end left."""
    made = []
    for database in (home.audit_database, home.keystore):
        made.append(home.root / f"backup-of-{database.name}")
        with closing(dbapi2.connect(database)) as source, closing(dbapi2.connect(made[-1])) as target:
            source.backup(target)
    return made


@pytest.mark.parametrize("end", ["kill", "exception"])
def test_a_thousand_canaries_are_in_no_file_and_in_nothing_that_was_printed(home: Home, end):
    done = subprocess.run(
        [sys.executable, "-c", RECORD, str(home.root), MARK, str(CANARIES), end],
        cwd=ROOT,
        capture_output=True,
        timeout=240,
        check=False,
    )
    assert b"recorded" in done.stdout and done.returncode != 0
    assert b"an append that is refused" in done.stderr and b"a statement that fails" in done.stderr
    assert not hits(done.stdout + done.stderr)
    files = [path for path in home.root.rglob("*") if path.is_file()]
    names = {path.name for path in files}
    assert {"log.db", "keystore.db", "root.key"} <= names
    if end == "kill":
        assert {"log.db-wal", "log.db-shm"} <= names
    assert sum(path.stat().st_size for path in files) > CANARIES // 5 * 500
    assert found_in(files) == {}
    assert not [path for path in home.root.rglob("*") if MARK in path.name]
    assert found_in(backups_of(home)) == {}
    assert not list(ROOT.glob("core*"))
