"""Judging an installed specialist on labelled data, alone or beside another. The order of the steps is here.

    released = await evaluate(appliance, principal, EvaluationRequest("bank-intent", lines, against="triage")))
    report_json(released.value)

One exchange for the whole evaluation: recorded before the first item runs and before the report is shown. Items run one
at a time, so that their latency is their own. Records hold the hash of the data and the figures, never a text.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import platform
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

import msgspec

from appliance.accounts.actions import Action, authorize
from appliance.audit.gate import Released
from appliance.errors import InvalidRequest, UnknownOption
from appliance.service.appliance import Appliance
from appliance.service.exchange import recorded_exchange
from appliance.specialists.evaluation import prompts
from appliance.specialists.evaluation.gold import GoldBounds, GoldItem, read_gold
from appliance.specialists.evaluation.judge import (
    Contender,
    Judgement,
    Prediction,
    Report,
    SwappedNames,
    differences,
    judge,
    report_json,
    swapped_names,
)
from appliance.specialists.evaluation.prompts import Message
from appliance.specialists.evaluation.swap_names import NAME, has_names, names_by_origin, swap_names
from appliance.specialists.manifest import Manifest
from appliance.specialists.metrics.spans import covered
from appliance.specialists.registry import SpecialistEntry
from appliance.specialists.tasks import dispatch
from appliance.types import AttributeValue, Material, Principal

SEED = 0
# Figures that go into the envelope of the closing record.
_FIGURES_RECORDED = ("accuracy", "macro_f1", "span_f1", "character_recall", "f1")
Progress = Callable[[str, int, int], None]  # whose items, how many are done, of how many


class Asks(Protocol):
    """A generalist: the appliance's own API (`service/generalist.py`), or a stand-in with written replies."""

    model: str

    async def ask(self, messages: Sequence[Message], *, tokens_max: int) -> str:
        """One reply."""
        ...


@dataclass(frozen=True, slots=True)
class EvaluationRequest:
    """What is judged on which JSON lines (`evaluation/gold.py`), and against which specialist or generalist."""

    specialist: str
    data: bytes
    against: str | Asks | None = None
    swap_names: bool = False


def quiet(_who: str, _done: int, _of: int) -> None:
    """No progress."""


async def evaluate(
    appliance: Appliance, principal: Principal, request: EvaluationRequest, progress: Progress = quiet
) -> Released[Report]:
    """Judge. Every exit after the first line leaves exactly one closing record.

    Raises `PermissionDenied`, `SpecialistNotFound`, `GoldInvalid`, `UnknownOption` before anything runs; the engine's
    errors; an item that a contender refuses counts as wrong.
    """
    about: dict[str, AttributeValue] = {**appliance.process, "data_sha256": hashlib.sha256(request.data).hexdigest()}
    async with recorded_exchange(appliance.audit, principal, "specialist.evaluate", about) as exchange:
        authorize(principal, Action.SPECIALIST_EVALUATE)
        entry = await asyncio.to_thread(appliance.registry.get, request.specialist)
        rival = request.against
        other = await asyncio.to_thread(appliance.registry.get, rival) if isinstance(rival, str) else rival
        _check_rival(entry.manifest, other)
        items = await asyncio.to_thread(read_gold, io.BytesIO(request.data), entry.manifest, _bounds(appliance))
        if request.swap_names:
            _check_names(entry.manifest, items)
        attributes = _opening_attributes(entry, other, request, len(items))
        await exchange.open(msgspec.json.encode(attributes, order="sorted"), attributes)
        report = await _report(appliance, entry, other, items, request, progress)
        content = msgspec.json.encode(report_json(report), order="sorted")
        return await exchange.close(report, content, _closing_attributes(report, content))


