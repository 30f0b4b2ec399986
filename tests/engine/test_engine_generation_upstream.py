"""Another server inside the site answers like a model of our own, through the same interface; it is reached at
addresses of the site's list only, whatever names, redirects and proxies say, and whatever it sends is bounded, in bytes
and in time, and becomes one of our errors without its words.

The other server is a hand-written one on this machine that says what a test wants it to say.
"""

import asyncio
import functools
import json
import socket
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.config import UpstreamConfig, UpstreamModelConfig
from appliance.engine.generation.upstream import Upstreams, _events, networks_of
from appliance.engine.generation.values import GenerationRequest, Message, Sampling
from appliance.errors import (
    ConfigInvalid,
    DeadlineExceeded,
    EngineUnavailable,
    InvalidRequest,
    QueueFull,
    UnknownOption,
)

SECRET = "words of the prompt"
HERE = ("127.0.0.0/8", "::1")


def in_loop(test):
    """The test in an event loop of its own."""

    @functools.wraps(test)
    def run(**values) -> None:
        asyncio.run(test(**values))

    return run


def event(text: str = "", reason: str | None = None, **more) -> bytes:
    body = {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": reason, **more}]}
    return b"data: " + json.dumps(body).encode() + b"\n\n"


USAGE = b'data: {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3, '
USAGE += b'"prompt_tokens_details": {"cached_tokens": 2}}}\n\n'
ANSWER = event("A se") + b": a comment\n\n" + event("t.\u00e9") + event("", "stop") + USAGE + b"data: [DONE]\n\n"


def head(status: str = "200 OK", *lines: str) -> bytes:
    return "\r\n".join((f"HTTP/1.1 {status}", "Connection: close", *lines, "", "")).encode()


class Other:
    """The other server: keeps what it was asked, answers with `reply`, then hangs up or waits."""

    def __init__(self, reply: bytes, *, hangs: bool) -> None:
        self.reply, self.hangs = reply, hangs
        self.asked: list[tuple[str, dict]] = []
        self.left = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._answer(reader, writer)
        finally:  # also where the test is over while somebody is still connected
            self.left.set()
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        said = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = next((int(line[15:]) for line in said.splitlines() if line.lower().startswith("content-length")), 0)
        self.asked.append((said, json.loads(await reader.readexactly(length)) if length else {}))
        writer.write(self.reply)
        await writer.drain()
        if self.hangs:
            await reader.read()  # until the asker hangs up


@asynccontextmanager
async def other(reply: bytes, *, hangs: bool = False):
    made = Other(reply, hangs=hangs)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    async with server:
        made.port = server.sockets[0].getsockname()[1]
        made.url = f"http://127.0.0.1:{made.port}/v1"
        yield made


@asynccontextmanager
async def asking(url: str, **settings):
    model = UpstreamModelConfig(url=url, model="Big/Model", api_key_file=settings.pop("api_key_file", None))
    upstreams = Upstreams(UpstreamConfig(**{"addresses": HERE, "models": {"big": model}} | settings))
    try:
        yield upstreams.get("big")
    finally:
        await upstreams.close()


def request(**values) -> GenerationRequest:
    return GenerationRequest((Message("user", SECRET),), "user:1", **values)


async def answer(generator, wanted: GenerationRequest):
    async with await generator.generate(wanted) as chunks:
        found = [chunk async for chunk in chunks]
    return "".join(chunk.text for chunk in found), found[-1].finish


@in_loop
async def test_answer_comes_as_chunks_with_one_end_and_the_other_server_s_figures(tmp_path):
    key = tmp_path / "key"
    key.write_text("sesame\n")
    async with other(head() + ANSWER) as there, asking(there.url, api_key_file=key) as generator:
        wanted = request(max_tokens=9, stop=("x",), sampling=Sampling(temperature=0, seed=5, top_k=3))
        text, finish = await answer(generator, wanted)
    assert text == "A set.\u00e9" and finish.reason == "stop"
    usage = finish.usage
    assert (usage.prompt_tokens, usage.reused_tokens, usage.generated_tokens) == (7, 2, 3)
    ((said, body),) = there.asked
    assert said.startswith("POST /v1/chat/completions ") and "Authorization: Bearer sesame" in said
    assert body["messages"] == [{"role": "user", "content": SECRET}] and body["model"] == "Big/Model"
    assert (body["max_tokens"], body["stop"], body["seed"], body["top_k"]) == (9, ["x"], 5, 3)
    assert body["stream"] is True and "repetition_penalty" not in body


@in_loop
async def test_text_schema_and_probabilities_are_passed_on():
    probable = {"content": [{"token": "A", "bytes": [65], "logprob": -0.5, "top_logprobs": []}]}
    reply = head() + event("A", logprobs=probable) + event("", "length") + b"data: [DONE]\n\n"
    async with other(reply) as there, asking(there.url) as generator:
        async with await generator.generate(request(logprobs=1, json_schema={"type": "object"})) as chunks:
            found = [chunk async for chunk in chunks]
        await answer(generator, GenerationRequest("once", "user:1"))
    assert found[0].logprobs[0].data == b"A" and found[-1].finish.reason == "length"
    assert found[-1].finish.usage.generated_tokens == 1
    assert there.asked[0][1]["response_format"]["json_schema"]["schema"] == {"type": "object"}
    assert there.asked[0][1]["top_logprobs"] == 1
    assert "/v1/completions" in there.asked[1][0] and there.asked[1][1]["prompt"] == "once"


@pytest.mark.parametrize("addresses", [(), ("10.0.0.0/8",), ("127.0.0.2",), ("::1",)])
@in_loop
async def test_address_outside_of_the_list_is_not_connected_to(addresses):
    async with other(head() + ANSWER) as there, asking(there.url, addresses=addresses) as generator:
        with pytest.raises(EngineUnavailable, match=r"127\.0\.0\.1, which is not in upstream\.addresses"):
            await generator.generate(request())
    assert there.asked == []


@in_loop
async def test_name_is_resolved_here_and_every_address_of_it_must_be_in_the_list(monkeypatch):
    async with other(head() + ANSWER) as there:
        loop = asyncio.get_running_loop()

        def found(*addresses):
            async def resolve(_host, port, **_options):
                return [(2, 1, 6, "", (address, port)) for address in addresses]

            return resolve

        async with asking(f"http://vllm.site.example:{there.port}/v1") as generator:
            monkeypatch.setattr(loop, "getaddrinfo", found("127.0.0.1", "192.0.2.7"))
            with pytest.raises(EngineUnavailable, match=r"192\.0\.2\.7"):
                await generator.generate(request())
            monkeypatch.setattr(loop, "getaddrinfo", found("127.0.0.1"))
            stream = await generator.generate(request())
            monkeypatch.setattr(loop, "getaddrinfo", found("192.0.2.7"))  # a name that changes its mind later
            assert [chunk.text async for chunk in stream][-1] == ""
    ((said, _),) = there.asked
    assert f"Host: vllm.site.example:{there.port}" in said


@in_loop
async def test_redirects_and_proxies_lead_nowhere(monkeypatch):
    async with other(head() + ANSWER) as elsewhere:
        moved = head("307 Temporary Redirect", f"Location: {elsewhere.url}/chat/completions", "Content-Length: 0")
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{elsewhere.port}")
        monkeypatch.setenv("ALL_PROXY", f"http://127.0.0.1:{elsewhere.port}")
        async with other(moved) as there, asking(there.url) as generator:
            with pytest.raises(EngineUnavailable, match="redirect"):
                await generator.generate(request())
        assert elsewhere.asked == []


@pytest.mark.parametrize(
    ("status", "error"),
    [
        ("400 Bad Request", InvalidRequest),
        ("404 Not Found", EngineUnavailable),
        ("413 Too Large", InvalidRequest),
        ("401 Unauthorized", EngineUnavailable),
        ("429 Too Many Requests", QueueFull),
        ("500 Oops", EngineUnavailable),
        ("503 Busy", EngineUnavailable),
        ("204 Nothing", EngineUnavailable),
    ],
)
@in_loop
async def test_refusals_are_ours_and_hold_none_of_its_words(status, error):
    body = json.dumps({"error": {"message": SECRET}})
    lines = () if status.startswith("204") else (f"Content-Length: {len(body)}",)
    async with other(head(status, *lines) + body.encode()) as there, asking(there.url) as generator:
        with pytest.raises(error) as refused:
            await generator.generate(request())
    assert SECRET not in f"{refused.value.message} {refused.value.hint}"


@pytest.mark.parametrize(("said", "waits"), [("7", 7), ("0", 1), ("99999999", 3600), ("tomorrow", 10), ("nan", 1)])
@in_loop
async def test_busy_server_s_time_to_wait_is_passed_on_within_bounds(said, waits):
    reply = head("429 Busy", f"Retry-After: {said}", "Content-Length: 0")
    async with other(reply) as there, asking(there.url) as generator:
        with pytest.raises(QueueFull) as refused:
            await generator.generate(request())
    assert refused.value.retry_after_s == waits


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (head() + event("A"), "in the middle"),
        (head("200 OK", "Content-Length: 9999") + event("A"), "cannot be reached"),
        (head() + event("A") + b"data: [DONE]\n\n", "in the middle"),
        (head() + b"data: {not json\n\n", "no answer of this API"),
        (head() + b"data: " + b"[" * 100_000 + b"\n\n", "no answer of this API"),
        (head() + b"data: [1]\n\n", "no answer of this API"),
        (head() + b'data: {"choices": 5}\n\n', "no answer of this API"),
        (head() + b'data: {"choices": [{"delta": {"content": 5}}]}\n\n', "no answer of this API"),
        (head() + event("a\ud83d") + event("", "stop"), "no answer of this API"),
        (head() + event("A").replace(b"A", b"\xed\xa0\xbd") + event("", "stop"), "no answer of this API"),
        (
            head() + event("A", logprobs={"content": [{"token": "A", "logprob": float("-inf")}]}),
            "no answer of this API",
        ),
        (head() + event("A") + event("", "abort") + b"data: [DONE]\n\n", "gave up"),
        (head() + event("A") + event("", "content_filter") + b"data: [DONE]\n\n", "gave up"),
        (head() + b'data: {"error": {"message": "words of the prompt"}}\n\n', "failed in the middle"),
        (head() + event("x" * 3000), "more than 2048 bytes"),
        (head() + b"data: " + b"x" * 5000, "more than 2048 bytes"),
        (b"SMTP ready\r\n\r\n", "cannot be reached"),
        (b"", "cannot be reached"),
    ],
)
@in_loop
async def test_answer_that_is_none_ends_as_an_error(reply, words):
    async with other(reply) as there, asking(there.url, body_bytes_max=2048 if b"x" * 3000 in reply else 1 << 20) as it:
        with pytest.raises(EngineUnavailable, match=words) as ended:
            await answer(it, request())
    assert SECRET not in ended.value.message


