"""What can be done here, which role may do it, and the refusal. A table and one function; no state.

    authorize(principal, Action.AUDIT_EXPORT)   # returns, or raises PermissionDenied

An account has a set of roles and may do what any of them allows. An auditor is nobody else: who reads everybody's
records neither uses the specialists nor administers accounts. An API key may do what its scopes name and its owner
may still do, and never anything that would let a stolen key make its successor.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import get_args

from appliance.errors import InvalidRequest, PermissionDenied
from appliance.types import Principal, Role


class Action(StrEnum):
    """One thing somebody may or may not do. The value is the name of the scope of an API key."""

    SPECIALIST_RUN = "specialist.run"
    SPECIALIST_LIST = "specialist.list"
    SPECIALIST_INSTALL = "specialist.install"
    SPECIALIST_APPROVE = "specialist.approve"
    SPECIALIST_PROMOTE = "specialist.promote"
    SPECIALIST_TEACH = "specialist.teach"
    SPECIALIST_EVALUATE = "specialist.evaluate"
    CONVERSATION_TUNE = "conversation.tune"  # instructions and parameters of one's own conversations
    AUDIT_READ_OWN = "audit.read_own"
    AUDIT_READ_ALL = "audit.read_all"
    AUDIT_READ_CONTENT = "audit.read_content"
    AUDIT_VERIFY = "audit.verify"
    AUDIT_CHECKPOINT = "audit.checkpoint"
    AUDIT_EXPORT = "audit.export"
    AUDIT_HOLD = "audit.hold"
    AUDIT_RETENTION = "audit.retention"
    AUDIT_ERASE = "audit.erase"
    KEYS_MANAGE = "keys.manage"
    BACKUPS_MANAGE = "backups.manage"
    API_KEYS_OWN = "api_keys.own"
    API_KEYS_MANAGE = "api_keys.manage"
    ACCOUNTS_MANAGE = "accounts.manage"
    SPECIALISTS_MANAGE = "specialists.manage"
    MODELS_MANAGE = "models.manage"
    GUARD_MANAGE = "guard.manage"
    SYSTEM_STATUS = "system.status"


ROLES: frozenset[Role] = frozenset(get_args(Role))

ROLE_ACTIONS: Mapping[Role, frozenset[Action]] = {
    "user": frozenset(
        {
            Action.SPECIALIST_RUN,
            Action.SPECIALIST_LIST,
            Action.SPECIALIST_TEACH,
            Action.SPECIALIST_EVALUATE,
            Action.AUDIT_READ_OWN,
            Action.AUDIT_VERIFY,
            Action.AUDIT_CHECKPOINT,
            Action.API_KEYS_OWN,
        }
    ),
    "auditor": frozenset(
        {
            Action.SPECIALIST_LIST,
            Action.AUDIT_READ_ALL,
            Action.AUDIT_READ_CONTENT,
            Action.AUDIT_VERIFY,
            Action.AUDIT_CHECKPOINT,
            Action.AUDIT_EXPORT,
            Action.AUDIT_HOLD,
        }
    ),
    "admin": frozenset(
        {
            Action.SPECIALIST_LIST,
            Action.SPECIALIST_INSTALL,
            Action.SPECIALIST_APPROVE,
            Action.SPECIALIST_PROMOTE,
            Action.SPECIALIST_TEACH,
            Action.SPECIALIST_EVALUATE,
            Action.SPECIALISTS_MANAGE,
            Action.MODELS_MANAGE,
            Action.GUARD_MANAGE,
            Action.CONVERSATION_TUNE,
            Action.AUDIT_VERIFY,
            Action.AUDIT_CHECKPOINT,
            Action.AUDIT_HOLD,
            Action.AUDIT_RETENTION,
            Action.AUDIT_ERASE,
            Action.KEYS_MANAGE,
            Action.BACKUPS_MANAGE,
            Action.API_KEYS_MANAGE,
            Action.ACCOUNTS_MANAGE,
            Action.SYSTEM_STATUS,
        }
    ),
}

# A person must be present for these: a key that could make accounts or keys would outlive its own revocation, and what
# is destroyed or let go, what a model may read, and which specialist answers from now on, are decisions of people.
SCOPES: frozenset[Action] = frozenset(Action) - {
    Action.ACCOUNTS_MANAGE,
    Action.API_KEYS_MANAGE,
    Action.API_KEYS_OWN,
    Action.AUDIT_HOLD,
    Action.AUDIT_ERASE,
    Action.GUARD_MANAGE,
    Action.KEYS_MANAGE,
    Action.BACKUPS_MANAGE,
    Action.SPECIALIST_APPROVE,
    Action.SPECIALIST_PROMOTE,
}


def authorize(principal: Principal, action: Action) -> None:
    """Return if `principal` may do `action`, raise `PermissionDenied` otherwise."""
    if action not in actions_of(principal):
        raise PermissionDenied(
            f"{principal.name!r} may not do this: it needs the permission {action.value!r}",
            hint="ask an administrator for a role, or for an API key with this scope",
        )


def actions_of(principal: Principal) -> frozenset[Action]:
    """Everything `principal` may do. An API key without scopes may do nothing."""
    allowed = actions_of_roles(principal.roles)
    if principal.kind == "api_key":
        allowed &= SCOPES
        scopes = principal.scopes or frozenset()
        return frozenset(action for action in allowed if action.value in scopes)
    if principal.scopes is None:
        return allowed
    return frozenset(action for action in allowed if action.value in principal.scopes)


def actions_of_roles(roles: Iterable[Role]) -> frozenset[Action]:
    """The union of what each role allows."""
    return frozenset().union(*(ROLE_ACTIONS[role] for role in roles))


def check_roles(roles: Iterable[str]) -> frozenset[Role]:
    """The roles as a set an account may have. Raises `InvalidRequest`."""
    wanted = frozenset(roles)
    unknown = wanted - ROLES
    if unknown or not wanted:
        raise InvalidRequest(
            f"unknown role {sorted(unknown)[0][:32]!r}" if unknown else "an account needs at least one role",
            hint=f"roles are {', '.join(sorted(ROLES))}",
        )
    if "auditor" in wanted and len(wanted) > 1:
        raise InvalidRequest(
            "an auditor can have no other role",
            hint="make a second account for the same person: whoever reads all records takes no part in making them",
        )
    return frozenset(role for role in ROLES if role in wanted)


def local_operator(uid: int) -> Principal:
    """Whoever runs a command on the machine itself: can read the root key anyway, and is recorded by user number."""
    return Principal(id=f"local:uid-{uid}", name=f"local:uid-{uid}", kind="local", roles=ROLES)


def person_of(principal: Principal) -> str:
    """The person behind a principal, for rules that need two: an API key acts for its owner, and whoever is at the
    machine itself is one person, whatever the operating system calls them.

    Names of accounts are unique without regard to case, are never given to somebody else and hold no slash.
    """
    if principal.kind == "local":
        return "local"
    owner = principal.name.partition("/")[0] if principal.kind == "api_key" else principal.name
    return f"account:{owner.casefold()}"
