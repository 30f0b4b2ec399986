"""A sequencer that hangs, dies, or talks nonsense releases nothing: every append ends in time, with a refusal.

Some tests suspend the real process, others put an impostor on its socket. What waits is bounded, and afterwards a
real sequencer takes over and recording goes on.
"""

import asyncio
import os
import resource
import signal
import time
from contextlib import asynccontextmanager

import pytest
from audit_home import WAIT_S, an_event, config_of, opened, until

from appliance.audit import protocol
from appliance.audit.keystore import open_keystore
from appliance.audit.log import AuditLog, _start
from appliance.audit.protocol import Committed, Entry, Hello, Rejected
from appliance.audit.sockets import SOCKET_FILE, socket_address
from appliance.config import load_config
from appliance.errors import AuditUnavailable

APPEND_S = 0.25
SUBMITTED = 10_000
QUEUE = 256
FORGED = "clinic.example/audit\n5\nAAAA\n\n— clinic.example/audit AAAA\n"


def frame(message):
    return protocol.encode(message)


def entry_of(append, **changed):
    fields = {"ticket": append.ticket, "record_id": append.record.record_id, "seq": 4, "leaf": bytes(32), "proof": ()}
    fields["header"] = bytes(200)
    return Entry(**fields | changed)


ANSWERS = {
    "nothing": lambda append: b"",
    "an endless frame": lambda append: b"\xff\xff\xff\xff" + bytes(4096),
    "no message": lambda append: b"\x00\x00\x00\x03abc",
    "an empty frame": lambda append: bytes(4),
    "half a frame": lambda append: frame(Committed(5, FORGED, (entry_of(append),)))[:-5],
    "a hello": lambda append: frame(Hello("x", bytes(8), 0, 1)),
    "another ticket": lambda append: frame(Committed(5, FORGED, (entry_of(append, ticket=append.ticket + 1),))),
    "another record": lambda append: frame(Committed(5, FORGED, (entry_of(append, record_id=bytes(16)),))),
    "a refusal": lambda append: frame(Rejected(append.ticket, "no")),
}


@asynccontextmanager
async def impostor(home, root_key, answer):
    """Something on the sequencer's socket that greets like one."""
    start = _start(config_of(home), open_keystore(home, root_key))

    async def serve(reader, writer):
        writer.write(frame(Hello(start.origin, start.log_id, 4, os.getpid())))
        frames = protocol.FrameBuffer(start.frame_bytes_max)
        while received := await reader.read(65536):
            for body in frames.feed(received):
                writer.write(answer(protocol.decode_request(body)))
        writer.close()

    with socket_address(home.runtime / SOCKET_FILE) as address:
        server = await asyncio.start_unix_server(serve, path=address)
    try:
        yield
    finally:
        server.close()
        (home.runtime / SOCKET_FILE).unlink(missing_ok=True)


def test_an_append_waits_for_five_seconds_unless_it_is_configured_otherwise(home):
    assert load_config(home.root).audit.append_s == 5.0


def test_whoever_answers_nonsense_gets_nothing_released(home, root_key):
    async def run():
        async with opened(home) as log:
            await log.append(an_event())
        events = []
        for said, answer in ANSWERS.items():
            async with impostor(home, root_key, answer):
                log = await AuditLog.open(config_of(home, append_s=APPEND_S), root_key, spawn=False)
                events.append(an_event())
                began = time.monotonic()
                with pytest.raises(AuditUnavailable):
                    await log.append(events[-1])
                assert time.monotonic() - began < APPEND_S + WAIT_S, said
                await log.close()
        async with opened(home) as log:
            for event in events:
                assert await log.resolve(event.record_id) is None
            await log.append(events[0])

    asyncio.run(run())


def test_a_socket_that_hangs_up_in_the_middle_releases_nothing(home, root_key):
    async def run():
        async with opened(home, append_s=WAIT_S) as log:
            event = an_event()
            pid = log.client.hello.pid
            os.kill(pid, signal.SIGSTOP)
            waiting = asyncio.create_task(log.append(event))
            await until(lambda: log.client.in_flight == 1)
            os.kill(pid, signal.SIGKILL)
            with pytest.raises(AuditUnavailable):
                await waiting
            assert await log.resolve(event.record_id) is None
            assert (await log.append(event)).seq > 1

    asyncio.run(run())


def test_ten_thousand_appends_to_a_hung_sequencer_are_bounded_in_number_and_memory(home):
    async def run():
        async with opened(home) as log:
            await log.append(an_event(content=bytes(2000)))  # the keys of the month are made
        async with opened(home, queue_max=QUEUE) as log:
            # With the keys in memory all of them are submitted in one turn of the loop, none to the next sequencer.
            await log.append(an_event(content=bytes(2000)))
            log._settings = log._settings.model_copy(update={"append_s": 1.5})
            pid = log.client.hello.pid
            os.kill(pid, signal.SIGSTOP)
            before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            outcomes, most = [], 0

            async def one(number):
                nonlocal most
                try:
                    await log.append(an_event(number, content=bytes(2000)))
                except AuditUnavailable as refusal:
                    outcomes.append(refusal)
                most = max(most, log.client.in_flight)

            await asyncio.gather(*(one(number) for number in range(SUBMITTED)))
            assert len(outcomes) == SUBMITTED
            assert most <= QUEUE and log.client.in_flight == 0
            grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib
            assert grown_kib < 200 * 1024, f"{grown_kib} KiB more"
            await until(lambda: log.alive and log.client.hello.pid != pid)
        async with opened(home) as log:
            await log.append(an_event())

    asyncio.run(run())


def test_a_sequencer_reads_no_more_than_its_queue_holds(home, root_key):
    """The bound on the other side: what is not read stays in the socket, and the submitter waits there."""

    async def run():
        async with opened(home, queue_max=4, batch_max=1, append_s=WAIT_S) as log:
            results = await asyncio.gather(*(log.append(an_event(i)) for i in range(4)))
            assert sorted(receipt.seq for receipt in results) == [2, 3, 4, 5]
            with pytest.raises(AuditUnavailable, match="too many records"):
                await asyncio.gather(*(log.append(an_event(i)) for i in range(5)))

    asyncio.run(run())
