"""`appliance api-keys`: keys for programs."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from appliance.accounts.api_keys import ApiKeyView
from appliance.api.schemas_accounts import api_key_body
from appliance.cli.terminal import HomeOption, JsonOption, configured, operator, print_json, print_table, run, say
from appliance.service import accounts
from appliance.service.rooms import open_accounts


def create(
    name: Annotated[str, typer.Argument(help="What the key is for.")],
    owner: Annotated[str, typer.Option(help="Account that the key acts for.")],
    scope: Annotated[list[str], typer.Option(help="What it may do, as specialist.run; may be repeated.")],
    days: Annotated[int | None, typer.Option(help="Days until it expires.", min=1, max=3650)] = None,
    as_json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Create a key and print it, once.

    \b
    Example: appliance api-keys create "lab system" --owner ana --scope specialist.run --days 90
    """
    config = configured(home)

    async def change() -> tuple[ApiKeyView, str]:
        async with open_accounts(config) as (directory, log):
            return await accounts.create_api_key(directory, log, operator(), owner, name, scope, days)

    view, secret = run(change)
    if as_json:
        print_json(api_key_body(view) | {"secret": secret})
        return
    say(f"key {view.id} for {view.owner}, expires {view.expires:%Y-%m-%d}; it is shown once:")
    sys.stdout.write(f"{secret}\n")


def list_keys(as_json: JsonOption = False, home: HomeOption = None) -> None:
    """List the keys, without their secrets.

    Example: appliance api-keys list --json
    """
    config = configured(home)

    async def read() -> tuple[ApiKeyView, ...]:
        async with open_accounts(config) as (directory, log):
            return await accounts.list_api_keys(directory, log, operator())

    bodies = [api_key_body(key) for key in run(read)]
    if as_json:
        print_json(bodies)
        return
    rows = [
        (body["id"], body["name"], body["owner"], " ".join(body["scopes"]), body["expires"][:10], _state(body))
        for body in bodies
    ]
    print_table(("id", "name", "owner", "scopes", "expires", "state"), rows)


def revoke(
    key: Annotated[int, typer.Argument(help="Number of the key, as `appliance api-keys list` shows.")],
    home: HomeOption = None,
) -> None:
    """Revoke a key, at once.

    Example: appliance api-keys revoke 3
    """
    config = configured(home)

    async def change() -> ApiKeyView:
        async with open_accounts(config) as (directory, log):
            return await accounts.revoke_api_key(directory, log, operator(), key)

    say(f"revoked key {run(change).id}")


def _state(body: dict[str, object]) -> str:
    return "revoked" if body["revoked"] else "active"
