"""The power goes at any moment of a run: no acknowledged record is lost, and the log opens and verifies.

A run of the real writer is recorded with all its data under `strace`. For each seed a moment is drawn, what was synced
by then is kept, and of everything else each sector and each name is kept or dropped at random (`faults/power.py`).
The real writer opens what is left. The same with `synchronous=NORMAL`, which no configuration can set, must lose
records: else this test would see nothing. Seeds are printed; `make test-long` takes a thousand.
"""

import random
import shutil

import pytest

from appliance.config import Home
from tests.audit.faults.bench import Bench
from tests.audit.faults.look import found_in, verdict, whole_batches
from tests.audit.faults.memory import memory_folder
from tests.audit.faults.power import KINDS, UNKNOWN, Disk, parse
from tests.audit.faults.tracing import read_acknowledgements, record
from tests.audit.faults.zygote import Zygote

FIRST_SEED = random.SystemRandom().randrange(2**32)
BATCHES, BATCH = 60, 3
WAL_PAGES = 60


@pytest.fixture(scope="module")
def zygote():
    with Zygote() as zygote:
        yield zygote


@pytest.fixture
def folder():
    with memory_folder() as folder:
        yield folder


@pytest.fixture
def home(_first_home, folder):
    return Home(shutil.copytree(_first_home, folder / "home"))


@pytest.fixture
def bench(home, root_key, zygote, folder):
    return Bench.of(home, root_key, zygote, folder)


def recorded(bench, synchronous=None):
    """The folder before a run, and what the run did."""
    before = {path.name: path.read_bytes() for path in bench.audit.iterdir() if not path.name.endswith("-shm")}
    experiment = bench.experiment("append_batches", BATCHES, BATCH, 0, WAL_PAGES, synchronous)
    run = record(bench.zygote, experiment, (*KINDS, *UNKNOWN))
    assert run.status == 0
    bench.reset()
    operations = parse(run.trace, bench.audit)
    kinds = [operation.kind for operation in operations]
    assert kinds.count("acknowledge") == BATCHES and kinds.count("sync") > 5, "the run was not recorded"
    return before, operations


def cut(bench, before, operations, seeds):
    """For each seed one power cut. Yields the seed, its moment, what was acknowledged and what is found."""
    moments = sorted((random.Random(seed).randrange(1, len(operations) + 1), seed) for seed in seeds)
    disk, done, said = Disk(before), 0, b""
    for moment, seed in moments:
        for operation in operations[done:moment]:
            disk.apply(operation)
            said += operation.data if operation.kind == "acknowledge" else b""
        done = moment
        for path in bench.audit.iterdir():
            path.unlink()
        for name, content in disk.after_power_cut(random.Random(seed)).items():
            (bench.audit / name).write_bytes(content)
        places, note = read_acknowledgements(said)
        yield seed, places, note, found_in(bench.start)


def seeds(count):
    print(f"seeds {FIRST_SEED} to {FIRST_SEED + count - 1}")
    return range(FIRST_SEED, FIRST_SEED + count)


def nothing_is_lost(bench, count):
    before, operations = recorded(bench)
    for seed, places, note, found in cut(bench, before, operations, seeds(count)):
        assert found.refused is None, f"seed {seed}: {found.refused}"
        assert found.lost(places) == [], f"seed {seed}"
        whole_batches(found, BATCH, BATCHES)
        assert verdict(bench.start, note, bench.folder) == 0, f"seed {seed}"


def loses(bench, count):
    """How many of the seeds lose acknowledged records when the writer does not wait for the disk."""
    before, operations = recorded(bench, "NORMAL")
    harmed = 0
    for _, places, _, found in cut(bench, before, operations, seeds(count)):
        harmed += found.refused is not None or bool(found.lost(places))
    print(f"synchronous=NORMAL: {harmed} of {count} power cuts lose acknowledged records")
    return harmed


def test_power_cut_loses_nothing_sample(bench):
    bench.fill(300)
    nothing_is_lost(bench, 40)


def test_power_cut_while_a_log_is_begun_loses_nothing_sample(bench):
    nothing_is_lost(bench, 20)


def test_writer_that_does_not_wait_for_the_disk_loses_records_and_it_shows(bench):
    bench.fill(300)
    assert loses(bench, 20) > 0


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("filled", [0, 300, 4000])
def test_power_cut_loses_nothing_in_a_thousand_seeds(bench, filled):
    if filled:
        bench.fill(filled)
    nothing_is_lost(bench, 1000)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_share_of_power_cuts_that_lose_records_without_waiting_for_the_disk(bench):
    bench.fill(300)
    assert loses(bench, 300) > 100
