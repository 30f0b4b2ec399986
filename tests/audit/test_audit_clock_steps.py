"""The clock may be set, stepped, frozen or dead: commit times never decrease, a step leaves a record, the log verifies.

Time is a parameter of the writer, so every test says its own. A log whose times do decrease is made by hand here, with
the right key, to show that the verifier finds it.
"""

import json
from pathlib import Path

import pytest

from appliance.audit import clock as clocks
from appliance.audit import store
from appliance.audit.clock import ANOMALY_MS, ClockReading, CommitClock, read_clock
from appliance.audit.header import RecordHeader
from appliance.audit.keystore import open_keystore
from appliance.audit.log import _start
from appliance.audit.writer import LogWriter
from appliance.errors import AuditLogInvalid
from appliance.storage.database import open_database, reading
from tests.audit.audit_home import config_of
from tests.audit.faults.driver import sealed
from tests.audit.faults.look import signer_note, verdict

NOON = 1_764_000_000_000
HOUR, DAY = 3_600_000, 86_400_000
CLOCK_DISORDER = 15

# Steps of one second by the monotonic clock; what the wall clock does at the third, and how many anomalies that is.
STEPS = {
    "none": (0, 0),
    "an hour back": (-HOUR, 1),
    "a day on": (DAY, 1),
    "NTP step back": (-ANOMALY_MS - 1, 1),
    "NTP slew": (ANOMALY_MS, 0),
    "leap second": (-1000, 0),
    "1970": (-NOON, 1),
    "far future": (2**41, 1),
}


class HeldUp:
    """The time of a process that is held up for a while after some of its looks at a clock."""

    def __init__(self, held_up_ms):
        self.held_up_ms, self.now_ms = iter(held_up_ms), 5000

    def monotonic_ns(self):
        seen = self.now_ms * 1_000_000
        self.now_ms += next(self.held_up_ms, 0)
        return seen

    def time_ns(self):
        return NOON * 1_000_000 + self.monotonic_ns()


def test_process_that_is_held_up_between_two_clocks_sees_no_step(monkeypatch):
    """Of every number of looks, the one after which a process does not run for ten seconds."""
    for held_up_after in range(8):
        held_up = HeldUp([*[0] * held_up_after, 10_000])
        monkeypatch.setattr(clocks, "time", held_up)
        last = CommitClock(0).advance(read_clock())[0]
        for _ in range(3):
            last, _, anomaly_ms = last.advance(read_clock())
            assert anomaly_ms is None, held_up_after


def test_clocks_are_read_all_the_same_when_a_process_is_held_up_at_every_look(monkeypatch):
    monkeypatch.setattr(clocks, "time", HeldUp([300, 200, 100] * 100))
    reading = read_clock()
    assert abs(reading.wall_ms - NOON - reading.monotonic_ms) <= 300


class Clock:
    """A clock that says what it is told to."""

    def __init__(self, wall_ms, monotonic_ms=1000):
        self.wall_ms, self.monotonic_ms = wall_ms, monotonic_ms

    def __call__(self):
        return ClockReading(self.wall_ms, self.monotonic_ms)

    def passes(self, ms, *, step_ms=0):
        self.monotonic_ms += ms
        self.wall_ms = max(0, self.wall_ms + ms + step_ms)


@pytest.fixture
def start(home, root_key):
    return _start(config_of(home), open_keystore(home, root_key))


def contents(start):
    """Commit times and public bodies, in order."""
    engine = open_database(Path(start.database), mode="ro", connections=1)
    try:
        with reading(engine) as connection:
            rows = store.read_records(connection, 0, 10_000)
    finally:
        engine.dispose()
    bodies = [json.loads(row.body) for row in rows if row.body is not None]
    return [RecordHeader.decode(row.header).t_commit_ms for row in rows], bodies


def anomalies(start):
    return [body["jump_ms"] for body in contents(start)[1] if body["event"] == "clock.anomaly"]


@pytest.mark.parametrize("case", list(STEPS))
def test_clock_that_steps_while_recording(start, tmp_path, case):
    step_ms, expected = STEPS[case]
    clock = Clock(NOON)
    writer = LogWriter.open(start, clock=clock)
    for number in range(6):
        clock.passes(1000, step_ms=step_ms if number == 3 else 0)
        writer.commit([sealed(number)])
    writer.close()
    times, _ = contents(start)
    assert times == sorted(times)
    assert len(anomalies(start)) == expected
    if expected:
        assert abs(anomalies(start)[0] - max(step_ms, -NOON - 5000)) <= 5000
    assert verdict(start, None, tmp_path) == 0


@pytest.mark.parametrize(("wall_ms", "expected"), [(0, 1), (NOON - HOUR, 1), (NOON + DAY, 0), (NOON, 0)])
def test_clock_that_is_wrong_when_the_machine_starts(start, tmp_path, wall_ms, expected):
    """A battery that is empty says 1970. Time that passed while the machine was off is no anomaly."""
    writer = LogWriter.open(start, clock=Clock(NOON))
    writer.commit([sealed(1)])
    writer.close()
    clock = Clock(wall_ms, monotonic_ms=1)
    writer = LogWriter.open(start, clock=clock)
    writer.commit([sealed(2)])
    clock.passes(500, step_ms=NOON + DAY - wall_ms)  # then somebody sets it
    writer.commit([sealed(3)])
    writer.close()
    times, _ = contents(start)
    assert times == sorted(times) and times[-1] >= NOON
    assert len(anomalies(start)) == expected + (wall_ms != NOON + DAY)
    assert verdict(start, None, tmp_path) == 0


def test_clock_that_stands_still_orders_by_number(start, tmp_path):
    clock = Clock(NOON)
    writer = LogWriter.open(start, clock=clock)
    for number in range(5):
        writer.commit([sealed(number)])
    writer.close()
    assert set(contents(start)[0]) == {NOON}
    assert verdict(start, None, tmp_path) == 0


def test_decreasing_times_under_a_true_signature_are_found(start, tmp_path):
    clock = Clock(NOON)
    writer = LogWriter.open(start, clock=clock)
    writer.commit([sealed(1)])
    clock.passes(0, step_ms=-1)
    writer._commit_clock = CommitClock(0)  # what no code path of the appliance does
    writer.commit([sealed(2)])
    writer.close()
    times, _ = contents(start)
    assert times[-1] == times[-2] - 1
    assert verdict(start, signer_note(start), tmp_path) == CLOCK_DISORDER
    with pytest.raises(AuditLogInvalid, match="does not belong there"):
        LogWriter.open(start, clock=clock)
