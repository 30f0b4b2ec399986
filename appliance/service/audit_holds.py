"""Legal holds: what must not be destroyed. One person places a hold, two different ones let it go.

    hold = await place_hold(log, principal, subjects=["MRN 4711"], classes=[], reason="litigation-2026-04")
    await release_hold(log, first, hold.hold)       # Release("requested", …): recorded
    await release_hold(log, second, hold.hold)      # Release("released", …): recorded, then done

The first person's request is a record of the log; the second person's approval looks it up there, so no server needs
to remember it. It is good for a week.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Literal

from appliance.accounts.actions import Action, actions_of, authorize
from appliance.accounts.directory import Directory
from appliance.audit.log import AuditLog, HoldRequest, HoldView, RecordView, SearchQuery
from appliance.errors import Conflict, InvalidRequest, NotFound, SecondPersonNeeded
from appliance.service.actors import ActorNames
from appliance.service.audit_checks import check_reason
from appliance.service.event_names import RELEASE_REQUESTED, check_class
from appliance.service.events import announced, new_event, record_reading, record_refusal
from appliance.service.subjects import require_subject
from appliance.types import AttributeValue, Outcome, Principal

REQUEST_DAYS = 7
SUBJECTS_MAX = 1000
_LISTED_MAX = 10_000


@dataclass(frozen=True, slots=True)
class HoldDetail:
    """A hold, who placed it, and who asked for its release, if that is still good. Names where accounts have them."""

    view: HoldView
    by: str | None
    by_name: str | None = None
    release_requested_by: str | None = None
    release_requested_by_name: str | None = None
    release_requested_time: datetime | None = None

    @property
    def hold(self) -> str:
        return self.view.hold_id


@dataclass(frozen=True, slots=True)
class Release:
    """How far the release of a hold is."""

    state: Literal["requested", "released"]
    by: str


async def place_hold(
    log: AuditLog, principal: Principal, *, subjects: Sequence[str], classes: Sequence[str], reason: str
) -> HoldDetail:
    """Nothing that this covers is destroyed until it is released. Raises `PermissionDenied`, `InvalidRequest`."""
    authorize(principal, Action.AUDIT_HOLD)
    named = tuple(dict.fromkeys(require_subject(subject) for subject in subjects))
    numbers = tuple(sorted({check_class(name) for name in classes}))
    check_reason(reason)
    if not named and not numbers:
        raise InvalidRequest("the hold covers nothing", hint="name subjects, or classes: exchange, administration")
    if len(named) > SUBJECTS_MAX:
        raise InvalidRequest(f"a hold names at most {SUBJECTS_MAX} subjects", hint="place several holds")
    hold_id = secrets.token_bytes(8)
    about: dict[str, AttributeValue] = {
        "hold": hold_id.hex(),
        "subjects": len(named),
        "classes": " ".join(classes)[:64],
        "reason": reason,
    }
    async with announced(log, principal.id, "hold.place", about) as step:
        receipt = await log.set_hold(HoldRequest(hold_id, named, numbers, reason))
        step.attributes["seq"] = receipt.seq
    view = await asyncio.to_thread(_find, log, hold_id.hex())
    return HoldDetail(view, principal.id, principal.name if Directory.keeps(principal.id) else None)


async def list_holds(directory: Directory, log: AuditLog, principal: Principal) -> list[HoldDetail]:
    """Every hold, newest first; subjects only as numbers. Raises `PermissionDenied`."""
    authorize(principal, Action.AUDIT_HOLD)
    await record_reading(log, principal, "hold.list")
    return await asyncio.to_thread(_details, log, ActorNames(directory))


async def release_hold(log: AuditLog, principal: Principal, hold: str) -> Release:
    """Ask for a release, or approve what another person asked for. Raises `SecondPersonNeeded`, `NotFound`, `Conflict`.

    Whoever is at the machine itself may be one of the two, and not both under two names of the operating system.
    """
    authorize(principal, Action.AUDIT_HOLD)
    about: dict[str, AttributeValue] = {"hold": hold[:16]}
    try:
        view = await asyncio.to_thread(_find, log, hold)
        if view.released_seq is not None:
            raise Conflict(f"the hold {hold} was released before", hint="list them: appliance audit hold list")
    except (NotFound, Conflict) as error:
        await record_refusal(log, principal.id, "hold.release_approve", error, about)
        raise
    asked = await asyncio.to_thread(_requested, log, hold)
    if asked is None:
        await log.append(new_event(RELEASE_REQUESTED, principal.id, Outcome.COMPLETED, about))
        return Release("requested", principal.id)
    if _same_person(asked.actor, principal.id):
        refusal = SecondPersonNeeded(
            "you asked for this release; another person must approve it",
            hint=f"somebody else with the right to hold approves within {REQUEST_DAYS} days",
        )
        await record_refusal(log, principal.id, "hold.release_approve", refusal, about)
        raise refusal
    approvals: dict[str, AttributeValue] = {**about, "requested_by": asked.actor, "request": asked.record_id}
    async with announced(log, principal.id, "hold.release_approve", approvals) as step:
        receipt = await log.release_hold(bytes.fromhex(hold), f"{asked.actor},{principal.id}")
        step.attributes["seq"] = receipt.seq
    return Release("released", principal.id)


def may_hold(principal: Principal) -> bool:
    """Whether `principal` may place and release holds."""
    return Action.AUDIT_HOLD in actions_of(principal)


def _same_person(first: str, second: str) -> bool:
    return first == second or (first.startswith("local:") and second.startswith("local:"))


def _find(log: AuditLog, hold: str) -> HoldView:
    for view in log.holds():
        if view.hold_id == hold:
            return view
    raise NotFound(f"there is no hold {hold[:16]!r}", hint="list them: appliance audit hold list")


def _requested(log: AuditLog, hold: str) -> RecordView | None:
    """The oldest request for the release of this hold that is still good."""
    return next((view for view in reversed(_recent_requests(log)) if view.attributes.get("hold") == hold), None)


def _recent_requests(log: AuditLog) -> list[RecordView]:
    since = datetime.now(UTC) - timedelta(days=REQUEST_DAYS)
    return _records(log, SearchQuery(event=RELEASE_REQUESTED, from_ms=int(since.timestamp() * 1000), limit=_LISTED_MAX))


def _details(log: AuditLog, names: ActorNames) -> list[HoldDetail]:
    placed = _records(log, SearchQuery(event="hold.place", outcome=Outcome.ACCEPTED, limit=_LISTED_MAX))
    by = {str(view.attributes.get("hold")): view for view in names.add_to(placed)}
    asked = {str(view.attributes.get("hold")): view for view in names.add_to(_recent_requests(log))}
    details = []
    for view in log.holds():
        request = asked.get(view.hold_id) if view.released_seq is None else None
        detail = HoldDetail(view, None)
        if (who := by.get(view.hold_id)) is not None:
            detail = replace(detail, by=who.actor, by_name=who.actor_name)
        if request is not None:
            detail = replace(
                detail,
                release_requested_by=request.actor,
                release_requested_by_name=request.actor_name,
                release_requested_time=request.time,
            )
        details.append(detail)
    return details


def _records(log: AuditLog, query: SearchQuery) -> list[RecordView]:
    return [step for step in log.search(query) if isinstance(step, RecordView)]
