"""Who may teach and train, what the log says of it, and what bounds hold: tables that wait, jobs at a time, a run of a
recipe that needs what is not installed, a process that is ended with whoever waits for it.

The log is in memory; the processes are real.
"""

import asyncio

import pytest

from appliance.config import Home, load_config
from appliance.errors import (
    DeadlineExceeded,
    ExtraMissing,
    InputTooLong,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    QueueFull,
    TrainingFailed,
)
from appliance.service import training
from appliance.service.training import RecipeRun, Teaching, TeachRequest, train_recipe
from appliance.types import Outcome, Principal
from tests.service.service_fakes import MemoryLog

UTE = Principal("user:4", "ute", "user", frozenset({"user"}))
AUDITOR = Principal("user:5", "aude", "user", frozenset({"auditor"}))
RECIPE = 'id = "bank-intent"\ntask = "classify"\n'


@pytest.fixture
def config(tmp_path, base_model):
    root = tmp_path / "home"
    Home(root).runtime.mkdir(parents=True)
    (root / "models").symlink_to(base_model)
    return load_config(root)


def limited(config, **values):
    return config.__class__(**{
        **{name: getattr(config, name) for name in config.__dataclass_fields__},
        "teaching": config.teaching.model_copy(update=values),
    })  # fmt: skip


def test_tables_are_bounded_and_ones_own_oldest_gives_way(config):
    teaching = Teaching(limited(config, tables_max=2))
    first = teaching.keep(b"1", "ana", "a")
    teaching.keep(b"2", "bob", "b")
    third = teaching.keep(b"3", "ana", "c")
    assert teaching.table(third, "ana").content == b"3"
    for name, person in ((first, "ana"), (third, "bob"), ("nothing", "ana")):
        with pytest.raises(NotFound):
            teaching.table(name, person)
    with pytest.raises(QueueFull) as full:
        teaching.keep(b"4", "eve", "d")
    assert full.value.retry_after_s and full.value.hint


def test_a_table_is_forgotten_when_its_time_is_over(config):
    teaching = Teaching(limited(config, table_keep_s=1e-9))
    name = teaching.keep(b"1", "ana", "a")
    with pytest.raises(NotFound):
        teaching.table(name, "ana")


def test_jobs_at_a_time_are_bounded_and_finished_ones_are_forgotten(config):
    teaching = Teaching(limited(config, jobs_max=1, jobs_kept_max=2))
    jobs = [training._Job(f"j{n}", "ana", "x", "1.0.0") for n in range(4)]
    teaching.admit(jobs[0])
    with pytest.raises(QueueFull):
        teaching.admit(jobs[1])
    jobs[0].state = "done"
    teaching.admit(jobs[1])
    jobs[1].state = "failed"
    teaching.admit(jobs[2])
    assert list(teaching.jobs) == ["j1", "j2"]


def test_a_table_beyond_the_bound_and_a_stranger_are_refused_and_recorded(config):
    log = MemoryLog()
    with pytest.raises(InputTooLong, match="takes 2048"):
        asyncio.run(training.examine(limited(config, table_bytes_max=2048), log, UTE, b"x" * 4000))
    assert [(event.event, event.outcome) for event in log.events] == [("teaching.table", Outcome.REFUSED)]
    with pytest.raises(PermissionDenied):
        asyncio.run(training.examine(config, log, AUDITOR, b"text,label\n"))


def test_a_process_that_takes_too_long_is_ended(config):
    short = limited(config, job_s=1e-6)
    with pytest.raises(DeadlineExceeded, match="longer than"):
        asyncio.run(training.run_child(short, "check", training._options(short, TeachRequest("", "a-b")), b"a,b\n"))


def test_cancelling_ends_the_process(config):
    async def work():
        options = training._options(config, TeachRequest("", "a-b"))
        running = asyncio.create_task(training.run_child(config, "check", options, b"a,b\n" * 100_000))
        await asyncio.sleep(0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(work())


def recipe_run(tmp_path, text=RECIPE):
    (tmp_path / "recipe.toml").write_text(text)
    return RecipeRun(tmp_path / "recipe.toml", tmp_path / "data", tmp_path / "base", tmp_path / "out")


def test_a_recipe_without_the_extra_says_how_to_get_it_and_is_recorded(tmp_path):
    log = MemoryLog()
    with pytest.raises(ExtraMissing) as missing:
        asyncio.run(train_recipe(log, UTE, recipe_run(tmp_path), lambda _: None, extra_installed=lambda: False))
    assert "cloister-appliance[training]" in missing.value.hint
    assert log.outcomes() == [Outcome.ACCEPTED, Outcome.FAILED]
    assert log.events[0].attributes["specialist"] == "bank-intent"


def test_a_run_that_stops_says_its_last_line(tmp_path):
    log, heard = MemoryLog(), []
    with pytest.raises(TrainingFailed, match="train_classifier stopped"):
        asyncio.run(train_recipe(log, UTE, recipe_run(tmp_path), heard.append, extra_installed=lambda: True))
    assert heard and log.outcomes() == [Outcome.ACCEPTED, Outcome.FAILED]


@pytest.mark.parametrize("text", ["not toml [", "id = 1\n", 'id = "x"\ntask = "dance"\n'])
def test_what_is_no_recipe_is_refused_before_anything_is_recorded(tmp_path, text):
    log = MemoryLog()
    with pytest.raises(InvalidRequest):
        asyncio.run(train_recipe(log, UTE, recipe_run(tmp_path, text), lambda _: None))
    assert log.events == []