@in_loop
async def test_probability_beyond_numbers_ends_as_an_error():
    data = json.dumps({"choices": [{"delta": {"content": "A"}, "logprobs": {"content": [{"token": "A"}]}}]})
    reply = head() + b"data: " + data.replace('"token"', '"logprob": -1e999, "token"').encode() + b"\n\n"
    async with other(reply) as there, asking(there.url) as it:
        with pytest.raises(EngineUnavailable, match="no answer of this API"):
            await answer(it, request(logprobs=1))


@in_loop
async def test_silent_server_is_left_at_the_deadline():
    for reply in (b"", head() + event("A")):
        async with other(reply, hangs=True) as there, asking(there.url) as generator:
            with pytest.raises(DeadlineExceeded):
                await answer(generator, request(deadline_s=0.2))
            if there.asked:  # a slow machine may not even have connected by then
                await asyncio.wait_for(there.left.wait(), 60)


@in_loop
async def test_leaving_early_hangs_up_and_gives_the_place_back():
    async with other(head() + event("A"), hangs=True) as there, asking(there.url, in_flight_max=1) as generator:
        async with await generator.generate(request()) as chunks:
            assert (await anext(chunks)).text == "A"
            with pytest.raises(QueueFull) as full:
                await generator.generate(request())
            assert full.value.retry_after_s
        await asyncio.wait_for(there.left.wait(), 60)
        async with await generator.generate(request()) as chunks:
            assert (await anext(chunks)).text == "A"


