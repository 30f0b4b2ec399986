"""Bodies of the routes about the audit log: records, receipts, checkpoint, verdict."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from appliance.audit.log import RecordView
from appliance.audit.proof import proof_file
from appliance.types import Receipt


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ReceiptBody(_Body):
    """Proof that the answer's record is in the log.

    `proof_file` is the whole of it as a C2SP tlog-proof: kept as `<name>.tlog-proof`, anybody verifies it offline with
    `auditverify <name>.tlog-proof --pub KEY`.
    """

    record_id: str
    seq: int
    leaf: str
    size: int
    origin: str
    checkpoint: str
    proof: list[str]
    proof_file: str


class RecordBody(_Body):
    """One audit record without its sealed content.

    `actor_name`: who has the id `actor` now, null for one that is no account's (`system`, `local:uid-0`) and where
    `actor_gone` says that the account is no longer there.
    """

    seq: int
    record_id: str
    time: datetime
    kind: str
    event: str
    outcome: str
    actor: str
    actor_name: str | None
    actor_gone: bool
    exchange_id: str
    attributes: dict[str, Any]
    has_content: bool


class RecordPage(_Body):
    """Newest first; `next` is the `after` of the following page, null at the end."""

    data: list[RecordBody]
    next: int | None


class RecordDetail(RecordBody):
    """One record with its content, for those who may read it."""

    content: str | None = None


class CheckpointBody(_Body):
    """The newest signed tree head and the key that verifies it."""

    checkpoint: str
    verifier_key: str
    origin: str
    size: int


class VerdictBody(_Body):
    """What the stand-alone verifier says of the log; `exit_code` as in `audit/README.md`.

    `incremental`: only what is new was read, after the first `since` records, which an earlier run had verified.
    """

    verdict: str
    exit_code: int
    records: int
    first_bad_seq: int | None = None
    messages: list[str] = Field(default_factory=list)
    incremental: bool = False
    since: int = 0


def receipt_body(receipt: Receipt) -> ReceiptBody:
    """A receipt as JSON."""
    return ReceiptBody(
        record_id=receipt.record_id.hex(),
        seq=receipt.seq,
        leaf=receipt.leaf.hex(),
        size=receipt.size,
        origin=receipt.checkpoint.split("\n", 1)[0],
        checkpoint=receipt.checkpoint,
        proof=[node.hex() for node in receipt.proof],
        proof_file=proof_file(receipt),
    )


def record_body(view: RecordView) -> RecordBody:
    """One record's envelope as JSON."""
    return RecordBody(
        seq=view.seq,
        record_id=view.record_id,
        time=view.time,
        kind=view.kind,
        event=view.event,
        outcome=view.outcome,
        actor=view.actor,
        actor_name=view.actor_name,
        actor_gone=view.actor_gone,
        exchange_id=view.exchange_id,
        attributes=dict(view.attributes),
        has_content=view.has_content,
    )
