"""Routes of the guard: what happens to identifiers in chats, and who decides it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request

from appliance.api.schemas_guard import (
    GuardBody,
    GuardMemberRequest,
    GuardPolicyRequest,
    GuardRulesBody,
    guard_body,
    rules_body,
)
from appliance.api.security import appliance_of, current_principal
from appliance.service import guard_policy
from appliance.types import Principal

routes = APIRouter(prefix="/v1/guard", tags=["guard"])
Caller = Annotated[Principal, Depends(current_principal)]


@routes.get("")
async def show(request: Request, caller: Caller) -> GuardBody:
    """What holds for the caller, for whoever oversees what holds for everybody, and how good the detector is."""
    appliance = appliance_of(request)
    return guard_body(await guard_policy.show_guard(appliance.accounts, appliance.registry, appliance.audit, caller))


@routes.put("/workspaces/{workspace}")
async def set_policy(request: Request, workspace: str, body: GuardPolicyRequest, caller: Caller) -> GuardRulesBody:
    """Give a workspace a policy; a name that is new makes it."""
    appliance = appliance_of(request)
    rules = await guard_policy.set_guard_policy(appliance.accounts, appliance.audit, caller, workspace, body.policy)
    return rules_body(rules)


@routes.put("/members/{account}")
async def assign(request: Request, account: str, body: GuardMemberRequest, caller: Caller) -> GuardRulesBody:
    """Put an account into a workspace; `default` takes it out of any other."""
    appliance = appliance_of(request)
    rules = await guard_policy.assign_workspace(appliance.accounts, appliance.audit, caller, account, body.workspace)
    return rules_body(rules)
