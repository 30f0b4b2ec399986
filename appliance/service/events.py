"""Audit events as the service makes them: a fresh record id each, codes instead of prose."""

from __future__ import annotations

import asyncio
import secrets
from typing import Literal

from appliance.errors import ApplianceError
from appliance.types import AttributeValue, AuditEvent, Outcome

Via = Literal["server", "cli"]


def new_event(
    event: str,
    actor: str,
    outcome: Outcome,
    attributes: dict[str, AttributeValue] | None = None,
    *,
    exchange_id: str = "",
    content: bytes | None = None,
) -> AuditEvent:
    """An audit event with a fresh random record id."""
    return AuditEvent(event, actor, outcome, exchange_id, secrets.token_bytes(16), attributes or {}, content)


def code_of(error: BaseException) -> str:
    """The stable code of an error, for records and logs."""
    if isinstance(error, ApplianceError):
        return error.code
    return "cancelled" if isinstance(error, asyncio.CancelledError) else "internal_error"
