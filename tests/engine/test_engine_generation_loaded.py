"""Models come into memory at their first use and leave it least recently used first, never while somebody uses them and
never over the budget; one that could never fit is refused with the figures. Real workers with the echo backend.
"""

import asyncio
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.config import GenerationConfig
from appliance.engine.generation.loaded import LoadedModels, ModelFile, Resident, plan
from appliance.engine.generation.values import GenerationRequest
from appliance.errors import EngineUnavailable, ModelFileRefused, QueueFull
from benchmarks.random_decoder import TINY, write_decoder

residents = st.lists(
    st.tuples(st.integers(1, 50), st.integers(0, 2), st.integers(0, 1000)), max_size=6, unique_by=lambda one: one[2]
).map(lambda rows: [Resident(f"m{used}", size, leases, used) for size, leases, used in rows])


@given(residents, st.integers(1, 100), st.integers(1, 7))
def test_plan_makes_room_by_the_least_used_and_never_takes_what_is_leased(loaded, need, models_max):
    going = plan(loaded, need, budget_bytes=100, models_max=models_max)
    idle = sorted((one for one in loaded if one.leases == 0), key=lambda one: one.used)
    kept_bytes = sum(one.memory_bytes for one in loaded if one.leases)
    kept = sum(1 for one in loaded if one.leases)
    possible = kept_bytes + need <= 100 and kept < models_max
    assert (going is not None) == possible
    if going is None:
        return
    assert list(going) == [one.sha256 for one in idle[: len(going)]]
    staying = [one for one in loaded if one.sha256 not in going]
    assert sum(one.memory_bytes for one in staying) + need <= 100 and len(staying) < models_max
    if going:  # not one more than was needed
        more = [*staying, next(one for one in loaded if one.sha256 == going[-1])]
        assert sum(one.memory_bytes for one in more) + need > 100 or len(more) >= models_max


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("decoders")
    made = []
    for seed in range(3):
        path = folder / f"tiny-{seed}.gguf"
        write_decoder(path, TINY, seed=seed)
        made.append(ModelFile(f"tiny-{seed}", path, hashlib.sha256(path.read_bytes()).hexdigest()))
    return made


def models_of(folder, **values) -> LoadedModels:
    wanted = {"slots": 2, "step_tokens": 64, "context_tokens": 256} | values
    return LoadedModels(GenerationConfig(backend="echo", **wanted), folder)


async def said(models: LoadedModels, file: ModelFile, text: str) -> str:
    async with models.lease(file) as generator, await generator.generate(GenerationRequest(text, "user:1")) as chunks:
        return "".join([chunk.text async for chunk in chunks])


def test_model_is_loaded_once_and_makes_room_when_another_is_wanted(files, tmp_path):
    async def use():
        models = models_of(tmp_path, models_max=2)
        try:
            answers = await asyncio.gather(*(said(models, files[0], "one") for _ in range(4)))
            first = models.status()["tiny-0"].pid
            await said(models, files[1], "two")
            await said(models, files[0], "three")
            await said(models, files[2], "four")
            return answers, first, models.status()
        finally:
            await models.close()

    answers, first, status = asyncio.run(use())
    assert answers == ["one"] * 4
    assert set(status) == {"tiny-0", "tiny-2"}  # tiny-1 was used least recently
    assert status["tiny-0"].pid == first


def test_model_in_use_stays_and_the_next_one_is_told_to_come_back(files, tmp_path):
    async def use():
        models = models_of(tmp_path, models_max=1)
        try:
            async with models.lease(files[0]):
                with pytest.raises(QueueFull) as full:
                    await said(models, files[1], "x")
            return full.value, await said(models, files[1], "now")
        finally:
            await models.close()

    full, answer = asyncio.run(use())
    assert full.retry_after_s and answer == "now"


def test_model_that_never_fits_is_refused_with_the_figures_and_the_others_answer(files, tmp_path):
    async def use():
        models = models_of(tmp_path, memory_bytes_total=64 * 1024**2, slots=64, context_tokens=2048)
        try:
            with pytest.raises(ModelFileRefused) as refused:
                await said(models, files[0], "x")
            return refused.value
        finally:
            await models.close()

    refused = asyncio.run(use())
    assert "MiB" in refused.message and "64 slots" in refused.message and "generation.slots" in refused.hint


def test_file_with_another_hash_is_refused(files, tmp_path):
    async def use():
        models = models_of(tmp_path)
        try:
            with pytest.raises(ModelFileRefused):
                await said(models, ModelFile("other", files[0].path, "0" * 64), "x")
            return await said(models, files[0], "still here")
        finally:
            await models.close()

    assert asyncio.run(use()) == "still here"


def test_closed_models_serve_nobody(files, tmp_path):
    async def use():
        models = models_of(tmp_path)
        await models.close()
        with pytest.raises(EngineUnavailable):
            await said(models, files[0], "x")

    asyncio.run(use())
