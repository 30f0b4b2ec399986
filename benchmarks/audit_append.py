"""How fast the log records: real sequencer, real disk, 2 KB of content a record, blind index on.

    python -m benchmarks.audit_append [--seconds 3] [--json]
    python -m benchmarks.audit_append --growth 1000000       # latency at that size against that at 10,000

Prints records per second and latency at 1, 16 and 64 submitters, and the latency of an append to an idle log. An
append counts when its receipt is there: sealed, committed with fsync, signed, proven. Compare runs on one machine
only; the disk decides. Therefore a contender takes turns with the single submitter: one commit of a row of as many
bytes to a plain SQLite database with the same settings (WAL, synchronous=FULL). Its ratio is what to compare.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import statistics
import tempfile
import time
from pathlib import Path

from pysqlite3 import dbapi2

import migrations
from appliance.audit.clock import read_boot_id, read_clock
from appliance.audit.hardening import measure_fsync_ms
from appliance.audit.header import HEADER_BYTES
from appliance.audit.keystore import create_keystore, open_keystore
from appliance.audit.log import AuditLog
from appliance.audit.record import Moment, keys_for, seal
from appliance.audit.root_key import create_root_key
from appliance.audit.start import start_message
from appliance.audit.writer import LogWriter
from appliance.config import Home, load_config
from appliance.crypto.padding import padded_length
from appliance.crypto.xaes import TAG_BYTES
from appliance.types import AuditEvent, Outcome

SUBMITTERS = (1, 16, 64)
CONTENT_BYTES = 2000
IDLE_APPENDS = 40
IDLE_PAUSE_S = 0.05
TURNS = 300
GROWTH_FROM = 10_000
FILL_BATCH = 1000


def main() -> None:
    """Measure in a folder that is removed afterwards."""
    parser = argparse.ArgumentParser(description="Throughput and latency of the audit log.")
    parser.add_argument("--seconds", type=float, default=3.0, help="per number of submitters")
    parser.add_argument("--folder", type=Path, default=None, help="on the disk to measure; default: here")
    parser.add_argument("--growth", type=int, default=0, help="fill the log up to so many records and compare")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder or Path.cwd(), prefix=".audit-append-") as folder:
        home = Home(Path(folder))
        root_key = create_home(home)
        if arguments.growth:
            print(json.dumps(asyncio.run(growth(home, root_key, arguments.growth))))
            return
        figures = asyncio.run(measure(home, root_key, arguments.seconds))
        figures["fsync_ms"] = round(measure_fsync_ms(home.root), 3)
    print(json.dumps(figures) if arguments.json else as_text(figures))


def create_home(home: Home) -> bytes:
    """Folders, tables and keys; returns the root key."""
    for part in home.folders():
        part.mkdir(mode=0o700, parents=True, exist_ok=True)
    migrations.upgrade(home.root)
    root_key = create_root_key(home.root_key_file)
    create_keystore(home, root_key)
    return root_key


async def measure(home: Home, root_key: bytes, seconds: float) -> dict[str, object]:
    """Every figure, in one run of the sequencer."""
    log = await AuditLog.open(load_config(home.root), root_key)
    try:
        await log.append(an_event())  # makes the keys of the month
        idle = await idle_latency(log)
        turns = await turns_with_raw_commits(log, home)
        loaded = [await throughput(log, submitters, seconds) for submitters in SUBMITTERS]
        hello = log.client.hello
        assert hello is not None
        return {"idle": idle, "turns": turns, "loaded": loaded, "sequencer_pss_mib": pss_mib(hello.pid)}
    finally:
        await log.close()


async def idle_latency(log: AuditLog) -> dict[str, float]:
    """Appends with pauses between them, as one person's requests arrive."""
    samples = []
    for _ in range(IDLE_APPENDS):
        await asyncio.sleep(IDLE_PAUSE_S)
        samples.append(await timed_append(log))
    return percentiles(samples)


async def turns_with_raw_commits(log: AuditLog, home: Home) -> dict[str, float]:
    """One append, one raw commit of as many bytes, and so on: medians, and their ratio."""
    raw = RawCommits(home.root / "raw.db", log_row_bytes())
    appends, commits = [], []
    for _ in range(TURNS):
        appends.append(await timed_append(log))
        commits.append(raw.timed_commit())
    raw.close()
    append, commit = statistics.median(appends), statistics.median(commits)
    return {"append_p50_ms": round(append, 3), "raw_p50_ms": round(commit, 3), "ratio": round(append / commit, 2)}


class RawCommits:
    """The contender: a table of blobs, the same pragmas, one row a commit, no SQLAlchemy, no index, same process."""

    def __init__(self, path: Path, row_bytes: int) -> None:
        self._row_bytes = row_bytes
        self._database = dbapi2.connect(path, isolation_level=None)
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute("PRAGMA synchronous=FULL")
        self._database.execute("CREATE TABLE row (id INTEGER PRIMARY KEY, value BLOB NOT NULL)")

    def timed_commit(self) -> float:
        """Milliseconds."""
        value = os.urandom(self._row_bytes)
        before = time.perf_counter()
        self._database.execute("BEGIN IMMEDIATE")
        self._database.execute("INSERT INTO row (value) VALUES (?)", (value,))
        self._database.execute("COMMIT")
        return (time.perf_counter() - before) * 1000

    def close(self) -> None:
        self._database.close()


