"""JSON in, JSON out, of the routes about the log as a whole; the others are in `schemas.py`."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from appliance.api.schemas_audit import VerdictBody
from appliance.audit.log import EpochView
from appliance.service.audit_exposure import PROOF_CHARS_MAX, ExposureView
from appliance.service.audit_verify import Verdict


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class VerifyRequest(_Body):
    """`full`: every record of every epoch again, not only what is new."""

    full: bool = False


class SinkBody(_Body):
    """One place outside: how many records its newest checkpoint covers and how old that is; null: never."""

    sink: str
    size: int
    age_s: float | None
    problem: str | None


class ExposureBody(_Body):
    """What was recorded after `anchored_size` could be rewritten by whoever holds the machine."""

    size: int
    anchored_size: int
    age_s: float | None
    target_s: float
    alarm: bool
    sinks: list[SinkBody]
    quarantine: str | None


class EpochBody(_Body):
    """One log of this appliance; a new one begins after a declared loss."""

    number: int
    origin: str
    size: int
    begun_time: datetime


class EpochList(_Body):
    """Newest first."""

    data: list[EpochBody]


class ReceiptCheckRequest(_Body):
    """A receipt as the file that was received (C2SP tlog-proof)."""

    proof_file: str = Field(max_length=PROOF_CHARS_MAX)


class ReceiptCheckBody(_Body):
    """`ok`; `truncated` or `forked`: the log contradicts it; `foreign` or `earlier_epoch`: it says nothing here."""

    verdict: str
    seq: int | None
    message: str


def verdict_body(verdict: Verdict) -> VerdictBody:
    """A verdict as JSON."""
    return VerdictBody(
        verdict=verdict.verdict,
        exit_code=verdict.exit_code,
        records=verdict.records,
        first_bad_seq=verdict.first_bad_seq,
        messages=list(verdict.messages),
        incremental=verdict.incremental,
        since=verdict.since,
    )


def exposure_body(view: ExposureView) -> ExposureBody:
    """The exposure window as JSON."""
    window = view.window
    return ExposureBody(
        size=window.size,
        anchored_size=window.anchored_size,
        age_s=window.age_s,
        target_s=window.target_s,
        alarm=window.alarm,
        sinks=[
            SinkBody(sink=sink.sink, size=sink.size, age_s=sink.age_s, problem=sink.problem) for sink in window.sinks
        ],
        quarantine=view.quarantine,
    )


def epoch_body(epoch: EpochView) -> EpochBody:
    """One epoch as JSON."""
    return EpochBody(number=epoch.number, origin=epoch.origin, size=epoch.size, begun_time=epoch.begun_time)
