"""What the audit gate adds to one de-identification, and what a whole server costs in time and memory.

    python -m benchmarks.deidentify --home FOLDER        # a data folder made by `appliance init`

Prints, for a note of about 2,500 characters: the median with and without the log, alternating in one run, and their
ratio; then from `appliance serve`: seconds until the API answers and until the page is usable, and the proportional
memory (PSS) of all its processes after one request.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import re
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import httpx

from appliance.accounts.actions import local_operator
from appliance.cli.demo import SAMPLE
from appliance.config import load_config
from appliance.service.accounts import create_account, create_api_key
from appliance.service.appliance import Appliance, open_appliance
from appliance.service.requests import Operation, SpecialistRequest, answer
from appliance.types import AuditEvent, Receipt

NOTE_CHARS = 2500
OPERATOR = local_operator(0)


class NoLog:
    """An append that costs nothing: the baseline, which exists in this file only."""

    alive = True

    async def append(self, event: AuditEvent) -> Receipt:
        return Receipt(event.record_id, 0, bytes(32), 1, (), "none\n1\n\n")


def note() -> str:
    """A note of the benchmark's length, made of the sample."""
    sample = SAMPLE.read_text(encoding="utf-8")
    return (sample * (NOTE_CHARS // len(sample) + 1))[:NOTE_CHARS]


async def measure_gate(home: Path, rounds: int) -> None:
    """Medians with and without the log, and their ratio."""
    async with open_appliance(load_config(home), via="cli") as appliance:
        bare = dataclasses.replace(appliance, audit=NoLog())
        request = SpecialistRequest(note(), "phi-deid", Operation.DEIDENTIFY)
        for warm in (appliance, bare) * 3:
            await answer(warm, OPERATOR, request)
        pairs = [(await timed(bare, request), await timed(appliance, request)) for _ in range(rounds)]
    without, recorded = (statistics.median(times) for times in zip(*pairs, strict=True))
    print(f"de-identify {NOTE_CHARS} characters, median of {rounds}: {without * 1000:.1f} ms without the log,")
    print(f"  {recorded * 1000:.1f} ms with it: ratio {recorded / without:.3f}")


async def timed(appliance: Appliance, request: SpecialistRequest) -> float:
    """Seconds for one answer."""
    started = time.perf_counter()
    await answer(appliance, OPERATOR, request)
    return time.perf_counter() - started


async def make_key(home: Path) -> str:
    """An API key for the server's measurement."""
    async with open_appliance(load_config(home), via="cli", specialists=()) as appliance:
        rooms = (appliance.accounts, appliance.audit)
        if not any(account.name == "benchmark" for account in appliance.accounts.list_accounts()):
            await create_account(*rooms, OPERATOR, "benchmark", "a-benchmark-only-password-1", ["user"])
        _, secret = await create_api_key(*rooms, OPERATOR, "benchmark", "benchmark", ["specialist.run"], 1)
    return secret


def measure_server(home: Path, rounds: int) -> None:
    """Start-up times, memory and latency of `appliance serve`."""
    secret = asyncio.run(make_key(home))
    started = time.perf_counter()
    command = [sys.executable, "-m", "appliance", "serve", "--port", "0", "--no-setup-link", "--home", str(home)]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        url = next(found[1] for line in server.stderr if (found := re.search(r"serves .* at (\S+)", line)))
        client = httpx.Client(base_url=url, trust_env=False, headers={"Authorization": f"Bearer {secret}"}, timeout=60)
        client.get("/healthz").raise_for_status()
        print(f"API answers after {time.perf_counter() - started:.1f} s")
        while not page_is_ready(client):
            time.sleep(0.1)
        print(f"page is ready after {time.perf_counter() - started:.1f} s")
        times = [post(client) for _ in range(rounds)]
        print(f"POST /v1/deidentify, median of {rounds}: {statistics.median(times) * 1000:.1f} ms")
        report_memory(server.pid)
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(timeout=30)


def page_is_ready(client: httpx.Client) -> bool:
    """The site says so of itself, without a session."""
    return client.get("/ui/status").json()["ready"]


def post(client: httpx.Client) -> float:
    """Seconds for one request over HTTP."""
    started = time.perf_counter()
    client.post("/v1/deidentify", json={"text": note()}).raise_for_status()
    return time.perf_counter() - started


def report_memory(pid: int) -> None:
    """Proportional set size of the server and all its children."""
    total = 0.0
    for process in (pid, *children(pid)):
        status = Path(f"/proc/{process}/smaps_rollup").read_text()
        pss = int(re.search(r"^Pss:\s+(\d+) kB", status, re.M)[1]) / 1024
        command = Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")
        print(f"  {pss:6.0f} MiB  {b' '.join(command[1:4]).decode()}")
        total += pss
    print(f"PSS of all processes: {total:.0f} MiB")


def children(pid: int) -> list[int]:
    """All descendants."""
    direct = [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return direct + [grandchild for child in direct for grandchild in children(child)]


def main() -> None:
    """Run both."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=50)
    options = parser.parse_args()
    asyncio.run(measure_gate(options.home, options.rounds))
    measure_server(options.home, options.rounds)


if __name__ == "__main__":
    main()
