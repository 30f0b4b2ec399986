"""What protects a site is told as the log has it: nothing before anything was done, and failures as failures."""

import asyncio
from dataclasses import replace

import pytest

from appliance.accounts.actions import local_operator
from appliance.api.schemas_protection import protection_body
from appliance.audit.log import AuditLog
from appliance.audit.recovery_kit import add_recovery_slot
from appliance.audit.root_key import read_root_key
from appliance.config import load_config
from appliance.crypto.keys import random_key
from appliance.errors import NotFound, PermissionDenied
from appliance.service.backup import backups, shelf
from appliance.service.egress.egress import TESTED, try_to_leave
from appliance.service.events import new_event
from appliance.service.protection import show_protection
from appliance.service.site_certificate import make_certificate
from appliance.types import Outcome, Principal

ME = local_operator(0)
AUDITOR = Principal("user:2", "otto", "person", frozenset({"auditor"}))


def test_the_facts_are_those_of_the_log_and_the_keystore(home, tmp_path):
    home.config_file.write_text(f'[backup]\nfolder = "{tmp_path}"\n[egress]\ntimeout_s = 0.1\n')
    config, root_key = load_config(home.root), read_root_key(home.root_key_file)

    async def work():
        log = await AuditLog.open(config, root_key)
        try:
            empty = await show_protection(config, log, ME)
            facts = protection_body(empty).model_dump()
            assert {check["name"]: check["state"] for check in facts.pop("checks")} == {
                "egress": "warn", "backup": "warn", "recovery kit": "warn", "certificate": "ok"
            }  # fmt: skip
            assert facts == {
                "egress": None, "backup": None, "drill": None, "recovery_kit": False, "certificate": None
            }  # fmt: skip
            add_recovery_slot(home, root_key, random_key())
            shelf.begin_shelf(tmp_path, home)
            with pytest.raises(NotFound):
                await backups.drill(config, log, root_key, ME)
            await backups.create_backup(config, log, root_key, ME)
            tested = await try_to_leave(config, log, ME)
            made = await make_certificate(config, log, ME, ["ward3.clinic.example"])
            view = await show_protection(load_config(home.root), log, ME)
            assert view.recovery_kit and view.backup.succeeded and view.certificate == made
            assert (view.drill.succeeded, view.drill.error) == (False, "not_found")
            assert view.egress.verdict == tested.verdict and set(view.egress.ways) == {
                one.kind for one in tested.attempts
            }
            checks = {check.name: check for check in view.checks}
            assert checks["backup"].state == "fail" and "appliance backup drill" in checks["backup"].remedy
            with pytest.raises(PermissionDenied):
                await show_protection(config, log, Principal("user:1", "ana", "person", frozenset({"user"})))
            assert await show_protection(config, log, AUDITOR)
        finally:
            await log.close()

    asyncio.run(work())


def test_nothing_could_leave_since_the_first_test_after_the_last_that_found_a_way(home):
    config, root_key = load_config(home.root), read_root_key(home.root_key_file)

    async def work():
        log = await AuditLog.open(config, root_key)
        try:
            for verdict in ("blocked", "open", "blocked", "blocked"):
                outcome = Outcome.COMPLETED if verdict == "blocked" else Outcome.FAILED
                await log.append(new_event(TESTED, "system", outcome, {"verdict": verdict, "tcp": "refused: no route"}))
            closed = await show_protection(config, log, ME)
            tests = log.records(limit=9, event=TESTED)
            assert (closed.egress.time, closed.egress.blocked_since) == (tests[0].time, tests[1].time)
            assert closed.checks[0].state == "ok"
            late = replace(config, egress=config.egress.model_copy(update={"every_s": 1e-9}))
            unknown = await show_protection(late, log, ME)
            assert (unknown.egress.verdict, unknown.egress.blocked_since) == ("blocked", None)
            assert unknown.checks[0].state == "warn"
            await log.append(new_event(TESTED, "system", Outcome.FAILED, {"verdict": "open", "tcp": "left: 192.0.2.1"}))
            opened = await show_protection(config, log, ME)
            assert opened.egress.blocked_since is None and opened.egress.ways == {"tcp": "left: 192.0.2.1"}
            assert opened.checks[0].state == "warn" and "doctor --egress" in opened.checks[0].remedy
        finally:
            await log.close()

    asyncio.run(work())


def test_a_certificate_that_cannot_be_read_is_a_finding_and_not_the_end_of_the_page(home):
    home.config_file.write_text('[server]\ntls_certificate = "/nowhere/site.pem"\ntls_key = "/nowhere/site.key"\n')
    config, root_key = load_config(home.root), read_root_key(home.root_key_file)

    async def work():
        log = await AuditLog.open(config, root_key)
        try:
            return await show_protection(config, log, ME)
        finally:
            await log.close()

    view = asyncio.run(work())
    found = view.checks[-1]
    assert view.certificate is None and (found.name, found.state) == ("certificate", "fail") and found.remedy
