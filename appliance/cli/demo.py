"""`make demo`: from nothing to a verified receipt and a running server, saying at every step what happens.

    python -m appliance.cli.demo          # create, de-identify a sample, verify the log, leave a server running
    python -m appliance.cli.demo --stop   # stop that server

Everything it does is a command or a use case that a person could run by hand; it prints the commands.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from appliance.cli.audit_export import report_verdict
from appliance.cli.exit_codes import exit_code_of
from appliance.cli.server_file import RunningServer, read_server_file
from appliance.cli.terminal import configured, operator, print_table, print_text, report, run, say, working
from appliance.config import Config
from appliance.errors import ApplianceError, ServerUnavailable
from appliance.service import accounts
from appliance.service.appliance import open_appliance
from appliance.service.audit_verify import verify
from appliance.service.events import new_event
from appliance.service.initialise import initialise
from appliance.service.requests import Operation, SpecialistRequest, answer
from appliance.service.rooms import open_accounts, open_directory, open_log
from appliance.types import Outcome

SAMPLE = Path(__file__).parent / "samples" / "discharge_note.txt"
_START_S = 30.0
_STOP_S = 15.0
_POLL_S = 0.1
_LOG_LINES = 15


def demo(
    stop: Annotated[bool, typer.Option("--stop", help="Stop the server that the demo left running.")] = False,
) -> None:
    """Show the whole product on a sample note, in a data folder of its own."""
    config = configured(None)
    try:
        if stop:
            stop_server(config)
            return
        create_if_missing(config)
        run(lambda: show_deidentification(config))
        show_server(config)
    except ApplianceError as error:
        report(error)
        raise typer.Exit(exit_code_of(error)) from None


def create_if_missing(config: Config) -> None:
    """Step 1: a data folder, unless an earlier run made it."""
    if config.home.marker.exists():
        return
    say("1. creating a data folder (appliance init)")
    with working(indent="   ") as step:
        initialise(config, progress=step)
    asyncio.run(_record_creation(config))


async def _record_creation(config: Config) -> None:
    async with open_log(config) as log:
        await log.append(new_event("appliance.initialised", operator().id, Outcome.COMPLETED))


async def show_deidentification(config: Config) -> None:
    """Steps 2 and 3: a note in, a redacted note and a receipt out, and the log verified."""
    text = SAMPLE.read_text(encoding="utf-8")
    async with open_appliance(config, via="cli", specialists=("phi-deid",)) as appliance:
        say(f"2. de-identifying a sample note (appliance deidentify {SAMPLE.name})")
        wanted = SpecialistRequest(text, "phi-deid", Operation.DEIDENTIFY, "label")
        released = await answer(appliance, operator(), wanted)
        found, receipt = released.value, released.receipt
        print_table(
            ("start", "end", "label", "score", "text"),
            [(s.start, s.end, s.label, f"{s.score:.2f}", text[s.start : s.end]) for s in found.spans],
        )
        assert found.redaction is not None
        print_text(f"\n{found.redaction.text}\n")
        say(f"   {len(found.spans)} identifiers in {found.elapsed_ms:.0f} ms, by {found.specialist.id}")
        say(f"   receipt: record {receipt.record_id.hex()}, number {receipt.seq} in a log of {receipt.size}")
        say("3. verifying the audit log (appliance audit verify)")
        report_verdict(await verify(config, appliance.audit, operator()))


def show_server(config: Config) -> None:
    """Step 4: a server that goes on after this command, and the one-time link while there is no administrator."""
    running = read_server_file(config.home) or _start_server(config)
    say(f"4. the server is running (process {running.pid}): {running.url}")
    with open_directory(config) as directory:
        has_administrator = directory.has_administrator()
    if has_administrator:
        say(f"   sign in: {running.url}/login")
    else:
        token = asyncio.run(_create_link(config))
        say(f"   create the administrator with this one-time link: {running.url}/setup#{token}")
    say("   stop it with: make demo-stop")


async def _create_link(config: Config) -> str:
    async with open_accounts(config) as (directory, log):
        return await accounts.create_setup_link(directory, log, operator())


def _start_server(config: Config) -> RunningServer:
    log_path = config.home.runtime / "server.log"
    with log_path.open("wb") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "appliance", "serve", "--port", "0", "--no-setup-link", "--home", config.home.root],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # it outlives this command and its terminal
        )
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and child.poll() is None:
        running = read_server_file(config.home)
        if running is not None:
            return running
        time.sleep(_POLL_S)
    child.terminate()
    tail = "\n".join(log_path.read_text(errors="replace").splitlines()[-_LOG_LINES:])
    raise ServerUnavailable(f"the server did not start; its log ends:\n{tail}", hint=f"the whole log is {log_path}")


def stop_server(config: Config) -> None:
    """Ask the server to stop and wait until it has."""
    running = read_server_file(config.home)
    if running is None:
        say("no demo server is running")
        return
    os.kill(running.pid, signal.SIGTERM)
    deadline = time.monotonic() + _STOP_S
    while read_server_file(config.home) is not None:
        if time.monotonic() > deadline:
            raise ServerUnavailable(f"process {running.pid} did not stop within {_STOP_S:.0f} s")
        time.sleep(_POLL_S)
    say("the demo server has stopped")


if __name__ == "__main__":
    typer.run(demo)
