"""What is left of a conversation that does not fit is a later part of it, from a question on, behind the instructions;
the last question always stays, and with more room no more is left out.
"""

import asyncio
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.engine.generation.values import GenerationRequest, Message
from appliance.errors import InputTooLong
from appliance.service.shortening import accepted, shortenings, within_chars

roles = st.lists(st.sampled_from(("user", "assistant", "tool")), max_size=30)


def request_of(roles, instructions: int = 1, **values) -> GenerationRequest:
    turns = ["system"] * instructions + list(roles) + ["user"]
    prompt = tuple(Message(role, f"{number:02d}" * 5) for number, role in enumerate(turns))
    return GenerationRequest(prompt, "user:1", **values)


class Counting:
    """As much of a generator as is asked: a character is a token."""

    def __init__(self, context: int) -> None:
        self.context, self.open, self.asked = context, 0, 0

    def status(self):
        return SimpleNamespace(context_tokens=self.context)

    async def generate(self, request):
        self.asked += 1
        size = sum(len(turn.content) for turn in request.prompt)
        if size >= self.context:
            raise InputTooLong("too long")
        self.open += 1
        return Queued(self, request, size)


class Queued:
    def __init__(self, generator: Counting, request, size: int) -> None:
        self.generator, self.request, self.prompt_tokens = generator, request, size

    async def aclose(self) -> None:
        self.generator.open -= 1


@settings(deadline=None)
@given(roles, st.integers(0, 2))
def test_every_shortening_is_the_instructions_and_the_end_from_a_question_on(roles, instructions):
    request = request_of(roles, instructions)
    choices = shortenings(request)
    assert choices[0].request is request and len(choices) <= 18
    for choice in choices[1:]:
        prompt = choice.request.prompt
        assert prompt[:instructions] == request.prompt[:instructions] and prompt[instructions].role == "user"
        assert prompt[instructions:] == request.prompt[instructions + choice.left_out :]
    assert [choice.left_out for choice in choices] == sorted({choice.left_out for choice in choices})
    assert sum(turn.role == "user" for turn in choices[-1].request.prompt) == 1


@settings(deadline=None)
@given(roles, st.integers(30, 400), st.integers(1, 60))
def test_the_longest_that_fits_with_room_is_asked_and_nothing_else_is_left_queued(roles, context, room):
    request, generator = request_of(roles), Counting(context)
    stream, left_out = asyncio.run(accepted(generator, request, room))
    choices = shortenings(request)
    needed = context - min(room, context // 4)
    fitting = [one.left_out for one in choices if sum(len(turn.content) for turn in one.request.prompt) <= needed]
    assert left_out == (fitting[0] if fitting else choices[-1].left_out)
    assert generator.open == 1 and len(stream.request.prompt) == len(request.prompt) - left_out
    assert generator.asked <= 7


def test_what_cannot_fit_is_refused_as_it_is():
    with pytest.raises(InputTooLong):
        asyncio.run(accepted(Counting(5), request_of(["user", "assistant"]), 1))
    text = GenerationRequest("a text", "user:1")
    assert [choice.request for choice in shortenings(text)] == [text]


def test_site_s_bound_on_texts_is_kept_before_anything_is_recorded():
    request = request_of(["user", "assistant"] * 3)
    assert within_chars(request, 10_000).left_out == 0
    assert within_chars(request, 59).left_out == 4
    assert within_chars(request, 1).left_out == 6
