"""Generation from outside: real worker processes with the echo backend, which says its prompt once more.

Guaranteed: a stream is whole or raises, whoever leaves frees a slot, every bound refuses with a reason, and a worker
that dies costs nobody an answer of which nothing was handed out.
"""

import asyncio
import hashlib
import os
import random
import signal
from contextlib import asynccontextmanager

import pytest
from engine_clock import Clock, passes_until

from appliance.config import GenerationConfig
from appliance.engine.generation.client import Generator
from appliance.engine.generation.values import GenerationRequest, Message, Sampling
from appliance.errors import (
    DeadlineExceeded,
    EngineUnavailable,
    InputTooLong,
    InvalidRequest,
    ModelFileRefused,
    QueueFull,
    SpecialistNotFound,
)


@pytest.fixture(scope="module")
def runner():
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("generation") / "model.gguf"
    path.write_bytes(b"echo needs none")
    return path


def sha256(path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


async def started(model, on_event=lambda event: None, **values) -> Generator:
    wanted = {"slots": 4, "step_tokens": 64, "context_tokens": 512, "restart_backoff_s": 0.01} | values
    config = GenerationConfig(backend="echo", **wanted)
    return await Generator.start(config, model, sha256(model), model.parent, on_event=on_event)


@asynccontextmanager
async def running(model, **values):
    generator = await started(model, **values)
    try:
        yield generator
    finally:
        await generator.close()


@pytest.fixture(scope="module")
def generator(runner, model):
    generator = runner.run(started(model))
    yield generator
    runner.run(generator.close())


def request(prompt="hello", **values) -> GenerationRequest:
    return GenerationRequest(prompt=prompt, principal="user:1", **values)


async def answer(generator, wanted):
    stream = await generator.generate(wanted)
    chunks = [chunk async for chunk in stream]
    assert [chunk.finish is not None for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    return "".join(chunk.text for chunk in chunks), chunks[-1].finish, chunks


def test_a_stream_is_the_answer_and_its_last_chunk_says_why_and_how_much(runner, generator):
    text, finish, chunks = runner.run(answer(generator, request("héllo 😀")))
    assert (text, finish.reason, finish.stop_text) == ("héllo 😀", "stop", None)
    size = len("héllo 😀".encode())
    assert (finish.usage.prompt_tokens, finish.usage.generated_tokens) == (1 + size, size + 1)
    assert sum(chunk.tokens for chunk in chunks) == size + 1


def test_a_chat_goes_through_the_model_s_template(runner, generator):
    chat = (Message("system", "a"), Message("user", "b", {"name": "x"}))
    assert runner.run(answer(generator, request(chat)))[0] == "ab"


def test_token_ids_are_taken_as_they_are(runner, generator):
    assert runner.run(answer(generator, request((256, *b"ok"))))[0] == "ok"


def test_length_and_stop_texts_end_an_answer(runner, generator):
    text, finish, _ = runner.run(answer(generator, request("abcdef", max_tokens=3)))
    assert (text, finish.reason, finish.usage.generated_tokens) == ("abc", "length", 3)
    text, finish, chunks = runner.run(answer(generator, request("abcdef", stop=("de", "x"), logprobs=1)))
    assert (text, finish.reason, finish.stop_text) == ("abc", "stop", "de")
    assert "".join(entry.text for chunk in chunks for entry in chunk.logprobs) == "abc"


def test_many_streams_at_once_each_get_their_own_answer(runner, generator):
    async def all_of_them():
        prompts = [f"prompt number {n} " * (1 + n % 7) for n in range(60)]
        wanted = [GenerationRequest(prompt, f"user:{n % 5}") for n, prompt in enumerate(prompts)]
        return prompts, await asyncio.gather(*(answer(generator, entry) for entry in wanted))

    prompts, answers = runner.run(all_of_them())
    assert [text for text, _, _ in answers] == prompts
    assert generator.status().in_flight == 0


def test_a_shared_beginning_is_reused(runner, generator):
    first = runner.run(answer(generator, request("system prompt " * 15 + "one")))
    second = runner.run(answer(generator, request("system prompt " * 15 + "two")))
    assert first[0].endswith("one") and second[0].endswith("two")
    assert second[1].usage.reused_tokens >= len("system prompt " * 15)


def test_an_adapter_answers_for_its_requests_only(runner, generator, model):
    async def scenario():
        with pytest.raises(SpecialistNotFound):
            await generator.generate(request(adapter="loud"))
        await generator.load("loud", model, sha256(model))
        mixed = await asyncio.gather(
            *(answer(generator, request("abc", adapter=name)) for name in ("loud", None, "loud", None))
        )
        await generator.unload("loud")
        with pytest.raises(SpecialistNotFound):
            await generator.generate(request(adapter="loud"))
        return [text for text, _, _ in mixed]

    assert runner.run(scenario()) == ["ABC", "abc", "ABC", "abc"]


@pytest.mark.parametrize(
    ("wanted", "kind"),
    [
        (request("x" * 600), InputTooLong),
        (request("x" * 600_000), InputTooLong),
        (request((5, 999)), InvalidRequest),
        (request((5, -1)), InvalidRequest),
        (request(sampling=Sampling(temperature=9.0)), InvalidRequest),
        (request(stop=("x",) * 10_000), InvalidRequest),
        (request(json_schema={"$ref": "#"}), InvalidRequest),
        (request(grammar='root ::= "a"'), InvalidRequest),  # the echo backend has no model to guide
        (request((Message("user", "x", {"odd": object()}),)), InvalidRequest),
        (request((Message("user", "x", {"odd": 2**70}),)), InvalidRequest),
        (request((Message("user", "x", {"odd": "\ud800"}),)), InvalidRequest),
    ],
)
def test_what_cannot_be_served_is_refused_before_the_first_chunk(runner, generator, wanted, kind):
    with pytest.raises(kind):
        runner.run(generator.generate(wanted))
    assert generator.status().in_flight == 0
    assert runner.run(answer(generator, request("still here")))[0] == "still here"


def test_comings_and_goings_at_random_lose_no_slot(runner, generator):
    rng = random.Random(8)

    async def visitor(number):
        async with await generator.generate(
            GenerationRequest(f"visitor {number} " * 9, f"user:{number % 7}")
        ) as stream:
            stays = rng.choice((0, 1, 3, 1000))
            async for chunk in stream:
                stays -= 1
                if stays < 0:
                    return "left"
                if chunk.finish is not None:
                    return "read"
        return "left"

    async def scenario():
        calls = [asyncio.ensure_future(visitor(number)) for number in range(120)]
        for call in rng.sample(calls, 30):
            await asyncio.sleep(0)
            call.cancel()
        ends = await asyncio.gather(*calls, return_exceptions=True)
        return ends, await answer(generator, request("last"))

    ends, last = runner.run(scenario())
    assert {"left", "read"} <= {end for end in ends if isinstance(end, str)}
    assert all(isinstance(end, str | asyncio.CancelledError) for end in ends)
    assert last[0] == "last" and generator.status().in_flight == 0


def test_a_connect_from_inside_the_worker_fails(runner, generator):
    assert runner.run(generator.probe_network("127.0.0.1", 9)) is not None
    assert generator.status().isolated


def test_leaving_a_stream_frees_its_slot(runner, model):
    async def scenario():
        async with running(model, slots=1, context_tokens=100_000, message_bytes_max=1 << 20) as generator:
            async with await generator.generate(request("x" * 30_000)) as stream:
                await anext(stream)
            assert generator.status().in_flight == 0
            text, _, _ = await answer(generator, request("next"))
            call = asyncio.ensure_future(answer(generator, request("y" * 30_000)))
            while generator.status().in_flight == 0:
                await asyncio.sleep(0)
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
            return text, call.cancelled(), generator.status().in_flight, (await answer(generator, request("last")))[0]

    assert runner.run(scenario()) == ("next", True, 0, "last")


def test_a_full_engine_says_when_to_come_back(runner, model):
    async def scenario():
        async with running(model, slots=1, queue_max=2) as generator:
            os.kill(generator.status().pid, signal.SIGSTOP)
            calls = [asyncio.ensure_future(answer(generator, request(f"call {n}"))) for n in range(3)]
            while generator.status().in_flight < 3:
                await asyncio.sleep(0)
            with pytest.raises(QueueFull) as caught:
                await generator.generate(request())
            os.kill(generator.status().pid, signal.SIGCONT)
            return caught.value.retry_after_s, await asyncio.gather(*calls, return_exceptions=True)

    retry_after_s, answers = runner.run(scenario())
    assert 0 < retry_after_s <= 120
    # One principal may hold half of the queue: the rest is refused by the worker, or answered.
    assert [entry[0] for entry in answers if not isinstance(entry, QueueFull)] != []


def test_a_deadline_ends_an_answer_that_is_being_written(runner, model):
    async def scenario():
        async with running(model, context_tokens=100_000, message_bytes_max=1 << 20) as generator:
            with pytest.raises(DeadlineExceeded):  # a slow machine may not even have begun by then
                await answer(generator, request("x" * 40_000, deadline_s=0.3))
            return generator.status().in_flight, (await answer(generator, request("next")))[0]

    assert runner.run(scenario()) == (0, "next")


def test_a_slow_reader_gets_everything_in_one_piece_and_holds_up_nobody(runner, generator):
    async def scenario():
        slow = await generator.generate(request("slow reader"))
        others = await asyncio.gather(*(answer(generator, request(f"other {n}")) for n in range(8)))
        while not slow.complete:
            await answer(generator, request("x"))
        return [chunk async for chunk in slow], others

    chunks, others = runner.run(scenario())
    assert len(chunks) == 1 and chunks[0].text == "slow reader" and chunks[0].finish is not None
    assert [text for text, _, _ in others] == [f"other {n}" for n in range(8)]


def test_a_request_of_which_nothing_was_handed_out_survives_the_worker(runner, model):
    async def scenario():
        events = []
        async with running(model, on_event=events.append) as generator:
            os.kill(generator.status().pid, signal.SIGSTOP)
            call = asyncio.ensure_future(answer(generator, request("again")))
            await asyncio.sleep(0)
            os.kill(generator.status().pid, signal.SIGKILL)
            return (await call)[0], [event.kind for event in events], generator.status().restarts

    text, kinds, restarts = runner.run(scenario())
    assert (text, kinds, restarts) == ("again", ["worker_started", "worker_died", "worker_started"], 1)


def test_an_answer_that_had_begun_fails_with_its_worker(runner, model):
    async def scenario():
        async with running(model, context_tokens=100_000, message_bytes_max=1 << 20) as generator:
            stream = await generator.generate(request("x" * 40_000))
            await anext(stream)
            os.kill(generator.status().pid, signal.SIGKILL)
            with pytest.raises(EngineUnavailable, match="SIGKILL") as caught:
                async for _ in stream:
                    pass
            return caught.value.retry_after_s, (await answer(generator, request("next")))[0]

    retry_after_s, text = runner.run(scenario())
    assert retry_after_s > 0 and text == "next"


def test_a_stuck_worker_is_killed(model):
    async def scenario():
        events = []
        async with running(model, on_event=events.append) as generator:
            os.kill(generator.status().pid, signal.SIGSTOP)
            call = asyncio.ensure_future(answer(generator, request("again")))
            await passes_until(lambda: "worker_stuck" in [event.kind for event in events], most_s=240)
            return (await call)[0], [event.kind for event in events]

    with asyncio.Runner(loop_factory=Clock) as runner:
        text, kinds = runner.run(scenario())
    assert text == "again" and kinds == ["worker_started", "worker_stuck", "worker_died", "worker_started"]


def test_an_unregistered_model_is_refused(runner, model):
    with pytest.raises(ModelFileRefused, match="not the registered one"):
        runner.run(Generator.start(GenerationConfig(backend="echo"), model, "0" * 64, model.parent))


def test_a_closed_generator_refuses_everything(runner, model):
    async def scenario():
        generator = await started(model)
        pid = generator.status().pid
        await generator.close()
        await generator.close()
        for call in (generator.generate(request()), generator.load("a", model, ""), generator.probe_network("x", 1)):
            with pytest.raises(EngineUnavailable):
                await call
        return pid

    with pytest.raises(ProcessLookupError):
        os.kill(runner.run(scenario()), 0)
