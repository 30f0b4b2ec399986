"""Reading and proving the log. Every reading is recorded before anything is shown.

    page = await list_records(config, directory, log, principal, RecordQuery(limit=20))

Verification and exports are `audit_verify.py` and `audit_export.py`.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from appliance.accounts.actions import Action, actions_of, authorize
from appliance.accounts.directory import Directory
from appliance.audit.log import AuditLog, RecordView
from appliance.config import Config
from appliance.errors import PermissionDenied, RecordNotFound
from appliance.service.actors import ActorNames
from appliance.service.event_names import check_event
from appliance.service.events import record_looking, record_reading
from appliance.types import AttributeValue, Principal, Receipt

_RECORD_ID_BYTES = 16


@dataclass(frozen=True, slots=True)
class RecordQuery:
    """Which records. `after` is the sequence number of the last one seen; older ones follow.

    `epoch` is the number of a log that a declared loss closed, None the one that goes on.
    """

    after: int | None = None
    limit: int = 50
    event: str | None = None
    actor: str | None = None
    epoch: int | None = None


@dataclass(frozen=True, slots=True)
class RecordPage:
    """Records, newest first, with the names of their actors, and the `after` of the next page."""

    records: tuple[RecordView, ...]
    next: int | None


@dataclass(frozen=True, slots=True)
class CheckpointView:
    """The newest signed tree head and the key that verifies it."""

    checkpoint: str
    verifier_key: str
    origin: str
    size: int


async def list_records(
    config: Config, directory: Directory, log: AuditLog, principal: Principal, query: RecordQuery
) -> RecordPage:
    """An auditor sees everybody's records, a user those of theirs and of their API keys. Raises `PermissionDenied`."""
    actors = None if query.actor is None else frozenset({query.actor})
    if Action.AUDIT_READ_ALL not in actions_of(principal):
        authorize(principal, Action.AUDIT_READ_OWN)
        own = await asyncio.to_thread(directory.actors_of, principal)
        if actors is not None and not actors <= own:
            raise PermissionDenied("you may read your own records only", hint="ask an auditor")
        actors = actors or own
    limit = min(query.limit, config.limits.page_size_max)
    about: dict[str, AttributeValue] = {"limit": limit, "after": query.after or 0}
    if query.epoch is not None:
        about["epoch"] = query.epoch
    if query.event is not None:
        check_event(query.event)
    await record_reading(log, principal, "audit.list", about)
    found = await asyncio.to_thread(log.records, query.after, limit, actors, query.event, epoch=query.epoch)
    records = await asyncio.to_thread(ActorNames(directory).add_to, found)
    return RecordPage(tuple(records), records[-1].seq if len(records) == limit else None)


async def show_record(
    directory: Directory, log: AuditLog, principal: Principal, record_id: str
) -> tuple[RecordView, bytes | None]:
    """One record, and its content for those who may read contents. Raises `RecordNotFound`, `PermissionDenied`."""
    view, epoch = await _own_or_any(directory, log, principal, record_id)
    with_content = view.has_content and Action.AUDIT_READ_CONTENT in actions_of(principal)
    await record_reading(log, principal, "audit.show", {"record": view.record_id, "content": with_content})
    identifier = bytes.fromhex(view.record_id)
    content = await asyncio.to_thread(log.content, identifier, epoch=epoch) if with_content else None
    (named,) = await asyncio.to_thread(ActorNames(directory).add_to, [view])
    return named, content


async def show_receipt(directory: Directory, log: AuditLog, principal: Principal, record_id: str) -> Receipt:
    """A record's receipt under the newest checkpoint. It proves that something was recorded and shows nothing of it."""
    view, epoch = await _own_or_any(directory, log, principal, record_id)
    await record_reading(log, principal, "audit.receipt", {"record": view.record_id})
    return await asyncio.to_thread(log.receipt, bytes.fromhex(view.record_id), epoch=epoch)


async def show_checkpoint(log: AuditLog, principal: Principal) -> CheckpointView:
    """The newest signed checkpoint. Raises `PermissionDenied`."""
    authorize(principal, Action.AUDIT_CHECKPOINT)
    await record_looking(log, principal, "audit.checkpoint")
    note = await asyncio.to_thread(log.checkpoint)
    origin, size, *_ = note.split("\n", 2)
    return CheckpointView(note, await asyncio.to_thread(log.verifier_key), origin, int(size))


async def _own_or_any(
    directory: Directory, log: AuditLog, principal: Principal, record_id: str
) -> tuple[RecordView, int | None]:
    """The record and its epoch (None: the newest), if it is there and `principal` may know of it.

    Another's record does not exist for a user.
    """
    allowed = actions_of(principal)
    if Action.AUDIT_READ_ALL not in allowed:
        authorize(principal, Action.AUDIT_READ_OWN)
    not_found = RecordNotFound("there is no such record", hint="record ids are 32 hexadecimal digits")
    try:
        identifier = bytes.fromhex(record_id)
    except ValueError:
        raise not_found from None
    if len(identifier) != _RECORD_ID_BYTES:
        raise not_found
    view, epoch = await asyncio.to_thread(_find, log, identifier)
    if Action.AUDIT_READ_ALL not in allowed and view.actor not in await asyncio.to_thread(
        directory.actors_of, principal
    ):
        raise not_found
    return view, epoch


def _find(log: AuditLog, record_id: bytes) -> tuple[RecordView, int | None]:
    """A record of the log that goes on, or else of those before it. Raises `RecordNotFound`."""
    try:
        return log.record(record_id), None
    except RecordNotFound:
        for epoch in log.epochs()[1:]:
            try:
                return log.record(record_id, epoch=epoch.number), epoch.number
            except RecordNotFound:
                continue
        raise
