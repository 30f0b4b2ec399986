"""Messages survive the way and back; anything else is no message and ends the connection before it reaches a worker."""

import msgspec
import pytest

from appliance.engine import protocol
from appliance.engine.generation import messages
from appliance.engine.generation.values import GenerationRequest, Message, Sampling, TokenLogprob

BYTES_MAX = 1 << 16
CHAT = (Message("user", "é", {"tool_calls": [{"id": 1}]}), Message("assistant", ""))


def packed(prompt, **values):
    request = GenerationRequest(prompt=prompt, principal="user:1", **values)
    return messages.pack_request(7, request, grammar=None, seed=3, deadline_s=1.5)


COMMANDS = [
    messages.StartDecoder("echo", "m", "", 1, None, 1, 64, 64, 1, 1, 1, True, True),
    messages.LoadAdapter("a", "p", "s"),
    packed("text", stop=("x",), sampling=Sampling(temperature=0)),
    packed(CHAT, tools=({"name": "f"},), logprobs=2),
    packed((1, 2, 3)),
    protocol.Cancel(7),
    protocol.Ping(1),
]
ENDED = messages.Ended("stop", "x", 3, 1, 2)
REPORTS = [
    messages.DecoderReady("llama", 512, 64, True, "CPU", "none", True, 5),
    messages.Accepted(7, 3),
    messages.Chunks([messages.Part(7, "é", 1, [TokenLogprob("é", "é".encode(), -0.5, (("a", b"a", -1.0),))], ENDED)]),
    messages.GenerateRefused(7, "queue_full", "full", None, 1.0),
    messages.DecoderPong(1, 2, 3, 4),
    protocol.Loading("a"),
]


@pytest.mark.parametrize("message", COMMANDS, ids=lambda message: type(message).__name__)
def test_a_command_survives_the_way(message):
    assert messages.decode_command(protocol.encode_frame(message, BYTES_MAX)[4:]) == message


@pytest.mark.parametrize("message", REPORTS, ids=lambda message: type(message).__name__)
def test_a_report_survives_the_way_back(message):
    assert messages.decode_report(protocol.encode_frame(message, BYTES_MAX)[4:]) == message


@pytest.mark.parametrize("body", [b"", b"\xc1", b"\x80", msgspec.msgpack.encode({"type": "shutdown"}), b"\x93" * 9])
def test_what_is_no_message_is_a_protocol_error(body):
    for decode in (messages.decode_command, messages.decode_report):
        with pytest.raises(protocol.ProtocolError):
            decode(body)


def test_a_command_is_no_report_and_the_other_way_round():
    with pytest.raises(protocol.ProtocolError):
        messages.decode_report(protocol.encode_frame(COMMANDS[2], BYTES_MAX)[4:])
    with pytest.raises(protocol.ProtocolError):
        messages.decode_command(protocol.encode_frame(REPORTS[2], BYTES_MAX)[4:])


def test_a_message_over_the_bound_is_refused_before_it_is_sent():
    with pytest.raises(protocol.ProtocolError):
        protocol.encode_frame(packed("x" * BYTES_MAX), BYTES_MAX)


def test_a_request_has_one_kind_of_prompt():
    text, chat, ids = packed("a"), packed(CHAT), packed((1, 2))
    assert (text.text, text.chat, text.token_ids) == ("a", None, None)
    assert chat.chat == [
        {"role": "user", "content": "é", "tool_calls": [{"id": 1}]},
        {"role": "assistant", "content": ""},
    ]
    assert ids.token_ids == b"\1\0\0\0\2\0\0\0"
