"""What the site decided about identifiers in chats: a policy for each workspace, and who works in which. Pure.

    rules = GuardRules().with_policy("cardiology", "mask").with_member("ana", "cardiology")
    rules.policy_of("ana")                           # ("cardiology", "mask")
    encode_rules(rules)                              # one line of canonical JSON; `README.md` has the format

A workspace is a name for accounts that work under one policy; an account is in one, and in `default` unless somebody
put it elsewhere. What a policy does is not known here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from appliance.accounts.names import fold
from appliance.errors import Conflict, InvalidRequest

DEFAULT = "default"
ALLOW = "allow"
POLICIES = ("allow", "mark", "mask", "block")
WORKSPACES_MAX = 256
_VERSION = 1
_WORKSPACE = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")


@dataclass(frozen=True, slots=True)
class GuardRules:
    """`policies` by workspace, `members`: workspace by the folded name of an account that is not in `default`."""

    policies: Mapping[str, str] = field(default_factory=lambda: {DEFAULT: ALLOW})
    members: Mapping[str, str] = field(default_factory=dict)

    def policy_of(self, account: str) -> tuple[str, str]:
        """The workspace of an account, by any spelling of its name, and the policy there."""
        workspace = self.members.get(fold(account), DEFAULT)
        return workspace, self.policies[workspace]

    def with_policy(self, workspace: str, policy: str) -> GuardRules:
        """Another policy for a workspace, which may be new. Raises `InvalidRequest`, `Conflict`."""
        if not _WORKSPACE.fullmatch(workspace):
            raise InvalidRequest(
                "the name of a workspace has 1 to 32 lower-case letters, digits and hyphens",
                hint="for example 'ward-3'",
            )
        if policy not in POLICIES:
            raise InvalidRequest(f"there is no policy {policy[:32]!r}", hint=f"policies are {', '.join(POLICIES)}")
        if workspace not in self.policies and len(self.policies) >= WORKSPACES_MAX:
            raise Conflict(f"there are {WORKSPACES_MAX} workspaces already", hint="use one that is there")
        return replace(self, policies={**self.policies, workspace: policy})

    def with_member(self, account: str, workspace: str) -> GuardRules:
        """The account works in this workspace from now on. Raises `InvalidRequest` where there is none."""
        if workspace not in self.policies:
            raise InvalidRequest(
                f"there is no workspace {workspace[:32]!r}", hint="give it a policy first: appliance guard set"
            )
        members = {name: place for name, place in self.members.items() if name != fold(account)}
        return replace(self, members=members if workspace == DEFAULT else {**members, fold(account): workspace})


def encode_rules(rules: GuardRules) -> str:
    """Canonical JSON: sorted keys, no spaces."""
    body = {"members": dict(rules.members), "policies": dict(rules.policies), "version": _VERSION}
    return json.dumps(body, sort_keys=True, separators=(",", ":"))


def decode_rules(text: str) -> GuardRules:
    """What `encode_rules` wrote. Anything else is a database that was tampered with: `ValueError`, and nobody asks."""
    body: Any = json.loads(text)
    if not isinstance(body, dict) or body.get("version") != _VERSION:
        raise ValueError("the rules of the guard are of another release")
    rules = GuardRules(policies={DEFAULT: body["policies"][DEFAULT]})
    for workspace, policy in body["policies"].items():
        rules = rules.with_policy(workspace, policy)
    unknown = set(body["members"].values()) - set(rules.policies)
    if unknown:
        raise ValueError("the rules of the guard name a workspace without a policy")
    return replace(rules, members=dict(body["members"]))
