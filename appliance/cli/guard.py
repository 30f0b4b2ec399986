"""`appliance guard`: what happens to names and numbers of persons in chats with models that write."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from appliance.accounts.guard_rules import DEFAULT, GuardRules
from appliance.api.schemas_guard import guard_body, rules_body
from appliance.cli.terminal import HomeOption, JsonOption, configured, operator, print_json, print_table, run, say
from appliance.service import guard_policy
from appliance.service.rooms import open_accounts
from appliance.service.specialists import open_registry

_SHOWN = ("recall", "precision", "without_leak", "over_redaction")


def show(as_json: JsonOption = False, home: HomeOption = None) -> None:
    """Show the policy of every workspace, who works where, and how many identifiers the detector was measured to find.

    Example: appliance guard show
    """
    config = configured(home)

    async def read() -> guard_policy.GuardView:
        async with open_accounts(config) as (directory, log):
            with open_registry(config) as registry:
                return await guard_policy.show_guard(directory, registry, log, operator())

    body = guard_body(run(read)).model_dump()
    if as_json:
        print_json(body)
        return
    members: dict[str, list[str]] = {}
    for account, workspace in body["rules"]["members"].items():
        members.setdefault(workspace, []).append(account)
    policies = body["rules"]["policies"].items()
    rows = [(name, policy, ", ".join(members.get(name, ())) or "-") for name, policy in policies]
    print_table(("workspace", "policy", "accounts"), rows)
    if body["measured"] is None:
        say("nothing here finds identifiers: every policy but allow refuses all chats until phi-deid is installed")
        return
    say(f"found by {body['measured']['specialist']} {body['measured']['version']}, which was measured on:")
    print_table(("texts", "number", "figures"), [_row(one) for one in body["measured"]["evaluations"]])


def set_policy(
    policy: Annotated[str, typer.Argument(help="allow, mark, mask or block.")],
    workspace: Annotated[
        str, typer.Option("--workspace", help="Whose policy; a new name makes a workspace.")
    ] = DEFAULT,
    as_json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Set what happens to identifiers in the chats of a workspace: allow, mark, mask (kept from the model) or block.

    Example: appliance guard set mask --workspace cardiology
    """
    config = configured(home)

    async def change() -> GuardRules:
        async with open_accounts(config) as (directory, log):
            return await guard_policy.set_guard_policy(directory, log, operator(), workspace, policy)

    rules = run(change)
    if as_json:
        print_json(rules_body(rules).model_dump())
    else:
        say(f"the policy of {workspace} is {policy}")


def assign(
    account: Annotated[str, typer.Argument(help="User name.")],
    workspace: Annotated[str, typer.Argument(help="A workspace that has a policy.")],
    home: HomeOption = None,
) -> None:
    """Put an account into a workspace; `default` takes it out of any other.

    Example: appliance guard assign ana cardiology
    """
    config = configured(home)

    async def change() -> GuardRules:
        async with open_accounts(config) as (directory, log):
            return await guard_policy.assign_workspace(directory, log, operator(), account, workspace)

    run(change)
    say(f"{account} works in {workspace}")


def _row(evaluation: dict[str, Any]) -> tuple[str, str, str]:
    metrics = evaluation["metrics"]
    figures = ", ".join(f"{name} {metrics[name]:.3f}" for name in _SHOWN if name in metrics)
    return evaluation["name"], str(evaluation["items"]), figures