async def _report(
    appliance: Appliance,
    entry: SpecialistEntry,
    other: SpecialistEntry | Asks | None,
    items: Sequence[GoldItem],
    request: EvaluationRequest,
    progress: Progress,
) -> Report:
    manifest = entry.manifest
    mine = await _predictions(await _specialist(appliance, entry), manifest.id, items, progress)
    judgements = [await _judged(_contender(entry), manifest, items, mine)]
    apart = {}
    if other is not None:
        who = _contender(other)
        predict = await _specialist(appliance, other) if isinstance(other, SpecialistEntry) else _asked(other, manifest)
        theirs = await _predictions(predict, who.name, items, progress)
        judgements.append(await _judged(who, manifest, items, theirs))
        apart = await asyncio.to_thread(differences, manifest, items, mine, theirs, seed=SEED)
    swapped = await _swapped(appliance, entry, items, progress) if request.swap_names else None
    return Report(
        specialist=manifest.id,
        version=manifest.version,
        task=manifest.task.value,
        items=len(items),
        data_sha256=hashlib.sha256(request.data).hexdigest(),
        seed=SEED,
        judgements=tuple(judgements),
        differences=apart,
        swapped=swapped,
        machine=f"{platform.machine()}, {appliance.engine.status().threads} threads of {os.cpu_count()} processors",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


Predict = Callable[[Material], Awaitable[Prediction]]


async def _predictions(predict: Predict, who: str, items: Sequence[GoldItem], progress: Progress) -> list[Prediction]:
    found = []
    for item in items:
        found.append(await predict(item.material))
        progress(who, len(found), len(items))
    return found


async def _specialist(appliance: Appliance, entry: SpecialistEntry) -> Predict:
    """An installed specialist, through the tasks and the engine that serve it."""
    await appliance.engine.load(entry.adapter())

    async def predict(material: Material) -> Prediction:
        started = time.perf_counter()
        try:
            prepared = await asyncio.to_thread(
                dispatch.prepare, material, entry.manifest, appliance.wordpiece, appliance.config.specialists
            )
        except InvalidRequest as error:
            return Prediction(None, time.perf_counter() - started, error.code)
        outputs = await appliance.engine.encode(entry.sha256, prepared.inputs) if prepared.inputs else []
        findings = await asyncio.to_thread(dispatch.finish, prepared, outputs)
        return Prediction(findings, time.perf_counter() - started)

    return predict


def _asked(generalist: Asks, manifest: Manifest) -> Predict:
    """A generalist that is asked by prompt."""

    async def predict(material: Material) -> Prediction:
        started = time.perf_counter()
        messages = prompts.prompt(material, manifest)
        try:
            reply = await generalist.ask(messages, tokens_max=prompts.reply_tokens_max(material, manifest))
        except InvalidRequest as error:
            return Prediction(None, time.perf_counter() - started, error.code, scored=False)
        seconds = time.perf_counter() - started
        findings = prompts.read_reply(reply, material, manifest)
        return Prediction(findings, seconds, "" if findings else "unreadable", scored=False)

    return predict


async def _judged(
    contender: Contender, manifest: Manifest, items: Sequence[GoldItem], said: Sequence[Prediction]
) -> Judgement:
    return await asyncio.to_thread(judge, contender, manifest, items, said, seed=SEED)


async def _swapped(
    appliance: Appliance, entry: SpecialistEntry, items: Sequence[GoldItem], progress: Progress
) -> SwappedNames:
    named = [item for item in items if has_names(item)]
    predict = await _specialist(appliance, entry)
    outcomes = {}
    for origin in names_by_origin():
        swapped = [swap_names(item, origin, seed=SEED, number=number) for number, item in enumerate(named)]
        said = await _predictions(predict, f"{entry.ref.id}, {origin} names", swapped, progress)
        outcomes[origin] = [
            covered(
                item.material.text or "",
                [span for span in item.spans if span.label == NAME],
                one.findings.spans if one.findings else (),
            )
            for item, one in zip(swapped, said, strict=True)
        ]
    return await asyncio.to_thread(swapped_names, outcomes, seed=SEED)


def _bounds(appliance: Appliance) -> GoldBounds:
    limits = appliance.config.limits
    return GoldBounds(limits.evaluation_items_max, limits.jsonl_line_bytes_max, limits.text_chars_max)


def _check_rival(manifest: Manifest, other: SpecialistEntry | Asks | None) -> None:
    """Two specialists are compared on one task only."""
    if not isinstance(other, SpecialistEntry):
        return
    mine, theirs = (
        (one.task, one.unit, one.multi_label, one.context, one.context_name) for one in (manifest, other.manifest)
    )
    if mine[:3] != theirs[:3]:
        raise UnknownOption(
            f"{manifest.id} and {other.manifest.id} have different tasks", hint="compare specialists of one task"
        )
    if manifest.labels and not set(manifest.labels) & set(other.manifest.labels):
        raise UnknownOption(
            f"{other.manifest.id} gives none of the labels of {manifest.id}: all it says would count as wrong",
            hint="compare specialists that give the same labels",
        )


def _check_names(manifest: Manifest, items: Sequence[GoldItem]) -> None:
    if NAME not in manifest.labels:
        raise UnknownOption(
            f"{manifest.id} does not mark names", hint=f"swap names for a specialist that has the label {NAME}"
        )
    if not any(has_names(item) for item in items):
        raise UnknownOption(
            f"no labelled text has a span of label {NAME!r}: there is no name to swap",
            hint="leave --swap-names out, or take texts with names",
        )


def _contender(who: SpecialistEntry | Asks) -> Contender:
    if isinstance(who, SpecialistEntry):
        return Contender(who.ref.id, "specialist", who.ref.version, who.sha256)
    return Contender(who.model, "generalist")


def _opening_attributes(
    entry: SpecialistEntry, other: SpecialistEntry | Asks | None, request: EvaluationRequest, items: int
) -> dict[str, AttributeValue]:
    attributes: dict[str, AttributeValue] = {
        "specialist": entry.ref.id,
        "specialist_version": entry.ref.version,
        "specialist_sha256": entry.sha256,
        "items": items,
        "swap_names": request.swap_names,
    }
    if other is not None:
        against = _contender(other)
        attributes |= {"against": against.name, "against_version": against.version}
    return attributes


def _closing_attributes(report: Report, content: bytes) -> dict[str, AttributeValue]:
    figures = report.judgements[0].figures
    attributes: dict[str, AttributeValue] = {"report_sha256": hashlib.sha256(content).hexdigest()}
    return attributes | {name: round(figures[name].value, 4) for name in _FIGURES_RECORDED if name in figures}


def failures(report: Report) -> str:
    """What is to be said of items that counted as wrong because there was no answer to judge."""
    parts = [f"{one.failed} of {one.contender.name}" for one in report.judgements if one.failed]
    return f"counted as wrong, because they could not be read or were refused: {', '.join(parts)}" if parts else ""
