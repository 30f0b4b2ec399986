"""JSON of searching the log, of holds, retention and destruction; `schemas.py` has the rest. Names here are public."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from appliance.audit.log import ActivityBucket, Certificate, ErasureView
from appliance.service.audit_checks import month_text
from appliance.service.audit_holds import HoldDetail
from appliance.service.audit_retention import RetentionRun, Rule
from appliance.service.audit_search import HITS_MAX, AuditSearch
from appliance.service.event_names import class_name

_EXACT = Field(default="", max_length=128)
_CLASS = Field(validation_alias="class", serialization_alias="class", max_length=64)


class _Body(BaseModel):
    # By name too: `class` and `from` are words of the language.
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class SearchRequest(_Body):
    """What is sought. Empty or null: anything. `to` is not included; `text` is looked for in contents."""

    from_: datetime | None = Field(default=None, validation_alias="from", serialization_alias="from")
    to: datetime | None = None
    event: str | None = _EXACT
    actor: str | None = _EXACT
    outcome: str | None = _EXACT
    exchange_id: str | None = _EXACT
    specialist: str | None = _EXACT
    subject: str | None = Field(default="", max_length=1000)
    text: str | None = Field(default="", max_length=1000)
    epoch: int | None = Field(default=None, ge=1)
    limit: int = Field(default=100, ge=1, le=HITS_MAX)

    def wanted(self) -> AuditSearch:
        """As the use case takes it."""
        named = ("event", "actor", "outcome", "exchange_id", "specialist", "subject", "text")
        fields: dict[str, Any] = {name: getattr(self, name) or "" for name in named}
        return AuditSearch(self.from_, self.to, epoch=self.epoch, limit=self.limit, **fields)


class BucketBody(_Body):
    """How many records of each class were committed from `start` until the next bucket."""

    start: datetime
    exchange: int
    administration: int
    public: int


class ActivityBody(_Body):
    """Activity over a window, in buckets of equal length."""

    from_: datetime = Field(validation_alias="from", serialization_alias="from")
    to: datetime
    buckets: list[BucketBody]


class HoldRequestBody(_Body):
    """A hold to be placed. `reason` is a code that stands in clear in the log."""

    subjects: list[str] = Field(default_factory=list, max_length=1000)
    classes: list[str] = Field(default_factory=list, max_length=16)
    reason: str = Field(max_length=64)


class RecordedStep(_Body):
    """The public record that a step left, and when."""

    seq: int
    time: datetime


class PlacedStep(RecordedStep):
    """The same, and who did it; null where that record is gone. `by_name`: of the account that has this id now."""

    by: str | None
    by_name: str | None


class RequestedStep(_Body):
    """Who asked for a release, and when."""

    by: str
    by_name: str | None
    time: datetime


class HoldBody(_Body):
    """A legal hold. Subjects are counted, never named."""

    hold: str
    reason: str
    subjects: int
    classes: list[str]
    set: PlacedStep
    release_requested: RequestedStep | None
    released: RecordedStep | None


class HoldsBody(_Body):
    """Every hold, newest first."""

    data: list[HoldBody]


class ReleaseBody(_Body):
    """`requested`: another person must approve; `released`: done."""

    state: Literal["requested", "released"]
    by: str


class RuleBody(_Body):
    """How long one class is kept, its oldest month, and the months whose time has come."""

    record_class: str = _CLASS
    months: int
    oldest: str | None
    expired: list[str]


class RetentionBody(_Body):
    """The rule of every class."""

    classes: list[RuleBody]


class RuleRequest(_Body):
    """How long a class is to be kept: longer than now, never shorter."""

    record_class: str = _CLASS
    months: int = Field(ge=1, le=1200)


class PurgedBody(_Body):
    """So many records of a class and month lost their ciphertexts."""

    record_class: str = _CLASS
    month: str
    records: int


class HeldBody(_Body):
    """A class and month that a hold keeps, as a whole or in part."""

    record_class: str = _CLASS
    month: str
    hold: str


class RetentionRunBody(_Body):
    """What one run destroyed, and what stayed under a hold."""

    purged: list[PurgedBody]
    held: list[HeldBody]


class ShredRequest(_Body):
    """Whose contents are to be destroyed, and why, as a code that stands in clear in the log."""

    subject: str = Field(max_length=1000)
    reason: str = Field(max_length=64)


class CertificateBody(_Body):
    """What was destroyed, under which record, and how final that is; `statement` says it in a sentence.

    `backups`: how many recorded ones may still hold the keys; `backups_expire`: when the last of them is gone, null
    where there is none, or one that nobody promised to delete.
    """

    record_id: str
    seq: int
    grade: str
    records: int
    time: datetime
    backups: int
    backups_expire: datetime | None
    statement: str


class ErasureBody(_Body):
    """A destruction that was announced; `erased`: records whose ciphertexts are gone so far."""

    seq: int
    kind: str
    erased: int
    done: bool
    time: datetime


class ErasuresBody(_Body):
    """Every destruction, newest first."""

    data: list[ErasureBody]


def bucket_body(bucket: ActivityBucket, start: datetime) -> BucketBody:
    """One bucket as JSON."""
    return BucketBody(start=start, exchange=bucket.exchange, administration=bucket.administration, public=bucket.public)


def hold_body(detail: HoldDetail) -> HoldBody:
    """One hold as JSON."""
    view = detail.view
    requested = released = None
    if detail.release_requested_by is not None and detail.release_requested_time is not None:
        requested = RequestedStep(
            by=detail.release_requested_by,
            by_name=detail.release_requested_by_name,
            time=detail.release_requested_time,
        )
    if view.released_seq is not None and view.released_time is not None:
        released = RecordedStep(seq=view.released_seq, time=view.released_time)
    return HoldBody(
        hold=view.hold_id,
        reason=view.reason,
        subjects=len(view.subjects),
        classes=[class_name(number) for number in view.classes],
        set=PlacedStep(seq=view.set_seq, time=view.set_time, by=detail.by, by_name=detail.by_name),
        release_requested=requested,
        released=released,
    )


def retention_body(rules: list[Rule]) -> RetentionBody:
    """Every rule as JSON."""
    return RetentionBody(
        classes=[
            RuleBody(
                record_class=rule.record_class,
                months=rule.months,
                oldest=None if rule.oldest is None else month_text(rule.oldest),
                expired=[month_text(month) for month in rule.expired],
            )
            for rule in rules
        ]
    )


def retention_run_body(run: RetentionRun) -> RetentionRunBody:
    """What a run did, as JSON."""
    return RetentionRunBody(
        purged=[
            PurgedBody(record_class=each.record_class, month=month_text(each.month), records=each.records)
            for each in run.purged
        ],
        held=[
            HeldBody(record_class=each.record_class, month=month_text(each.month), hold=each.hold) for each in run.held
        ],
    )


def certificate_body(certificate: Certificate) -> CertificateBody:
    """A certificate as JSON."""
    return CertificateBody(
        record_id=certificate.record_id,
        seq=certificate.seq,
        grade=certificate.grade,
        records=certificate.records,
        time=certificate.destroyed_time,
        backups=certificate.backups,
        backups_expire=certificate.backups_expire,
        statement=certificate.statement,
    )


def erasure_body(erasure: ErasureView) -> ErasureBody:
    """A destruction as JSON."""
    return ErasureBody(seq=erasure.seq, kind=erasure.kind, erased=erasure.erased, done=erasure.done, time=erasure.time)
