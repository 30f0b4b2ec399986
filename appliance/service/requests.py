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
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import msgspec
import numpy as np

from appliance.accounts.actions import Action, authorize
from appliance.audit.gate import Released
from appliance.config import LimitsConfig
from appliance.errors import InputEmpty, InputNotText, InputTooLong, UnknownOption
from appliance.service.appliance import Appliance
from appliance.service.exchange import recorded_exchange
from appliance.service.subjects import check_subject
from appliance.specialists.deid.redaction import Redaction, Style, redact
from appliance.specialists.language import language_doubts
from appliance.specialists.registry import SpecialistEntry
from appliance.specialists.tasks import dispatch
from appliance.types import (
    AttributeValue,
    Findings,
    LabelScore,
    Material,
    Principal,
    Span,
    SpecialistRef,
    Task,
)


class Operation(StrEnum):
    """What is done with a specialist's findings."""

    RUN = "run"
    DEIDENTIFY = "deidentify"


@dataclass(frozen=True, slots=True)
class SpecialistRequest:
    """One input for one specialist. `style` matters to `DEIDENTIFY` only.

    The parts of `Material` as fields; which of them are needed is the specialist's task to say. `subject`: whom the
    text is about (a case or patient number), so that it can be found and destroyed by that.
    """

    text: str | None
    specialist: str
    operation: Operation = Operation.RUN
    style: Style = "label"
    subject: str = ""
    about: tuple[tuple[str, str], ...] = ()
    sentences: tuple[str, ...] | None = None
    question: str | None = None
    context: str | None = None
    routed: tuple[tuple[str, AttributeValue], ...] = ()  # how the router came to this specialist, for the records

    @property
    def material(self) -> Material:
        """What the specialist is given."""
        return Material(self.text, self.about, self.sentences, self.question, self.context)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a specialist found, and who it was. `redaction`: of a text that was to be de-identified.

    `warnings`: why it may be worse than the specialist was measured to be; sentences without a word of the text.
    """

    specialist: SpecialistRef
    findings: Findings
    redaction: Redaction | None = None
    elapsed_ms: float = 0.0
    warnings: tuple[str, ...] = ()

    @property
    def spans(self) -> tuple[Span, ...]:
        """What a tagger marked."""
        return self.findings.spans

    @property
    def labels(self) -> tuple[LabelScore, ...]:
        """What a classifier assigned, best first."""
        return self.findings.labels

    def counts(self) -> dict[str, int]:
        """How many spans carry each label, in order of first appearance."""
        return dict(Counter(span.label for span in self.spans))


async def answer(appliance: Appliance, principal: Principal, request: SpecialistRequest) -> Released[Answer]:
    """Serve one request. Every exit after the first line leaves exactly one closing record.

    Raises `PermissionDenied`, `InvalidRequest`, `SpecialistNotFound` before anything runs, `AuditUnavailable` if a
    record cannot be made (nothing is released), `QueueFull`, `EngineUnavailable`, `DeadlineExceeded` from the engine.
    """
    started = time.monotonic()
    about: dict[str, AttributeValue] = {**appliance.process, "requested": recordable_id(request.specialist)}
    about |= dict(request.routed)
    async with recorded_exchange(appliance.audit, principal, _EVENTS[request.operation], about) as exchange:
        authorize(principal, Action.SPECIALIST_RUN)
        material = request.material
        check_texts(material, appliance.config.limits)
        exchange.subject = check_subject(request.subject)
        entry = await asyncio.to_thread(appliance.registry.get, request.specialist)
        _check_operation(entry, request)
        prepared, warnings = await asyncio.to_thread(_prepare, appliance, entry, material)
        await exchange.open(request_content(material), _request_attributes(entry, request, len(prepared.inputs)))
        await appliance.engine.load(entry.adapter())
        # A text of nothing but control characters has no token: there is nothing to compute and nothing to find.
        outputs = await appliance.engine.encode(entry.sha256, prepared.inputs) if prepared.inputs else []
        result = await asyncio.to_thread(_finish, entry, prepared, outputs, request, warnings, started)
        content = answer_content(result)
        return await exchange.close(result, content, _answer_attributes(result, content))


def check_texts(material: Material, limits: LimitsConfig) -> None:
    """Refuse what is not text somebody could have meant: a part that is empty, all of it too long, or `check_text`."""
    if material.chars > limits.text_chars_max:
        raise InputTooLong(
            f"the text has {material.chars} characters; this site takes {limits.text_chars_max}",
            hint="split the text, or raise limits.text_chars_max in config.toml",
        )
    for name, text in (("text", material.text), ("question", material.question), ("context", material.context)):
        if text is not None and not text.strip():
            raise InputEmpty(f"the {name} is empty", hint="send at least one character that is not a space")
    sentences = ((f"sentence {number}", one) for number, one in enumerate(material.sentences or (), start=1))
    parts = (("text", material.text), ("question", material.question), ("context", material.context))
    for name, text in (*parts, *material.about, *sentences):
        if text is not None:
            check_text(text, name if name.startswith("sentence ") else f"the {name}")


def check_text(text: str, name: str = "the text") -> None:
    """Refuse NUL characters and halves of surrogate pairs. Raises `InputNotText` with the part and the offset in it."""
    if "\0" in text:
        raise InputNotText(
            f"{name} has a NUL character at offset {text.index(chr(0))}",
            hint="send plain text; word processor files are not text",
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputNotText(
            f"{name} has half of a surrogate pair at offset {error.start}",
            hint="the program that wrote it cut a character in two; save the text as UTF-8 again",
        ) from None


def request_content(material: Material) -> bytes:
    """The request as it is sealed into the record: a text alone as it is, more than a text as canonical JSON."""
    if material == Material(material.text):
        return (material.text or "").encode()
    body: dict[str, object] = {
        "text": material.text,
        "sentences": material.sentences,
        "question": material.question,
        "context": material.context,
    }
    sent = {name: value for name, value in body.items() if value is not None}
    return msgspec.json.encode(sent | dict(material.about), order="sorted")


def answer_content(result: Answer) -> bytes:
    """The answer as it is sealed into the record: canonical JSON of everything that is released."""
    found = result.findings
    body: dict[str, object] = {
        "labels": [[label.label, label.score] for label in found.labels],
        "spans": [[span.start, span.end, span.label, span.score] for span in found.spans],
        "text": result.redaction.text if result.redaction else None,
    }
    if result.warnings:
        body["warnings"] = result.warnings
    if found.best is not None:
        body["best"] = [found.best.label, found.best.score]
    if found.kind == "sentences":
        body["sentences"] = [None if one is None else [one.label, one.score] for one in found.sentences]
    elif found.kind == "answer":
        quote = found.quote
        body["answer"] = None if quote is None else [quote.start, quote.end, quote.text, quote.score]
    elif found.kind == "embedding":
        body["embedding"] = found.embedding
    return msgspec.json.encode(body, order="sorted")


_EVENTS = {Operation.RUN: "specialist.run", Operation.DEIDENTIFY: "specialist.deidentify"}
_SPECIALIST_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


def recordable_id(specialist: str) -> str:
    """The id that was asked for. Anything else may be a note in the wrong field; no free text enters an envelope."""
    return specialist if _SPECIALIST_ID.fullmatch(specialist) else "(not an id)"


def _check_operation(entry: SpecialistEntry, request: SpecialistRequest) -> None:
    if request.operation is Operation.DEIDENTIFY and entry.ref.task is not Task.TAG:
        raise UnknownOption(
            f"specialist {entry.ref.id!r} does not mark identifiers", hint="de-identify with a specialist of task 'tag'"
        )


def _prepare(
    appliance: Appliance, entry: SpecialistEntry, material: Material
) -> tuple[dispatch.Prepared, tuple[str, ...]]:
    """The engine's inputs, and what is to be said of the text."""
    wordpiece = appliance.wordpiece
    prepared = dispatch.prepare(material, entry.manifest, wordpiece, appliance.config.specialists)
    return prepared, language_doubts(material.texts(), wordpiece)


def _finish(
    entry: SpecialistEntry,
    prepared: dispatch.Prepared,
    outputs: Sequence[np.ndarray],
    request: SpecialistRequest,
    warnings: tuple[str, ...],
    started: float,
) -> Answer:
    findings = dispatch.finish(prepared, outputs)
    redaction = None
    if request.operation is Operation.DEIDENTIFY:
        assert request.text is not None
        # A fresh seed per document: surrogates are consistent inside it and cannot be linked across documents.
        redaction = redact(request.text, findings.spans, request.style, secrets.token_bytes(32))
    return Answer(entry.ref, findings, redaction, _milliseconds_since(started), warnings)


def _milliseconds_since(started: float) -> float:
    return round((time.monotonic() - started) * 1000, 1)


def _request_attributes(entry: SpecialistEntry, request: SpecialistRequest, windows: int) -> dict[str, AttributeValue]:
    attributes: dict[str, AttributeValue] = {
        "specialist": entry.ref.id,
        "specialist_version": entry.ref.version,
        "specialist_sha256": entry.ref.sha256,
        "chars": request.material.chars,
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
    if result.warnings:
        attributes["warnings"] = len(result.warnings)
    return attributes | {f"label_{label}": count for label, count in result.counts().items()}
