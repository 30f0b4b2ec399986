"""The sequencer is the only writer, its receipts prove what they say, and it outlives no one and replaces no one.

Every test runs the real process over real sockets on a data folder of its own. Proofs are checked with the functions
of RFC 6962, signatures with the public key, so that a receipt is believed for its bytes and not for its sender.
"""

import asyncio
import gc
import os
import select
import signal
import socket
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from audit_home import WAIT_S, an_event, config_of, opened, until

from appliance.audit import protocol, store
from appliance.audit.checkpoint import parse_checkpoint
from appliance.audit.client import SequencerClient
from appliance.audit.clock import ClockReading, CommitClock, read_clock
from appliance.audit.header import RecordHeader
from appliance.audit.keystore import open_keystore
from appliance.audit.log import AuditLog, _start
from appliance.audit.sockets import LOCK_FILE, SOCKET_FILE, socket_address
from appliance.audit.writer import LogWriter
from appliance.config import child_environment
from appliance.crypto.merkle import root_from_inclusion
from appliance.crypto.note import verify_note
from appliance.errors import AuditUnavailable, HomeInUse, InputTooLong
from appliance.storage.database import open_database, reading


def assert_proves(log, receipt):
    """The receipt's proof leads to the root that its checkpoint signs."""
    keystore = log._keystore
    text = verify_note(receipt.checkpoint, keystore.origin, keystore.public_key)
    signed = parse_checkpoint(text)
    assert (signed.origin, signed.size) == (keystore.origin, receipt.size)
    assert root_from_inclusion(receipt.seq, receipt.size, receipt.leaf, receipt.proof) == signed.root


def rows_of(home, limit=10_000):
    engine = open_database(home.audit_database, mode="ro", connections=1)
    try:
        with reading(engine) as connection:
            return store.read_records(connection, 0, limit, content=True), store.read_head(connection)
    finally:
        engine.dispose()


def test_a_receipt_proves_its_record_and_the_record_opens_again(home):
    async def run():
        async with opened(home) as log:
            event = an_event(1, content=b"Mr Smith, 54")
            receipt = await log.append(event)
            assert_proves(log, receipt)
            view = log.record(event.record_id)
            assert (view.seq, view.actor, view.event, view.outcome) == (receipt.seq, "user:7", "deidentify", "accepted")
            assert view.attributes == {"number": 1} and view.has_content and view.readable
            assert log.content(event.record_id) == b"Mr Smith, 54"

    asyncio.run(run())


def test_a_new_log_begins_with_its_genesis_and_every_run_with_a_start(home):
    async def run():
        for _ in range(2):
            async with opened(home) as log:
                shown = [view.event for view in reversed(log.records())]
        return shown

    assert asyncio.run(run()) == ["genesis", "start", "stop", "start"]


def test_receipts_of_older_records_are_made_anew_under_the_newest_checkpoint(home):
    async def run():
        async with opened(home) as log:
            events = [an_event(i) for i in range(300)]  # more than a tile
            await asyncio.gather(*(log.append(event) for event in events))
            for event in (events[0], events[150], events[299]):
                receipt = log.receipt(event.record_id)
                assert receipt.size == 302
                assert_proves(log, receipt)
            assert log.records(limit=1)[0].seq == 301

    asyncio.run(run())


def test_the_same_record_id_is_recorded_once_and_answered_twice(home):
    async def run():
        async with opened(home) as log:
            event = an_event()
            first = await log.append(event)
            together = await asyncio.gather(log.append(event), log.append(event), log.append(an_event()))
            again = await log.append(event)
            assert {first.seq} == {together[0].seq, together[1].seq, again.seq}
            assert first.leaf == again.leaf
            for receipt in (first, *together, again):
                assert_proves(log, receipt)
            assert again.size == 4

    asyncio.run(run())


def test_concurrent_appends_share_commits(home):
    async def run():
        async with opened(home) as log:
            receipts = await asyncio.gather(*(log.append(an_event(i)) for i in range(64)))
            for receipt in receipts:
                assert_proves(log, receipt)
            return receipts

    receipts = asyncio.run(run())
    assert sorted(receipt.seq for receipt in receipts) == list(range(2, 66))
    assert len({receipt.size for receipt in receipts}) <= 8


