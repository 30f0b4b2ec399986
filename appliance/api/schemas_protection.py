"""What protects this site, and what its models were measured to do, as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

from appliance.service.capacity import SPEED, Capacity, Measured
from appliance.service.protection import Done, EgressView, ProtectionView


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DoneBody(_Body):
    """How something ended that is done now and then; `error` is a code, empty where it succeeded."""

    time: datetime
    succeeded: bool
    error: str


class EgressBody(_Body):
    """The last proof that nothing leaves: `blocked` or `open`, and a word for each way that was tried.

    `blocked_since`: the first of the tests, without a break until now, that found every way closed; null: one is open,
    or the last test is too old to tell.
    """

    time: datetime
    verdict: str
    ways: dict[str, str]
    blocked_since: datetime | None


class CertificateFactsBody(_Body):
    """The certificate in use; `fingerprint` as browsers show it."""

    names: list[str]
    not_after: datetime
    fingerprint: str


class CheckBody(_Body):
    """One finding as `appliance doctor` words it; `remedy` is what to do where `state` is not `ok`."""

    name: str
    state: Literal["ok", "warn", "fail"]
    found: str
    remedy: str


class ProtectionBody(_Body):
    """null: never, or there is none."""

    egress: EgressBody | None
    backup: DoneBody | None
    drill: DoneBody | None
    recovery_kit: bool
    certificate: CertificateFactsBody | None
    checks: list[CheckBody]


class CapacityRowBody(_Body):
    """So many answers at once, and how many tokens a second each of them got (median)."""

    answers: int
    tokens_per_s: float


class CapacityBody(_Body):
    """What was measured on this machine, when. `users`: how many people at once get `speed` tokens a second or more.

    `gpu_refused`: why a GPU pack that is installed was not used; null: it was, or there is none.
    """

    time: datetime
    device: str
    gpu_refused: str | None
    memory_bytes: int
    rows: list[CapacityRowBody]
    speed: float
    users: int


class MeasuredBody(_Body):
    """A model, and what was last measured of its file as it is now; null: it never was, and `command` does it."""

    model: str
    sha256: str
    capacity: CapacityBody | None
    command: str


class CapacityList(_Body):
    """Every model of this machine."""

    data: list[MeasuredBody]


def capacity_list(models: Sequence[Measured]) -> CapacityList:
    """The models as JSON."""
    return CapacityList(
        data=[
            MeasuredBody(
                model=one.model,
                sha256=one.sha256,
                capacity=None if one.time is None or one.capacity is None else _capacity(one.time, one.capacity),
                command=f"appliance doctor --capacity {one.model}",
            )
            for one in models
        ]
    )


def _capacity(time: datetime, found: Capacity) -> CapacityBody:
    rows = [CapacityRowBody(answers=row.answers, tokens_per_s=row.tokens_per_s) for row in found.rows]
    return CapacityBody(
        time=time,
        device=found.device,
        gpu_refused=found.gpu_refused,
        memory_bytes=found.memory_bytes,
        rows=rows,
        speed=SPEED,
        users=found.users(SPEED),
    )


def protection_body(view: ProtectionView) -> ProtectionBody:
    """The facts as JSON."""
    facts, egress = view.certificate, view.egress
    return ProtectionBody(
        egress=None if egress is None else _egress(egress),
        backup=_done(view.backup),
        drill=_done(view.drill),
        recovery_kit=view.recovery_kit,
        certificate=None
        if facts is None
        else CertificateFactsBody(names=list(facts.names), not_after=facts.not_after, fingerprint=facts.fingerprint),
        checks=[CheckBody(name=one.name, state=one.state, found=one.found, remedy=one.remedy) for one in view.checks],
    )


def _egress(view: EgressView) -> EgressBody:
    return EgressBody(time=view.time, verdict=view.verdict, ways=view.ways, blocked_since=view.blocked_since)


def _done(done: Done | None) -> DoneBody | None:
    return None if done is None else DoneBody(time=done.time, succeeded=done.succeeded, error=done.error)
