"""The proof that nothing leaves, as a use case: try everything, record what came of it, say when it was last so.

    found = await try_to_leave(config, log, principal)        # EgressTest: verdict, one line for each kind
    last = last_test(log)                                     # of the log; None before the first
    await try_regularly(config, log)                          # in a server, once a day, until cancelled

The attempts are made by a program of its own (`probe.py`), started as every other child of this process is: under the
same user, control group and namespaces, so that the same rules of the kernel hold. What is recorded is under the log's
signature as every record; its receipt is the proof.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from appliance.accounts.actions import Action, authorize
from appliance.audit.log import AuditLog, RecordView
from appliance.config import Config, child_environment
from appliance.errors import ApplianceError, EngineUnavailable
from appliance.service.events import SYSTEM, new_event
from appliance.types import AttributeValue, Outcome, Principal, Receipt

PROBE = Path(__file__).with_name("probe.py")
TESTED = "egress.tested"
_FIRST_S = 600.0  # after a start: nobody waits for it, and short runs are none of its business
_OUTPUT_BYTES_MAX = 64 * 1024
_KINDS_MAX = 32
_PROBE_S = 120.0
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One way to leave. `left`: a byte was sent, or may have been."""

    kind: str
    left: bool
    why: str


@dataclass(frozen=True, slots=True)
class EgressTest:
    """What came of all of them. `tripwire`: whether this process also refuses by itself, None where nobody asked."""

    attempts: tuple[Attempt, ...]
    tripwire: bool | None = None
    receipt: Receipt | None = None

    @property
    def verdict(self) -> Literal["blocked", "open"]:
        """`blocked`: the kernel refused every one."""
        return "open" if any(attempt.left for attempt in self.attempts) else "blocked"

    def about(self) -> dict[str, AttributeValue]:
        """What is recorded: the verdict, and a word for each kind."""
        said: dict[str, AttributeValue] = {"verdict": self.verdict}
        said |= {f"{one.kind}": f"{'left' if one.left else 'refused'}: {one.why}"[:200] for one in self.attempts}
        return said if self.tripwire is None else {**said, "tripwire": self.tripwire}


async def try_to_leave(config: Config, log: AuditLog, principal: Principal) -> EgressTest:
    """Try now, and record it. Raises `PermissionDenied`, and `EngineUnavailable` where the probe did not run."""
    authorize(principal, Action.SYSTEM_STATUS)
    return await _recorded(config, log, principal.id)


async def run_probe(config: Config) -> EgressTest:
    """Try and record nothing. Raises `EngineUnavailable`."""
    words = (sys.executable, "-I", str(PROBE), "--timeout", str(config.egress.timeout_s))
    child = await asyncio.create_subprocess_exec(
        *words,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=child_environment(),
    )
    try:
        output, _ = await asyncio.wait_for(child.communicate(), _PROBE_S)
        said: list[dict[str, Any]] = json.loads(output[:_OUTPUT_BYTES_MAX])["attempts"]
        found = [Attempt(str(one["kind"]), one["result"] != "refused", str(one["why"])) for one in said[:_KINDS_MAX]]
    except (TimeoutError, ValueError, KeyError, TypeError):
        raise EngineUnavailable("the egress probe did not end as it should", hint="run it again") from None
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    if not found:
        raise EngineUnavailable("the egress probe tried nothing", hint="run it again")
    return EgressTest(tuple(found))


def tripwire_armed() -> bool:
    """Whether an audit hook of this process refuses a connection; none is made to find out."""
    try:
        sys.audit("socket.connect", None, ("192.0.2.1", 443))
    except OSError:
        return True
    return False


def last_test(log: AuditLog) -> RecordView | None:
    """The newest test in the log."""
    return next(iter(log.records(limit=1, event=TESTED)), None)


async def try_regularly(config: Config, log: AuditLog, first_s: float = _FIRST_S) -> None:
    """A test when the last one is `egress.every_s` old, until cancelled."""
    await asyncio.sleep(first_s)
    while True:
        wait_s = config.egress.every_s
        try:
            last = await asyncio.to_thread(last_test, log)
            age_s = config.egress.every_s if last is None else (datetime.now(UTC) - last.time).total_seconds()
            if age_s >= config.egress.every_s:
                found = await _recorded(config, log, SYSTEM, tripwire=tripwire_armed())
                if found.verdict == "open":
                    left = ", ".join(one.kind for one in found.attempts if one.left)
                    logger.error("bytes can leave this machine: %s; appliance doctor --egress says how", left)
            else:
                wait_s = config.egress.every_s - age_s
        except ApplianceError as error:
            logger.error("the egress test was not made: %s", error.message)
        await asyncio.sleep(max(1.0, wait_s))


async def _recorded(config: Config, log: AuditLog, actor: str, tripwire: bool | None = None) -> EgressTest:
    tested = await run_probe(config)
    found = EgressTest(tested.attempts, tripwire)
    outcome = Outcome.COMPLETED if found.verdict == "blocked" else Outcome.FAILED
    receipt = await log.append(new_event("egress.tested", actor, outcome, found.about()))
    return EgressTest(found.attempts, tripwire, receipt)
