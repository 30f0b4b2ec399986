"""What a crash left open, closed at the next start, so that the log tells the whole story.

Two things can be half done when a process dies: an exchange that was accepted and never closed, and a recorded change
whose transaction did not commit. Both are named by records of the log; neither is repaired by guessing: the exchange
is closed as failed (nothing more of it was released), the change is voided (nothing of it is visible).

A server's start looks at everything since the start before it. Every process that opens the log closes what a command
left that was killed (`service/command_marks.py`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial

from appliance.accounts.directory import Directory
from appliance.audit.log import AuditLog, RecordView
from appliance.config import Home
from appliance.errors import ApplianceError
from appliance.service.command_marks import CommandMark, is_alive, take_abandoned
from appliance.service.event_names import CHANGES, EVENTS, PARTS, STARTED, VOIDED
from appliance.service.events import SYSTEM, new_event
from appliance.types import Outcome

_PAGE = 200
_RECORDS_MAX = 20_000  # a crash leaves its traces at the end of the log
logger = logging.getLogger(__name__)


async def recover(directory: Directory, log: AuditLog, home: Home) -> None:
    """Close what the previous server and commands left open. The caller holds the server's lock."""
    views = await _newest(log, lambda view: view.event == STARTED)
    await _close(log, open_exchanges(views, partial(_is_gone, home)))
    voided = {str(view.attributes.get("record")) for view in views if view.event == VOIDED}
    announced = [
        bytes.fromhex(view.record_id)
        for view in views
        if view.event in CHANGES and view.outcome == Outcome.COMPLETED and view.record_id not in voided
    ]
    for record_id in await asyncio.to_thread(directory.unapplied, announced):
        await log.append(new_event(VOIDED, SYSTEM, Outcome.COMPLETED, {"record": record_id.hex()}))


async def close_abandoned(home: Home, log: AuditLog) -> None:
    """Close the exchanges of commands that were killed. What cannot be recorded now is left to the next opening."""
    try:
        for mark in take_abandoned(home):
            views = await _newest(log, lambda view, first=mark.first_seq: view.seq < first)  # type: ignore[misc]
            await _close(log, open_exchanges(views, partial(_is_of, mark)))
    except ApplianceError as error:
        logger.warning("exchanges of a command that was killed stay open: %s", error.code)


def open_exchanges(views: list[RecordView], is_over: Callable[[RecordView], bool]) -> list[RecordView]:
    """The opening records that no record closes, oldest first, of those processes that `is_over` says are gone."""
    closed = {view.exchange_id for view in views if view.exchange_id and view.outcome != Outcome.ACCEPTED}
    return [
        view
        for view in reversed(views)
        if view.outcome == Outcome.ACCEPTED
        and view.exchange_id
        and view.exchange_id not in closed
        and view.event not in PARTS
        and view.event in EVENTS
        and is_over(view)
    ]


def _is_gone(home: Home, view: RecordView) -> bool:
    """Whether the process of an exchange is gone. The previous server is: its successor holds the lock."""
    if view.attributes.get("via") == "server":
        return True
    boot, pid = view.attributes.get("boot"), view.attributes.get("pid")
    return isinstance(boot, str) and isinstance(pid, int) and not is_alive(home, boot, pid)


def _is_of(mark: CommandMark, view: RecordView) -> bool:
    return mark.attributes().items() <= view.attributes.items()


async def _close(log: AuditLog, views: list[RecordView]) -> None:
    for view in views:
        await log.append(
            new_event(view.event, view.actor, Outcome.FAILED, {"error": "interrupted"}, exchange_id=view.exchange_id)
        )


async def _newest(log: AuditLog, is_before: Callable[[RecordView], bool]) -> list[RecordView]:
    """Records, newest first, back to the one that `is_before`."""
    views: list[RecordView] = []
    after: int | None = None
    while len(views) < _RECORDS_MAX:
        page = await asyncio.to_thread(log.records, after, _PAGE)
        for view in page:
            if is_before(view):
                return views
            views.append(view)
        if len(page) < _PAGE:
            break
        after = page[-1].seq
    return views
