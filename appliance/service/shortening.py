"""Conversations that no longer fit: the oldest turns are left out, the instructions and the last question never.

    request, left_out = within_chars(request, limits.text_chars_max)      # before anything is recorded
    stream, left_out = await accepted(generator, request, room_tokens)    # after the guard numbered all of it

Turns go question by question, each with what answered it, an eighth of a long conversation at a time: the turns that
are left then stay the same for a while, and the model need not read all of them anew with every question.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from appliance.engine.generation.client import GenerationStream, Generator
from appliance.engine.generation.values import GenerationRequest, Message
from appliance.errors import InputTooLong

_PARTS = 8
_ROOM_PART = 4  # the answer's room is no more than this part of the context: short ones have to answer too


@dataclass(frozen=True, slots=True)
class Shortened:
    """A request without so many of its turns."""

    request: GenerationRequest
    left_out: int


def shortenings(request: GenerationRequest) -> list[Shortened]:
    """The request, then ever shorter ones; the last holds nothing before the last question but the instructions."""
    turns = [turn for turn in request.prompt if isinstance(turn, Message)]
    whole = Shortened(request, 0)
    if isinstance(request.prompt, str) or len(turns) != len(request.prompt):
        return [whole]
    leading = next((at for at, turn in enumerate(turns) if turn.role != "system"), len(turns))
    questions = [at for at, turn in enumerate(turns) if turn.role == "user" and at > leading]
    step = max(1, (len(questions) + 1) // _PARTS)
    begins = [*questions[step - 1 : -1 : step], *questions[-1:]]
    return [
        whole,
        *(
            Shortened(replace(request, prompt=(*turns[:leading], *turns[begin:])), begin - leading)
            for begin in sorted(set(begins))
        ),
    ]


def within_chars(request: GenerationRequest, chars_max: int) -> Shortened:
    """The longest that is within the site's bound on texts, or the shortest there is."""
    choices = shortenings(request)
    return next((choice for choice in choices if _chars(choice.request) <= chars_max), choices[-1])


async def accepted(generator: Generator, request: GenerationRequest, room_tokens: int) -> tuple[GenerationStream, int]:
    """The longest that the model's context takes with room for an answer, queued, and how many turns it lacks.

    Raises what `Generator.generate` raises; `InputTooLong` where not even the last question fits.
    """
    choices = shortenings(request)
    room = min(request.max_tokens or room_tokens, room_tokens)
    least, most = 0, len(choices) - 1
    while least < most:  # bounded: the choices are at most `_PARTS` and a few, halved each time but the first
        tried = 0 if least == 0 else (least + most) // 2
        stream = await _with_room(generator, choices[tried].request, room)
        if stream is None:
            least = tried + 1
            continue
        if tried == least:
            return stream, choices[tried].left_out
        await stream.aclose()
        most = tried
    return await generator.generate(choices[most].request), choices[most].left_out


async def _with_room(generator: Generator, request: GenerationRequest, room: int) -> GenerationStream | None:
    """None: it does not fit."""
    try:
        stream = await generator.generate(request)
    except InputTooLong:
        return None
    context = generator.status().context_tokens
    if stream.prompt_tokens + min(room, context // _ROOM_PART) <= context:
        return stream
    await stream.aclose()
    return None


def _chars(request: GenerationRequest) -> int:
    if isinstance(request.prompt, str):
        return len(request.prompt)
    return sum(len(turn.content) for turn in request.prompt if isinstance(turn, Message))
