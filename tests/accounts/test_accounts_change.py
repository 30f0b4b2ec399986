"""A change and its audit record stand or fall together, whatever happens between them.

Each test ends a change at another point: before the record, after it, by an exception, by a second directory on the
same file that sees only what was committed.
"""

import asyncio
import threading

import pytest
from sqlalchemy.exc import IntegrityError

from appliance.accounts.directory import Directory
from appliance.errors import (
    AccountExists,
    AccountNotFound,
    Conflict,
    HomeInUse,
    InvalidRequest,
    PermissionDenied,
)


def names(directory):
    return [account.name for account in directory.list_accounts()]


def test_a_committed_change_is_visible_with_the_record_that_announced_it(site):
    record_id = site.record_id()
    with site.change(record_id) as change:
        view = change.create_account("ana", site.password, {"user"})
        change.commit()
    assert site.directory.list_accounts() == (view,)
    assert (view.roles, view.disabled, view.created) == ({"user"}, None, site.clock.time)
    assert site.directory.unapplied([record_id]) == frozenset()


def test_a_change_that_is_not_committed_leaves_nothing_and_its_record_is_named(site):
    abandoned, done = site.record_id(), site.record_id()
    with site.change(abandoned) as change:
        change.create_account("ana", site.password, {"user"})
    with site.change(done) as change:
        change.create_account("bob", site.password, {"user"})
        change.commit()
    assert names(site.directory) == ["bob"]
    assert site.directory.unapplied([abandoned, done]) == {abandoned}
    assert site.directory.unapplied([]) == frozenset()


def test_nobody_sees_a_change_before_its_commit(site):
    other = Directory(site.engine, site.config, site.clock)
    with site.change() as change:
        change.create_account("ana", site.password, {"user"})
        assert names(other) == []
        change.commit()
    assert names(other) == ["ana"]


def test_an_audit_log_that_refuses_undoes_the_change(site):
    class LogIsFull(Exception):
        pass

    site.add("root", "admin")
    with pytest.raises(LogIsFull), site.change() as change:
        change.create_account("ana", site.password, {"user"})
        raise LogIsFull
    assert names(site.directory) == ["root"]
    site.add("ana")


def test_several_changes_under_one_record_commit_together(site):
    with site.change() as change:
        change.create_account("ana", site.password, {"user"})
        view, text = change.create_api_key("ana", "letters", ["specialist.run"])
        change.commit()
    assert site.directory.list_api_keys() == (view,)
    assert site.directory.authenticate_api_key(text).id == "api-key:1"


def test_a_change_crosses_threads_and_awaits_like_the_service_uses_it(site):
    async def create():
        with site.change() as change:
            await asyncio.to_thread(change.create_account, "ana", site.password, {"user"})
            await asyncio.sleep(0)
            await asyncio.to_thread(change.commit)

    asyncio.run(create())
    assert names(site.directory) == ["ana"]


def test_a_change_whose_task_was_cancelled_meanwhile_is_undone_and_holds_no_lock(site):
    begun, left, finished = threading.Event(), threading.Event(), []

    def slow(change):
        change.create_account("ana", site.password, {"user"})
        begun.set()
        left.wait()
        with pytest.raises(Conflict, match="given up"):
            change.create_account("bob", site.password, {"user"})
        finished.append(True)

    with site.change() as change:
        thread = threading.Thread(target=slow, args=(change,))
        thread.start()
        begun.wait()
    left.set()
    thread.join()
    assert finished == [True]
    assert names(site.directory) == []
    site.add("eve")


def test_leaving_while_a_step_runs_neither_waits_for_it_nor_keeps_its_transaction(site):
    with site.change() as holder:
        holder.create_account("ana", site.password, {"user"})
        with site.change() as change:
            thread = threading.Thread(target=expect_refusal, args=(change, site.password))
            thread.start()
        holder.commit()
    thread.join()
    assert names(site.directory) == ["ana"]
    site.add("eve")


