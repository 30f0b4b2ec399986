"""Whoever may read records reads who their actors are: the name of now, or that the account is no longer there.

Over a real log and real accounts. What the log stores stays ids.
"""

import asyncio
from dataclasses import replace
from datetime import timedelta

from appliance.accounts.actions import local_operator
from appliance.service import accounts, audit, audit_holds, audit_search
from appliance.service.actors import ActorNames
from appliance.service.audit_search import AuditSearch
from appliance.service.events import new_event
from appliance.service.rooms import open_accounts
from appliance.types import Outcome, Principal

OPERATOR = local_operator(0)
AUDITOR = Principal("user:90", "aude", "user", frozenset({"auditor"}))


def with_ana(config, work):
    """Run `work(directory, log, ana)` beside an account of Ana's, who has a key "lab"."""

    async def opened():
        async with open_accounts(config) as (directory, log):
            ana = await accounts.create_account(directory, log, OPERATOR, "ana", "river-lantern-copper-7", ["user"])
            key, _ = await accounts.create_api_key(directory, log, OPERATOR, "ana", "lab", ["specialist.run"], 1)
            for actor in (f"user:{ana.id}", f"api-key:{key.id}", "user:77", "api-key:77"):
                await log.append(new_event("specialist.run", actor, Outcome.COMPLETED))
            return await work(directory, log, f"user:{ana.id}")

    return asyncio.run(opened())


def told(views):
    return {view.actor: (view.actor_name, view.actor_gone) for view in views}


def test_list_of_records_names_people_and_their_keys_and_says_who_is_gone(config):
    async def work(directory, log, ana):
        page = await audit.list_records(config, directory, log, AUDITOR, audit.RecordQuery(limit=200))
        who = told(page.records)
        assert who[ana] == ("ana", False)
        assert [who[actor] for actor in who if actor.startswith("api-key:")] == [(None, True), ("ana/lab", False)]
        assert who["user:77"] == (None, True)
        assert who[OPERATOR.id] == who["sequencer"] == (None, False)

    with_ana(config, work)


def test_one_record_and_every_hit_of_a_search_name_who_it_was(config):
    async def work(directory, log, ana):
        wanted = AuditSearch(event="specialist.run")
        steps = [step async for step in await audit_search.search(directory, log, AUDITOR, wanted)]
        hits = [step for step in steps if hasattr(step, "record_id")]
        assert told(hits)[ana] == ("ana", False) and told(hits)["user:77"] == (None, True)
        shown, _ = await audit.show_record(directory, log, AUDITOR, hits[-1].record_id)
        assert (shown.actor, shown.actor_name) == (ana, "ana")

    with_ana(config, work)


def test_record_older_than_the_account_with_its_number_was_somebody_else(config):
    async def work(directory, log, ana):
        (view,) = [view for view in log.records(limit=200) if view.actor == ana]
        names = ActorNames(directory)
        older = replace(view, time=view.time - timedelta(days=1))
        assert told(names.add_to([view])) == {ana: ("ana", False)}
        assert told(names.add_to([older])) == {ana: (None, True)}

    with_ana(config, work)


def test_hold_names_who_placed_it_and_who_asked_for_its_release(config):
    async def work(directory, log, ana):
        holder = Principal(ana, "ana", "user", frozenset({"admin"}))
        placed = await audit_holds.place_hold(log, holder, subjects=["MRN 1"], classes=[], reason="case-1")
        await audit_holds.release_hold(log, holder, placed.hold)
        await audit_holds.place_hold(log, OPERATOR, subjects=["MRN 2"], classes=[], reason="case-2")
        operators, listed = await audit_holds.list_holds(directory, log, AUDITOR)
        assert (placed.by, placed.by_name) == (listed.by, listed.by_name) == (ana, "ana")
        assert (listed.release_requested_by, listed.release_requested_by_name) == (ana, "ana")
        assert (operators.by, operators.by_name, operators.release_requested_by) == (OPERATOR.id, None, None)

    with_ana(config, work)
