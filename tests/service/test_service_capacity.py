"""The capacity card says what was measured on this machine and nothing beyond it, and is kept for the file it is of."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.accounts.actions import local_operator
from appliance.api.schemas_protection import capacity_list
from appliance.config import ModelsConfig, load_config
from appliance.engine.generation.decoder import GPU_REFUSED
from appliance.errors import ModelNotFound, PermissionDenied
from appliance.service.capacity import MEASURED, Capacity, CapacityRow, Measured, measure_capacity, show_capacity
from appliance.service.events import new_event
from appliance.service.models import read_facts
from appliance.service.rooms import open_log
from appliance.specialists.language_models.library import ModelLibrary, Origin
from appliance.types import Outcome, Principal
from benchmarks.random_decoder import TINY, write_decoder

ME, ANA = local_operator(0), Principal("user:1", "ana", "user", frozenset({"user"}))
AUDITOR = Principal("user:2", "otto", "user", frozenset({"auditor"}))
# The example of appliance/audit/README.md.
VECTOR = {"device": "CPU", "memory_bytes": 1048576, "tokens_per_s_at_1": 21.5, "tokens_per_s_at_2": 17.0}

rows = st.lists(st.floats(0.1, 200), min_size=1, max_size=6)


def card(*speeds: float) -> Capacity:
    return Capacity("m", "CPU", 1, tuple(CapacityRow(2**place, speed) for place, speed in enumerate(speeds)))


@pytest.mark.parametrize(
    ("speeds", "speed", "users"),
    [((20.0, 12.0, 6.0), 8.0, 3), ((20.0, 12.0, 6.0), 12.0, 2), ((5.0, 4.0), 8.0, 0), ((30.0, 20.0), 8.0, 2),
     ((20.0, 8.0, 8.0), 8.0, 4), ((9.0, 2.0, 50.0), 8.0, 1)],
)  # fmt: skip
def test_users_are_those_who_get_the_speed(speeds, speed, users):
    assert card(*speeds).users(speed) == users


@given(rows, st.floats(0.1, 200), st.floats(0.1, 200))
def test_more_speed_is_for_no_more_users_and_never_for_more_than_were_measured(speeds, one, other):
    found = card(*speeds)
    assert found.users(max(one, other)) <= found.users(min(one, other)) <= found.rows[-1].answers


@pytest.fixture
def site(config, tmp_path):
    """A data folder with one model, and how to put another file in its place."""
    home = config.home
    home.config_file.write_text(
        "[generation]\nslots = 3\ncontext_tokens = 256\nthreads = 1\n[models]\ndisk_free_bytes_min = 0\n"
    )
    library = ModelLibrary(home, ModelsConfig(disk_free_bytes_min=0), read_facts)

    def put(seed: int) -> str:
        write_decoder(tmp_path / "tiny.gguf", TINY, seed=seed)
        if library.list():
            library.remove("tiny")
        entry = library.add(tmp_path / "tiny.gguf", Origin(kind="file", file="tiny.gguf"), added_by="t")
        return entry.manifest.sha256

    return load_config(home.root), put


def test_model_is_measured_in_a_worker_of_its_own_recorded_and_kept(site):
    config, put = site
    sha256 = put(7)

    async def measure():
        async with open_log(config) as log:
            with pytest.raises(ModelNotFound):
                await measure_capacity(config, log, ME, "other")
            with pytest.raises(PermissionDenied):
                await measure_capacity(config, log, ANA, "tiny")
            found = await measure_capacity(config, log, ME, "tiny")
            (kept,) = await show_capacity(config, log, AUDITOR)
            return found, kept, log.records(limit=4)

    found, kept, records = asyncio.run(measure())
    assert [row.answers for row in found.rows] == [1, 2, 3] and found.device.startswith(("CPU", "GPU"))
    slowest = min(row.tokens_per_s for row in found.rows)
    assert slowest > 0 and found.users(slowest) == 3
    assert (kept.model, kept.sha256, kept.capacity) == ("tiny", sha256, found)
    assert [view.event for view in records[:3]] == ["system.capacity", MEASURED, "doctor.examined"]
    assert kept.time == records[1].time


def test_figures_are_the_newest_of_the_file_as_it_is_now_and_of_no_other(site):
    config, put = site
    was, now = put(1), put(2)

    def record(sha256: str, **changed):
        about = {"model": "tiny", "sha256": sha256, **VECTOR, **changed}
        return new_event(MEASURED, ME.id, Outcome.COMPLETED, about)

    async def work():
        async with open_log(config) as log:
            await log.append(record(was))
            assert await show_capacity(config, log, ME) == (Measured("tiny", now),)
            await log.append(record(now))
            await log.append(record(now, tokens_per_s_at_2=6.0, tokens_per_s_at_16=5.0, of_a_later_release=True))
            await log.append(record(was))
            with pytest.raises(PermissionDenied):
                await show_capacity(config, log, ANA)
            return await show_capacity(config, log, ME)

    (shown,) = asyncio.run(work())
    assert shown.capacity == Capacity(
        "tiny", "CPU", 1048576, (CapacityRow(1, 21.5), CapacityRow(2, 6.0), CapacityRow(16, 5.0))
    )
    (body,) = capacity_list([shown]).data
    assert (body.capacity.users, body.capacity.speed, body.capacity.time) == (1, 8.0, shown.time)
    assert body.command == "appliance doctor --capacity tiny"
    assert capacity_list([Measured("tiny", now)]).data[0].capacity is None


def test_the_example_of_the_documentation_is_read_as_it_says(site):
    config, put = site
    sha256 = put(3)

    async def work():
        async with open_log(config) as log:
            about = {"model": "tiny", "sha256": sha256, **VECTOR}
            await log.append(new_event(MEASURED, ME.id, Outcome.COMPLETED, about))
            return await show_capacity(config, log, ME)

    ((shown),) = asyncio.run(work())
    assert shown.capacity == Capacity("tiny", "CPU", 1048576, (CapacityRow(1, 21.5), CapacityRow(2, 17.0)))


def test_a_gpu_pack_that_was_not_used_is_read_out_of_what_the_model_computed_on():
    refused = Capacity("m", f"{GPU_REFUSED}it is of another llama.cpp", 1, ())
    assert refused.gpu_refused == "it is of another llama.cpp"
    assert Capacity("m", "CPU: no GPU pack is installed, or it finds no GPU", 1, ()).gpu_refused is None
