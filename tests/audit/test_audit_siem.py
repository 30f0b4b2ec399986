"""Every record reaches the SIEM, in order, whatever the SIEM does; what is sent again is the same bytes of the log.

The SIEM is a real TLS server on loopback; the log is a fake with the four methods that the stream uses. `Position` is
tested as the pure thing that it is.
"""

import asyncio
import base64
import re
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from audit_home import an_event, opened
from audit_records import ORIGIN, TIME_MS, header_of, view_of
from hypothesis import given
from hypothesis import strategies as st
from siem_server import WAIT_S, Siem, closed_port, make_certificate, running_siem, until

from appliance.audit.formats.syslog import Sender
from appliance.audit.siem import RESEND_BATCHES, RESEND_S, Pacing, Position, SiemStream
from appliance.config import SiemConfig
from appliance.crypto.merkle import leaf_hash
from appliance.errors import AuditUnavailable, ConfigInvalid

FAST = Pacing(backoff_s=0.01, backoff_max_s=0.02, survive_s=0.02, settle_s=0.0)


@dataclass(frozen=True)
class FakeCursor:
    next_seq: int
    anchored_size: int
    anchored_ms: int


class FakeLog:
    """A log in memory that grows by `grow`."""

    def __init__(self, size):
        self.headers = []
        self.stored = {}
        self.moves = []
        self.unavailable = False
        self.largest_page = 0
        self.text = {}
        self.grow(size)

    def grow(self, count):
        begin = len(self.headers)
        self.headers += [header_of(seq, time_ms=TIME_MS + seq) for seq in range(begin, begin + count)]

    def read_page(self, first_seq, limit):
        self.largest_page = max(self.largest_page, limit)
        return [(header.encode(), view_of(header, **self.text)) for header in self.headers[first_seq:][:limit]]

    def checkpoint(self):
        return f"{ORIGIN}\n{len(self.headers)}\n{'A' * 43}=\n\n— {ORIGIN} c2ln\n"

    def cursors(self):
        return self.stored

    async def move_cursor(self, sink, next_seq, anchored_size, anchored_ms):
        if self.unavailable:
            raise AuditUnavailable("the sequencer is away")
        self.moves.append(next_seq)
        self.stored[sink] = FakeCursor(next_seq, anchored_size, anchored_ms)

    def leaves(self):
        return [leaf_hash(header.encode()).hex() for header in self.headers]


@dataclass(frozen=True)
class Pki:
    authority: object
    server: object
    client: object
    folder: object


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pki")
    authority = make_certificate(folder, "authority")
    server = make_certificate(folder, "server", issuer=authority, hosts=("localhost", "127.0.0.1"))
    return Pki(authority, server, make_certificate(folder, "client", issuer=authority), folder)


def settings_of(pki, port, **changes):
    known = {"host": "127.0.0.1", "port": port, "ca_certificate": pki.authority.certificate, "batch_max": 10}
    return SiemConfig(**(known | {"every_s": 0.01, "timeout_s": WAIT_S} | changes))


@asynccontextmanager
async def streaming(log, settings, pacing=FAST):
    stream = SiemStream(log, settings, Sender(host="box", enterprise=32473), pacing)
    task = asyncio.create_task(stream.run())
    try:
        yield stream
        assert not task.done(), task.exception()
    finally:
        task.cancel()
        await asyncio.wait({task})


def leaves_of(messages):
    found = [re.search(rb' leaf="([0-9a-f]{64})"', message) for message in messages]
    return [match[1].decode() for match in found if match]


def without_duplicates(leaves):
    return list(dict.fromkeys(leaves))


def complete(siem, log):
    return set(log.leaves()) <= set(leaves_of(siem.messages))


def test_records_arrive_in_order_with_checkpoints_and_the_cursor_follows(pki):
    async def run():
        log = FakeLog(25)
        async with running_siem(pki.server) as siem, streaming(log, settings_of(pki, siem.port)) as stream:
            # The cursor follows what TCP acknowledged, which the other side may not have read yet.
            await until(lambda: len(log.moves) >= 3 and complete(siem, log))
            assert leaves_of(siem.messages) == log.leaves()
            log.grow(3)
            await until(lambda: complete(siem, log) and log.stored[stream.sink].anchored_size == 28)
            assert leaves_of(siem.messages) == log.leaves()
            assert (stream.sink, stream.problem, siem.connections) == ("siem:127.0.0.1", None, 1)
            assert log.largest_page <= 10
            notes = [message for message in siem.messages if b" checkpoint [" in message]
            assert len(notes) == 4
            note = re.search(rb'note="([^"]*)"', notes[-1])[1]
            assert base64.b64decode(note).decode() == log.checkpoint()
            assert b'cp="28:0000' in siem.messages[-2]

    asyncio.run(run())


def test_an_idle_hour_gives_a_checkpoint_of_its_own(pki):
    async def run():
        log = FakeLog(2)
        pacing = Pacing(backoff_s=0.01, survive_s=0.02, settle_s=0.0, checkpoint_every_s=0.05)
        async with running_siem(pki.server) as siem, streaming(log, settings_of(pki, siem.port), pacing):
            await until(lambda: sum(b" checkpoint [" in message for message in siem.messages) >= 3)
            assert leaves_of(siem.messages) == log.leaves()

    asyncio.run(run())


