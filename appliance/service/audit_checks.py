"""What several use cases of the audit log ask before they begin: whose records, which window, which reason.

from_ms, to_ms = check_window(from_, to)
"""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime

from appliance.accounts.actions import Action, actions_of, authorize
from appliance.accounts.directory import Directory
from appliance.errors import InvalidRequest
from appliance.types import Principal

_REASON = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")


async def readable_actors(directory: Directory, principal: Principal) -> frozenset[str] | None:
    """Whose records `principal` may read: their own and those of their API keys; None for everybody's.

    Raises `PermissionDenied`.
    """
    if Action.AUDIT_READ_ALL in actions_of(principal):
        return None
    authorize(principal, Action.AUDIT_READ_OWN)
    return await asyncio.to_thread(directory.actors_of, principal)


def check_reason(reason: str) -> str:
    """A reason as a code: it stands in clear in the log for ever. Raises `InvalidRequest`."""
    if not _REASON.fullmatch(reason):
        raise InvalidRequest(
            "the reason is not a code: small letters, digits, `.`, `-` and `_`, at most 64 characters",
            hint="write it as `litigation-2026-04`; it stands in clear in the log, so it names no person",
        )
    return reason


def month_text(month: int) -> str:
    """Months since January 1970 as `2026-11`."""
    return f"{1970 + month // 12:04d}-{month % 12 + 1:02d}"


def milliseconds(moment: datetime | None) -> int | None:
    """A time in milliseconds since 1970; one without a zone is taken as UTC. Raises `InvalidRequest`."""
    if moment is None:
        return None
    try:
        in_utc = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except OverflowError:
        raise InvalidRequest(
            "a time is in UTC before the year 1 or after the year 9999", hint="write it as 2026-04-01T08:30Z"
        ) from None
    return int(in_utc.timestamp() * 1000)


def check_window(from_: datetime | None, to: datetime | None) -> tuple[int | None, int | None]:
    """Both ends in milliseconds. Raises `InvalidRequest` for a window that is upside down, or outside all calendars."""
    from_ms, to_ms = milliseconds(from_), milliseconds(to)
    if from_ms is not None and to_ms is not None and from_ms >= to_ms:
        raise InvalidRequest(
            f"the window ends ({to:%Y-%m-%d %H:%M}) before it begins ({from_:%Y-%m-%d %H:%M})",
            hint="`from` is the earlier time; `to` is not included",
        )
    return from_ms, to_ms
