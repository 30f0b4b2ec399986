"""Who answers a chat: the model or specialist that it names, or for `auto` whoever the router chooses.

    chosen = await choose(appliance, principal, wanted)
    # chosen.model: ask `generation`; chosen.specialist: ask `requests.answer` with `specialist_request`; else .advice

A specialist reads the last message of the user and nothing else. What it cannot honour (a schema, tools,
probabilities) is refused where it was named, and leaves only models to choose from where it was not.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

from appliance.audit.gate import Released
from appliance.errors import InputEmpty, ModelNotFound, SpecialistNotFound, UnknownOption
from appliance.service.appliance import Appliance
from appliance.service.generation import Wanted
from appliance.service.models import library_of
from appliance.service.requests import Answer, Operation, SpecialistRequest
from appliance.service.routing import RouteRequest, route
from appliance.specialists.manifest import Manifest
from appliance.specialists.router import AUTO, Route
from appliance.specialists.tasks.material import fields_needed
from appliance.types import AttributeValue, Material, Principal, Task

_SHOWN_MAX = 200  # lines of an answer for people; the structured result has all


@dataclass(frozen=True, slots=True)
class Chosen:
    """Who is to answer: `model` or `specialist`, or neither; then `advice` says what the person can do.

    `wanted` names the model. `operation`: what is asked of the specialist. `route` None where nobody was to choose.
    """

    wanted: Wanted
    model: str = ""
    specialist: str = ""
    operation: Operation = Operation.RUN
    advice: str = ""
    route: Released[Route] | None = None

    def specialist_request(self) -> SpecialistRequest:
        """The last message of the user, for the specialist. Raises `InputEmpty` where there is none."""
        text = last_of_user(self.wanted)
        routed: dict[str, AttributeValue] = {"requested": self.wanted.model}
        return SpecialistRequest(
            text,
            self.specialist,
            self.operation,
            subject=self.wanted.subject,
            routed=tuple((routed | (_routed(self.route) if self.route else {})).items()),
        )


async def choose(appliance: Appliance, principal: Principal, wanted: Wanted) -> Chosen:
    """Decide who answers; for `auto` in an exchange of its own, which the answer's record names.

    Raises what `routing.route` raises, and `UnknownOption` where a specialist was named for what only models do.
    """
    if wanted.model == AUTO:
        return await _routed_choice(appliance, principal, wanted)
    entry = await asyncio.to_thread(_specialist, appliance, wanted.model)
    if entry is None:
        return Chosen(wanted, model=wanted.model)
    if excluded := _only_models(wanted):
        raise UnknownOption(
            f"the specialist {wanted.model!r} writes no text and takes no {excluded}",
            hint="leave it out, or name a model that writes",
        )
    return Chosen(wanted, specialist=wanted.model, operation=_operation(entry))


def last_of_user(wanted: Wanted) -> str:
    """The last message of the user. Raises `InputEmpty`."""
    prompt = wanted.request.prompt
    if isinstance(prompt, str):
        return prompt
    said = [turn.content for turn in prompt if not isinstance(turn, int) and turn.role == "user"]
    if not said:
        raise InputEmpty("the conversation has no message of the user", hint="a specialist reads the last of them")
    return said[-1]


def answer_words(found_by: Answer, text: str) -> str:
    """What the specialist found in `text`, as a person would be told."""
    if found_by.redaction is not None:
        return found_by.redaction.text
    found = found_by.findings
    match found.kind:
        case "spans":
            lines = [f"{span.label}: {text[span.start : span.end]}" for span in found.spans[:_SHOWN_MAX]]
            return "\n".join(lines) or "Nothing was found."
        case "label":
            assert found.best is not None
            if found.labels:
                return f"{found.labels[0].label} ({found.labels[0].score:.2f})"
            return f"No label is certain; the nearest is {found.best.label} ({found.best.score:.2f})."
        case "labels":
            return "\n".join(f"{one.label} ({one.score:.2f})" for one in found.labels) or "No label fits."
        case "answer":
            return found.quote.text if found.quote else "The context holds no answer."
        case "sentences":
            return "\n".join("none" if one is None else one.label for one in found.sentences)
        case "embedding":
            return f"A vector of {len(found.embedding)} numbers; it is in the field `result`."


async def _routed_choice(appliance: Appliance, principal: Principal, wanted: Wanted) -> Chosen:
    if excluded := _only_models(wanted):
        return await _model_for(appliance, wanted, None, f"no specialist takes {excluded}")
    decision = await route(appliance, principal, RouteRequest(Material(last_of_user(wanted)), wanted.subject))
    name = decision.value.specialist
    if name is None:
        return await _model_for(appliance, wanted, decision, decision.value.reason)
    entry = await asyncio.to_thread(appliance.registry.get, name)
    if needed := _more_than_text(entry.manifest):
        advice = f"This is for the specialist {name}, which needs {needed}: POST /v1/specialists/{name}/run takes them."
        return Chosen(wanted, advice=advice, route=decision)
    return Chosen(wanted, specialist=name, operation=_operation(entry.manifest), route=decision)


async def _model_for(appliance: Appliance, wanted: Wanted, decision: Released[Route] | None, reason: str) -> Chosen:
    """The model that answers where no specialist does, or what to do where that is nobody."""
    models = [entry.id for entry in await asyncio.to_thread(library_of(appliance.config).list)]
    models += [name for name in appliance.config.upstream.models if name not in models]
    preferred = appliance.config.generation.auto_model
    name = preferred if preferred in models else models[0] if len(models) == 1 and not preferred else ""
    if name:
        routed = _routed(decision) if decision else {}
        return Chosen(replace(wanted, model=name, routed=tuple(routed.items())), model=name, route=decision)
    if preferred:
        remedy = f"the model {preferred}, which generation.auto_model names, is not installed"
    elif models:
        remedy = f"several models are installed: name one of {', '.join(models[:8])}, or set generation.auto_model"
    else:
        remedy = "no model that writes is installed: name a specialist, or ask the administrator for a model"
    if decision is None:
        raise UnknownOption(f"nobody was chosen: {reason}", hint=remedy)
    return Chosen(wanted, advice=f"Nobody was chosen: {reason}. What can be done: {remedy}.", route=decision)


def _specialist(appliance: Appliance, name: str) -> Manifest | None:
    """The specialist of this name; None where a model has the name, or nobody."""
    if name in appliance.config.upstream.models:
        return None
    try:
        library_of(appliance.config).get(name)
    except (ModelNotFound, UnknownOption):
        try:
            return appliance.registry.get(name).manifest
        except SpecialistNotFound:
            return None
    return None


def _operation(manifest: Manifest) -> Operation:
    """Whoever finds identifiers is asked in a chat to take them out."""
    return Operation.DEIDENTIFY if manifest.post == "deid" else Operation.RUN


def _only_models(wanted: Wanted) -> str:
    """What of the request only a model that writes can do; empty: nothing."""
    request = wanted.request
    if request.json_schema is not None or request.grammar is not None:
        return "response_format"
    if request.tools:
        return "tools"
    return "logprobs" if request.logprobs is not None else ""


def _more_than_text(manifest: Manifest) -> str:
    """What a specialist needs that a message is not."""
    if manifest.task is Task.EMBED:
        return "no message but texts (POST /v1/embeddings)"
    needed = fields_needed(manifest)
    if needed != ("text",):
        return " and ".join(f"`{name}`" for name in needed)
    return f"`text` and `{manifest.context_name}`" if manifest.context == "required" else ""


def _routed(decision: Released[Route]) -> dict[str, AttributeValue]:
    return {
        "requested": AUTO,
        "route_record": decision.receipt.record_id.hex(),
        "route_score": decision.value.score,
    }
