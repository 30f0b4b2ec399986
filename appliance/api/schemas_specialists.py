"""Bodies of the routes for the life of specialists, and for teaching them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from appliance.specialists.store import TrustedKeyRow


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class VersionBody(_Body):
    """One installed version. `admitted`: why it was let in (`signature` of a trusted key, an administrator's
    `decision` with its `reason`, `taught` here, `bundled` with the release, or `administrator` in earlier releases).
    """

    id: str
    version: str
    name: str
    task: str
    sha256: str
    size_bytes: int
    state: Literal["awaiting_approval", "approved", "active", "retired"]
    admitted: str
    signed: bool = Field(description="whether a key that this site trusts signed the file")
    signer: str | None
    reason: str | None
    installed_by: str
    installed_at: datetime
    approved_by: str | None
    approved_at: datetime | None
    promoted_by: str | None
    promoted_at: datetime | None


class VersionsBody(_Body):
    """The latest installation first."""

    data: list[VersionBody]


class VerifiedBody(VersionBody):
    """A version whose file was read again.

    `verified`: `signature`, `release`, `decision`, `taught` or `administrator`.
    """

    verified: str


class RollbackBody(_Body):
    """`active`: the version that answers again; null where none was active before."""

    retired: VersionBody
    active: VersionBody | None


class TrustedKeyRequest(_Body):
    """The public half of a signer's key, and whose it is."""

    name: str = Field(min_length=1, max_length=64)
    public_key: str = Field(max_length=16 * 1024, description="PEM: P-256, P-384 or P-521")


class TrustedKeyBody(_Body):
    """A key whose signatures count here."""

    name: str
    fingerprint: str
    public_key: str
    added_at: datetime
    added_by: str


class TrustedKeysBody(_Body):
    """By name."""

    data: list[TrustedKeyBody]


def version_body(card: dict[str, Any]) -> VersionBody:
    """A version's card as JSON."""
    return VersionBody(**card)


def trusted_key_body(row: TrustedKeyRow) -> TrustedKeyBody:
    """A trusted key as JSON."""
    return TrustedKeyBody(
        name=row.key.name,
        fingerprint=row.key.fingerprint,
        public_key=row.key.public_pem,
        added_at=datetime.fromtimestamp(row.added_ms / 1000, UTC),
        added_by=row.added_by,
    )


class ColumnProblem(_Body):
    """Something odd about a table. `severity`: note, warning, or refusal, which ends the matter. `lines`: the first."""

    code: str
    severity: Literal["note", "warning", "refusal"]
    message: str
    rows: int
    lines: list[int]


class LabelRows(_Body):
    """How many different texts carry a label."""

    label: str
    rows: int


class TableBody(_Body):
    """A table that was read: what is in it, never a text of it. `table` names it for a job, for an hour.

    `text_column` and `label_column` were detected or named; a person confirms them by starting a job with them.
    `ready`: something can be learned from it.
    """

    table: str
    columns: list[str]
    text_column: str
    label_column: str
    encoding: str
    rows: int
    texts: int
    labels: list[LabelRows]
    problems: list[ColumnProblem]
    ready: bool
    sha256: str


class TeachingRequest(_Body):
    """What shall be taught from which table. `multi_label`: a cell holds several labels with `;` between.

    `lora`: the base's upper layers learn too, which takes minutes and needs PyTorch (the extra `training`).
    """

    table: str = Field(max_length=64)
    id: str = Field(max_length=64)
    name: str = Field(default="", max_length=300)
    text_column: str | None = Field(default=None, max_length=1000)
    label_column: str | None = Field(default=None, max_length=1000)
    multi_label: bool = False
    lora: bool = False


class TeachingJobBody(_Body):
    """A job. `report` once it is done: metrics with intervals, per label, confusion, problems; `error` if it failed."""

    job: str
    id: str
    version: str
    state: Literal["waiting", "running", "done", "failed", "cancelled", "submitted"]
    progress: float
    step: str
    report: dict[str, Any] | None
    error: dict[str, Any] | None
