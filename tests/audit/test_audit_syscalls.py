"""The writer is killed, and the disk fails it, at every single system call of its appends, one run for each.

`strace` delivers SIGKILL, EIO or ENOSPC at the n-th call that touches a file of the log; n goes through all of them.
After every run the log opens again, every acknowledged record is where its receipt says, a batch is stored wholly or
not at all, and `auditverify` says 0 against the checkpoint that was acknowledged last.

The ordinary run takes a sample spread over all calls; `make test-long` takes every one.
"""

import shutil

import pytest

from appliance.config import Home
from tests.audit.faults import tracing
from tests.audit.faults.bench import Bench
from tests.audit.faults.look import whole_batches
from tests.audit.faults.memory import memory_folder
from tests.audit.faults.tracing import NAMES, READS, TALK, WRITES, evenly, inject, occurrences_of, traced_calls
from tests.audit.faults.zygote import Zygote

BATCHES, BATCH = 4, 3
WAL_PAGES = 12  # the write-ahead log is folded in after so many pages: a short run does it several times
SAMPLE = 12
RECORDS = 4  # that the submitter sends to a sequencer
KILLED = -9


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
    bench = Bench.of(home, root_key, zygote, folder)
    bench.fill(300)  # more than a tile
    return bench


def appends(bench):
    return bench.experiment("append_batches", BATCHES, BATCH, 0, WAL_PAGES)


def occurrences(bench, experiment, kinds):
    """Every call of these kinds in an undisturbed run, in their order by kind."""
    calls = traced_calls(bench.zygote, experiment, kinds)
    bench.reset()
    found = occurrences_of(calls, kinds)
    assert len(found) > SAMPLE, "strace sees no system calls of the log"
    return found


def kill_at(bench, experiment, chosen):
    for name, n in chosen:
        run = inject(bench.zygote, experiment, f"{name}:signal=KILL", n)
        assert run.status == KILLED, f"{name} {n} ended with {run.status}"
        found = bench.look(run)
        if experiment.conversation is None:
            whole_batches(found, BATCH, BATCHES)
        bench.reset()
    print(f"killed at {len(chosen)} system calls of {experiment.function}")


def fail_at(bench, experiment, chosen, error):
    survived = 0
    for name, n in chosen:
        run = inject(bench.zygote, experiment, f"{name}:error={error}", n)
        found = bench.look(run)
        wanted = RECORDS if experiment.conversation else BATCH * BATCHES
        if experiment.conversation is None:
            stored = whole_batches(found, BATCH, BATCHES)
            # The first batch that was not acknowledged may be there; none behind it was even tried.
            assert sum(stored) - len(run.places) // BATCH in (0, 1) and stored == sorted(stored, reverse=True)
        if run.status == 0:
            survived += 1
            assert len(run.places) == wanted
            assert tracing.was_harmless(run.trace), f"{name} {n}: the writer went on after\n{run.trace}"
        else:
            assert run.status > 0, f"{name} {n} ended with {run.status}"
        bench.reset()
    print(
        f"{error} at {len(chosen)} system calls of {experiment.function}, {survived} of them while folding in the log"
    )


def test_writer_killed_at_a_system_call_loses_nothing_sample(bench):
    kill_at(bench, appends(bench), evenly(occurrences(bench, appends(bench), WRITES + NAMES + READS), SAMPLE))


@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
def test_writer_whose_disk_fails_ends_and_acknowledges_nothing_more_sample(bench, error):
    fail_at(bench, appends(bench), evenly(occurrences(bench, appends(bench), WRITES), SAMPLE), error)


def test_sequencer_killed_at_a_system_call_loses_nothing_sample(bench):
    talk = bench.conversation(RECORDS)
    kill_at(bench, talk, evenly(occurrences(bench, talk, WRITES + NAMES), SAMPLE))


def test_sequencer_whose_disk_fails_ends_and_acknowledges_nothing_more_sample(bench):
    talk = bench.conversation(RECORDS)
    fail_at(bench, talk, evenly(occurrences(bench, talk, WRITES), SAMPLE), "EIO")


@pytest.mark.long
@pytest.mark.timeout(900)
def test_writer_killed_at_every_system_call_loses_nothing(bench):
    kill_at(bench, appends(bench), occurrences(bench, appends(bench), WRITES + NAMES + READS))


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
def test_writer_whose_disk_fails_at_any_call_ends_and_acknowledges_nothing_more(bench, error):
    fail_at(bench, appends(bench), occurrences(bench, appends(bench), WRITES), error)


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kinds", [WRITES + NAMES, TALK], ids=["files", "sockets"])
def test_sequencer_killed_at_every_system_call_loses_nothing(bench, kinds):
    talk = bench.conversation(RECORDS)
    kill_at(bench, talk, occurrences(bench, talk, kinds))


@pytest.mark.long
@pytest.mark.timeout(900)
def test_sequencer_whose_disk_fails_at_any_call_ends_and_acknowledges_nothing_more(bench):
    talk = bench.conversation(RECORDS)
    fail_at(bench, talk, occurrences(bench, talk, WRITES), "EIO")
