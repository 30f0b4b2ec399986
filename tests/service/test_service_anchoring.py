"""What the server and `doctor` say of checkpoints outside the machine; settings that cannot work stop the start."""

import asyncio
import dataclasses
import math

import pytest
from witness_service import NAME, running_witness

from appliance.accounts.actions import local_operator
from appliance.api.metrics import Metrics
from appliance.audit.keystore import public_material
from appliance.audit.log import AuditLog
from appliance.audit.quarantine import MARKER_FILE, enter_quarantine
from appliance.audit.root_key import read_root_key
from appliance.audit.stored_view import StoredView
from appliance.config import SiemConfig, WitnessConfig
from appliance.errors import AuditQuarantined, ConfigInvalid
from appliance.service.anchoring import (
    Anchors,
    anchored,
    ask_before_recording,
    compare_receipt,
    configured_sinks,
    exposure_of,
)
from appliance.service.audit_verify import verify_unopened
from appliance.service.doctor import examine
from appliance.service.events import new_event
from appliance.service.rooms import open_log
from appliance.types import Outcome


@pytest.fixture
def witness(tmp_path, home):
    with running_witness(tmp_path / "witness", *public_material(home).verifier_keys) as running:
        yield running


@pytest.fixture
def witnessed(config, witness):
    return dataclasses.replace(config, witness=witness.settings)


def exposure_line(config):
    checks = asyncio.run(examine(config, local_operator(0), start_engine=False))
    return next(check for check in checks if check.name == "exposure")


def an_event():
    return new_event("audit.list", "user:1", Outcome.COMPLETED)


async def opened_log(config):
    return await AuditLog.open(config, read_root_key(config.home.root_key_file))


def test_a_task_in_the_server_keeps_the_window_small_and_everybody_says_so(witnessed, witness):
    async def run():
        log = await opened_log(witnessed)
        try:
            await log.append(an_event())
            anchors = Anchors(witnessed, log, transport=witness.transport())
            assert anchors.exposure().age_s is None
            watching = asyncio.create_task(anchors.watch())
            async with asyncio.timeout(60):
                while not anchors.exposure().anchored_size:
                    await asyncio.sleep(0.01)
            watching.cancel()
            await asyncio.wait({watching})
            return anchors.exposure(), exposure_of(witnessed, log)
        finally:
            await log.close()

    window, told = asyncio.run(run())
    assert not window.alarm
    assert window.age_s < 120
    assert [(sink.sink, sink.problem) for sink in window.sinks] == [(f"witness:{NAME}", None)]
    assert (told.anchored_size, told.sinks[0].size) == (window.anchored_size, window.anchored_size)
    line = exposure_line(witnessed)
    assert line.state == "ok"
    assert f"{window.anchored_size} of" in line.found


def test_doctor_says_when_nothing_leaves_the_machine_and_when_the_log_is_quarantined(config):
    assert (exposure_line(config).state, "witness init" in exposure_line(config).remedy) == ("warn", True)
    enter_quarantine(config.home.audit_database.parent, "a witness remembers more", "")
    line = exposure_line(config)
    assert (line.state, line.found) == ("fail", "the audit log is quarantined: a witness remembers more")


def test_a_witness_or_siem_that_cannot_be_used_stops_the_start(config):
    for settings in ({"url": "http://witness.example"}, {"url": "https://witness.example", "verifier_key": "x"}):
        with pytest.raises(ConfigInvalid):
            asyncio.run(ask_before_recording(dataclasses.replace(config, witness=WitnessConfig(**settings))))


def test_sinks_are_those_of_the_configuration(witnessed):
    assert configured_sinks(witnessed) == (f"witness:{NAME}",)
    both = dataclasses.replace(witnessed, siem=SiemConfig(host="siem.example"))
    assert configured_sinks(both) == (f"witness:{NAME}", "siem:siem.example")


def test_a_receipt_is_compared_by_every_key_that_ever_signed(config):
    async def run():
        log = await opened_log(config)
        try:
            event = an_event()
            await log.append(event)
            proof = log.proof_text(event.record_id)
            await log.rotate_signing_key("scheduled")
            return await compare_receipt(config, log, proof), await compare_receipt(config, log, "nothing")
        finally:
            await log.close()

    ours, nothing = asyncio.run(run())
    assert (ours.verdict, nothing.verdict, nothing.seq) == ("in_log", "invalid", None)


def test_a_quarantined_log_is_anchored_nowhere_and_read(config):
    async def run():
        first = await opened_log(config)
        await first.append(an_event())
        await first.close()
        enter_quarantine(config.home.audit_database.parent, "seen elsewhere", "")
        log = await opened_log(dataclasses.replace(config, siem=SiemConfig(host="siem.example")))
        try:
            async with anchored(config, log) as anchors:
                window = anchors.exposure()
            with pytest.raises(AuditQuarantined):
                await log.append(an_event())
            return window.size, len(log.records())
        finally:
            await log.close()

    size, shown = asyncio.run(run())
    assert size >= shown > 0
    assert StoredView(config.home).checkpoint()


def test_metrics_carry_the_window_by_sink(config):
    metrics = Metrics()
    metrics.exposure_seconds.set(math.nan)
    metrics.anchored_size.labels("witness:w").set(7)
    names = {metric.name for metric in metrics.registry.collect()}
    assert {"cloister_audit_exposure_seconds", "cloister_audit_exposure_alarm", "cloister_audit_anchored_size"} <= names


def test_a_quarantined_log_is_never_called_intact_whatever_its_files_say(config):
    async def record_the_start():
        async with open_log(config):
            pass

    asyncio.run(record_the_start())
    folder = config.home.audit_database.parent
    for cut, expected in ((True, (11, "truncated")), (False, (12, "forked"))):
        enter_quarantine(folder, "a witness remembers more", "", cut=cut)
        verdict = asyncio.run(verify_unopened(config))
        assert (verdict.exit_code, verdict.verdict) == expected
        assert "a witness remembers more" in " ".join(verdict.messages)
        (folder / MARKER_FILE).unlink()
    assert asyncio.run(verify_unopened(config)).exit_code == 0
