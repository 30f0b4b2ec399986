"""`appliance doctor`: is this machine fit, and is this data folder well. Changes nothing; a record says that it ran."""

from __future__ import annotations

from typing import Annotated

import typer

from appliance.cli.terminal import HomeOption, JsonOption, configured, operator, print_json, printable, run, stdout
from appliance.service.doctor import Check, examine

UNWELL = 1
_MARKS = {"ok": "ok  ", "warn": "warn", "fail": "FAIL"}


def doctor(
    quick: Annotated[bool, typer.Option("--quick", help="Leave out the checks that start the engine.")] = False,
    as_json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Check the machine and the data folder; say what to do about each finding. Exit status 1: something is wrong.

    Example: appliance doctor --json
    """
    config = configured(home)
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


def _row(check: Check) -> dict[str, str]:
    return {"name": check.name, "state": check.state, "found": check.found, "remedy": check.remedy}
