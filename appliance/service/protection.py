"""What protects this site, in four facts for one glance: nothing leaves, a backup exists, it was rehearsed, TLS lasts.

    view = await show_protection(config, log, principal)
    view.egress.verdict, view.egress.time        # "blocked", when it was last tried
    view.egress.blocked_since                    # since when every test found it so
    view.backup, view.drill, view.recovery_kit, view.certificate
    view.checks                                  # the same as `appliance doctor` says it, each with its remedy

Facts of the log and the keystore as they are now; nothing is tried here (`appliance doctor` does that).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import takewhile

from appliance.accounts.actions import Action, actions_of, authorize
from appliance.audit.key_slots import list_slots
from appliance.audit.log import AuditLog, RecordView
from appliance.config import Config
from appliance.crypto.certificates import Facts
from appliance.errors import ApplianceError
from appliance.service.backup.backups import CREATED, DRILLED, last_ended
from appliance.service.doctor import Check, check_backup, check_certificate, check_egress, check_kit
from appliance.service.egress.egress import TESTED
from appliance.service.events import record_looking
from appliance.service.site_certificate import certificate_facts
from appliance.types import Outcome, Principal

KINDS_NOT_SHOWN = ("verdict", "tripwire")
_TESTS_MAX = 1000  # looked at for how long nothing could leave; at one a day, some years


@dataclass(frozen=True, slots=True)
class Done:
    """How something ended that is done now and then. `error`: its code, where it failed."""

    time: datetime
    succeeded: bool
    error: str


@dataclass(frozen=True, slots=True)
class EgressView:
    """The last proof that nothing leaves. `ways`: a word for each way that was tried, `refused: …` or `left: …`.

    `blocked_since`: the first of the tests, without a break until now, that found every way closed; None: one is open,
    or the last test is too old to tell.
    """

    time: datetime
    verdict: str
    ways: dict[str, str]
    blocked_since: datetime | None


@dataclass(frozen=True, slots=True)
class ProtectionView:
    """None: never, or there is none."""

    egress: EgressView | None
    backup: Done | None
    drill: Done | None
    recovery_kit: bool
    certificate: Facts | None
    checks: tuple[Check, ...]


def require_overseer(principal: Principal) -> None:
    """Facts of the site are for those who run it and those who read its whole log. Raises `PermissionDenied`."""
    if Action.AUDIT_READ_ALL not in actions_of(principal):
        authorize(principal, Action.SYSTEM_STATUS)


async def show_protection(config: Config, log: AuditLog, principal: Principal) -> ProtectionView:
    """The facts now; recorded where the log takes it. Raises `PermissionDenied`."""
    require_overseer(principal)
    await record_looking(log, principal, "system.protection")
    return await asyncio.to_thread(_look, config, log)


def _look(config: Config, log: AuditLog) -> ProtectionView:
    tests = log.records(limit=_TESTS_MAX, event=TESTED)
    tested = tests[0] if tests else None
    made, drilled = last_ended(log, CREATED), last_ended(log, DRILLED)
    try:
        certificate = certificate_facts(config)
        lasting = check_certificate(certificate)
    except ApplianceError as error:
        certificate = None  # the server would not have started with it
        lasting = Check("certificate", "fail", error.message, error.hint or "appliance tls show says why")
    kit, leaving = check_kit(list_slots(config.home)), check_egress(config, tested)
    return ProtectionView(
        None if tested is None else _egress(tested, tests if leaving.state == "ok" else ()),
        _done(made),
        _done(drilled),
        kit.state == "ok",
        certificate,
        (leaving, check_backup(config, made, drilled), kit, lasting),
    )


def _egress(tested: RecordView, tests: Sequence[RecordView]) -> EgressView:
    ways = {name: str(word) for name, word in tested.attributes.items() if name not in KINDS_NOT_SHOWN}
    closed = list(takewhile(lambda test: test.outcome == Outcome.COMPLETED, tests))
    since = closed[-1].time if closed else None
    return EgressView(tested.time, str(tested.attributes.get("verdict", "")), ways, since)


def _done(view: RecordView | None) -> Done | None:
    if view is None:
        return None
    return Done(view.time, view.outcome == Outcome.COMPLETED, str(view.attributes.get("error", "")))
