"""How fast the log records: real sequencer, real disk, 2 KB of content a record.

    python -m benchmarks.audit_append [--seconds 3] [--json]

Prints records per second and latency at 1, 16 and 64 submitters, and the latency of an append to an idle log. An
append counts when its receipt is there: sealed, committed with fsync, signed, proven. Compare runs on one machine
only; the disk decides. The line of the raw disk (write 4 KiB, fsync) is printed for that.
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

import migrations
from appliance.audit.hardening import measure_fsync_ms
from appliance.audit.keystore import create_keystore
from appliance.audit.log import AuditLog
from appliance.audit.root_key import create_root_key
from appliance.config import Home, load_config
from appliance.types import AuditEvent, Outcome

SUBMITTERS = (1, 16, 64)
CONTENT_BYTES = 2000
IDLE_APPENDS = 40
IDLE_PAUSE_S = 0.05


def main() -> None:
    """Measure in a folder that is removed afterwards."""
    parser = argparse.ArgumentParser(description="Throughput and latency of the audit log.")
    parser.add_argument("--seconds", type=float, default=3.0, help="per number of submitters")
    parser.add_argument("--folder", type=Path, default=None, help="on the disk to measure; default: here")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder or Path.cwd(), prefix=".audit-append-") as folder:
        home = Home(Path(folder))
        figures = asyncio.run(measure(home, create_home(home), arguments.seconds))
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
        loaded = [await throughput(log, submitters, seconds) for submitters in SUBMITTERS]
        hello = log.client.hello
        assert hello is not None
        return {"idle": idle, "loaded": loaded, "sequencer_pss_mib": pss_mib(hello.pid)}
    finally:
        await log.close()


async def idle_latency(log: AuditLog) -> dict[str, float]:
    """Appends with pauses between them, as one person's requests arrive."""
    samples = []
    for _ in range(IDLE_APPENDS):
        await asyncio.sleep(IDLE_PAUSE_S)
        samples.append(await timed_append(log))
    return percentiles(samples)


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
        attributes={"spans": 12, "chars": CONTENT_BYTES},
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
    idle, loaded = figures["idle"], figures["loaded"]
    assert isinstance(idle, dict) and isinstance(loaded, list)
    lines = [
        f"write 4 KiB and fsync     {figures['fsync_ms']} ms",
        f"append to an idle log     p50 {idle['p50_ms']} ms, p95 {idle['p95_ms']} ms",
    ]
    lines += [
        f"{row['submitters']:3} submitters           {row['records_per_s']} records/s, "
        f"p50 {row['p50_ms']} ms, p95 {row['p95_ms']} ms"
        for row in loaded
    ]
    return "\n".join([*lines, f"memory of the sequencer   {figures['sequencer_pss_mib']} MiB (PSS)"])


if __name__ == "__main__":
    main()
