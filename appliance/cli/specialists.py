"""`appliance specialists`: which are installed, and what each promises."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from appliance.cli.terminal import (
    HomeOption,
    JsonOption,
    configured,
    operator,
    print_json,
    print_table,
    run,
    stdout,
)
from appliance.service.rooms import open_log
from appliance.service.specialists import list_cards, open_registry, show_card


def list_specialists(as_json: JsonOption = False, home: HomeOption = None) -> None:
    """List the installed specialists.

    Example: appliance specialists list --json
    """
    config = configured(home)

    async def read() -> list[dict[str, Any]]:
        async with open_log(config) as log:
            with open_registry(config) as registry:
                return await list_cards(registry, log, operator())

    cards = run(read)
    if as_json:
        print_json(cards)
        return
    columns = ("id", "version", "task", "for")
    print_table(columns, [(card["id"], card["version"], card["task"], card["intended_use"]) for card in cards])


def show_specialist(
    specialist: Annotated[str, typer.Argument(help="Id of the specialist.")],
    as_json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Show one specialist: labels, limits, data it learned from, how good it was measured to be, and how well the
    router finds it.

    Example: appliance specialists show phi-deid
    """
    config = configured(home)

    async def read() -> dict[str, Any]:
        async with open_log(config) as log:
            with open_registry(config) as registry:
                return await show_card(registry, log, operator(), specialist)

    card = run(read)
    if as_json:
        print_json(card)
        return
    print_table(("", ""), [(name, _cell(value)) for name, value in card.items() if name not in _TABLES])
    stdout.print("\nmeasured", style="bold")
    for result in card.get("evaluation", ()):
        print_table(("", ""), [(name, _cell(value)) for name, value in result.items()])
    if card["routing"] is not None:
        _show_routing(card["routing"])


def _show_routing(found: dict[str, Any]) -> None:
    """The shares, then the whole matrix: a row for who should answer, a column for who was chosen."""
    stdout.print("\nrouter", style="bold")
    shares = (
        ("its own requests reach it", found["right"]),
        ("requests of all reach the right one", found["right_of_all"]),
        ("requests for nobody are declined", found["none_declined"]),
    )
    print_table(
        ("", "", "95 %", "requests"),
        [(what, f"{one['share']:.3f}", f"{one['low']:.3f} to {one['high']:.3f}", one["items"]) for what, one in shares],
    )
    matrix = found["matrix"]
    columns = list(next(iter(matrix.values())))
    rows = [(owner, *(row[column] or "" for column in columns)) for owner, row in matrix.items()]
    stdout.print("\nwho should answer (rows), who was chosen (columns)")
    print_table(("", *(str(number) for number in range(1, len(columns) + 1))), rows)
    stdout.print(", ".join(f"{number} {column}" for number, column in enumerate(columns, start=1)))
    stdout.print(f"measured by: {found['command']}")


_TABLES = ("evaluation", "routing")


def _cell(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_cell(part)}" for name, part in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_cell(part) for part in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)
