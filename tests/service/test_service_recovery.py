"""What a crash leaves open is closed at the next start of a server: once, by name, without guessing.

The log is in memory; the accounts are real ones in a database of the test's own, so a change that did not commit is
one that really is not there.
"""

import asyncio
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import migrations
from appliance.accounts.actions import local_operator
from appliance.accounts.directory import Directory
from appliance.config import AccountsConfig, Home
from appliance.service import accounts
from appliance.service.command_marks import CommandMark, hold_mark
from appliance.service.event_names import STARTED, VOIDED, WINDOW
from appliance.service.events import new_event
from appliance.service.recovery import close_abandoned, open_exchanges, recover
from appliance.storage.database import open_database
from appliance.types import Outcome
from tests.service.service_fakes import MemoryLog, view_of

CHEAP = AccountsConfig(argon2_time_cost=1, argon2_memory_kib=8 * 1024, argon2_parallelism=1)
PASSWORD = "four unrelated words"


@pytest.fixture
def directory(tmp_path):
    home = Home(tmp_path / "home")
    migrations.upgrade(home.root)
    engine = open_database(home.database, mode="rw")
    yield Directory(engine, CHEAP)
    engine.dispose()


def exchange_event(exchange: str, outcome: Outcome, via: str = "server"):
    return new_event("specialist.deidentify", "user:1", outcome, {"via": via}, exchange_id=exchange)


def log_of(*events) -> MemoryLog:
    log = MemoryLog()
    log.events.extend(events)
    return log


def started():
    return new_event(STARTED, "system", Outcome.COMPLETED)


def added_by_recovery(directory, log: MemoryLog) -> list[tuple[str, str, str]]:
    """Event, outcome and exchange of the records that recovery adds."""
    before = len(log.events)
    asyncio.run(recover(directory, log, Home(Path("/nowhere"))))
    return [(event.event, event.outcome, event.exchange_id) for event in log.events[before:]]


def test_exchange_without_an_end_is_closed_as_interrupted_for_whoever_asked(directory):
    log = log_of(started(), exchange_event("a", Outcome.ACCEPTED), exchange_event("b", Outcome.ACCEPTED))
    log.events.append(exchange_event("a", Outcome.COMPLETED))
    assert added_by_recovery(directory, log) == [("specialist.deidentify", Outcome.FAILED, "b")]
    assert log.events[-1].actor == "user:1"
    assert log.events[-1].attributes == {"error": "interrupted"}


def test_recovering_twice_adds_nothing_more(directory):
    log = log_of(exchange_event("a", Outcome.ACCEPTED))
    assert len(added_by_recovery(directory, log)) == 1
    assert added_by_recovery(directory, log) == []


def test_recovery_looks_no_further_back_than_the_last_start(directory):
    log = log_of(exchange_event("old", Outcome.ACCEPTED), started())
    assert added_by_recovery(directory, log) == []


def test_exchange_of_a_command_whose_process_is_unknown_is_left_alone(directory):
    log = log_of(exchange_event("a", Outcome.ACCEPTED, via="cli"))
    assert added_by_recovery(directory, log) == []


def command_event(exchange: str, outcome: Outcome, mark: CommandMark):
    about = {"via": "cli", **mark.attributes()}
    return new_event("specialist.run", "local:uid-0", outcome, about, exchange_id=exchange)


def test_exchange_of_a_command_that_is_gone_is_closed_and_that_of_a_living_one_is_not(directory, tmp_path):
    home = Home(tmp_path / "home")
    home.runtime.mkdir(parents=True)
    gone = CommandMark("00000000", 1, 0)
    with hold_mark(home, 0) as living:
        log = log_of(command_event("a", Outcome.ACCEPTED, gone), command_event("b", Outcome.ACCEPTED, living))
        asyncio.run(recover(directory, log, home))
    assert [(event.exchange_id, event.outcome) for event in log.events[2:]] == [("a", Outcome.FAILED)]


