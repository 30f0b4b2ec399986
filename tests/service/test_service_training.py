"""Who may teach, what the log says of it, and what bounds hold: tables that wait, jobs at a time, a process that is
ended with whoever waits for it.

The log is in memory; the processes are real.
"""

import asyncio
from functools import partial

import pytest

import migrations
from appliance.config import Home, load_config
from appliance.errors import (
    Conflict,
    DeadlineExceeded,
    ExtraMissing,
    InputTooLong,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    QueueFull,
)
from appliance.service import recipes, training
from appliance.service.training import Teaching, TeachRequest
from appliance.specialists.registry import Registry
from appliance.storage.database import open_database
from appliance.types import Outcome, Principal
from tests.service.service_fakes import MemoryLog
from tests.specialist_files import REAL_BASE, write_classifier, write_sentence_classifier, write_tagger

UTE = Principal("user:4", "ute", "user", frozenset({"user"}))
AUDITOR = Principal("user:5", "aude", "user", frozenset({"auditor"}))


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


def test_a_table_is_not_taught_with_adapters_where_pytorch_is_missing(config, monkeypatch):
    monkeypatch.setattr(recipes, "extra_installed", lambda: False)
    log, wanted = MemoryLog(), TeachRequest("", "a-b", lora=True)
    with pytest.raises(ExtraMissing) as missing:
        asyncio.run(training.examine(config, log, UTE, b"text,label\n", wanted))
    assert "pip install" in missing.value.hint
    assert [(event.event, event.outcome) for event in log.events] == [("teaching.table", Outcome.REFUSED)]
    with pytest.raises(ExtraMissing):
        asyncio.run(training.start(Teaching(config), None, log, UTE, wanted))


@pytest.mark.parametrize("name", ["auto", "none", "x", "a\n", "complaint-router\n", "Complaints"])
def test_what_cannot_be_an_id_is_refused_before_anything_is_learned(config, name):
    log, wanted = MemoryLog(), TeachRequest("", name)
    with pytest.raises(InvalidRequest) as refused:
        asyncio.run(training.teach_recorded(config, log, UTE, b"", wanted, "1.0.0", lambda _done, _step: None, {}))
    assert refused.value.hint and log.events == []


def test_a_job_whose_folder_cannot_be_made_fails_instead_of_running_for_ever(config):
    class NoVersions:
        def versions(self, _specialist):
            return ()

    async def work():
        config.home.runtime.rmdir()
        async with training.open_teaching(config) as teaching:
            table = teaching.keep(b"text,label\n", "account:ute", "0" * 64)
            view = await training.start(teaching, NoVersions(), MemoryLog(), UTE, TeachRequest(table, "a-router"))
            job = teaching.jobs[view["job"]]
            await asyncio.gather(job.task, return_exceptions=True)
            return job.view()

    view = asyncio.run(work())
    assert (view["state"], view["step"]) == ("failed", "failed") and "cannot write" in view["error"]["message"]


def test_an_id_that_does_something_else_than_label_texts_is_not_taught_over(config, tmp_path):
    config.home.specialists.mkdir()
    migrations.upgrade(config.home.root)
    database = open_database(config.home.database, mode="rw")
    registry = Registry(database, config.home)
    writers = {
        "names": write_tagger,
        "parts": write_sentence_classifier,
        "denied": partial(write_classifier, context="required", context_name="concept"),
        "tickets": write_classifier,
    }
    for name, write in writers.items():
        file = write(tmp_path / f"{name}.gguf", base=REAL_BASE)
        registry.install(file, trust="administrator")
    for name in ("names", "parts", "denied"):
        with pytest.raises(Conflict, match=name):
            training.next_version(registry, name)
    assert training.next_version(registry, "tickets") == "0.2.0"
    assert training.next_version(registry, "never-seen") == "1.0.0"
    database.dispose()