def test_commit_times_never_decrease_and_sequence_numbers_have_no_gap(home):
    async def run():
        async with opened(home) as log:
            await asyncio.gather(*(log.append(an_event(i)) for i in range(40)))

    asyncio.run(run())
    rows, head = rows_of(home)
    headers = [RecordHeader.decode(row.header) for row in rows]
    assert [header.seq for header in headers] == list(range(head.size)) == [row.seq for row in rows]
    times = [header.t_commit_ms for header in headers]
    assert times == sorted(times)


def test_a_second_process_submits_through_the_first_and_takes_over_when_it_ends(home):
    async def run():
        async with opened(home) as first, opened(home) as second:
            assert first.client.runs_sequencer and not second.client.runs_sequencer
            assert_proves(second, await second.append(an_event(1)))
            await first.close()
            await until(lambda: second.client.runs_sequencer)
            receipt = await second.append(an_event(2))
            assert_proves(second, receipt)
            return receipt.seq

    # genesis, start, record, stop, start, record
    assert asyncio.run(run()) == 5


def test_a_second_sequencer_refuses_to_start(home, root_key):
    async def run():
        async with opened(home):
            start = _start(config_of(home), open_keystore(home, root_key))
            assert spawn_and_read(start) == protocol.Refused(
                HomeInUse.code, "another process runs the sequencer of this log", "submit through its socket"
            )

    asyncio.run(run())


