"""The bounds on what a caller may ask of generation. Pure; checked before anything is sent to a worker.

sampling_from({"temperature": 0.2, "seed": 7})        # Sampling(...); UnknownOption for a key nobody knows
check_request(request)                                # InvalidRequest says which value and what it may be
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import fields

from appliance.engine.generation.grammar import CallForm, check_grammar, grammar_of_schema
from appliance.engine.generation.tools import NUL, call_grammar, check_tools
from appliance.engine.generation.values import GenerationRequest, Message, Sampling
from appliance.errors import InputEmpty, InputNotText, InputTooLong, InvalidRequest, UnknownOption

STOPS_MAX, STOP_CHARS_MAX = 16, 256
LOGPROBS_MAX = 20
MESSAGES_MAX = 2048
TOKEN_IDS = 2**31
SEEDS = 2**32 - 1  # llama.cpp takes the last 32-bit value for "draw one"
_BOUNDS: dict[str, tuple[float, float]] = {
    "temperature": (0.0, 2.0),
    "top_k": (0, 1_000_000),
    "top_p": (0.0, 1.0),
    "min_p": (0.0, 1.0),
    "repetition_penalty": (0.1, 10.0),
    "presence_penalty": (-2.0, 2.0),
    "frequency_penalty": (-2.0, 2.0),
    "seed": (-(2**63), 2**64 - 1),
}
_WHOLE = ("top_k", "seed")


def sampling_from(values: Mapping[str, object]) -> Sampling:
    """A `Sampling` from named values, all within their bounds. Raises `UnknownOption`, `InvalidRequest`."""
    known = {entry.name for entry in fields(Sampling)}
    for name in values:
        if name not in known:
            raise UnknownOption(f"{name[:64]!r} is no sampling parameter", hint="known are " + ", ".join(sorted(known)))
    sampling = Sampling(**values)  # type: ignore[arg-type]  # checked below
    check_sampling(sampling)
    return sampling


def check_sampling(sampling: Sampling) -> None:
    """Raise `InvalidRequest` naming the parameter and its range."""
    for name, (low, high) in _BOUNDS.items():
        value = getattr(sampling, name)
        if value is None and name == "seed":
            continue
        number = isinstance(value, int if name in _WHOLE else int | float) and not isinstance(value, bool)
        if not number or not math.isfinite(value) or not low <= value <= high:
            kind = "a whole number" if name in _WHOLE else "a number"
            raise InvalidRequest(f"{name} must be {kind} from {low:g} to {high:g}")
    if sampling.top_p == 0:
        raise InvalidRequest("top_p must be above 0", hint="use temperature 0 for the likeliest token")


def check_request(request: GenerationRequest, form: CallForm = "hermes") -> str | None:
    """Raise `InvalidRequest` or a narrower class for whatever could not be served; returns the grammar to apply.

    `form`: in which the model writes calls.
    """
    check_sampling(request.sampling)
    _check_prompt(request)
    if request.max_tokens is not None and not 1 <= request.max_tokens <= 1_000_000:
        raise InvalidRequest("max_tokens must be from 1 to 1000000")
    if len(request.stop) > STOPS_MAX:
        raise InvalidRequest(f"there are {len(request.stop)} stop texts, at most {STOPS_MAX} may be given")
    if any(not 0 < len(stop) <= STOP_CHARS_MAX for stop in request.stop):
        raise InvalidRequest(f"a stop text must have 1 to {STOP_CHARS_MAX} characters")
    for stop in request.stop:
        _check_characters(stop, "a stop text")
    if request.logprobs is not None and not 0 <= request.logprobs <= LOGPROBS_MAX:
        raise InvalidRequest(f"logprobs must be from 0 to {LOGPROBS_MAX}")
    if request.deadline_s is not None and not (math.isfinite(request.deadline_s) and request.deadline_s > 0):
        raise InvalidRequest("the deadline must be a number of seconds above 0")
    if request.grammar is not None and request.json_schema is not None:
        raise InvalidRequest("a request has either a grammar or a JSON schema, not both")
    check_tools(request)
    if (calling := call_grammar(request, form)) is not None:
        return calling
    if request.json_schema is not None:
        return grammar_of_schema(request.json_schema)
    if request.grammar is not None:
        check_grammar(request.grammar)
    return request.grammar


def seed_of(seed: int) -> int:
    """Any whole number as one of llama.cpp's seeds."""
    return seed % SEEDS


def _check_prompt(request: GenerationRequest) -> None:
    if not request.prompt:
        raise InputEmpty("the prompt is empty")
    if isinstance(request.prompt, str):
        _check_text(request.prompt)
        return
    texts = [entry for entry in request.prompt if isinstance(entry, Message)]
    if not texts:
        if any(not isinstance(entry, int) or not 0 <= entry < TOKEN_IDS for entry in request.prompt):
            raise InvalidRequest("a prompt of token ids holds something that is none")
        return
    if len(texts) != len(request.prompt):
        raise InvalidRequest("a prompt is either messages or token ids")
    if len(texts) > MESSAGES_MAX:
        raise InputTooLong(f"a chat may have {MESSAGES_MAX} messages", hint="leave out the oldest messages")
    for message in texts:
        if not message.role or len(message.role) > 64:
            raise InvalidRequest("the role of a message must have 1 to 64 characters")
        _check_text(message.content)
        _check_fields(message.fields)


def _check_fields(fields: Mapping[str, object]) -> None:
    """What else a turn says is JSON, and as much text as the content."""
    try:
        text = json.dumps(fields, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        raise InvalidRequest("a message holds something that is no JSON value") from None
    _check_text("\0" if NUL.search(text) else text)


def _check_text(text: str) -> None:
    _check_characters(text, "the prompt")
    if "\0" in text:
        raise InputNotText("the prompt holds a NUL character")


def _check_characters(text: str, what: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InputNotText(f"{what} holds half of a surrogate pair, which is no character") from None
