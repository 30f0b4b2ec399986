"""`appliance users`: accounts of people."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from appliance.accounts.views import AccountView
from appliance.api.schemas_accounts import account_body
from appliance.cli.terminal import HomeOption, JsonOption, configured, operator, print_json, print_table, run, say
from appliance.config import Config
from appliance.service import accounts
from appliance.service.rooms import open_accounts

_PASSWORD_BYTES_MAX = 1024
NameArgument = Annotated[str, typer.Argument(help="User name.")]


def add(
    name: NameArgument,
    role: Annotated[list[str], typer.Option(help="user, admin or auditor; may be repeated.")],
    as_json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Add an account. The password is asked for, or read from standard input when that is not a terminal.

    Example: appliance users add ana --role user
    """
    config = configured(home)
    password = read_password()

    async def create() -> AccountView:
        async with open_accounts(config) as (directory, log):
            return await accounts.create_account(directory, log, operator(), name, password, role)

    account = run(create)
    if as_json:
        print_json(account_body(account))
    else:
        say(f"added {account.name} ({', '.join(sorted(account.roles))})")


def list_users(as_json: JsonOption = False, home: HomeOption = None) -> None:
    """List the accounts.

    Example: appliance users list --json
    """
    config = configured(home)

    async def read() -> tuple[AccountView, ...]:
        async with open_accounts(config) as (directory, log):
            return await accounts.list_accounts(directory, log, operator())

    bodies = [account_body(account) for account in run(read)]
    if as_json:
        print_json(bodies)
        return
    print_table(("name", "roles", "created", "state"), [_row(body) for body in bodies])


def disable(name: NameArgument, home: HomeOption = None) -> None:
    """Disable an account: its sessions and API keys end at once.

    Example: appliance users disable ana
    """
    config = configured(home)

    async def change() -> AccountView:
        async with open_accounts(config) as (directory, log):
            return await accounts.disable_account(directory, log, operator(), name)

    say(f"disabled {run(change).name}")


def enable(name: NameArgument, home: HomeOption = None) -> None:
    """Let a disabled account work again.

    Example: appliance users enable ana
    """
    config = configured(home)

    async def change() -> AccountView:
        async with open_accounts(config) as (directory, log):
            return await accounts.enable_account(directory, log, operator(), name)

    say(f"enabled {run(change).name}")


def set_password(name: NameArgument, home: HomeOption = None) -> None:
    """Give an account another password; its sessions end. It is asked for, or read from standard input.

    Example: appliance users set-password ana
    """
    config = configured(home)
    password = read_password()

    async def change() -> AccountView:
        async with open_accounts(config) as (directory, log):
            return await accounts.set_password(directory, log, operator(), name, password)

    say(f"{run(change).name} has another password")


def setup_link(
    recover: Annotated[
        bool, typer.Option("--recover", help="Also while there is an administrator, who has left or is locked out.")
    ] = False,
    home: HomeOption = None,
) -> None:
    """Make a one-time token for the page /setup, which creates an administrator.

    Example: appliance users setup-link
    """
    config = configured(home)
    token = run(lambda: make_setup_link(config, recover=recover))
    say("open the appliance's address with this path, once:")
    sys.stdout.write(f"/setup#{token}\n")


async def make_setup_link(config: Config, *, recover: bool = False) -> str:
    """The token of a new one-time link."""
    async with open_accounts(config) as (directory, log):
        return await accounts.create_setup_link(directory, log, operator(), recover=recover)


def read_password() -> str:
    """A password from a prompt that does not show it, or the first line of a pipe; never from an argument."""
    if sys.stdin.isatty():
        return typer.prompt("password", hide_input=True, confirmation_prompt=True, err=True)
    return sys.stdin.readline(_PASSWORD_BYTES_MAX).rstrip("\r\n")


def _row(body: dict[str, Any]) -> tuple[str, str, str, str]:
    state = "disabled" if body["disabled"] else "active"
    return body["name"], ", ".join(body["roles"]), body["created"][:10], state
