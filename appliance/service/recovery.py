"""What a crash left open, closed at the next start of the server, so that the log tells the whole story.

Two things can be half done when a process dies: an exchange that was accepted and never closed, and a recorded change
whose transaction did not commit. Both are named by records of the log; neither is repaired by guessing: the exchange
is closed as failed (nothing of it was released), the change is voided (nothing of it is visible).
"""

from __future__ import annotations

import asyncio

from appliance.accounts.directory import Directory
from appliance.audit.log import AuditLog, RecordView
from appliance.service.events import new_event
from appliance.types import Outcome

STARTED = "appliance.started"
VOIDED = "change.voided"
CHANGES = frozenset(
    {
        "account.created",
        "account.disabled",
        "account.enabled",
        "api_key.created",
        "api_key.revoked",
        "setup.link_created",
        "setup.link_used",
    }
)
_PAGE = 200
_RECORDS_MAX = 20_000  # a crash leaves its traces at the end of the log


async def recover(directory: Directory, log: AuditLog) -> None:
    """Close what the previous server left open. The caller holds the server's lock."""
    views = await _since_previous_start(log)
    for view in open_exchanges(views):
        await log.append(
            new_event(view.event, view.actor, Outcome.FAILED, {"error": "interrupted"}, exchange_id=view.exchange_id)
        )
    voided = {str(view.attributes.get("record")) for view in views if view.event == VOIDED}
    announced = [
        bytes.fromhex(view.record_id)
        for view in views
        if view.event in CHANGES and view.outcome == Outcome.COMPLETED and view.record_id not in voided
    ]
    for record_id in await asyncio.to_thread(directory.unapplied, announced):
        await log.append(new_event(VOIDED, "system", Outcome.COMPLETED, {"record": record_id.hex()}))


def open_exchanges(views: list[RecordView]) -> list[RecordView]:
    """Opening records of a server's exchanges that no record closes, oldest first. Other processes close their own."""
    closed = {view.exchange_id for view in views if view.exchange_id and view.outcome != Outcome.ACCEPTED}
    return [
        view
        for view in reversed(views)
        if view.outcome == Outcome.ACCEPTED
        and view.exchange_id not in closed
        and view.attributes.get("via") == "server"
    ]


async def _since_previous_start(log: AuditLog) -> list[RecordView]:
    """Records, newest first, back to the last start of a server."""
    views: list[RecordView] = []
    after: int | None = None
    while len(views) < _RECORDS_MAX:
        page = await asyncio.to_thread(log.records, after, _PAGE)
        for view in page:
            if view.event == STARTED:
                return views
            views.append(view)
        if len(page) < _PAGE:
            break
        after = page[-1].seq
    return views