def expect_refusal(change, password):
    with pytest.raises((Conflict, HomeInUse)):
        change.create_account("bob", password, {"user"})
        change.commit()


def test_a_second_change_waits_for_the_first_and_is_told_so(site):
    with site.change() as first:
        first.create_account("ana", site.password, {"user"})
        with pytest.raises(HomeInUse), site.change() as second:
            second.create_account("bob", site.password, {"user"})
        first.commit()
    assert names(site.directory) == ["ana"]


def test_people_are_recognised_while_a_change_is_open(site):
    site.add("ana")
    secret = site.sign_in("ana").secret
    with site.change() as change:
        change.create_account("bob", site.password, {"user"})
        assert site.directory.authenticate_session(secret).name == "ana"


def test_one_record_announces_one_change(site):
    record_id = site.record_id()
    with site.change(record_id) as change:
        change.create_account("ana", site.password, {"user"})
        change.commit()
    with pytest.raises(IntegrityError), site.change(record_id) as change:
        change.create_account("bob", site.password, {"user"})
        change.commit()
    assert names(site.directory) == ["ana"]


def test_a_name_belongs_to_one_account_in_any_case(site):
    site.add("Ana")
    with pytest.raises(AccountExists, match="aNA"):
        site.add("aNA")
    assert names(site.directory) == ["Ana"]


def test_numbers_of_accounts_are_never_given_twice(site):
    one = site.add("ana")
    with site.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM account_role")
        connection.exec_driver_sql("DELETE FROM account")
    assert site.add("bob").id == one.id + 1


@pytest.mark.parametrize(
    ("name", "password", "roles"),
    [
        ("a b", "four unrelated words", ["user"]),
        ("ana", "short", ["user"]),
        ("ana", "four unrelated words", []),
        ("ana", "four unrelated words", ["auditor", "user"]),
        ("four-unrelated-words", "four unrelated words", ["user"]),
    ],
)
def test_an_account_that_breaks_a_rule_is_not_made(site, name, password, roles):
    with pytest.raises(InvalidRequest), site.change() as change:
        change.create_account(name, password, roles)
        change.commit()
    assert names(site.directory) == []


def test_the_last_administrator_cannot_be_disabled(site):
    site.add("ana", "admin")
    site.add("eve", "auditor")
    with pytest.raises(Conflict, match="only administrator"), site.change() as change:
        change.disable_account("ana")
    site.add("bob", "admin")
    with site.change() as change:
        assert change.disable_account("ana").disabled == site.clock.time
        change.commit()
    with pytest.raises(Conflict), site.change() as change:
        change.disable_account("bob")


def test_disabling_twice_keeps_the_first_time(site):
    site.add("ana")
    times = []
    for _ in range(2):
        with site.change() as change:
            times.append(change.disable_account("ana").disabled)
            change.commit()
        site.clock.advance(hours=1)
    assert times[0] == times[1]


def test_changes_of_unknown_accounts_say_so(site):
    for act in (
        lambda change: change.disable_account("nobody"),
        lambda change: change.enable_account("nobody"),
        lambda change: change.set_password("nobody", site.password),
        lambda change: change.create_api_key("nobody", "letters", ["specialist.run"]),
    ):
        with pytest.raises(AccountNotFound, match="nobody"), site.change() as change:
            act(change)


def test_a_change_that_is_about_to_be_committed_is_never_taken_for_an_abandoned_one(site):
    record_id = site.record_id()
    with site.change(record_id) as change:
        change.create_account("ana", site.password, {"user"})
        with pytest.raises(HomeInUse):
            site.directory.unapplied([record_id])
        change.commit()
    assert site.directory.unapplied([record_id]) == frozenset()


def test_leaving_without_any_change_writes_nothing(site):
    record_id = site.record_id()
    with pytest.raises(PermissionDenied), site.change(record_id):
        raise PermissionDenied("no")
    assert site.directory.unapplied([record_id]) == {record_id}