@pytest.mark.parametrize("keep", [True, False], ids=["in its store", "in memory only"])
def test_a_connection_that_breaks_in_a_batch_loses_nothing_and_keeps_the_order(pki, keep):
    async def run():
        log = FakeLog(57)
        broken = Siem(end_after=[4, 17, 3, 26], keep_when_ending=keep)
        async with running_siem(pki.server, siem=broken) as siem, streaming(log, settings_of(pki, siem.port)):
            await until(lambda: siem.connections >= 5 and complete(siem, log))
            arrived = leaves_of(siem.messages)
            assert without_duplicates(arrived) == log.leaves()
            assert len(arrived) <= 4 * 57

    asyncio.run(run())


def test_a_siem_that_ends_every_connection_after_a_batch_still_gets_everything(pki):
    async def run():
        log = FakeLog(40)
        siem = Siem(end_after=[12] * 1000)  # ten records, their checkpoint, and one of the next batch
        async with running_siem(pki.server, siem=siem), streaming(log, settings_of(pki, siem.port)):
            await until(lambda: complete(siem, log))
            assert without_duplicates(leaves_of(siem.messages)) == log.leaves()

    asyncio.run(run())


def test_a_siem_that_was_away_gets_what_it_missed_and_the_operator_is_told(pki):
    async def run():
        log, place = FakeLog(5), closed_port()
        async with streaming(log, settings_of(pki, place.getsockname()[1])) as stream:
            await until(lambda: stream.problem is not None)
            assert "cannot be reached" in stream.problem
            log.grow(5)
            async with running_siem(pki.server, place=place) as siem:
                await until(lambda: complete(siem, log) and stream.problem is None)
                assert leaves_of(siem.messages) == log.leaves()

    asyncio.run(run())


def test_a_restart_goes_on_at_the_cursor_and_sends_the_last_batches_again(pki):
    async def run():
        log = FakeLog(25)
        log.stored["siem:127.0.0.1"] = FakeCursor(20, 20, 0)
        async with running_siem(pki.server) as siem, streaming(log, settings_of(pki, siem.port)):
            await until(lambda: bool(log.moves) and len(leaves_of(siem.messages)) >= 5)
            assert leaves_of(siem.messages) == log.leaves()[20:]
            assert log.moves == [20]  # the batch that was just confirmed would be sent again

    asyncio.run(run())


def test_a_slow_reader_slows_the_stream_and_nothing_else(pki):
    async def run():
        log = FakeLog(4000)
        log.text = {"attributes": {"a": "x" * 3000}}
        async with running_siem(pki.server) as siem:
            siem.reading.clear()
            settings = settings_of(pki, siem.port, batch_max=4000)
            async with streaming(log, settings) as stream:
                await until(lambda: siem.connections == 1)
                for _ in range(50):  # appends go on while the SIEM reads nothing
                    log.grow(1)
                    await asyncio.sleep(0)
                assert not log.moves
                siem.reading.set()
                await until(lambda: complete(siem, log))
                assert leaves_of(siem.messages) == log.leaves()
                assert stream.problem is None

    asyncio.run(run())


def test_a_siem_that_never_reads_is_given_up_after_the_time_limit(pki):
    async def run():
        log = FakeLog(4000)
        log.text = {"attributes": {"a": "x" * 3000}}
        async with running_siem(pki.server) as siem:
            siem.reading.clear()
            settings = settings_of(pki, siem.port, batch_max=4000, timeout_s=0.3)
            async with streaming(log, settings) as stream:
                await until(lambda: stream.problem is not None)
                assert "did not answer or read within 0.3 s" in stream.problem
                assert not log.moves
            siem.reading.set()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("foreign authority", "certificate verify failed|self-signed certificate|unable to get local issuer"),
        ("other host", "IP address mismatch"),
        ("expired", "certificate has expired"),
    ],
)
def test_a_wrong_certificate_is_refused_before_a_record_leaves_and_named(pki, fault, words):
    async def run():
        folder = pki.folder / fault.replace(" ", "-")
        folder.mkdir(exist_ok=True)
        issuer = make_certificate(folder, "foreign") if fault == "foreign authority" else pki.authority
        hosts = ("siem.example",) if fault == "other host" else ("127.0.0.1",)
        wrong = make_certificate(folder, "wrong", issuer=issuer, hosts=hosts, expired=fault == "expired")
        log = FakeLog(3)
        async with running_siem(wrong) as siem, streaming(log, settings_of(pki, siem.port)) as stream:
            await until(lambda: stream.problem is not None)
            assert re.search(f"certificate of 127.0.0.1:{siem.port} is not accepted.*({words})", stream.problem)
            assert (siem.messages, log.moves) == ([], [])

    asyncio.run(run())