def test_any_opening_closes_what_a_killed_command_left_and_nothing_else(tmp_path):
    home = Home(tmp_path / "home")
    home.runtime.mkdir(parents=True)
    gone = CommandMark("00000000", 4711, 1)
    (home.runtime / "command-00000000-4711.mark").write_text("1")  # killed: the file stays, its lock does not
    with hold_mark(home, 0) as living:
        log = log_of(
            command_event("before", Outcome.ACCEPTED, gone),  # another process of that number, before this one began
            command_event("a", Outcome.ACCEPTED, gone),
            command_event("b", Outcome.ACCEPTED, living),
            command_event("c", Outcome.ACCEPTED, gone),
            command_event("c", Outcome.COMPLETED, gone),
            exchange_event("d", Outcome.ACCEPTED),
        )
        asyncio.run(close_abandoned(home, log))
        asyncio.run(close_abandoned(home, log))
        assert [(event.exchange_id, event.outcome) for event in log.events[6:]] == [("a", Outcome.FAILED)]
        assert [path.name for path in home.runtime.iterdir()] == [f"command-{living.boot}-{os.getpid()}.mark"]
    assert list(home.runtime.iterdir()) == []


def test_mark_stays_while_the_log_cannot_record_the_closing(tmp_path):
    home = Home(tmp_path / "home")
    home.runtime.mkdir(parents=True)
    mark = home.runtime / "command-00000000-4711.mark"
    mark.write_text("0")
    log = log_of(command_event("a", Outcome.ACCEPTED, CommandMark("00000000", 4711, 0)))
    log.fail_at = frozenset({0})
    asyncio.run(close_abandoned(home, log))
    assert mark.exists() and len(log.events) == 1
    asyncio.run(close_abandoned(home, log))
    assert not mark.exists() and log.events[-1].attributes == {"error": "interrupted"}


def test_recovery_reads_more_than_one_page(directory):
    others = [exchange_event(f"{number}", Outcome.REFUSED) for number in range(450)]
    log = log_of(started(), exchange_event("a", Outcome.ACCEPTED), *others)
    assert added_by_recovery(directory, log) == [("specialist.deidentify", Outcome.FAILED, "a")]


def test_recorded_change_that_is_not_there_is_voided_once(directory):
    announced = new_event("account.created", "local:uid-0", Outcome.COMPLETED, {"account": "ana"})
    log = log_of(announced)
    with directory.change(announced.record_id, by="local:uid-0") as change:
        change.create_account("ana", PASSWORD, {"user"})  # and the process dies before the commit
    assert added_by_recovery(directory, log) == [(VOIDED, Outcome.COMPLETED, "")]
    assert log.events[-1].attributes == {"record": announced.record_id.hex()}
    assert directory.list_accounts() == ()
    assert added_by_recovery(directory, log) == []


def test_change_that_is_there_is_not_voided(directory):
    log = MemoryLog()

    async def change():
        token = await accounts.create_setup_link(directory, log, local_operator(0))
        await accounts.set_up(directory, log, token, "ana", PASSWORD)

    asyncio.run(change())
    assert added_by_recovery(directory, log) == []
    assert [account.name for account in directory.list_accounts()] == ["ana"]


def test_refused_change_is_not_voided(directory):
    log = log_of(new_event("account.created", "user:1", Outcome.REFUSED, {"error": "account_exists"}))
    assert added_by_recovery(directory, log) == []


@given(
    st.lists(st.tuples(st.integers(0, 5), st.sampled_from(Outcome), st.sampled_from(["server", "cli"])), max_size=40)
)
def test_open_exchanges_are_those_a_server_opened_and_nobody_closed_oldest_first(steps):
    events = [exchange_event(str(number), outcome, via) for number, outcome, via in steps]
    views = [view_of(event, seq) for seq, event in enumerate(events)][::-1]
    closed = {event.exchange_id for event in events if event.outcome != Outcome.ACCEPTED}
    expected = [
        (seq, event.exchange_id)
        for seq, event in enumerate(events)
        if event.outcome == Outcome.ACCEPTED and event.attributes["via"] == "server" and event.exchange_id not in closed
    ]
    found = open_exchanges(views, lambda view: view.attributes["via"] == "server")
    assert [(view.seq, view.exchange_id) for view in found] == expected


def test_streamed_exchange_that_was_cut_off_is_closed_once(directory):
    windows = [
        new_event(WINDOW, "user:1", Outcome.ACCEPTED, {"via": "server", "window": number}, exchange_id="a")
        for number in range(3)
    ]
    log = log_of(started(), exchange_event("a", Outcome.ACCEPTED), *windows)
    assert added_by_recovery(directory, log) == [("specialist.deidentify", Outcome.FAILED, "a")]
