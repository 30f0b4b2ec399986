"""Signing in and administering: each change and its audit record together or not at all.

    account = await create_account(directory, log, principal, "ana", password, ["user"])

The functions take the two rooms they need instead of the whole appliance: an administrator at a terminal should not
have to wait for an engine.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeVar

from appliance.accounts.actions import Action, actions_of, authorize
from appliance.accounts.api_keys import ApiKeyView
from appliance.accounts.change import Change
from appliance.accounts.directory import Directory
from appliance.accounts.sessions import SessionView, SignedIn
from appliance.accounts.views import AccountView
from appliance.audit.log import AuditLog
from appliance.errors import ApplianceError, PermissionDenied, TooManyAttempts
from appliance.service.events import ANONYMOUS, code_of, new_event, record_reading
from appliance.types import AttributeValue, Outcome, Principal

T = TypeVar("T")


async def sign_in(directory: Directory, log: AuditLog, name: str, password: str, address: str) -> SignedIn:
    """A new browser session. Both the success and the refusal are recorded before the caller learns of either.

    Attempts beyond the limit are the caller's to record, as bounded denials. An administrator can sign in while the
    log is paused: its reserve takes the record.
    """
    try:
        signed_in = await asyncio.to_thread(directory.sign_in, name, password, address)
    except TooManyAttempts:
        raise
    except ApplianceError as error:
        # The name that was typed may be a password in the wrong field: it is not recorded.
        await log.append(
            new_event("session.sign_in", ANONYMOUS, Outcome.REFUSED, {"error": error.code, "address": address})
        )
        raise
    principal = signed_in.session.principal
    about: dict[str, AttributeValue] = {"address": address}
    event = new_event("session.sign_in", principal.id, Outcome.COMPLETED, about, urgent=_is_administrator(principal))
    try:
        await log.append(event)
    except ApplianceError:
        await asyncio.to_thread(directory.sign_out, signed_in.secret)
        raise
    return signed_in


async def sign_out(directory: Directory, log: AuditLog, session: SessionView, secret: str) -> None:
    """End a browser session. It ends even if the end cannot be recorded; a failure to end it is recorded too."""
    actor, urgent = session.principal.id, _is_administrator(session.principal)
    try:
        await asyncio.to_thread(directory.sign_out, secret)
    except ApplianceError as error:
        await log.append(new_event("session.sign_out", actor, Outcome.FAILED, {"error": error.code}, urgent=urgent))
        raise
    await log.append(new_event("session.sign_out", actor, Outcome.COMPLETED, urgent=urgent))


async def create_setup_link(directory: Directory, log: AuditLog, principal: Principal, *, recover: bool = False) -> str:
    """The token of a one-time link that makes an administrator. Raises `Conflict` while there is one."""
    authorize(principal, Action.ACCOUNTS_MANAGE)
    return await recorded_change(
        directory, log, principal.id, "setup.link_created", lambda change: change.create_setup_link(recover=recover)
    )


async def set_up(directory: Directory, log: AuditLog, token: str, name: str, password: str) -> AccountView:
    """Use the one-time link: the administrator that it was made for. Raises `SetupLinkInvalid`."""
    return await recorded_change(
        directory, log, ANONYMOUS, "setup.link_used", lambda change: change.use_setup_link(token, name, password)
    )


async def create_account(
    directory: Directory, log: AuditLog, principal: Principal, name: str, password: str, roles: Sequence[str]
) -> AccountView:
    """A new account. Raises `PermissionDenied`, `InvalidRequest`, `AccountExists`."""
    return await _administered(
        directory,
        log,
        principal,
        "account.created",
        lambda change: change.create_account(name, password, roles),
        {"account": name[:64], "roles": " ".join(sorted(roles))[:64]},
    )


async def list_accounts(directory: Directory, log: AuditLog, principal: Principal) -> tuple[AccountView, ...]:
    """Every account. Raises `PermissionDenied`."""
    authorize(principal, Action.ACCOUNTS_MANAGE)
    await record_reading(log, principal, "account.list")
    return tuple(await asyncio.to_thread(directory.list_accounts))


async def disable_account(directory: Directory, log: AuditLog, principal: Principal, name: str) -> AccountView:
    """The account may do nothing any more, at once. Raises `PermissionDenied`, `AccountNotFound`, `Conflict`."""
    work: Callable[[Change], AccountView] = lambda change: change.disable_account(name)  # noqa: E731
    return await _administered(directory, log, principal, "account.disabled", work, {"account": name[:64]})


async def enable_account(directory: Directory, log: AuditLog, principal: Principal, name: str) -> AccountView:
    """A disabled account works again. Raises `PermissionDenied`, `AccountNotFound`."""
    work: Callable[[Change], AccountView] = lambda change: change.enable_account(name)  # noqa: E731
    return await _administered(directory, log, principal, "account.enabled", work, {"account": name[:64]})


async def set_password(
    directory: Directory, log: AuditLog, principal: Principal, name: str, password: str
) -> AccountView:
    """Another password for any account; its sessions end. Raises `PermissionDenied`, `AccountNotFound`."""
    work: Callable[[Change], AccountView] = lambda change: change.set_password(name, password)  # noqa: E731
    return await _administered(directory, log, principal, "account.password_set", work, {"account": name[:64]})


async def change_own_password(
    directory: Directory, log: AuditLog, principal: Principal, current: str, password: str, address: str
) -> AccountView:
    """One's own password, proven by the current one; every session of the account ends, this one too.

    Raises `Unauthenticated` or `TooManyAttempts` as a sign-in does: whoever found an open browser learns nothing.
    """
    about: dict[str, AttributeValue] = {"account": principal.name[:64], "own": True}
    try:
        if principal.kind != "user":
            raise PermissionDenied("only a person has a password", hint="sign in with a user name")
        proven = await asyncio.to_thread(directory.sign_in, principal.name, current, address)
    except TooManyAttempts:
        raise
    except ApplianceError as error:
        await log.append(
            new_event("account.password_set", principal.id, Outcome.REFUSED, about | {"error": error.code})
        )
        raise
    work: Callable[[Change], AccountView] = lambda change: change.set_password(principal.name, password)  # noqa: E731
    try:
        return await recorded_change(directory, log, principal.id, "account.password_set", work, about)
    finally:
        await asyncio.to_thread(directory.sign_out, proven.secret)  # the session that only proved the password


async def create_api_key(
    directory: Directory,
    log: AuditLog,
    principal: Principal,
    owner: str,
    name: str,
    scopes: Sequence[str],
    days: int | None,
) -> tuple[ApiKeyView, str]:
    """A new key and its text, shown once: one's own, or an administrator's for anybody."""
    _authorize_keys(principal, owner)
    return await recorded_change(
        directory,
        log,
        principal.id,
        "api_key.created",
        lambda change: change.create_api_key(owner, name, scopes, days),
        {"account": owner[:64], "scopes": " ".join(sorted(scopes))[:512]},
    )


async def list_api_keys(directory: Directory, log: AuditLog, principal: Principal) -> tuple[ApiKeyView, ...]:
    """An administrator sees every key, everybody else their own; secrets nobody. Raises `PermissionDenied`."""
    owner = None if Action.API_KEYS_MANAGE in actions_of(principal) else principal.name
    if owner is not None:
        authorize(principal, Action.API_KEYS_OWN)
    await record_reading(log, principal, "api_key.list", {"all": owner is None})
    return tuple(await asyncio.to_thread(directory.list_api_keys, owner=owner))


async def revoke_api_key(directory: Directory, log: AuditLog, principal: Principal, key_id: int) -> ApiKeyView:
    """The key is refused at once. Raises `PermissionDenied`, `NotFound` (also for another's key)."""
    owner = None if Action.API_KEYS_MANAGE in actions_of(principal) else principal.name
    _authorize_keys(principal, owner)
    return await recorded_change(
        directory,
        log,
        principal.id,
        "api_key.revoked",
        lambda change: change.revoke_api_key(key_id, owner=owner),
        {"api_key": key_id},
    )


def _is_administrator(principal: Principal) -> bool:
    return Action.ACCOUNTS_MANAGE in actions_of(principal)


def _authorize_keys(principal: Principal, owner: str | None) -> None:
    own = owner is not None and owner.casefold() == principal.name.casefold()
    authorize(principal, Action.API_KEYS_OWN if own else Action.API_KEYS_MANAGE)


async def _administered(
    directory: Directory,
    log: AuditLog,
    principal: Principal,
    event: str,
    work: Callable[[Change], T],
    attributes: dict[str, AttributeValue],
) -> T:
    authorize(principal, Action.ACCOUNTS_MANAGE)
    return await recorded_change(directory, log, principal.id, event, work, attributes, urgent=True)


async def recorded_change(
    directory: Directory,
    log: AuditLog,
    actor: str,
    event: str,
    work: Callable[[Change], T],
    attributes: dict[str, AttributeValue] | None = None,
    *,
    urgent: bool = False,
) -> T:
    """Do `work`, record it durably, then make it visible. A refusal is recorded too.

    `urgent`: also while the log is paused, because whoever administers may have to act then.

    The record comes first: a change without a record cannot happen. If the process dies before the commit, the
    record names a change that is not there; the next start voids it (`service/recovery.py`).
    """
    announced = new_event(event, actor, Outcome.COMPLETED, attributes, urgent=urgent)
    try:
        with directory.change(announced.record_id, by=actor) as change:
            result = await asyncio.to_thread(work, change)
            await log.append(announced)
            await asyncio.to_thread(change.commit)
    except ApplianceError as error:
        refused: dict[str, AttributeValue] = {"error": code_of(error), **(attributes or {})}
        await log.append(new_event(event, actor, Outcome.REFUSED, refused, urgent=urgent))
        raise
    return result
