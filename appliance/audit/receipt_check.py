"""Compares a receipt that somebody kept with the log: it is in it, or the log is not the one that gave it out.

    checked = await check_receipt(log, StoredView(home), keys, proof_text)
    checked.verdict            # in_log · beyond · differs · earlier_epoch · foreign · invalid

A receipt that our key signed and that the log does not hold proves that the log was cut or rewritten; then the log is
quarantined at once. A receipt that does not verify by itself proves nothing, whoever brings it, and changes nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, Protocol

from appliance.audit.checkpoint import Checkpoint, parse_checkpoint
from appliance.audit.proof import parse_proof
from appliance.audit.stored_view import StoredView
from appliance.crypto.merkle import root_from_inclusion
from appliance.crypto.note import parse_verifier_key, verify_note
from appliance.errors import AuditLogInvalid
from appliance.types import Receipt

ReceiptVerdict = Literal["in_log", "beyond", "differs", "earlier_epoch", "foreign", "invalid"]
CONTRADICTIONS = ("beyond", "differs")
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CheckedReceipt:
    """What was found; `seq` None where the receipt could not be read."""

    verdict: ReceiptVerdict
    seq: int | None
    message: str


class QuarantinedLog(Protocol):
    """What a contradiction is told to: `AuditLog`, and a fake in tests."""

    def checkpoint(self) -> str: ...

    async def enter_quarantine(self, why: str, note: str) -> None: ...


async def check_receipt(
    log: QuarantinedLog, view: StoredView, keys: Collection[str], proof_text: str
) -> CheckedReceipt:
    """Compare, and quarantine the log if it is contradicted. `keys`: every verifier key that ever signed it.

    Raises `AuditLogInvalid` where the log has not begun.
    """
    checked, note = await asyncio.to_thread(_compare, view, frozenset(keys), proof_text)
    if checked.verdict in CONTRADICTIONS:
        logger.error("the audit log is quarantined: %s", checked.message)
        await log.enter_quarantine(checked.message, note)
    return checked


def _compare(view: StoredView, keys: frozenset[str], proof_text: str) -> tuple[CheckedReceipt, str]:
    try:
        receipt, _ = parse_proof(proof_text)
        said = parse_checkpoint(receipt.checkpoint.partition("\n\n")[0] + "\n")
        proven = root_from_inclusion(receipt.seq, receipt.size, receipt.leaf, receipt.proof) == said.root
    except ValueError as error:
        return CheckedReceipt("invalid", None, f"this is not a receipt: {error}"), ""
    if not proven:
        message = "its path does not lead to its checkpoint: it was altered, and proves nothing"
        return CheckedReceipt("invalid", receipt.seq, message), ""
    if not any(_signs(key, said.origin, receipt.checkpoint) for key in keys):
        message = "it is not signed by a key of this log: it belongs to another, and proves nothing here"
        return CheckedReceipt("foreign", receipt.seq, message), ""
    return _against_the_log(view, receipt, said), receipt.checkpoint


def _against_the_log(view: StoredView, receipt: Receipt, said: Checkpoint) -> CheckedReceipt:
    ours = parse_checkpoint(view.checkpoint().partition("\n\n")[0] + "\n")
    if said.origin != ours.origin:
        message = "it belongs to an earlier epoch of this log; verify it against that epoch's files"
        return CheckedReceipt("earlier_epoch", receipt.seq, message)
    if said.size > ours.size:
        message = f"a receipt covers {said.size} records of this log, here are {ours.size}: the log was cut"
        return CheckedReceipt("beyond", receipt.seq, message)
    try:
        same = view.leaf(receipt.seq) == receipt.leaf and view.root(said.size) == said.root
    except AuditLogInvalid:
        same = False  # records or tiles are missing where a receipt says that there were some
    if not same:
        message = f"record {receipt.seq} or one before it is not what a receipt of this log says: it was rewritten"
        return CheckedReceipt("differs", receipt.seq, message)
    return CheckedReceipt("in_log", receipt.seq, f"record {receipt.seq} is in the log, as the receipt says")


def _signs(key: str, origin: str, note: str) -> bool:
    name, public = parse_verifier_key(key)
    if name != origin:
        return False
    try:
        verify_note(note, name, public)
    except ValueError:
        return False
    return True
