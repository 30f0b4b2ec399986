"""A log under random commands and crashes behaves like a list: what was acknowledged stays, at its place, for ever.

A state machine of hypothesis drives the real writer on real files: batches with repeated records, holds, shreds cut
off between announcement and deletion, kills, orderly ends, clocks that step, older copies of the database and of the
signer's memory put back. Beside it runs a model of a few dictionaries. At the end the verifier looks at every log.
"""

import contextlib
import itertools
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from msgspec.structs import replace

from appliance.audit import store
from appliance.audit.clock import ClockReading
from appliance.audit.keystore import open_keystore
from appliance.audit.log import _start
from appliance.audit.operations import Refusal
from appliance.audit.protocol import KeysDestroyed, ReleaseHold, SetHold, SetRetention, Shred
from appliance.audit.writer import LogWriter
from appliance.errors import AuditLogInvalid
from appliance.storage.database import open_database, reading
from tests.audit.audit_home import config_of
from tests.audit.faults.driver import sealed
from tests.audit.faults.look import verdict
from tests.audit.faults.memory import memory_folder

NUMBERS = st.integers(0, 60)
SCOPES = sorted({sealed(number).con_scope for number in range(20)})
ROWS_MAX = 10_000


class Simulation(RuleBasedStateMachine):
    """One log and its model."""

    start = None  # set by the test: the start message of an empty log
    folder = None
    runs = itertools.count()

    def __init__(self):
        super().__init__()
        self.home = self.folder / str(next(self.runs))
        shutil.copytree(Path(self.start.database).parent, self.home)
        self.message = replace(
            self.start, database=str(self.home / "log.db"), signer_state=str(self.home / "signer.json")
        )
        self.now = ClockReading(1_764_000_000_000, 1000)
        self.places = {}
        self.holds = {}  # id -> scope, None once released
        self.shredded = {}  # scope -> number of the record that announced it
        self.pending = []  # numbers of announcements whose keys are still there
        self.months = 6
        self.copies = []  # (folder, size) of earlier states
        self.note = None
        self.writer = self.open()

    def open(self):
        return LogWriter.open(self.message, clock=lambda: self.now)

    def teardown(self):
        self.writer.append_heartbeat()  # the head of a log's very first batch is stored with the second
        self.writer.close()
        self.rows_are_those_of_the_model()
        expected = 2 if any(row.con_ct is None for row in self.rows() if row.body is None) else 0
        assert verdict(self.message, self.note, self.folder) == expected
        shutil.rmtree(self.home)

    # --- what callers do ----------------------------------------------------------------------------------------------

    @rule(numbers=st.lists(NUMBERS, min_size=1, max_size=4))
    def append(self, numbers):
        batch = [sealed(number, 40) for number in numbers]
        for record in batch:
            assert self.writer.is_retired(record) == (record.con_scope in self.shredded)
        batch = [record for record in batch if not self.writer.is_retired(record)]
        if not batch:
            return
        committed = self.writer.commit(batch)
        for record in batch:
            seq = committed.places[record.record_id].seq
            assert self.places.setdefault(record.record_id, seq) == seq
        self.note = committed.checkpoint

    @rule(number=st.integers(1, 3), scope=st.sampled_from(SCOPES))
    def set_hold(self, number, scope):
        hold = bytes([number]) * 8
        with self.refused_if(hold in self.holds or bool(self.pending)):
            self.writer.perform(SetHold(1, hold, (scope,), (), (), "litigation"))
            self.holds[hold] = scope

    @rule(number=st.integers(1, 3))
    def release_hold(self, number):
        hold = bytes([number]) * 8
        with self.refused_if(self.holds.get(hold) is None):
            self.writer.perform(ReleaseHold(1, hold, "user:1,user:2"))
            self.holds[hold] = None

    @rule(scope=st.sampled_from(SCOPES))
    def shred(self, scope):
        if scope in self.shredded:
            return
        with self.refused_if(scope in self.holds.values()):
            done = self.writer.perform(Shred(1, (scope,), (1,), (), b"", "B", "request", "user:1"))
            place = min(done.places.values(), key=lambda place: place.seq)
            self.shredded[scope] = place.seq
            self.pending.append(place.seq)

    @precondition(lambda self: self.pending)
    @rule()
    def destroy_keys(self):
        seq = self.pending.pop(0)
        keys = tuple(scope for scope, at in self.shredded.items() if at == seq)
        self.writer.perform(KeysDestroyed(1, seq, keys))

    @rule()
    def do_chore(self):
        if self.writer.has_chores:
            self.writer.do_chore()

    @rule(months=st.integers(6, 30))
    def set_retention(self, months):
        with self.refused_if(months < self.months):
            self.writer.perform(SetRetention(1, 1, months))
            self.months = months

    @rule()
    def beat(self):
        self.writer.append_heartbeat()

    @rule(passes=st.integers(0, 100_000), step=st.sampled_from([0, 0, 0, -3_600_000, 86_400_000]))
    def time_passes(self, passes, step):
        self.now = ClockReading(self.now.wall_ms + passes + step, self.now.monotonic_ms + passes)

    # --- what happens to them -----------------------------------------------------------------------------------------

    @rule()
    def end_in_order(self):
        self.writer.append_stopped()
        self.writer.close()
        self.writer = self.open()

    @rule()
    def kill(self):
        self.put_back(self.as_if_killed())
        self.writer = self.open()

    @rule()
    def keep_a_copy(self):
        self.copies.append((self.as_if_killed(), self.writer.size))
        self.put_back(self.copies[-1][0])
        self.writer = self.open()

    @precondition(lambda self: self.copies)
    @rule(data=st.data())
    def put_an_older_database_back(self, data):
        older, size = data.draw(st.sampled_from(self.copies))
        newest = self.writer.size
        now = self.as_if_killed()
        memory = (now / "signer.json").read_bytes()
        self.put_back(older)
        (self.home / "signer.json").write_bytes(memory)
        if size < newest:
            with pytest.raises(AuditLogInvalid, match="put back to an older state"):
                self.open()
        self.put_back(now)
        self.writer = self.open()

    @precondition(lambda self: self.copies)
    @rule(data=st.data())
    def put_an_older_memory_back(self, data):
        older, _ = data.draw(st.sampled_from(self.copies))
        now = self.as_if_killed()
        self.put_back(now)
        shutil.copy(older / "signer.json", self.home)
        self.writer = self.open()  # a smaller size refuses nothing that is true

    @rule()
    def lose_the_memory(self):
        now = self.as_if_killed()
        self.put_back(now)
        (self.home / "signer.json").unlink()
        with pytest.raises(AuditLogInvalid, match=r"signer\.json is missing"):
            self.open()
        self.put_back(now)
        self.writer = self.open()

    # --- what must hold -----------------------------------------------------------------------------------------------

    @invariant()
    def size_is_what_was_signed(self):
        assert self.note is None or self.writer.size >= int(self.note.split("\n")[1])

    def rows_are_those_of_the_model(self):
        rows = self.rows()
        assert [row.seq for row in rows] == list(range(len(rows)))
        stored = {row.record_id: row.seq for row in rows if row.body is None}
        assert stored == self.places
        for row in rows:
            scope = row.header[64:80]
            if row.body is None and scope not in self.shredded:
                assert row.con_ct is not None, "a content is gone that nobody destroyed"
            if row.con_ct is None and row.body is None:
                assert self.shredded[scope] not in self.pending, "a content is gone before its key"

    def rows(self):
        engine = open_database(self.home / "log.db", mode="ro", connections=1)
        try:
            with reading(engine) as connection:
                return store.read_records(connection, 0, ROWS_MAX, content=True)
        finally:
            engine.dispose()

    @contextlib.contextmanager
    def refused_if(self, expected):
        before = self.writer.size
        try:
            yield
        except Refusal:
            assert expected, "refused without reason"
            assert self.writer.size == before
        else:
            assert not expected, "not refused"

    def as_if_killed(self):
        """The files as they lie there, and a writer that is gone without having ended."""
        copy = self.folder / f"copy{next(self.runs)}"
        shutil.copytree(self.home, copy, ignore=shutil.ignore_patterns("*-shm"))
        self.writer.close()  # what it writes at its end is thrown away by whoever puts the copy back
        return copy

    def put_back(self, copy):
        shutil.rmtree(self.home)
        shutil.copytree(copy, self.home)


@pytest.fixture
def simulation(home, root_key):
    start = _start(config_of(home), open_keystore(home, root_key))
    with memory_folder() as folder:
        yield type("Run", (Simulation,), {"start": start, "folder": folder})


def run(simulation, examples, steps):
    options = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(simulation, settings=options)


def test_log_behaves_like_its_model_sample(simulation):
    run(simulation, 12, 20)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_log_behaves_like_its_model_for_a_thousand_runs(simulation):
    run(simulation, 1000, 40)
