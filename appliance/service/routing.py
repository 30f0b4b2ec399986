"""Which specialist a text is for, and running it there. The decision is recorded before it is shown or followed.

    released = await route(appliance, principal, RouteRequest(Material(text)))
    released.value.specialist, released.value.reason
    routed = await answer_routed(appliance, principal, SpecialistRequest(text, "auto"))

The envelope holds the scores, what was chosen and what came next; the text and the examples that it is like are sealed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

import msgspec

from appliance.accounts.actions import Action, authorize
from appliance.audit.gate import Released
from appliance.errors import InputEmpty, InvalidRequest, NoSpecialistFits
from appliance.service.appliance import Appliance
from appliance.service.exchange import recorded_exchange
from appliance.service.requests import Answer, SpecialistRequest, answer, check_texts, request_content
from appliance.service.subjects import check_subject
from appliance.specialists import router
from appliance.specialists.manifest import Manifest
from appliance.specialists.router import Route
from appliance.specialists.router_examples import examples_of
from appliance.specialists.tasks.material import takes
from appliance.types import AttributeValue, Material, Principal

_BATCH = 128  # example texts encoded at once, so that other requests come in between


@dataclass(frozen=True, slots=True)
class RouteRequest:
    """What is to be routed. `subject`: whom it is about, as for every request."""

    material: Material
    subject: str = ""


@dataclass(frozen=True, slots=True)
class RoutedAnswer:
    """What the chosen specialist found; `route` None where the request named its specialist."""

    released: Released[Answer]
    route: Released[Route] | None


async def answer_routed(appliance: Appliance, principal: Principal, request: SpecialistRequest) -> RoutedAnswer:
    """`requests.answer`, and for the id `auto` a decision before it, in an exchange of its own that it names.

    Raises `NoSpecialistFits` where the router abstains, and what `route` and `answer` raise.
    """
    if request.specialist != router.AUTO:
        return RoutedAnswer(await answer(appliance, principal, request), None)
    decision = await route(appliance, principal, RouteRequest(request.material, request.subject))
    chosen = decision.value.specialist
    if chosen is None:
        raise NoSpecialistFits(f"no specialist was chosen: {decision.value.reason}", hint="name a specialist")
    routed: tuple[tuple[str, AttributeValue], ...] = (
        ("requested", router.AUTO),
        ("route_record", decision.receipt.record_id.hex()),
        ("route_score", decision.value.score),
    )
    try:
        released = await answer(appliance, principal, replace(request, specialist=chosen, routed=routed))
    except InvalidRequest as error:
        # Whoever sent it named no specialist, so what this one lacks or does not take says nothing by itself.
        raise type(error)(f"the router chose {chosen}: {error.message}", hint=error.hint) from None
    return RoutedAnswer(released, decision)


async def route(appliance: Appliance, principal: Principal, request: RouteRequest) -> Released[Route]:
    """Decide. Every exit after the first line leaves exactly one closing record.

    Raises `PermissionDenied`, `InvalidRequest` before anything runs, `AuditUnavailable` if a record cannot be made,
    `QueueFull`, `EngineUnavailable`, `DeadlineExceeded` from the engine.
    """
    about: dict[str, AttributeValue] = {**appliance.process, "requested": router.AUTO}
    async with recorded_exchange(appliance.audit, principal, "specialist.route", about) as exchange:
        authorize(principal, Action.SPECIALIST_RUN)
        check_texts(request.material, appliance.config.limits)
        if request.material == Material(None):
            raise InputEmpty("there is nothing to choose a specialist by", hint="send a `text`, or what one takes")
        exchange.subject = check_subject(request.subject)
        installed = [entry.manifest for entry in await asyncio.to_thread(appliance.registry.list)]
        candidates = _candidates(request.material, installed)
        size: dict[str, AttributeValue] = {"chars": request.material.chars, "candidates": len(candidates)}
        await exchange.open(request_content(request.material), size)
        decision = await _decide(appliance, request.material, candidates)
        return await exchange.close(decision, route_content(decision), route_attributes(decision))


def _candidates(material: Material, installed: Sequence[Manifest]) -> tuple[Manifest, ...]:
    """A text alone may be for anybody; other parts say by themselves who takes them."""
    if _is_text(material):
        return tuple(installed)
    candidates = tuple(manifest for manifest in installed if takes(material, manifest))
    if not candidates:
        raise NoSpecialistFits("no specialist here takes these parts together", hint="send a `text` alone")
    return candidates


def _is_text(material: Material) -> bool:
    return material == Material(material.text)


async def _decide(appliance: Appliance, material: Material, candidates: Sequence[Manifest]) -> Route:
    await appliance.engine.load(router.BARE_BASE)
    names = frozenset(manifest.id for manifest in candidates)
    # Where the parts exclude others, the others are no alternatives either.
    examples = [one for one in examples_of(candidates) if _is_text(material) or one.specialist in names]
    missing = appliance.examples.missing(examples)
    for first in range(0, len(missing), _BATCH):  # at the first decision all of them, later what was installed since
        batch = missing[first : first + _BATCH]
        appliance.examples.add(batch, router.unit(await _encoded(appliance, batch)))
    text = "\n\n".join(material.texts())
    vectors = router.unit(await _encoded(appliance, router.views(text)))
    known = appliance.examples.known(examples)
    return await asyncio.to_thread(router.decide, vectors, known, names)


async def _encoded(appliance: Appliance, texts: Sequence[str]) -> list:
    inputs = await asyncio.to_thread(router.prepare, texts, appliance.wordpiece)
    return await appliance.engine.encode(router.BARE_BASE.key, inputs)


def route_content(decision: Route) -> bytes:
    """The decision as it is sealed into the record: canonical JSON of everything that is released."""
    return msgspec.json.encode(msgspec.to_builtins(decision), order="sorted")


def route_attributes(decision: Route) -> dict[str, AttributeValue]:
    """The decision for an envelope: ids and numbers, no text."""
    attributes: dict[str, AttributeValue] = {"abstained": decision.abstained, "score": decision.score}
    if decision.specialist is not None:
        attributes["specialist"] = decision.specialist
    if decision.runner_up is not None:
        attributes |= {"runner_up": decision.runner_up.specialist, "runner_up_score": decision.runner_up.score}
    return attributes | {f"score_{entry.specialist}": entry.score for entry in decision.scores}
