"""Whether the log records now, and if not, why and what to do: for probes, `doctor`, metrics and exposure.

audit_state(log)      # AuditState("paused", "the disk … is nearly full: …", "free space on that disk; …")
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from appliance.audit.log import AuditLog
from appliance.errors import ApplianceError


@dataclass(frozen=True, slots=True)
class AuditState:
    """`ready`, or why nothing is recorded and therefore nothing released."""

    state: Literal["ready", "paused", "quarantined", "unavailable"]
    reason: str = ""
    remedy: str = ""


def audit_state(log: AuditLog) -> AuditState:
    """Asks for nothing to be written; takes microseconds."""
    quarantine = log.quarantine
    if quarantine is not None:
        return AuditState(
            "quarantined",
            quarantine,
            "nothing is recorded or released; compare with the witness and the receipts, then restore the newest "
            "files, or declare what is lost: appliance audit recover --declare-loss",
        )
    if not log.alive:
        problem = log.client.problem
        return AuditState("unavailable", problem.message if problem else "", (problem.hint if problem else "") or "")
    try:
        log.require_space()
    except ApplianceError as error:
        return AuditState("paused", error.message, error.hint or "")
    return AuditState("ready")
