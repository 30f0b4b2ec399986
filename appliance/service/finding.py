"""Finding in a whole document what a specialist knows: the best passages of each label, recorded, then released.

    released = await find_passages(appliance, principal, FindRequest(contract, "contract-clause"))
    released.value.findings["Governing Law"][0].start

The order of the steps is that of `requests.answer`. The whole document and everything that was found are sealed.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from dataclasses import dataclass

import msgspec

from appliance.accounts.actions import Action, authorize
from appliance.audit.gate import Released
from appliance.errors import InvalidRequest
from appliance.service.appliance import Appliance
from appliance.service.exchange import recorded_exchange
from appliance.service.requests import check_texts, recordable_id
from appliance.service.subjects import check_subject
from appliance.specialists.registry import SpecialistEntry
from appliance.specialists.tasks import find
from appliance.specialists.tasks.find import Finding
from appliance.types import AttributeValue, Material, Principal, SpecialistRef

PER_LABEL = 5
PER_LABEL_MAX = 50


@dataclass(frozen=True, slots=True)
class FindRequest:
    """A document, who looks through it, for which labels (none: all) and for how many passages of each."""

    text: str
    specialist: str
    labels: tuple[str, ...] = ()
    per_label: int = PER_LABEL
    subject: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """For each label its best passages, best first; how many passages the document has."""

    specialist: SpecialistRef
    findings: dict[str, tuple[Finding, ...]]
    passages: int
    elapsed_ms: float


async def find_passages(appliance: Appliance, principal: Principal, request: FindRequest) -> Released[Found]:
    """Serve one request. Every exit after the first line leaves exactly one closing record.

    Raises `PermissionDenied`, `InvalidRequest`, `SpecialistNotFound` before anything runs, `AuditUnavailable` if a
    record cannot be made (nothing is released), `QueueFull`, `EngineUnavailable`, `DeadlineExceeded` from the engine.
    """
    started = time.monotonic()
    about: dict[str, AttributeValue] = {**appliance.process, "requested": recordable_id(request.specialist)}
    async with recorded_exchange(appliance.audit, principal, "specialist.find", about) as exchange:
        authorize(principal, Action.SPECIALIST_RUN)
        check_texts(Material(request.text), appliance.config.limits)
        check_count(request.per_label)
        exchange.subject = check_subject(request.subject)
        entry = await asyncio.to_thread(appliance.registry.get, request.specialist)
        find.check_finder(entry.manifest)
        find.check_labels(entry.manifest, request.labels)
        prepared = await asyncio.to_thread(
            find.prepare, request.text, entry.manifest, appliance.wordpiece, appliance.config.specialists
        )
        await exchange.open(request.text.encode(), _request_attributes(entry, request, len(prepared.passages)))
        await appliance.engine.load(entry.adapter())
        # A text of nothing but control characters has no passage: there is nothing to compute and nothing to find.
        outputs = await appliance.engine.encode(entry.sha256, prepared.inputs) if prepared.inputs else []
        findings = await asyncio.to_thread(
            find.finish, prepared, outputs, per_label=request.per_label, labels=request.labels
        )
        elapsed_ms = round((time.monotonic() - started) * 1000, 1)
        found = Found(entry.ref, findings, len(prepared.passages), elapsed_ms)
        content = found_content(found)
        return await exchange.close(found, content, _found_attributes(found, content))


def check_count(per_label: int) -> None:
    """Refuse a number of passages that nobody reads, or none."""
    if not 1 <= per_label <= PER_LABEL_MAX:
        raise InvalidRequest(f"{per_label} passages of each label; 1 to {PER_LABEL_MAX} are possible")


def found_content(found: Found) -> bytes:
    """The answer as it is sealed into the record: canonical JSON of everything that is released."""
    body = {
        label: [[one.start, one.end, one.score, one.assigned] for one in ranked]
        for label, ranked in found.findings.items()
    }
    return msgspec.json.encode(body, order="sorted")


def _request_attributes(entry: SpecialistEntry, request: FindRequest, passages: int) -> dict[str, AttributeValue]:
    return {
        "specialist": entry.ref.id,
        "specialist_version": entry.ref.version,
        "specialist_sha256": entry.ref.sha256,
        "chars": len(request.text),
        "passages": passages,
        "labels": len(request.labels) or len(entry.manifest.labels),
    }


def _found_attributes(found: Found, content: bytes) -> dict[str, AttributeValue]:
    return {
        "answer_sha256": hashlib.sha256(content).hexdigest(),
        "assigned": sum(one.assigned for ranked in found.findings.values() for one in ranked),
        "elapsed_ms": found.elapsed_ms,
    }
