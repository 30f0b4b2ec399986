"""Model files of every kind of badness, and good ones, through a real worker: what is bad is refused with a reason."""

import asyncio
import hashlib
import json
import os
import signal
from contextlib import asynccontextmanager, suppress

import numpy as np
import pytest

from appliance.config import GenerationConfig
from appliance.engine.generation import client
from appliance.engine.generation.client import Generator
from appliance.engine.generation.decoder import GPU_REFUSED
from appliance.engine.generation.values import GenerationRequest, Message, Sampling
from appliance.engine.gpu_pack import MANIFEST
from appliance.engine.worker_process import WorkerProcess
from appliance.errors import InputTooLong, InvalidRequest, ModelFileRefused, SpecialistFileInvalid
from benchmarks.random_decoder import TINY, write_decoder, write_decoder_lora

GREEDY = Sampling(temperature=0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    write_decoder(folder / "good.gguf", TINY, seed=7)
    write_decoder(
        folder / "looping.gguf",
        TINY,
        seed=7,
        chat_template="{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    )
    write_decoder(folder / "reaching.gguf", TINY, seed=7, chat_template="{{ messages.__class__.__mro__ }}")
    write_decoder(folder / "syntax.gguf", TINY, seed=7, chat_template="{% for %}")
    write_decoder(folder / "plain.gguf", TINY, seed=7, chat_template=None)
    write_decoder(folder / "encoder.gguf", TINY, seed=7, architecture="bert")
    write_decoder(folder / "unknown.gguf", TINY, seed=7, architecture="banana")
    write_decoder_lora(folder / "lora.gguf", TINY, seed=1)
    write_decoder_lora(folder / "foreign.gguf", TINY.__class__(32, 2, 1, 2, 64, 512, 512), seed=1)
    # Both pass the loader's checks and break the arithmetic.
    write_decoder_lora(folder / "integers.gguf", TINY, seed=1, kind=np.int32)
    write_decoder_lora(folder / "nan.gguf", TINY, seed=1, scale=float("nan"))
    whole = (folder / "good.gguf").read_bytes()
    (folder / "truncated.gguf").write_bytes(whole[: len(whole) // 2])
    (folder / "text.gguf").write_bytes(b"PK\3\4 no GGUF at all" * 50)
    return folder


def sha256(path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@asynccontextmanager
async def running(folder, name="good", on_event=lambda event: None, **values):
    path = folder / f"{name}.gguf"
    wanted = {"threads": 1, "slots": 2, "context_tokens": 256, "step_tokens": 64, "restart_backoff_s": 0.01} | values
    generator = await Generator.start(GenerationConfig(**wanted), path, sha256(path), folder, on_event=on_event)
    try:
        yield generator
    finally:
        await generator.close()


async def answer(generator, prompt, **values):
    wanted = {"sampling": GREEDY, "max_tokens": 12} | values
    async with await generator.generate(GenerationRequest(prompt, "user:1", **wanted)) as stream:
        chunks = [chunk async for chunk in stream]
    return "".join(chunk.text for chunk in chunks), chunks[-1].finish


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("text", "not a GGUF"),
        ("truncated", "truncated"),
        ("encoder", "cannot generate"),
        ("lora", "an adapter"),
        ("unknown", "cannot load the model"),
        ("syntax", "chat template"),
    ],
)
def test_a_file_that_is_no_usable_model_is_refused_at_start(folder, name, why):
    async def scenario():
        async with running(folder, name):
            raise AssertionError("it was accepted")

    with pytest.raises(ModelFileRefused, match=why):
        asyncio.run(scenario())


def test_a_model_that_does_not_fit_is_refused_with_the_figures(folder):
    async def scenario():
        async with running(folder, memory_bytes_max=64 * 1024**2, slots=64):
            raise AssertionError("it was accepted")

    with pytest.raises(ModelFileRefused, match=r"weights \d+, keys and values \d+.*allows 64 MiB") as caught:
        asyncio.run(scenario())
    assert "generation.memory_bytes_max" in caught.value.hint


def test_an_adapter_that_kills_the_worker_is_refused_from_then_on_and_the_model_serves_again(folder):
    async def scenario():
        events = []
        async with running(folder, on_event=events.append) as generator:
            for name, death in (("integers", "SIG"), ("nan", "not numbers")):
                path = folder / f"{name}.gguf"
                with pytest.raises(SpecialistFileInvalid, match=death):
                    await generator.load(name, path, sha256(path))
                assert (await answer(generator, "a"))[1].usage.generated_tokens > 0
            with pytest.raises(SpecialistFileInvalid, match="refused from now on"):
                await generator.load("integers", folder / "integers.gguf", "")
            return generator.status(), [event.kind for event in events]

    status, kinds = asyncio.run(scenario())
    assert status.restarts == 1 and status.refused_adapters == ("integers",) and status.adapters == ()
    assert kinds.count("worker_died") == 1


@pytest.mark.parametrize("name", ["looping", "reaching"])
def test_a_chat_template_that_misbehaves_costs_its_chats_only(folder, name):
    async def scenario():
        async with running(folder, name) as generator:
            with pytest.raises(ModelFileRefused, match="chat template"):
                await answer(generator, (Message("user", "a"),))
            return await answer(generator, "a"), generator.status().restarts

    (_, finish), restarts = asyncio.run(scenario())
    assert finish.usage.generated_tokens > 0 and restarts == 0


def test_a_model_without_a_template_takes_texts_and_refuses_chats(folder):
    async def scenario():
        async with running(folder, "plain") as generator:
            with pytest.raises(InvalidRequest, match="no chat template"):
                await answer(generator, (Message("user", "a"),))
            return await answer(generator, "a")

    assert asyncio.run(scenario())[1].usage.generated_tokens > 0


def test_a_real_model_answers_chats_schemas_and_adapters_through_the_worker(folder):
    async def scenario():
        async with running(folder) as generator:
            chat = (Message("system", "the note"), Message("user", "pain"))
            first, second = await asyncio.gather(answer(generator, chat), answer(generator, chat))
            schema = {"type": "object", "properties": {"a": {"enum": [1, "x"]}}, "required": ["a"]}
            bound, finish = await answer(generator, chat, json_schema=schema, max_tokens=100)
            await generator.load("lora", folder / "lora.gguf", sha256(folder / "lora.gguf"))
            adapted, _ = await answer(generator, chat, adapter="lora")
            with pytest.raises(SpecialistFileInvalid):
                await generator.load("foreign", folder / "foreign.gguf", sha256(folder / "foreign.gguf"))
            with pytest.raises(InputTooLong, match="256 tokens"):
                await answer(generator, "pain " * 300)
            with pytest.raises(InvalidRequest, match="grammar cannot be used"):
                await answer(generator, "a", grammar="root ::= missing")
            return first, second, bound, finish, adapted, await answer(generator, chat), generator.status()

    first, second, bound, finish, adapted, again, status = asyncio.run(scenario())
    assert first[0] == second[0] == again[0] != adapted
    assert json.loads(bound) in ({"a": 1}, {"a": "x"})
    assert finish.usage.reused_tokens > 32
    assert status.restarts == 0 and status.chat and status.architecture == "llama" and status.memory_bytes > 0
    assert status.device.startswith(("CPU", "GPU"))


def test_two_answers_that_draw_with_one_seed_are_equal_and_without_one_they_differ(folder):
    async def scenario():
        async with running(folder) as generator:
            drawn = [
                await answer(generator, "the patient", sampling=Sampling(temperature=1.5, seed=seed), max_tokens=30)
                for seed in (5, 5, None, None)
            ]
            return [text for text, _ in drawn]

    first, second, third, fourth = asyncio.run(scenario())
    assert first == second and third != fourth


class CrashingDriver(WorkerProcess):
    """A GPU's driver that ends every worker that is told of a pack."""

    @classmethod
    async def spawn(cls, *, more=(), **values):
        worker = await super().spawn(more=more, **values)
        if "--gpu-pack" in more:
            with suppress(ProcessLookupError):  # one that ends by itself may be gone
                os.kill(worker.pid, signal.SIGSEGV)
        return worker


def test_a_driver_that_ends_the_worker_costs_the_gpu_and_not_the_model(folder, tmp_path, monkeypatch):
    (tmp_path / MANIFEST).touch()
    monkeypatch.setattr(client, "gpu_folder", lambda: tmp_path)
    monkeypatch.setattr(client, "WorkerProcess", CrashingDriver)

    async def scenario():
        events = []
        async with running(folder, on_event=events.append) as generator:
            return await answer(generator, "a"), generator.status(), events

    (_, finish), status, (started,) = asyncio.run(scenario())
    assert finish.usage.generated_tokens > 0 and status.restarts == 0
    assert status.device.startswith(GPU_REFUSED) and "SIGSEGV" in status.device
    assert started.attributes["device"] == status.device


def test_a_file_that_ends_the_worker_without_a_gpu_too_is_to_blame_itself(folder, tmp_path, monkeypatch):
    (tmp_path / MANIFEST).touch()
    monkeypatch.setattr(client, "gpu_folder", lambda: tmp_path)
    monkeypatch.setattr(client, "WorkerProcess", CrashingDriver)
    monkeypatch.setattr(client, "_WORKER", "appliance.no_such_module")  # it ends at once, whatever it is told

    async def scenario():
        async with running(folder):
            raise AssertionError("it was accepted")

    with pytest.raises(ModelFileRefused, match="made the worker stop: ended with status 1"):
        asyncio.run(scenario())
