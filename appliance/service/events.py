"""Audit events as the service makes them: a named event, a fresh record id each, codes instead of prose.

await record_reading(log, principal, "account.list")        # before anything is shown
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

from appliance.audit.log import AuditLog
from appliance.errors import (
    ApplianceError,
    AuditError,
    Conflict,
    InvalidRequest,
    ModelFileError,
    ModelSourceUnavailable,
    NotFound,
    PermissionDenied,
)
from appliance.service.event_names import EVENTS
from appliance.types import AttributeValue, AuditEvent, Outcome, Principal, Receipt

Via = Literal["server", "cli"]
SYSTEM = "system"
ANONYMOUS = "anonymous"
logger = logging.getLogger(__name__)


def new_event(
    event: str,
    actor: str,
    outcome: Outcome,
    attributes: dict[str, AttributeValue] | None = None,
    *,
    exchange_id: str = "",
    content: bytes | None = None,
    subject: str = "",
    urgent: bool = False,
) -> AuditEvent:
    """An audit event with a fresh random record id. `event` is one of `event_names.EVENTS`."""
    assert event in EVENTS, f"{event!r} is not in service/event_names.py"
    return AuditEvent(
        event, actor, outcome, exchange_id, secrets.token_bytes(16), attributes or {}, content, subject, urgent
    )


def code_of(error: BaseException) -> str:
    """The stable code of an error, for records and logs."""
    if isinstance(error, ApplianceError):
        return error.code
    return "cancelled" if isinstance(error, asyncio.CancelledError | GeneratorExit) else "internal_error"


async def record_reading(
    log: AuditLog,
    principal: Principal,
    event: str,
    attributes: dict[str, AttributeValue] | None = None,
    *,
    content: bytes | None = None,
) -> Receipt:
    """Record that somebody reads, before they do. Raises `AuditUnavailable`: then nothing MAY be shown."""
    return await log.append(new_event(event, principal.id, Outcome.COMPLETED, attributes, content=content))


async def record_looking(
    log: AuditLog, principal: Principal, event: str, attributes: dict[str, AttributeValue] | None = None
) -> bool:
    """Record a reading that shows nothing of anybody: a checkpoint, a verdict, an age. Whether it was recorded.

    Such a reading is allowed while nothing can be recorded, because that is when it is needed.
    """
    try:
        await record_reading(log, principal, event, attributes)
    except AuditError as error:
        logger.warning("%s by %s was not recorded: %s", event, principal.id, error.code)
        return False
    return True


class Announced:
    """What becomes known while an announced step is done, for its closing record."""

    def __init__(self, attributes: dict[str, AttributeValue]) -> None:
        self.attributes = attributes


@asynccontextmanager
async def announced(
    log: AuditLog, actor: str, event: str, attributes: dict[str, AttributeValue]
) -> AsyncIterator[Announced]:
    """A step that is prepared and then done at once: who wanted it is recorded before, how it ended after.

    A refusal (a hold, a shortening, a missing second person, a bad file) is recorded as refused. If the process dies
    in between, what the step writes last (a public record, an entry of the registry) decides whether it happened.
    """
    step = Announced(dict(attributes))
    await log.append(new_event(event, actor, Outcome.ACCEPTED, attributes))
    try:
        yield step
    except ApplianceError as error:
        refused = isinstance(error, Conflict | InvalidRequest | ModelFileError | NotFound | PermissionDenied)
        unreached = isinstance(error, ModelSourceUnavailable)
        outcome = Outcome.REFUSED if refused and not unreached else Outcome.FAILED
        await log.append(new_event(event, actor, outcome, {**step.attributes, "error": error.code}))
        raise
    await log.append(new_event(event, actor, Outcome.COMPLETED, step.attributes))


async def record_refusal(
    log: AuditLog, actor: str, event: str, error: ApplianceError, attributes: dict[str, AttributeValue]
) -> None:
    """Record that a step was refused before it began."""
    await log.append(new_event(event, actor, Outcome.REFUSED, {**attributes, "error": error.code}))
