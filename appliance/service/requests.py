"""The request path: text in, a recorded and then released answer out. The order of the steps is this module's rule.

released = await answer(appliance, principal, SpecialistRequest(text, "phi-deid", Operation.DEIDENTIFY))
released.value.redaction.text, released.receipt.seq
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import secrets
import time
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum

import msgspec

from appliance.accounts.actions import Action, authorize
from appliance.audit.gate import Released
from appliance.config import LimitsConfig
from appliance.errors import InputEmpty, InputNotText, InputTooLong, UnknownOption
from appliance.service.appliance import Appliance
from appliance.service.exchange import recorded_exchange
from appliance.service.subjects import check_subject
from appliance.specialists.deid.redaction import Redaction, Style, redact
from appliance.specialists.registry import SpecialistEntry
from appliance.specialists.tasks import classify, tag
from appliance.types import AttributeValue, LabelScore, Principal, Span, SpecialistRef, Task


class Operation(StrEnum):
    """What is done with a specialist's findings."""

    RUN = "run"
    DEIDENTIFY = "deidentify"


@dataclass(frozen=True, slots=True)
class SpecialistRequest:
    """One text for one specialist. `style` matters to `DEIDENTIFY` only.

    `subject`: whom the text is about (a case or patient number), so that it can be found and destroyed by that.
    """

    text: str
    specialist: str
    operation: Operation = Operation.RUN
    style: Style = "label"
    subject: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a specialist found: spans of a tagger, or labels of a classifier (best first; empty: it abstains)."""

    specialist: SpecialistRef
    spans: tuple[Span, ...] = ()
    labels: tuple[LabelScore, ...] = ()
    redaction: Redaction | None = None
    elapsed_ms: float = 0.0

    def counts(self) -> dict[str, int]:
        """How many spans carry each label, in order of first appearance."""
        return dict(Counter(span.label for span in self.spans))


async def answer(appliance: Appliance, principal: Principal, request: SpecialistRequest) -> Released[Answer]:
    """Serve one request. Every exit after the first line leaves exactly one closing record.

    Raises `PermissionDenied`, `InvalidRequest`, `SpecialistNotFound` before anything runs, `AuditUnavailable` if a
    record cannot be made (nothing is released), `QueueFull`, `EngineUnavailable`, `DeadlineExceeded` from the engine.
    """
    started = time.monotonic()
    about: dict[str, AttributeValue] = {**appliance.process, "requested": _recordable_id(request.specialist)}
    async with recorded_exchange(appliance.audit, principal, _EVENTS[request.operation], about) as exchange:
        authorize(principal, Action.SPECIALIST_RUN)
        check_text(request.text, appliance.config.limits)
        exchange.subject = check_subject(request.subject)
        entry = await asyncio.to_thread(appliance.registry.get, request.specialist)
        task = _TASKS[_task_for(entry, request)]
        prepared = await asyncio.to_thread(
            task.prepare, request.text, entry.manifest, appliance.wordpiece, appliance.config.specialists
        )
        await exchange.open(request.text.encode(), _request_attributes(entry, request, len(prepared.inputs)))
        await appliance.engine.load(entry.adapter())
        outputs = await appliance.engine.encode(entry.sha256, prepared.inputs)
        result = await asyncio.to_thread(_finish, entry, prepared, outputs, request, started)
        content = answer_content(result)
        return await exchange.close(result, content, _answer_attributes(result, content))


def check_text(text: str, limits: LimitsConfig) -> None:
    """Refuse what is not a text somebody could have meant: empty, too long, NUL bytes, lone surrogates."""
    if not text.strip():
        raise InputEmpty("the text is empty", hint="send at least one character that is not a space")
    if len(text) > limits.text_chars_max:
        raise InputTooLong(
            f"the text has {len(text)} characters; this site takes {limits.text_chars_max}",
            hint="split the text, or raise limits.text_chars_max in config.toml",
        )
    if "\0" in text:
        raise InputNotText(
            f"the text has a NUL character at offset {text.index(chr(0))}",
            hint="send plain text; word processor files are not text",
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputNotText(
            f"the text has half of a surrogate pair at offset {error.start}",
            hint="the program that wrote it cut a character in two; save the text as UTF-8 again",
        ) from None


def answer_content(result: Answer) -> bytes:
    """The answer as it is sealed into the record: canonical JSON of everything that is released."""
    body = {
        "labels": [[label.label, label.score] for label in result.labels],
        "spans": [[span.start, span.end, span.label, span.score] for span in result.spans],
        "text": result.redaction.text if result.redaction else None,
    }
    return msgspec.json.encode(body, order="sorted")


_EVENTS = {Operation.RUN: "specialist.run", Operation.DEIDENTIFY: "specialist.deidentify"}
_SPECIALIST_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_TASKS = {Task.TAG: tag, Task.CLASSIFY: classify}


def _recordable_id(specialist: str) -> str:
    """The id that was asked for. Anything else may be a note in the wrong field; no free text enters an envelope."""
    return specialist if _SPECIALIST_ID.fullmatch(specialist) else "(not an id)"


def _task_for(entry: SpecialistEntry, request: SpecialistRequest) -> Task:
    task = entry.ref.task
    if task not in _TASKS:
        raise UnknownOption(f"specialist {entry.ref.id!r} has task {task!r}, which this request cannot use")
    if request.operation is Operation.DEIDENTIFY and task is not Task.TAG:
        raise UnknownOption(
            f"specialist {entry.ref.id!r} does not mark identifiers", hint="de-identify with a specialist of task 'tag'"
        )
    return task


def _finish(
    entry: SpecialistEntry,
    prepared: tag.PreparedTag | classify.PreparedClassify,
    outputs: list,
    request: SpecialistRequest,
    started: float,
) -> Answer:
    if isinstance(prepared, classify.PreparedClassify):
        labels = classify.finish(prepared, outputs).labels
        return Answer(entry.ref, labels=labels, elapsed_ms=_milliseconds_since(started))
    spans = tag.finish(prepared, outputs)
    redaction = None
    if request.operation is Operation.DEIDENTIFY:
        # A fresh seed per document: surrogates are consistent inside it and cannot be linked across documents.
        redaction = redact(request.text, spans, request.style, secrets.token_bytes(32))
    return Answer(entry.ref, spans=spans, redaction=redaction, elapsed_ms=_milliseconds_since(started))


def _milliseconds_since(started: float) -> float:
    return round((time.monotonic() - started) * 1000, 1)


def _request_attributes(entry: SpecialistEntry, request: SpecialistRequest, windows: int) -> dict[str, AttributeValue]:
    attributes: dict[str, AttributeValue] = {
        "specialist": entry.ref.id,
        "specialist_version": entry.ref.version,
        "specialist_sha256": entry.ref.sha256,
        "chars": len(request.text),
        "windows": windows,
    }
    if request.operation is Operation.DEIDENTIFY:
        attributes["style"] = request.style
    return attributes


def _answer_attributes(result: Answer, content: bytes) -> dict[str, AttributeValue]:
    attributes: dict[str, AttributeValue] = {
        "answer_sha256": hashlib.sha256(content).hexdigest(),
        "spans": len(result.spans),
        "elapsed_ms": result.elapsed_ms,
    }
    return attributes | {f"label_{label}": count for label, count in result.counts().items()}