def log_row_bytes() -> int:
    """Bytes of one record of this benchmark as stored: header, envelope, content, ids and tokens."""
    envelope = padded_length(300) + TAG_BYTES
    return HEADER_BYTES + envelope + padded_length(CONTENT_BYTES) + TAG_BYTES + 16 + 6 * 12


async def growth(home: Home, root_key: bytes, size: int) -> dict[str, object]:
    """Latency of single appends to a log of 10,000 records and of `size`, each against raw commits at that moment."""
    found: dict[str, object] = {}
    for target in (GROWTH_FROM, size):
        fill(home, root_key, target)
        log = await AuditLog.open(load_config(home.root), root_key)
        try:
            await log.append(an_event())
            appends = [await timed_append(log) for _ in range(TURNS)]
            turns = await turns_with_raw_commits(log, home)
            (home.root / "raw.db").unlink()
        finally:
            await log.close()
        found[str(target)] = percentiles(appends) | turns
    first, last = found[str(GROWTH_FROM)], found[str(size)]
    assert isinstance(first, dict) and isinstance(last, dict)
    return found | {
        "p95_ratio": round(last["p95_ms"] / first["p95_ms"], 2),
        "p50_ratio": round(last["p50_ms"] / first["p50_ms"], 2),
        "ratio_of_ratios": round(last["ratio"] / first["ratio"], 2),
    }


def fill(home: Home, root_key: bytes, target: int) -> None:
    """Grow the log in this process, in large batches of sealed records."""
    config = load_config(home.root)
    keystore = open_keystore(home, root_key)
    writer = LogWriter.open(start_message(config, keystore), clock=read_clock)
    moment = Moment(read_clock(), read_boot_id())
    keys = keys_for(keystore, an_event(), moment, index=True)
    while writer.size < target:
        count = min(FILL_BATCH, target - writer.size)
        writer.commit([seal(an_event(), keys, moment) for _ in range(count)])
    writer.close()


async def throughput(log: AuditLog, submitters: int, seconds: float) -> dict[str, float]:
    """`submitters` tasks append one record after the other."""
    samples: list[float] = []
    began = time.perf_counter()
    until = began + seconds

    async def submit() -> None:
        while time.perf_counter() < until:
            samples.append(await timed_append(log))

    await asyncio.gather(*(submit() for _ in range(submitters)))
    rate = len(samples) / (time.perf_counter() - began)
    return {"submitters": submitters, "records_per_s": round(rate)} | percentiles(samples)


async def timed_append(log: AuditLog) -> float:
    event = an_event()
    before = time.perf_counter()
    await log.append(event)
    return (time.perf_counter() - before) * 1000


def an_event() -> AuditEvent:
    """A record with new content of a usual size."""
    return AuditEvent(
        event="deidentify",
        actor="user:1",
        outcome=Outcome.COMPLETED,
        exchange_id=secrets.token_hex(16),
        record_id=secrets.token_bytes(16),
        attributes={"specialist": "phi-deid", "address": "10.0.0.7", "spans": 12, "chars": CONTENT_BYTES},
        content=os.urandom(CONTENT_BYTES),
    )


def percentiles(samples_ms: list[float]) -> dict[str, float]:
    """Median and 95th percentile."""
    ordered = sorted(samples_ms)
    return {
        "p50_ms": round(statistics.median(ordered), 2),
        "p95_ms": round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))], 2),
    }


def pss_mib(pid: int) -> float | None:
    """Memory of the sequencer, shared pages counted in part; None where the system does not say."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return None
    return round(next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024, 1)


def as_text(figures: dict[str, object]) -> str:
    """For people."""
    idle, turns, loaded = figures["idle"], figures["turns"], figures["loaded"]
    assert isinstance(idle, dict) and isinstance(turns, dict) and isinstance(loaded, list)
    lines = [
        f"write 4 KiB and fsync     {figures['fsync_ms']} ms",
        f"append to an idle log     p50 {idle['p50_ms']} ms, p95 {idle['p95_ms']} ms",
    ]
    lines.append(
        f"taking turns              append p50 {turns['append_p50_ms']} ms, raw commit p50 {turns['raw_p50_ms']} ms: "
        f"ratio {turns['ratio']}"
    )
    lines += [
        f"{row['submitters']:3} submitters           {row['records_per_s']} records/s, "
        f"p50 {row['p50_ms']} ms, p95 {row['p95_ms']} ms"
        for row in loaded
    ]
    return "\n".join([*lines, f"memory of the sequencer   {figures['sequencer_pss_mib']} MiB (PSS)"])


if __name__ == "__main__":
    main()
