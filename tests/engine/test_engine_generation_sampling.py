"""What could not be served is refused before it reaches a worker, with the name of the value and what it may be."""

from dataclasses import replace

import pytest

from appliance.engine.generation.sampling import check_request, sampling_from, seed_of
from appliance.engine.generation.values import GenerationRequest, Message, Sampling
from appliance.errors import InputEmpty, InputNotText, InputTooLong, InvalidRequest, UnknownOption

REQUEST = GenerationRequest(prompt="a", principal="user:1")


def test_named_values_become_a_sampling():
    assert sampling_from({"temperature": 0, "seed": -7}) == Sampling(temperature=0, seed=-7)
    assert sampling_from({}) == Sampling()


def test_an_unknown_parameter_is_named():
    with pytest.raises(UnknownOption, match="temprature") as caught:
        sampling_from({"temprature": 1})
    assert "temperature" in caught.value.hint


@pytest.mark.parametrize(
    "values",
    [
        {"temperature": 2.1},
        {"temperature": -0.1},
        {"temperature": float("nan")},
        {"temperature": float("inf")},
        {"temperature": "hot"},
        {"temperature": True},
        {"temperature": None},
        {"top_k": -1},
        {"top_k": 1.5},
        {"top_p": 0},
        {"top_p": 1.01},
        {"min_p": -1},
        {"repetition_penalty": 0},
        {"presence_penalty": 3},
        {"frequency_penalty": -3},
        {"seed": 2**64},
        {"seed": 1.0},
    ],
)
def test_absurd_values_are_refused_by_name(values):
    with pytest.raises(InvalidRequest, match=next(iter(values))):
        sampling_from(values)


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"prompt": ""}, InputEmpty),
        ({"prompt": ()}, InputEmpty),
        ({"prompt": "a\0b"}, InputNotText),
        ({"prompt": "a\ud800"}, InputNotText),
        ({"prompt": (Message("user", "\udfff"),)}, InputNotText),
        ({"prompt": (Message("", "x"),)}, InvalidRequest),
        ({"prompt": (Message("user", "x"),) * 3000}, InputTooLong),
        ({"prompt": (5, 2**31)}, InvalidRequest),
        ({"prompt": (-1,)}, InvalidRequest),
        ({"prompt": (5, Message("user", "x"))}, InvalidRequest),
        ({"max_tokens": 0}, InvalidRequest),
        ({"max_tokens": 10**9}, InvalidRequest),
        ({"stop": ("x",) * 10_000}, InvalidRequest),
        ({"stop": ("",)}, InvalidRequest),
        ({"stop": ("x" * 1000,)}, InvalidRequest),
        ({"stop": ("x", "\ud83d")}, InputNotText),
        ({"logprobs": 21}, InvalidRequest),
        ({"deadline_s": 0}, InvalidRequest),
        ({"deadline_s": float("nan")}, InvalidRequest),
        ({"grammar": "root ::= [a]", "json_schema": {}}, InvalidRequest),
        ({"json_schema": {"type": "banana"}}, InvalidRequest),
        ({"json_schema": {"enum": ["\ud83d"]}}, InvalidRequest),
        ({"json_schema": {"type": "string", "description": "\ud83d"}}, InvalidRequest),
        ({"json_schema": {"enum": [float("nan"), float("inf")]}}, InvalidRequest),
        ({"grammar": "start ::= [a]"}, InvalidRequest),
    ],
)
def test_a_request_that_cannot_be_served_is_refused(change, kind):
    with pytest.raises(kind):
        check_request(replace(REQUEST, **change))


def test_a_schema_becomes_the_grammar_and_a_grammar_stays_as_it_is():
    assert check_request(REQUEST) is None
    assert check_request(replace(REQUEST, grammar="root ::= [a]")) == "root ::= [a]"
    assert "root ::=" in check_request(replace(REQUEST, json_schema={"type": "integer"}))


def test_every_seed_is_one_of_the_library_s_and_never_the_one_that_means_any():
    assert all(0 <= seed_of(value) < 2**32 - 1 for value in (0, 2**32 - 1, -(2**63), 2**64 - 1))
    assert seed_of(7) == 7