def test_a_client_certificate_is_shown_and_its_lack_is_no_success(pki):
    async def run():
        log = FakeLog(3)
        async with running_siem(pki.server, clients_of=pki.authority) as siem:
            # By TLS 1.3 a client is refused after it has spoken; the SIEM is in this loop and may come to it late.
            patient = Pacing(backoff_s=0.01, backoff_max_s=0.02, survive_s=0.0, settle_s=WAIT_S)
            async with streaming(log, settings_of(pki, siem.port), patient) as stream:
                await until(lambda: stream.problem is not None)
                assert re.search("ended the connection|TLS", stream.problem)
                assert (siem.messages, log.moves) == ([], [])
            files = {"client_certificate": pki.client.certificate, "client_key": pki.client.key}
            async with streaming(log, settings_of(pki, siem.port, **files)) as stream:
                await until(lambda: complete(siem, log) and bool(log.moves))
                assert stream.problem is None

    asyncio.run(run())


def test_a_cursor_that_cannot_be_kept_is_told_and_the_stream_goes_on(pki):
    async def run():
        log = FakeLog(25)
        log.unavailable = True
        async with running_siem(pki.server) as siem, streaming(log, settings_of(pki, siem.port)) as stream:
            await until(lambda: complete(siem, log) and stream.problem is not None)
            assert "could not be kept: the sequencer is away" in stream.problem
            log.unavailable = False
            log.grow(1)
            await until(lambda: stream.problem is None and complete(siem, log))
            assert leaves_of(siem.messages) == log.leaves()

    asyncio.run(run())


def test_a_log_with_a_gap_is_not_sent_as_if_it_had_none(pki):
    async def run():
        log = FakeLog(5)
        whole = log.headers[:]
        log.headers = [*whole[:2], *whole[3:], header_of(5)]
        async with running_siem(pki.server) as siem, streaming(log, settings_of(pki, siem.port)) as stream:
            await until(lambda: stream.problem is not None)
            assert "missing" in stream.problem and siem.messages == []

    asyncio.run(run())


@pytest.mark.parametrize("key", ["ca_certificate", "client_certificate"])
def test_certificates_that_cannot_be_used_are_refused_at_the_start(pki, tmp_path, key):
    (tmp_path / "bad").write_text("no certificate")
    for path in (tmp_path / "absent", tmp_path / "bad"):
        with pytest.raises(ConfigInvalid, match=key):
            SiemStream(FakeLog(0), settings_of(pki, 6514, **{key: path}), Sender())


def test_a_real_log_reaches_the_siem_and_its_cursor_is_kept(pki, home):
    async def run():
        async with running_siem(pki.server) as siem, opened(home) as log:
            async with streaming(log, settings_of(pki, siem.port)) as stream:
                receipt = await log.append(an_event(1, content=b"a secret note"))
                await until(lambda: receipt.leaf.hex() in leaves_of(siem.messages))
                await until(lambda: stream.sink in log.cursors())
                assert log.cursors()[stream.sink].anchored_size >= 1
            assert not any(b"secret" in message for message in siem.messages)
            siem.messages.clear()
            async with streaming(log, settings_of(pki, siem.port)):
                receipt = await log.append(an_event(2))
                await until(lambda: receipt.leaf.hex() in leaves_of(siem.messages))

    asyncio.run(run())


# --- Position ---------------------------------------------------------------------------------------------------


def test_a_confirmed_batch_is_sent_again_after_a_break_but_not_for_ever():
    position, sent = Position.at(0), []
    for moment in range(12):  # a SIEM that lives for one batch
        sent.append(position.next_seq)
        position = position.confirmed(position.next_seq + 10, moment).broken()
    assert sent == [0, 0, 0, 0, 10, 10, 10, 10, 20, 20, 20, 20]


def test_what_was_sent_again_is_still_sent_again_when_that_connection_breaks_too():
    position = Position.at(0).confirmed(10, 0.0).broken().confirmed(10, 1.0).confirmed(20, 2.0).broken()
    assert position.next_seq == 0


def test_batches_that_were_confirmed_long_ago_are_not_sent_again():
    late = Position.at(0).confirmed(10, 0.0).confirmed(20, RESEND_S + 1)
    assert late.resend_seq == 10


@given(
    st.lists(
        st.one_of(st.tuples(st.just("sent"), st.integers(0, 50), st.floats(0, 20)), st.just(("broken", 0, 0.0))),
        max_size=60,
    )
)
def test_no_record_is_skipped_whatever_happens_and_little_is_sent_again(steps):
    position, now_s, seen = Position.at(5), 0.0, 5
    for kind, count, passed_s in steps:
        now_s += passed_s
        assert position.next_seq <= seen  # what is sent next was sent before, or follows directly
        if kind == "sent":
            position = position.confirmed(position.next_seq + count, now_s)
            seen = max(seen, position.next_seq)
        else:
            position = position.broken()
        assert position.resend_seq <= position.next_seq <= position.high_seq == seen
        assert len(position.recent) <= RESEND_BATCHES


def test_attempts_come_less_often_up_to_a_limit():
    pacing = Pacing(backoff_s=1, backoff_max_s=60)
    assert [pacing.delay_s(failures, 1.0) for failures in (1, 2, 3, 7, 1000)] == [1, 2, 4, 60, 60]
    assert pacing.delay_s(1, 0.0) == 0.5