def spawn_and_read(start):
    """Start a sequencer by hand and return its first answer and leave nothing behind."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        arguments = [sys.executable, "-m", "appliance.audit.sequencer", str(theirs.fileno()), str(os.getpid())]
        process = subprocess.Popen(
            arguments, pass_fds=(theirs.fileno(),), env=child_environment(), stderr=subprocess.DEVNULL
        )
        theirs.close()
        ours.settimeout(WAIT_S)
        ours.sendall(protocol.encode(start))
        frames = protocol.FrameBuffer(start.frame_bytes_max)
        for body in frames.feed(ours.recv(65536)):
            answer = protocol.decode_answer(body)
    process.wait(WAIT_S)
    return answer


def test_without_permission_to_start_one_a_missing_sequencer_is_an_error(home, root_key):
    with pytest.raises(AuditUnavailable, match="no audit sequencer is running"):
        asyncio.run(AuditLog.open(config_of(home), root_key, spawn=False))
    assert not (home.runtime / LOCK_FILE).exists()


@pytest.mark.parametrize("held_up", ["sock_connect", "create_subprocess_exec"])
def test_a_log_that_is_closed_while_it_connects_again_leaves_nothing_open(home, monkeypatch, held_up):
    async def run():
        async with opened(home) as log:
            reached = asyncio.Event()

            async def hold_up(*_, **__):
                reached.set()
                await asyncio.Event().wait()

            place = asyncio if held_up == "create_subprocess_exec" else asyncio.get_running_loop()
            monkeypatch.setattr(place, held_up, hold_up)
            os.kill(log.client.hello.pid, signal.SIGKILL)
            await reached.wait()

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        asyncio.run(run())
        gc.collect()
    assert [str(each.message) for each in said if each.category is ResourceWarning] == []


def test_the_sequencer_ends_with_its_parent_and_says_so_in_the_log(home):
    program = (
        "import asyncio, sys\nfrom audit_home import *\nfrom appliance.config import Home\nfrom pathlib import Path\n"
        "async def run():\n"
        "    async with opened(Home(Path(sys.argv[1]))) as log:\n"
        "        print(log.client.hello.pid, flush=True)\n        sys.stdin.read()\n"
        "asyncio.run(run())\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program, str(home.root)],
        cwd=Path(__file__).parent,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with parent:
        pid = int(parent.stdout.readline())
        watched = os.pidfd_open(pid)
        parent.kill()
    try:
        assert select.select([watched], [], [], WAIT_S)[0], "the sequencer outlived its parent"
    finally:
        os.close(watched)


def test_submitters_that_break_the_protocol_are_disconnected_and_harm_nobody(home):
    async def run():
        async with opened(home) as log:
            for garbage in (b"\xff\xff\xff\xff", b"\x00\x00\x00\x03abc", b"\x00\x00\x00\x00"):
                with socket.socket(socket.AF_UNIX) as peer, socket_address(home.runtime / SOCKET_FILE) as address:
                    peer.settimeout(WAIT_S)
                    peer.connect(address)
                    peer.sendall(garbage)
                    hello = peer.recv(65536)
                    assert hello and peer.recv(65536) == b""
            assert_proves(log, await log.append(an_event()))

    asyncio.run(run())


def test_a_malformed_record_is_rejected_and_not_recorded(home, root_key):
    async def run():
        async with opened(home) as log:
            client = SequencerClient(config_of(home).audit, _start(config_of(home), log._keystore), spawn=False)
            await client.open()
            record = protocol.SealedRecord(bytes(15), 1, 1, bytes(16), bytes(16), bytes(24), bytes(24), b"ct", None)
            with pytest.raises(AuditUnavailable, match="wrong length"):
                await client.append(record)
            await client.close()
            assert_proves(log, await log.append(an_event()))

    asyncio.run(run())
    assert len(rows_of(home)[0]) == 4


def test_content_beyond_the_limit_is_refused_before_anything_is_sent(home):
    async def run():
        async with opened(home, record_bytes_max=4096) as log:
            with pytest.raises(InputTooLong, match="4097 bytes"):
                await log.append(an_event(content=bytes(4097)))
            assert_proves(log, await log.append(an_event(content=bytes(4096))))

    asyncio.run(run())


def test_the_process_writes_no_core_cannot_be_read_and_knows_no_decryption_key(home, root_key):
    async def run():
        async with opened(home) as log:
            process = Path(f"/proc/{log.client.hello.pid}")
            assert "Max core file size 0 0 bytes" in " ".join((process / "limits").read_text().split())
            assert (home.runtime / SOCKET_FILE).stat().st_mode & 0o777 == 0o600
            assert root_key.hex() not in (process / "cmdline").read_bytes().hex()
            start = _start(config_of(home), log._keystore)
            await log.append(an_event(content=b"text"))
            for key in log._keystore._by_id.values():
                assert key not in protocol.encode(start)
            assert start.seed not in repr(start).encode()

    asyncio.run(run())


def test_an_idle_log_beats(home):
    async def run():
        async with opened(home, heartbeat_s=0.05) as log:
            await until(lambda: any(view.event == "heartbeat" for view in log.records()))

    asyncio.run(run())


# --- time: a parameter of the writer --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "now", "jump_ms"),
    [
        (ClockReading(10_000, 500), ClockReading(11_000, 1500), None),
        (ClockReading(10_000, 500), ClockReading(12_500, 1500), None),  # within the tolerance
        (ClockReading(10_000, 500), ClockReading(86_410_000, 1500), 86_399_000),
        (ClockReading(10_000_000, 500), ClockReading(6_400_000, 600), -3_600_100),
    ],
)
def test_a_clock_that_moves_by_itself_is_noticed(before, now, jump_ms):
    clock, _, _ = CommitClock(0).advance(before)
    clock, commit_ms, noticed = clock.advance(now)
    assert noticed == jump_ms
    assert commit_ms == max(before.wall_ms, now.wall_ms) == clock.last_commit_ms


def test_time_switched_off_is_no_anomaly_but_a_step_back_over_a_restart_is():
    assert CommitClock(1000).advance(ClockReading(90_000_000, 1))[2] is None
    assert CommitClock(90_000_000).advance(ClockReading(1000, 1)) == (
        CommitClock(90_000_000, ClockReading(1000, 1)), 90_000_000, -89_999_000,
    )  # fmt: skip


def test_a_clock_set_back_leaves_an_anomaly_in_the_log_and_commit_times_in_order(home, root_key):
    start = _start(config_of(home), open_keystore(home, root_key))
    tomorrow = LogWriter.open(start, clock=lambda: ClockReading(read_clock().wall_ms + 86_400_000, 1))
    tomorrow.append_heartbeat()
    tomorrow.close()

    async def run():
        async with opened(home) as log:
            await log.append(an_event())
            return [view.event for view in reversed(log.records())]

    assert asyncio.run(run()) == ["genesis", "heartbeat", "clock.anomaly", "start", "deidentify"]
    times = [RecordHeader.decode(row.header).t_commit_ms for row in rows_of(home)[0]]
    assert times == sorted(times)
