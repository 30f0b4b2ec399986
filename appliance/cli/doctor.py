"""`appliance doctor`: is this machine fit, and is this data folder well. Changes nothing; a record says that it ran."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from appliance.audit.proof import proof_file
from appliance.cli.terminal import (
    HomeOption,
    JsonOption,
    configured,
    operator,
    print_json,
    print_table,
    printable,
    reported,
    run,
    say,
    stdout,
)
from appliance.config import Config
from appliance.errors import InvalidRequest
from appliance.service.capacity import Capacity, measure_capacity
from appliance.service.doctor import Check, examine, examine_egress
from appliance.service.rooms import open_log

UNWELL = 1
_MARKS = {"ok": "PASS", "warn": "WARN", "fail": "FAIL"}


def doctor(
    quick: Annotated[bool, typer.Option("--quick", help="Leave out the checks that start the engine.")] = False,
    egress: Annotated[
        bool,
        typer.Option("--egress", help="Really try to leave this machine, every way, and record it."),
    ] = False,
    capacity: Annotated[
        str | None,
        typer.Option("--capacity", help="Measure how many people this model serves at once. Takes a minute."),
    ] = None,
    speed: Annotated[float, typer.Option(help="With --capacity: tokens a second that each gets.", min=0.1)] = 8.0,
    receipt: Annotated[Path | None, typer.Option(help="With --egress: file for the receipt of the record.")] = None,
    as_json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Check the machine and the data folder; say what to do about each finding. Exit status 1: something is wrong.

    Example: appliance doctor --json
    """
    config = configured(home)
    if egress:
        _try_to_leave(config, as_json, receipt)
        return
    if capacity is not None:
        _measure(config, capacity, speed, as_json)
        return
    checks = run(lambda: examine(config, operator(), start_engine=not quick))
    if as_json:
        print_json([_row(check) for check in checks])
    else:
        for check in checks:
            stdout.print(f"{_MARKS[check.state]}  {check.name}: {printable(check.found)}", markup=False)
            if check.remedy and check.state != "ok":
                stdout.print(f"      hint: {printable(check.remedy)}", markup=False)
    if any(check.state == "fail" for check in checks):
        raise typer.Exit(UNWELL)


def _try_to_leave(config: Config, as_json: bool, receipt: Path | None) -> None:
    found = run(lambda: examine_egress(config, operator()))
    assert found.receipt is not None, "it was recorded"
    if receipt is not None:
        with reported():
            _write_new(receipt, proof_file(found.receipt))
    if as_json:
        rows = [{"kind": one.kind, "left": one.left, "why": one.why} for one in found.attempts]
        print_json({"verdict": found.verdict, "attempts": rows, "record": found.receipt.record_id.hex()})
    else:
        for one in found.attempts:
            stdout.print(f"{'FAIL' if one.left else 'PASS'}  {one.kind}: {printable(one.why)}", markup=False)
        stdout.print(f"egress {found.verdict}; record {found.receipt.seq} of the log says so")
    if found.verdict != "blocked":
        say("hint: load the firewall (systemctl start cloister-firewall), or run it where the network is locked")
        raise typer.Exit(UNWELL)


def _measure(config: Config, model: str, speed: float, as_json: bool) -> None:
    async def measure() -> Capacity:
        async with open_log(config) as log:
            return await measure_capacity(config, log, operator(), model)

    card = run(measure)
    if as_json:
        rows = [{"answers": row.answers, "tokens_per_s": row.tokens_per_s} for row in card.rows]
        about = {"model": card.model, "device": card.device, "memory_bytes": card.memory_bytes, "rows": rows}
        print_json({**about, "speed": speed, "users": card.users(speed)})
        return
    rows_shown = [(str(row.answers), f"{row.tokens_per_s:.1f}") for row in card.rows]
    print_table(("answers at once", "tokens a second for each"), rows_shown)
    stdout.print(f"{card.model} on {printable(card.device)}", markup=False)
    stdout.print(f"this machine serves {card.users(speed)} people at once at {speed:g} tokens a second or more")


def _write_new(path: Path, text: str) -> None:
    try:
        with path.open("x") as file:
            file.write(text)
    except OSError as error:
        raise InvalidRequest(f"cannot write {path}: {error.strerror}", hint="name another file") from None


def _row(check: Check) -> dict[str, str]:
    return {"name": check.name, "state": check.state, "found": check.found, "remedy": check.remedy}
