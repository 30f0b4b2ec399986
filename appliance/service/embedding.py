"""Texts to vectors, many in one request: recorded when they are accepted, released when the vectors are recorded.

wanted = EmbeddingRequest(("Is there pain?", "No pain."), "embed")
released = await embed(appliance, principal, wanted)        # Released[Embedded]: one vector of length 1 for each
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from appliance.accounts.actions import Action, authorize
from appliance.audit.gate import Released
from appliance.errors import InputEmpty, InputTooLong, UnknownOption
from appliance.service.appliance import Appliance
from appliance.service.exchange import recorded_exchange
from appliance.service.requests import check_texts, recordable_id
from appliance.service.subjects import check_subject
from appliance.specialists.registry import SpecialistEntry
from appliance.specialists.tasks import embed as task
from appliance.types import AttributeValue, Material, Principal, SpecialistRef, Task

EVENT = "specialist.embed"
TEXTS_MAX = 2048  # of one request, as OpenAI's API takes them


@dataclass(frozen=True, slots=True)
class EmbeddingRequest:
    """Texts for one specialist of the task `embed`. `dimensions`: what the caller expects; None: whatever it is.

    `subject`: whom the texts are about, as for every request.
    """

    texts: tuple[str, ...]
    specialist: str
    dimensions: int | None = None
    subject: str = ""


@dataclass(frozen=True, slots=True)
class Embedded:
    """`vectors`: (texts, states) float32, rows of length 1. `tokens`: what was read, special tokens included."""

    specialist: SpecialistRef
    vectors: np.ndarray
    tokens: int


async def embed(appliance: Appliance, principal: Principal, request: EmbeddingRequest) -> Released[Embedded]:
    """Serve one request. Every exit after the first line leaves exactly one closing record.

    Raises `PermissionDenied`, `InvalidRequest` and its kinds, `SpecialistNotFound` before anything runs,
    `AuditUnavailable` (nothing is released), `QueueFull`, `EngineUnavailable`, `DeadlineExceeded` from the engine.
    """
    about: dict[str, AttributeValue] = {**appliance.process, "requested": recordable_id(request.specialist)}
    async with recorded_exchange(appliance.audit, principal, EVENT, about) as exchange:
        authorize(principal, Action.SPECIALIST_RUN)
        _check_texts(request, appliance)
        exchange.subject = check_subject(request.subject)
        entry = await asyncio.to_thread(appliance.registry.get, request.specialist)
        _check_task(entry)
        prepared = await asyncio.to_thread(_prepare, appliance, entry, request.texts)
        inputs = [each for one in prepared for each in one.inputs]
        await exchange.open(msgspec.json.encode(request.texts), _said(entry, request))
        await appliance.engine.load(entry.adapter())
        outputs = await appliance.engine.encode(entry.sha256, inputs)
        vectors = await asyncio.to_thread(_finish, prepared, outputs)
        _check_dimensions(request, vectors.shape[1])
        embedded = Embedded(entry.ref, vectors, sum(len(each.token_ids) for each in inputs))
        content = vectors_content(embedded)
        digest = hashlib.sha256(content).hexdigest()
        return await exchange.close(embedded, content, {"answer_sha256": digest, "prompt_tokens": embedded.tokens})


def vectors_content(embedded: Embedded) -> bytes:
    """The vectors as they are sealed into the record: JSON of base64 of their little-endian float32, one text each."""
    rows = [base64.b64encode(row.astype("<f4").tobytes()).decode() for row in embedded.vectors]
    return msgspec.json.encode({"embeddings": rows})


def _check_texts(request: EmbeddingRequest, appliance: Appliance) -> None:
    if not request.texts:
        raise InputEmpty("there is no text to embed", hint="send a text, or a list of texts")
    if len(request.texts) > TEXTS_MAX:
        raise InputTooLong(f"there are {len(request.texts)} texts; at most {TEXTS_MAX} are taken", hint="send fewer")
    check_texts(Material(sentences=request.texts), appliance.config.limits)
    for number, text in enumerate(request.texts):
        if not text.strip():
            raise InputEmpty(f"the text {number} is empty", hint="send at least one character that is not a space")


def _check_task(entry: SpecialistEntry) -> None:
    if entry.ref.task is not Task.EMBED:
        raise UnknownOption(f"specialist {entry.ref.id!r} makes no vectors", hint="name a specialist of the task embed")


def _check_dimensions(request: EmbeddingRequest, states: int) -> None:
    if request.dimensions not in (None, states):
        raise UnknownOption(
            f"the vectors of {request.specialist!r} have {states} dimensions; none are left out",
            hint=f"leave dimensions out, or say {states}",
        )


def _prepare(appliance: Appliance, entry: SpecialistEntry, texts: Sequence[str]) -> list[task.PreparedEmbed]:
    config = appliance.config.specialists
    return [task.prepare(text, entry.manifest, appliance.wordpiece, config) for text in texts]


def _finish(prepared: Sequence[task.PreparedEmbed], outputs: Sequence[np.ndarray]) -> np.ndarray:
    vectors, place = [], 0
    for one in prepared:
        vectors.append(task.finish(one, outputs[place : place + len(one.inputs)]))
        place += len(one.inputs)
    return np.stack(vectors)


def _said(entry: SpecialistEntry, request: EmbeddingRequest) -> dict[str, AttributeValue]:
    return {
        "specialist": entry.ref.id,
        "specialist_version": entry.ref.version,
        "specialist_sha256": entry.ref.sha256,
        "texts": len(request.texts),
        "chars": sum(map(len, request.texts)),
    }
