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
from appliance.service.appliance import open_log, open_registry
from appliance.service.specialists import list_cards, show_card

commands = typer.Typer(no_args_is_help=True, help="Which specialists are installed, and what each promises.")


@commands.command("list")
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


@commands.command("show")
def show_specialist(
    specialist: Annotated[str, typer.Argument(help="Id of the specialist.")],
    as_json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Show one specialist: labels, limits, data it learned from, and how good it was measured to be.

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
    print_table(("", ""), [(name, _cell(value)) for name, value in card.items() if name != "evaluation"])
    stdout.print("\nmeasured", style="bold")
    for result in card.get("evaluation", ()):
        print_table(("", ""), [(name, _cell(value)) for name, value in result.items()])


def _cell(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_cell(part)}" for name, part in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_cell(part) for part in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)
