"""`appliance route`: which specialist a text is for, and why."""

from __future__ import annotations

from typing import Annotated

import typer

from appliance.api.schemas_routing import route_body
from appliance.audit.gate import Released
from appliance.cli.terminal import (
    HomeOption,
    JsonOption,
    configured,
    operator,
    print_json,
    print_table,
    print_text,
    run,
    say,
)
from appliance.cli.text import SubjectOption
from appliance.config import Config
from appliance.service.appliance import open_appliance
from appliance.service.routing import RouteRequest, route
from appliance.specialists.router import Route
from appliance.types import Material


def route_text(
    text: Annotated[str, typer.Argument(help="The text, or the request about it.")],
    subject: SubjectOption = "",
    as_json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Say which specialist a text is for, with the nearest examples and the runner-up. The decision is recorded.

    Example: appliance route "My card was declined at the supermarket"
    """
    config = configured(home)
    released = run(lambda: _route(config, RouteRequest(Material(text), subject)))
    decision, receipt = released.value, released.receipt
    if as_json:
        print_json(route_body(decision, receipt).model_dump(mode="json"))
        return
    print_text(f"{decision.specialist or '(none)'}: {decision.reason}\n\n")
    rows = [(f"{near.score:.2f}", near.specialist, near.example) for near in decision.nearest]
    print_table(("cosine", "specialist", "nearest examples"), rows)
    say(f"recorded as {receipt.record_id.hex()}, number {receipt.seq} under a signed checkpoint of {receipt.size}")


async def _route(config: Config, request: RouteRequest) -> Released[Route]:
    async with open_appliance(config, via="cli", specialists=()) as appliance:
        return await route(appliance, operator(), request)
