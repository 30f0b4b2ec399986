"""The log and what is outside of it: how old the newest checkpoint elsewhere is, which epochs there are, and receipts
that somebody brings back.

    found = await show_exposure(config, log, principal, anchors)    # "at most 34 s could be rewritten unseen"
    checked = await check_receipt(config, log, principal, proof_text)

These show nothing of anybody. Each is recorded; while nothing can be recorded they answer all the same, because that
is when somebody asks.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from appliance.accounts.actions import Action, authorize
from appliance.audit.anchors import Exposure
from appliance.audit.log import AuditLog, EpochView
from appliance.audit.quarantine import read_quarantine
from appliance.audit.receipt_check import CheckedReceipt
from appliance.audit.stored_view import StoredView
from appliance.config import Config
from appliance.errors import AuditError, InputTooLong, InvalidRequest
from appliance.service.anchoring import Anchors, compare_receipt, exposure_of
from appliance.service.events import record_reading
from appliance.types import AttributeValue, Principal

PROOF_CHARS_MAX = 64 * 1024
# As `auditverify` says it, so that one word means one thing in every verdict; the others are about receipts alone.
_VERDICTS = {"in_log": "ok", "beyond": "truncated", "differs": "forked"}
EXIT_CODES = {"ok": 0, "truncated": 11, "forked": 12, "foreign": 13, "earlier_epoch": 16}


@dataclass(frozen=True, slots=True)
class ExposureView:
    """The exposure window, and why nothing is recorded if something outside contradicts the log."""

    window: Exposure
    quarantine: str | None


async def show_exposure(
    config: Config, log: AuditLog, principal: Principal, anchors: Anchors | None = None
) -> ExposureView:
    """The window now; `anchors` of the server know what went wrong last. Raises `PermissionDenied`."""
    authorize(principal, Action.AUDIT_CHECKPOINT)
    await _record_if_possible(log, principal, "audit.exposure", {})
    window = await asyncio.to_thread(anchors.exposure if anchors else lambda: exposure_of(config, log))
    return ExposureView(window, log.quarantine)


async def exposure_unopened(config: Config) -> ExposureView:
    """The same where the log does not open: for the local operator. Raises `AuditLogInvalid`, a `HomeError`."""
    quarantine = await asyncio.to_thread(read_quarantine, config.home.audit_database.parent)
    window = await asyncio.to_thread(exposure_of, config, StoredView(config.home))
    return ExposureView(window, quarantine.why if quarantine else None)


async def list_epochs(log: AuditLog, principal: Principal) -> list[EpochView]:
    """The log that goes on and those before it, newest first. Raises `PermissionDenied`."""
    authorize(principal, Action.AUDIT_CHECKPOINT)
    await _record_if_possible(log, principal, "audit.epochs", {})
    return await asyncio.to_thread(log.epochs)


async def check_receipt(config: Config, log: AuditLog, principal: Principal, proof_text: str) -> CheckedReceipt:
    """Compare a receipt with the log. Whoever is known here may ask; one that contradicts the log quarantines it.

    The verdict is `ok`, `truncated`, `forked`, `earlier_epoch` or `foreign`: not signed by a key of this log, which
    proves nothing. Raises `InvalidRequest` for what is not a receipt, `InputTooLong`.
    """
    if len(proof_text) > PROOF_CHARS_MAX:
        raise InputTooLong(
            f"a receipt has at most {PROOF_CHARS_MAX} characters", hint="give one .tlog-proof file as it was received"
        )
    await _record_if_possible(log, principal, "audit.receipt_checked", {})
    found = await compare_receipt(config, log, proof_text)
    if found.verdict == "invalid":
        raise InvalidRequest(found.message, hint="give the whole .tlog-proof file as it was received")
    return found


def verdict_of(found: CheckedReceipt) -> str:
    """The verdict in the verifier's words."""
    return _VERDICTS.get(found.verdict, found.verdict)


async def _record_if_possible(
    log: AuditLog, principal: Principal, event: str, about: dict[str, AttributeValue]
) -> None:
    try:
        await record_reading(log, principal, event, about)
    except AuditError:
        return
