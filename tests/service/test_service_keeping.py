"""Search, holds, retention and shredding over a real log: what is recorded, what is refused, what is destroyed.

One data folder for each test with its own sequencer; the engine is not started.
"""

import asyncio
import json
from datetime import UTC, datetime, timedelta, timezone

import pytest

from appliance.accounts.actions import local_operator
from appliance.audit.log import RecordView, SearchProgress
from appliance.errors import (
    Conflict,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    RetentionShortened,
    SecondPersonNeeded,
    UnderLegalHold,
    UnknownOption,
)
from appliance.service import audit_holds, audit_retention, audit_search
from appliance.service.audit_search import AuditSearch
from appliance.service.events import new_event
from appliance.service.rooms import open_accounts
from appliance.types import Outcome, Principal

ADMIN = Principal("user:1", "adam", "user", frozenset({"admin"}))
AUDITOR = Principal("user:2", "aude", "user", frozenset({"auditor"}))
ANA = Principal("user:3", "ana", "user", frozenset({"user"}))
OPERATOR = local_operator(0)
YEARS_LATER = datetime.now(UTC) + timedelta(days=7 * 365)


def on_log(config, work):
    """Run `work(directory, log)` on the opened log of a data folder."""

    async def opened():
        async with open_accounts(config) as (directory, log):
            return await work(directory, log)

    return asyncio.run(opened())


async def said(log, actor: str, text: str, subject: str = "", exchange: str = "0" * 32):
    event = new_event(
        "specialist.run", actor, Outcome.COMPLETED, {}, exchange_id=exchange, content=text.encode(), subject=subject
    )
    return await log.append(event)


def newest(log, event: str) -> list[RecordView]:
    return [view for view in log.records(limit=200) if view.event == event]


async def hits(directory, log, principal, **wanted) -> tuple[list[RecordView], SearchProgress]:
    steps = [step async for step in await audit_search.search(directory, log, principal, AuditSearch(**wanted))]
    assert isinstance(steps[-1], SearchProgress) and steps[-1].done
    return [step for step in steps if isinstance(step, RecordView)], steps[-1]


def test_search_finds_by_subject_text_and_actor_and_is_recorded_first(config):
    async def work(directory, log):
        first = await said(log, "user:3", "Frau Müller hustet", "MRN 1")
        await said(log, "user:4", "Herr Meier auch", "MRN 2", "1" * 32)
        by_subject, _ = await hits(directory, log, AUDITOR, subject=" MRN 1")
        by_text, end = await hits(directory, log, AUDITOR, text="müller", event="specialist.run")
        by_exchange, _ = await hits(directory, log, AUDITOR, exchange_id="1" * 32)
        assert [view.record_id for view in by_subject] == [first.record_id.hex()]
        assert [view.record_id for view in by_text] == [first.record_id.hex()] and end.complete
        assert [view.actor for view in by_exchange] == ["user:4"]
        searches = newest(log, "audit.search")
        assert [view.attributes["fields"] for view in searches] == ["exchange_id", "event text", "subject"]
        assert all("MRN" not in json.dumps(dict(view.attributes)) for view in searches)
        assert b"MRN" not in log.content(bytes.fromhex(searches[-1].record_id))

    on_log(config, work)


def test_user_finds_own_records_only_and_looks_into_no_contents(config):
    async def work(directory, log):
        await said(log, "user:3", "a")
        await said(log, "user:4", "b")
        found, _ = await hits(directory, log, ANA)
        assert {view.actor for view in found} == {"user:3"}
        for wanted in (AuditSearch(actor="user:4"), AuditSearch(text="b")):
            with pytest.raises(PermissionDenied):
                await audit_search.search(directory, log, ANA, wanted)

    on_log(config, work)


@pytest.mark.parametrize(
    ("wanted", "word"),
    [
        ({"from_": datetime(2026, 2, 1), "to": datetime(2026, 1, 1)}, "earlier"),
        ({"event": "audit.lst"}, "audit.list"),
        ({"outcome": "good"}, "completed"),
        ({"subject": "a\x07b"}, "one line"),
        ({"limit": 0}, "10000"),
        ({"text": "x" * 300}, "shorter"),
    ],
    ids=["window upside down", "unknown event", "unknown outcome", "control character", "no hits", "long text"],
)
def test_search_that_cannot_be_meant_is_refused_with_what_to_do_and_not_recorded(config, wanted, word):
    async def work(directory, log):
        with pytest.raises(InvalidRequest) as refused:
            await audit_search.search(directory, log, AUDITOR, AuditSearch(**wanted))
        assert word in refused.value.hint
        assert newest(log, "audit.search") == []

    on_log(config, work)


def test_hold_needs_two_people_and_the_first_request_is_a_record(config):
    async def work(directory, log):
        placed = await audit_holds.place_hold(log, ADMIN, subjects=["MRN 1"], classes=[], reason="case-1")
        assert (await audit_holds.release_hold(log, ADMIN, placed.hold)).state == "requested"
        with pytest.raises(SecondPersonNeeded):
            await audit_holds.release_hold(log, ADMIN, placed.hold)
        (listed,) = await audit_holds.list_holds(directory, log, AUDITOR)
        assert (listed.by, listed.release_requested_by, listed.view.released_seq) == ("user:1", "user:1", None)
        assert (await audit_holds.release_hold(log, AUDITOR, placed.hold)).state == "released"
        (listed,) = await audit_holds.list_holds(directory, log, AUDITOR)
        assert listed.view.approvals == "user:1,user:2" and listed.release_requested_by is None
        with pytest.raises(Conflict):
            await audit_holds.release_hold(log, ADMIN, placed.hold)
        assert len(newest(log, "hold.release_requested")) == 1
        outcomes = [view.outcome for view in newest(log, "hold.release_approve")]
        assert outcomes == ["refused", "completed", "accepted", "refused"]

    on_log(config, work)


