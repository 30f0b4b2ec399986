"""The exposure window is a function of cursors and time; its alarm begins and ends once; a witness keeps it short."""

import asyncio
import dataclasses
from dataclasses import dataclass, field

import pytest
from audit_home import WAIT_S
from hypothesis import given
from hypothesis import strategies as st
from witness_log import SmallLog
from witness_service import NAME, running_witness

from appliance.audit.anchors import KEEP_EVERY_MS, Publisher, alarm_edge, exposure
from appliance.audit.witness_client import Cosigned, Forked, Unreachable, WitnessClient
from appliance.crypto.note import split_note
from appliance.errors import AuditUnavailable

SINK = f"witness:{NAME}"


@dataclass(frozen=True)
class Cursor:
    next_seq: int
    anchored_size: int
    anchored_ms: int


@dataclass
class FakeLog:
    """A log that remembers what the publisher told it, over a small tree."""

    tree: SmallLog
    moved: dict = field(default_factory=dict)
    kept: list = field(default_factory=list)
    quarantine: str | None = None
    evidence: str = ""

    def checkpoint(self):
        return self.tree.note()

    def consistency(self, old, size):
        return self.tree.proof(old, size)

    async def keep_cosigned(self, note):
        self.kept.append(note)

    async def move_cursor(self, sink, next_seq, anchored_size, anchored_ms):
        self.moved[sink] = Cursor(next_seq, anchored_size, anchored_ms)

    async def enter_quarantine(self, why, note, *, cut=False):
        self.quarantine, self.evidence, self.cut = why, note, cut

    def cursors(self):
        return dict(self.moved)


def found(cursors, size=100, now_s=1000, **options):
    return exposure(cursors, size, now_s * 1000, target_s=60, sinks=["siem", SINK], **options)


def test_the_newest_checkpoint_outside_counts_wherever_it_is():
    cursors = {SINK: Cursor(0, 90, 970_000), "siem": Cursor(95, 95, 940_000), "old": Cursor(0, 0, 0)}
    window = found(cursors, problems={SINK: "no answer"})
    assert (window.size, window.anchored_size, window.age_s, window.alarm) == (100, 95, 60.0, False)
    assert [(sink.sink, sink.size, sink.age_s, sink.problem) for sink in window.sinks] == [
        ("siem", 95, 60.0, None),
        (SINK, 90, 30.0, "no answer"),
    ]


def test_nothing_outside_has_no_age_and_alarms_only_where_something_was_asked_for():
    assert exposure({}, 100, 10**9, target_s=60) == exposure({}, 100, 0, target_s=60)
    assert not exposure({}, 100, 10**9, target_s=60).alarm
    assert (found({}).age_s, found({}).alarm, len(found({}).sinks)) == (None, True, 2)
    assert not found({}, since_ms=900_000).alarm
    assert found({}, since_ms=879_000).alarm


@given(st.integers(0, 2000))
def test_the_alarm_is_beyond_twice_the_target(age_s):
    assert found({SINK: Cursor(0, 100, (5000 - age_s) * 1000)}, now_s=5000).alarm == (age_s > 120)


def test_a_checkpoint_larger_than_the_log_is_an_alarm_and_a_clock_put_back_is_no_negative_age():
    assert found({SINK: Cursor(0, 101, 1_000_000)}).alarm
    assert found({SINK: Cursor(0, 100, 2_000_000)}).age_s == 0


def test_an_alarm_is_noted_when_it_begins_and_when_it_ends():
    quiet, loud = found({SINK: Cursor(0, 100, 1_000_000)}), found({})
    noted, before = [], False
    for window in (quiet, loud, loud, loud, quiet, quiet, loud):
        noted.append(alarm_edge(before, window))
        before = window.alarm
    assert noted == [None, "began", None, None, "ended", None, "began"]


@pytest.fixture
def log():
    return FakeLog(SmallLog().grow(10))


@pytest.fixture
def witness(tmp_path, log):
    with running_witness(tmp_path / "witness", log.tree.key) as running:
        yield running


def test_each_round_moves_the_cursor_and_one_checkpoint_a_minute_is_kept(log, witness):
    now = [1_000.0]

    async def rounds():
        publisher = Publisher(log, log, witness.client(), every_s=10, clock=lambda: now[0])
        for _ in range(13):
            assert isinstance(await publisher.publish(), Cosigned)
            assert log.moved[SINK] == Cursor(0, len(log.tree.leaves), int(now[0] * 1000))
            assert publisher.problem == ""
            log.tree.grow(3)
            now[0] += 10

    asyncio.run(rounds())
    assert [split_note(note)[0].split("\n")[1] for note in log.kept] == ["10", "28", "46"]
    assert KEEP_EVERY_MS == 60_000


def test_a_contradiction_quarantines_and_ends_the_publisher(log, witness):
    fork = FakeLog(log.tree.fork(5).grow(20, "other"))

    async def both():
        await Publisher(log, log, witness.client(), every_s=10).publish()
        publisher = Publisher(fork, fork, witness.client(), every_s=0.001)
        async with asyncio.timeout(WAIT_S):
            await publisher.run()
        return publisher

    publisher = asyncio.run(both())
    assert "another history" in fork.quarantine
    assert publisher.problem == fork.quarantine
    assert (fork.evidence, fork.cut) == (fork.tree.note(), False)
    assert (fork.moved, fork.kept) == ({}, [])


def test_no_answer_and_a_log_that_cannot_be_written_leave_the_cursor_and_go_on(log, witness):
    silent = WitnessClient(dataclasses.replace(witness).settings.model_copy(update={"url": "http://127.0.0.1:9"}))

    async def refuse(note):
        log.refusals = getattr(log, "refusals", 0) + 1
        if log.refusals == 3:
            log.quarantine = "enough"
        raise AuditUnavailable("the log is not there")

    async def rounds():
        publisher = Publisher(log, log, silent, every_s=10)
        assert isinstance(await publisher.publish(), Unreachable)
        assert publisher.problem
        log.keep_cosigned = refuse
        writing = Publisher(log, log, witness.client(), every_s=0.001)
        async with asyncio.timeout(WAIT_S):
            await writing.run()
        return writing.problem

    assert asyncio.run(rounds()) == "the log is not there"
    assert log.moved == {}
    assert not isinstance(log.quarantine, Forked)
