"""One writer, one process: who forks, who copies a machine, and who starts a second writer is stopped.

No nonce is ever drawn twice, in whichever process; a child cannot use what its parent opened; of two writers of one
database the second fails before it signs; two machines made from one copy betray themselves as soon as both sign.
"""

import asyncio
import os
import shutil

import numpy as np
import pytest

from appliance.audit.clock import read_clock
from appliance.audit.log import AuditLog
from appliance.audit.root_key import read_root_key
from appliance.audit.writer import LogWriter
from appliance.config import Home
from appliance.errors import AuditLogInvalid, AuditUnavailable, HomeInUse
from tests.audit.audit_home import an_event, config_of, opened
from tests.audit.faults.bench import Bench
from tests.audit.faults.driver import sealed
from tests.audit.faults.look import found_in, signer_note, verdict
from tests.audit.faults.zygote import Zygote

FORKED = 12
PROCESSES = 8


@pytest.fixture(scope="module")
def zygote():
    with Zygote() as zygote:
        yield zygote


@pytest.fixture
def bench(home, root_key, zygote, tmp_path):
    return Bench.of(home, root_key, zygote, tmp_path)


# --- fork -------------------------------------------------------------------------------------------------------------


def test_child_of_a_writer_cannot_write_and_its_parent_goes_on(bench):
    with (bench.folder / "said").open("w+b", buffering=0) as said:
        child = bench.zygote.fork("write_then_fork", bench.start, descriptors=(said.fileno(),))
        child.go()
        assert child.wait() == 0
        said.seek(0)
        assert said.read() == b"child HomeInUse\nparent 2\n"
    assert len(found_in(bench.start).places) == 5  # genesis, two of the parent, stop, probe


def in_child(work):
    """What a forked child raised while it ran `work`, by the name of its class; "" if nothing."""
    reads, writes = os.pipe()
    pid = os.fork()
    if pid == 0:
        name = "not even an Exception"
        try:
            work()
            name = ""
        except Exception as error:  # noqa: BLE001  its name is what is tested
            name = type(error).__name__
        finally:
            os.write(writes, name.encode() + b"\n")
            os._exit(0)
    os.close(writes)
    with os.fdopen(reads, "rb") as answer:
        said = answer.readline()
    os.waitpid(pid, 0)
    return said.decode().strip()


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
def test_child_cannot_use_the_log_of_its_parent(home):
    async def run():
        async with opened(home) as log:
            event = an_event(1, content=b"text")
            await log.append(event)
            raised = {
                "records": in_child(lambda: log.records()),
                "content": in_child(lambda: log.content(event.record_id)),
                "append": in_child(lambda: asyncio.run(log.append(an_event(2)))),
            }
            receipt = await log.append(an_event(3))
            return raised, receipt.seq, log.client.restarts

    raised, seq, restarts = asyncio.run(run())
    foreign = HomeInUse.__name__
    assert raised == {"records": foreign, "content": foreign, "append": AuditUnavailable.__name__}
    assert (seq, restarts) == (3, 0)


# --- nonces -----------------------------------------------------------------------------------------------------------


def no_nonce_repeats(bench, records):
    """`PROCESSES` forks of one process that had opened the keystore seal so many records together."""
    each = records // PROCESSES
    assert PROCESSES * each == records
    child = bench.zygote.fork("draw_nonces", str(bench.home.root), str(bench.folder), each, PROCESSES)
    child.go()
    assert child.wait() == 0
    drawn = [np.fromfile(bench.folder / f"nonces-{number}", "<u8").reshape(-1, 3) for number in range(PROCESSES)]
    assert {len(nonces) for nonces in drawn} == {2 * each}
    # Equal nonces have equal first thirds; that those of different nonces are equal happens once in a million runs.
    beginnings = np.concatenate([nonces[:, 0] for nonces in drawn])
    assert len(np.unique(beginnings)) == 2 * records
    print(f"{2 * records} nonces of {PROCESSES} processes, none twice")


def test_no_nonce_is_drawn_twice_after_a_fork_sample(bench):
    no_nonce_repeats(bench, 10_000)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_no_nonce_of_a_million_encryptions_by_each_of_eight_processes_is_drawn_twice(bench, monkeypatch):
    monkeypatch.setattr("tests.audit.faults.zygote.WAIT_S", 3500.0)
    bench.zygote._socket.settimeout(3500.0)
    no_nonce_repeats(bench, PROCESSES * 500_000)  # envelope and content of each record


# --- a second writer --------------------------------------------------------------------------------------------------


def test_second_writer_of_one_database_fails_before_it_signs(bench):
    """The lock keeps sequencers apart; a database that is written behind its back is noticed all the same."""
    first = LogWriter.open(bench.start, clock=read_clock)
    second = LogWriter.open(bench.start, clock=read_clock)
    first.commit([sealed(1)])
    signed = signer_note(bench.start)
    with pytest.raises(Exception, match=r"another program wrote|UNIQUE constraint"):
        second.commit([sealed(2)])
    assert signer_note(bench.start) == signed
    found = found_in(bench.start)
    assert sealed(1).record_id in found.places and sealed(2).record_id not in found.places
    assert verdict(bench.start, signed, bench.folder) == 0


def test_two_processes_that_start_at_once_share_one_sequencer(home):
    async def run():
        logs = await asyncio.gather(
            *(AuditLog.open(config_of(home), read_root_key(home.root_key_file)) for _ in range(3))
        )
        assert sum(log.client.runs_sequencer for log in logs) == 1
        receipts = await asyncio.gather(*(log.append(an_event(i)) for i, log in enumerate(logs * 5)))
        for log in logs:
            await log.close()
        return receipts

    receipts = asyncio.run(run())
    assert sorted(receipt.seq for receipt in receipts) == list(range(2, 17))
    notes = {}
    for receipt in receipts:
        assert notes.setdefault(receipt.size, receipt.checkpoint) == receipt.checkpoint  # one note for each size


# --- twins ------------------------------------------------------------------------------------------------------------


def test_twins_of_one_machine_contradict_each_other_as_soon_as_both_sign(bench, root_key, tmp_path):
    append(bench.start, 1)
    shutil.copytree(bench.home.root, tmp_path / "twin")
    twin = Bench.of(Home(tmp_path / "twin"), root_key, bench.zygote, tmp_path / "twin")
    append(bench.start, 2)
    append(twin.start, 3)
    assert (verdict(bench.start, None, tmp_path), verdict(twin.start, None, tmp_path)) == (0, 0)
    assert verdict(twin.start, signer_note(bench.start), tmp_path) == FORKED
    shutil.copy(bench.start.signer_state, twin.start.signer_state)
    with pytest.raises(AuditLogInvalid, match="not those that were signed"):
        LogWriter.open(twin.start, clock=read_clock)


def append(start, number):
    writer = LogWriter.open(start, clock=read_clock)
    writer.commit([sealed(number)])
    writer.close()