def test_two_names_of_the_operating_system_are_not_two_people(config):
    async def work(_directory, log):
        placed = await audit_holds.place_hold(log, OPERATOR, subjects=[], classes=["exchange"], reason="case-1")
        await audit_holds.release_hold(log, OPERATOR, placed.hold)
        with pytest.raises(SecondPersonNeeded):
            await audit_holds.release_hold(log, local_operator(1000), placed.hold)
        assert (await audit_holds.release_hold(log, AUDITOR, placed.hold)).state == "released"

    on_log(config, work)


def test_hold_that_covers_nothing_or_gives_prose_as_its_reason_is_refused(config):
    async def work(_directory, log):
        for subjects, classes, reason, kind in (
            ([], [], "case-1", InvalidRequest),
            (["a\nb"], [], "case-1", InvalidRequest),
            ([], ["everything"], "case-1", UnknownOption),
            ([], ["exchange"], "because of Mr Meier", InvalidRequest),
        ):
            with pytest.raises(kind) as refused:
                await audit_holds.place_hold(log, ADMIN, subjects=subjects, classes=classes, reason=reason)
            assert refused.value.hint
        with pytest.raises(PermissionDenied):
            await audit_holds.place_hold(log, ANA, subjects=["a"], classes=[], reason="case-1")
        with pytest.raises(NotFound):
            await audit_holds.release_hold(log, ADMIN, "00" * 8)
        assert log.holds() == []

    on_log(config, work)


def test_shred_destroys_one_subject_and_a_hold_beats_it(config):
    async def work(directory, log):
        mine = await said(log, "user:3", "about one", "MRN 1")
        other = await said(log, "user:3", "about two", "MRN 2")
        placed = await audit_holds.place_hold(log, ADMIN, subjects=["MRN 1"], classes=[], reason="case-1")
        with pytest.raises(UnderLegalHold):
            await audit_retention.shred(log, ADMIN, "MRN 1", "request-1")
        assert log.content(mine.record_id) == b"about one"
        await audit_holds.release_hold(log, ADMIN, placed.hold)
        await audit_holds.release_hold(log, AUDITOR, placed.hold)
        certificate = await audit_retention.shred(log, ADMIN, "MRN 1", "request-1")
        assert (certificate.grade, certificate.records) == ("B", 1) and "backup" in certificate.statement
        assert log.content(mine.record_id) is None and log.content(other.record_id) == b"about two"
        outcomes = [view.outcome for view in newest(log, "erasure.shred")]
        assert outcomes == ["completed", "accepted", "refused", "accepted"]
        assert all("MRN" not in json.dumps(dict(view.attributes)) for view in log.records(limit=200))
        (listed,) = await audit_retention.list_erasures(log, ADMIN)
        assert (listed.kind, listed.done) == ("shred", True)
        with pytest.raises(NotFound):
            await audit_retention.shred(log, ADMIN, "MRN 1", "request-1")
        with pytest.raises(PermissionDenied):
            await audit_retention.shred(log, AUDITOR, "MRN 2", "request-1")

    on_log(config, work)


def test_retention_begins_as_configured_and_is_only_lengthened(config):
    async def work(_directory, log):
        await audit_retention.begin_retention(config, log)
        await audit_retention.begin_retention(config, log)
        rules = {rule.record_class: rule.months for rule in await audit_retention.list_retention(log, ADMIN)}
        assert rules == {"exchange": 72, "administration": 72}
        assert (await audit_retention.change_retention(log, ADMIN, "exchange", 96))[0].months == 96
        with pytest.raises(RetentionShortened):
            await audit_retention.change_retention(log, ADMIN, "exchange", 72)
        assert [view.outcome for view in newest(log, "retention.change")] == [
            "refused",
            "accepted",
            "completed",
            "accepted",
        ]
        with pytest.raises(UnknownOption):
            await audit_retention.change_retention(log, ADMIN, "everything", 96)
        assert len(newest(log, "retention")) == 3

    on_log(config, work)


def test_what_expired_is_destroyed_and_what_is_held_stays(config):
    async def work(_directory, log):
        await audit_retention.begin_retention(config, log)
        held = await said(log, "user:3", "about one", "MRN 1")
        due = await said(log, "user:3", "about two", "MRN 2")
        await audit_holds.place_hold(log, ADMIN, subjects=["MRN 1"], classes=[], reason="case-1")
        run = await audit_retention.run_retention(log, "system", YEARS_LATER)
        assert [each.record_class for each in run.held] == ["exchange"] and run.held[0].hold == log.holds()[0].hold_id
        assert {each.record_class for each in run.purged} == {"exchange", "administration"}
        assert log.content(held.record_id) == b"about one" and log.content(due.record_id) is None

    on_log(config, work)


def test_activity_counts_what_was_recorded_and_refuses_a_window_upside_down(config):
    async def work(_directory, log):
        await said(log, "user:3", "a")
        now = datetime.now(UTC)
        buckets = await audit_search.show_activity(log, AUDITOR, now - timedelta(hours=1), now + timedelta(hours=1), 4)
        assert sum(bucket.exchange for bucket in buckets) == 1 and len(buckets) == 4
        with pytest.raises(InvalidRequest):
            await audit_search.show_activity(log, AUDITOR, now, now - timedelta(hours=1), 4)
        with pytest.raises(InvalidRequest, match="before the year 1"):
            before_all = datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14)))
            await audit_search.show_activity(log, AUDITOR, before_all, now, 4)
        with pytest.raises(PermissionDenied):
            await audit_search.show_activity(log, ANA, now - timedelta(hours=1), now, 4)

    on_log(config, work)
