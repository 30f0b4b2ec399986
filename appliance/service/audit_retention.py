"""How long records are kept, and what is destroyed when the time has come or somebody asks for it.

    await change_retention(log, principal, "exchange", 96)
    run = await run_retention(log, principal.id)
    certificate = await shred(log, principal, "MRN 4711", "request-17")

A hold beats every destruction; a refusal is recorded. Where a hold covers a part of what is due, the rest goes.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from datetime import UTC, datetime

from appliance.accounts.actions import Action, actions_of, authorize
from appliance.audit.conversations import Conversations
from appliance.audit.log import AuditLog, Certificate, ErasureView
from appliance.config import Config
from appliance.errors import ApplianceError, InvalidRequest, NotFound, UnderLegalHold
from appliance.service.audit_checks import check_reason
from appliance.service.event_names import CLASS_NUMBERS, check_class, class_name
from appliance.service.events import SYSTEM, announced, record_reading
from appliance.service.subjects import require_subject
from appliance.types import AttributeValue, Principal

MONTHS_MAX = 1200
_FAR = datetime(9000, 1, 1, tzinfo=UTC)  # when everything that is kept will have expired
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Rule:
    """One class: how many months it is kept, its oldest month, and the months whose time has come."""

    record_class: str
    months: int
    oldest: int | None
    expired: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Purged:
    """One class and month of which so many records lost their ciphertexts."""

    record_class: str
    month: int
    records: int


@dataclass(frozen=True, slots=True)
class Held:
    """One class and month that a hold keeps, as a whole or in part."""

    record_class: str
    month: int
    hold: str


@dataclass(slots=True)
class RetentionRun:
    """What one run did."""

    purged: list[Purged] = field(default_factory=list)
    held: list[Held] = field(default_factory=list)


async def begin_retention(config: Config, log: AuditLog) -> None:
    """Give every class that has no rule yet the one of the configuration; later ones are lengthened in the log only."""
    known = await asyncio.to_thread(log.retention)
    wanted = {"exchange": config.retention.exchange_months, "administration": config.retention.administration_months}
    for name, months in wanted.items():
        if CLASS_NUMBERS[name] not in known:
            await log.set_retention(CLASS_NUMBERS[name], months)


async def list_retention(log: AuditLog, principal: Principal) -> list[Rule]:
    """The rule of every class. Raises `PermissionDenied`."""
    _authorize_reading(principal)
    await record_reading(log, principal, "retention.list")
    return await asyncio.to_thread(_rules, log)


async def change_retention(log: AuditLog, principal: Principal, record_class: str, months: int) -> list[Rule]:
    """Keep a class longer. Raises `PermissionDenied`, `InvalidRequest`, `RetentionShortened` (recorded)."""
    authorize(principal, Action.AUDIT_RETENTION)
    number = check_class(record_class)
    if not 1 <= months <= MONTHS_MAX:
        raise InvalidRequest(f"records cannot be kept {months} months", hint=f"say 6 to {MONTHS_MAX}")
    about: dict[str, AttributeValue] = {"class": record_class, "months": months}
    async with announced(log, principal.id, "retention.change", about) as step:
        step.attributes["seq"] = (await log.set_retention(number, months)).seq
    return await asyncio.to_thread(_rules, log)


async def run_retention_now(log: AuditLog, principal: Principal) -> RetentionRun:
    """Destroy what has expired, now. Raises `PermissionDenied`."""
    authorize(principal, Action.AUDIT_RETENTION)
    return await run_retention(log, principal.id)


async def run_retention(log: AuditLog, actor: str, now: datetime | None = None) -> RetentionRun:
    """Destroy what has expired at `now`; what a hold covers stays and is named."""
    run = RetentionRun()
    due = await asyncio.to_thread(log.expired, now or datetime.now(UTC))
    async with announced(log, actor, "retention.run", {"due": len(due)}) as step:
        for number, month in due:
            await _expire(log, actor, number, month, run)
        step.attributes |= {"purged": len(run.purged), "held": len(run.held)}
    return run


async def expire_regularly(config: Config, log: AuditLog, conversations: Conversations | None = None) -> None:
    """In a server: finish what a crash cut off, then a run every so often, until cancelled.

    Keys of conversations expire with the others of their class and month; what is left of those is then taken too.
    """
    while True:
        try:
            await log.finish_erasures()
            if await asyncio.to_thread(log.expired, datetime.now(UTC)):
                await run_retention(log, SYSTEM)
            if conversations is not None:
                await asyncio.to_thread(conversations.sweep)
        except ApplianceError as error:
            logger.error("expired records were not destroyed: %s", error.message)
        await asyncio.sleep(config.retention.expire_every_s)


async def shred(log: AuditLog, principal: Principal, subject: str, reason: str) -> Certificate:
    """Destroy the keys of all content about one subject. Raises `UnderLegalHold` (recorded), `NotFound`."""
    authorize(principal, Action.AUDIT_ERASE)
    named = require_subject(subject)
    check_reason(reason)
    async with announced(log, principal.id, "erasure.shred", {"reason": reason}) as step:
        certificate = await log.shred(named, reason, principal.id)
        step.attributes |= {"seq": certificate.seq, "records": certificate.records, "grade": certificate.grade}
    return certificate


async def list_erasures(log: AuditLog, principal: Principal) -> list[ErasureView]:
    """Every destruction that was announced, newest first. Raises `PermissionDenied`."""
    _authorize_reading(principal)
    await record_reading(log, principal, "erasure.list")
    return await asyncio.to_thread(log.erasures)


def _authorize_reading(principal: Principal) -> None:
    if Action.AUDIT_RETENTION not in actions_of(principal):
        authorize(principal, Action.AUDIT_READ_ALL)


def _rules(log: AuditLog) -> list[Rule]:
    rules, expired, kept = log.retention(), log.expired(datetime.now(UTC)), log.expired(_FAR)
    return [
        Rule(
            class_name(number),
            months,
            min((month for record_class, month in kept if record_class == number), default=None),
            tuple(month for record_class, month in expired if record_class == number),
        )
        for number, months in sorted(rules.items())
    ]


async def _expire(log: AuditLog, actor: str, number: int, month: int, run: RetentionRun) -> None:
    try:
        certificate = await log.purge(number, month, "retention", actor)
        run.purged.append(Purged(class_name(number), month, certificate.records))
    except NotFound:
        return  # another process was faster
    except UnderLegalHold:
        held = await asyncio.to_thread(_holds_touching, log, number)
        run.held.append(Held(class_name(number), month, held))
        free = await asyncio.to_thread(log.unheld_scopes, number, month)
        if free:
            certificate = await log.shred_scopes(free, "retention", actor)
            run.purged.append(Purged(class_name(number), month, certificate.records))


def _holds_touching(log: AuditLog, number: int) -> str:
    """The hold that is named to the person: one of the class if there is one, else one of subjects."""
    active = [view for view in log.holds() if view.released_seq is None]
    of_class = [view for view in active if number in view.classes]
    return next((view.hold_id for view in (*of_class, *active)), "")