@in_loop
async def test_nobody_there_is_said_at_once():
    with socket.socket() as held:  # so that nobody else can begin to listen there
        held.bind(("127.0.0.1", 0))
        async with asking(f"http://127.0.0.1:{held.getsockname()[1]}/v1") as generator:
            with pytest.raises(EngineUnavailable, match="cannot be reached"):
                await generator.generate(request())


def tool(name: str = "weather", **more) -> dict:
    parameters = {"type": "object", "properties": {"city": {"type": "string"}}}
    return {"type": "function", "function": {"name": name, "parameters": parameters, **more}}


def fragments(*pieces: dict) -> bytes:
    body = {"choices": [{"index": 0, "delta": {"tool_calls": list(pieces)}, "finish_reason": None}]}
    return b"data: " + json.dumps(body).encode() + b"\n\n"


def fragment(index: int, arguments: str, **more) -> dict:
    return {"index": index, "function": {"arguments": arguments, **more}} | (
        {"id": f"call_{index}", "type": "function"} if more else {}
    )


CALLS = (
    event("Let me look.")
    + fragments(fragment(0, "", name="weather"))
    + fragments(fragment(0, '{"city": "Os'))
    + fragments(fragment(0, 'lo"}'), fragment(1, '{"city": "Rome"}', name="weather"))
    + event("", "tool_calls")
    + USAGE
    + b"data: [DONE]\n\n"
)


async def called(reply: bytes, wanted: GenerationRequest):
    async with (
        other(head() + reply) as there,
        asking(there.url) as generator,
        await generator.generate(wanted) as chunks,
    ):
        found = [chunk async for chunk in chunks]
    calls = [(call.id, call.name, call.arguments) for chunk in found for call in chunk.calls]
    return "".join(chunk.text for chunk in found), calls, found[-1].finish.reason, there.asked[0][1]


@in_loop
async def test_tools_are_passed_on_and_calls_come_back_whole():
    text, calls, reason, asked = await called(CALLS, request(tools=(tool(),)))
    assert text == "Let me look." and reason == "tool_calls"
    assert calls == [("call_0", "weather", '{"city": "Oslo"}'), ("call_1", "weather", '{"city": "Rome"}')]
    assert asked["tools"] == [tool()] and "tool_choice" not in asked and "parallel_tool_calls" not in asked


@in_loop
async def test_choice_of_tools_and_their_results_are_passed_on():
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    turns = (
        Message("user", "Oslo?"),
        Message("assistant", "", {"tool_calls": [call]}),
        Message("tool", "rain", {"tool_call_id": "c1"}),
    )
    one = GenerationRequest(turns, "user:1", tools=(tool(), tool("b")), must_call=("weather",), parallel_calls=False)
    _, calls, _, asked = await called(CALLS, one)
    assert asked["tool_choice"] == {"type": "function", "function": {"name": "weather"}} and len(calls) == 1
    assert asked["parallel_tool_calls"] is False
    assert asked["messages"][1] == {"role": "assistant", "content": None, "tool_calls": [call]}
    assert asked["messages"][2] == {"role": "tool", "content": "rain", "tool_call_id": "c1"}
    any_of = request(tools=(tool(), tool("b")), must_call=("weather", "b"))
    assert (await called(CALLS, any_of))[3]["tool_choice"] == "required"


@pytest.mark.parametrize(
    ("pieces", "text"),
    [
        ([fragment(0, "{}", name="rm")], '{"name": "rm", "arguments": "{}"}'),
        ([fragment(0, '{"city": ', name="weather")], '{"name": "weather", "arguments": "{\\"city\\": "}'),
        ([fragment(0, "[1]", name="weather")], '{"name": "weather", "arguments": "[1]"}'),
        ([fragment(0, '{"city": NaN}', name="weather")], '{"name": "weather", "arguments": "{\\"city\\": NaN}"}'),
        ([fragment(0, '{"town": "Oslo"}', name="strict")], None),
    ],
)
@in_loop
async def test_what_is_no_call_of_an_offered_tool_is_text(pieces, text):
    wanted = request(tools=(tool(), tool("strict", strict=True)))
    said, calls, reason, _ = await called(fragments(*pieces) + event("", "tool_calls") + b"data: [DONE]\n\n", wanted)
    assert calls == [] and reason == "stop" and (said == text if text else "strict" in said)


@pytest.mark.parametrize(
    "pieces",
    [{"index": 99}, {"index": "0"}, {}, {"index": 0, "function": {"name": 5}}, {"index": 0, "function": [1]}, 5],
)
@in_loop
async def test_calls_that_are_none_of_this_api_end_as_an_error(pieces):
    with pytest.raises(EngineUnavailable, match="no answer of this API"):
        await called(fragments(pieces) + event("", "tool_calls"), request(tools=(tool(),)))


@pytest.mark.parametrize("values", [{"grammar": 'root ::= "a"'}, {"adapter": "x"}])
@in_loop
async def test_what_each_server_does_in_its_own_way_is_refused(values):
    async with other(head() + ANSWER) as there, asking(there.url) as generator:
        with pytest.raises(UnknownOption, match=next(iter(values))):
            await generator.generate(request(**values))
    assert there.asked == []


def test_list_that_holds_no_address_is_refused():
    with pytest.raises(ConfigInvalid):
        networks_of(UpstreamConfig(addresses=("vllm.site.example",)))
    with pytest.raises(ConfigInvalid, match="auto"):
        Upstreams(UpstreamConfig(models={"auto": UpstreamModelConfig(url="http://a/v1", model="m")}))
    with pytest.raises(ConfigInvalid, match="API key"):
        Upstreams(
            UpstreamConfig(models={"big": UpstreamModelConfig(url="http://a/v1", model="m", api_key_file="/no/such")})
        )


class Bytes:
    """A response whose body comes in these pieces."""

    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = pieces

    async def aiter_bytes(self):
        for piece in self.pieces:
            yield piece


@given(st.lists(st.integers(0, len(ANSWER)), max_size=12))
def test_events_are_the_same_wherever_the_network_cuts_them(cuts):
    async def read(pieces: list[bytes]) -> list[dict]:
        return [event async for event in _events(Bytes(pieces), 1 << 20, "big")]

    places = [0, *sorted(cuts), len(ANSWER)]
    pieces = [ANSWER[start:end] for start, end in pairwise(places)]
    assert asyncio.run(read(pieces)) == asyncio.run(read([ANSWER]))
