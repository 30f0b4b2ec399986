"""What `appliance doctor` examines: the machine, the data folder, the keys, the log, the engine and its isolation.

Each check returns one `Check`; none stops the others, so that one report names everything that is wrong.
"""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
import stat
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from appliance import __version__
from appliance.audit.key_slots import RECOVERY, Slot, list_slots, slot_of
from appliance.audit.log import RecordView
from appliance.audit.quarantine import HINT, read_quarantine
from appliance.audit.root_source import unlock
from appliance.audit.stored_view import StoredView
from appliance.config import Config, Home
from appliance.crypto.certificates import Facts
from appliance.errors import ApplianceError
from appliance.service.anchoring import exposure_of
from appliance.service.appliance import Appliance, open_appliance
from appliance.service.audit_state import audit_state
from appliance.service.backup.backups import CREATED, DRILLED, last_ended
from appliance.service.egress.egress import EgressTest, last_test, try_to_leave
from appliance.service.events import record_looking
from appliance.service.gpu import gpu_finding
from appliance.service.home import check_home
from appliance.service.models import damaged_models
from appliance.service.requests import SpecialistRequest, answer
from appliance.service.rooms import open_log
from appliance.service.site_certificate import certificate_facts
from appliance.specialists.registry import SpecialistEntry
from appliance.storage.database import sqlite_version
from appliance.types import Outcome, Principal, Task

State = Literal["ok", "warn", "fail"]
_MEMORY_BYTES_MIN = 1024**3
_DISK_BYTES_MIN = 1024**3
_CERTIFICATE_DAYS = 30  # left, when somebody is told


@dataclass(frozen=True, slots=True)
class Check:
    """One finding: what was looked at, what was found, and what to do if it is not well."""

    name: str
    state: State
    found: str
    remedy: str = ""


async def examine(config: Config, principal: Principal, *, start_engine: bool = True) -> tuple[Check, ...]:
    """All checks, in the order in which a person would repair what they name. Recorded where the log takes it."""
    checks = [check_release(), check_sqlite(), check_memory(_memory_bytes()), _check_disk(config)]
    checks.append(await _guarded("data folder", lambda: _check_folder(config.home)))
    if checks[-1].state == "fail":
        return tuple(checks)
    checks.append(check_modes(config.home))
    checks.append(check_models(await asyncio.to_thread(damaged_models, config)))
    checks.append(await _guarded("root key", lambda: _check_root_key(config)))
    checks += await _log_checks(config, principal)
    checks.append(await _guarded("exposure", lambda: _check_exposure(config)))
    checks.append(await _guarded("certificate", lambda: _check_certificate(config)))
    checks.append(await _guarded("recovery kit", lambda: _check_kit(config)))
    if start_engine:
        checks.append(await _check_gpu(config))
        checks += await _engine_checks(config, principal)
    return tuple(checks)


async def examine_egress(config: Config, principal: Principal) -> EgressTest:
    """Really try to leave the machine, and record what came of it. Raises what opening the log raises."""
    async with open_log(config) as log:
        return await try_to_leave(config, log, principal)


def check_release() -> Check:
    """Which release on which Python and processor."""
    return Check("release", "ok", f"Cloister {__version__}, Python {platform.python_version()}, {platform.machine()}")


def check_sqlite() -> Check:
    """The SQLite in use is one without the WAL-reset corruption (storage refuses an older one)."""
    return Check("sqlite", "ok", sqlite_version())


def check_memory(available: int) -> Check:
    """Enough memory for the base model and a few specialists."""
    state: State = "ok" if available >= _MEMORY_BYTES_MIN else "warn"
    return Check("memory", state, f"{available / 2**30:.1f} GiB", "1 GiB or more is needed to serve many users")


def check_disk(place: Path, free: int, needed: int) -> Check:
    """Room for the log to grow; below `needed` bytes it records nothing more, and nothing is answered."""
    state: State = "fail" if free < needed else "warn" if free < _DISK_BYTES_MIN else "ok"
    return Check("disk", state, f"{free / 2**30:.1f} GiB free at {place}", "free some space: a full disk stops answers")


def _memory_bytes() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _check_disk(config: Config) -> Check:
    place = next(path for path in (config.home.root, *config.home.root.parents) if path.exists())
    return check_disk(place, shutil.disk_usage(place).free, config.audit.disk_free_bytes_min)


def check_modes(home: Home) -> Check:
    """Nobody but the owner can read the folder."""
    open_paths = [path for path in home.folders() if stat.S_IMODE(path.stat().st_mode) & 0o077]
    if not open_paths:
        return Check("permissions", "ok", "readable by the owner only")
    return Check("permissions", "fail", f"{open_paths[0]} is readable by others", f"chmod -R go= {home.root}")


def check_models(damaged: Sequence[ApplianceError]) -> Check:
    """Every model that was taken in can be listed; one that cannot is left out of everything."""
    if not damaged:
        return Check("models", "ok", "every manifest of a model that writes can be read")
    return Check("models", "warn", "; ".join(each.message for each in damaged), damaged[0].hint or "")


async def _guarded(name: str, check: Callable[[], Awaitable[Check]]) -> Check:
    try:
        return await check()
    except ApplianceError as error:
        return Check(name, "fail", error.message, error.hint or "see the documentation")


async def _check_folder(home: Home) -> Check:
    await asyncio.to_thread(check_home, home)
    return Check("data folder", "ok", str(home.root))


async def _check_root_key(config: Config) -> Check:
    slot = await asyncio.to_thread(slot_of, config.home, unlock(config))
    return Check("root key", "ok", f"from the {config.keys.source}; it opens slot {slot}")


async def _log_checks(config: Config, principal: Principal) -> list[Check]:
    """The log, and what it says of backups and of the proof that nothing leaves."""
    try:
        async with open_log(config) as log:
            await record_looking(log, principal, "doctor.examined")
            state = audit_state(log)
            if state.state != "ready":
                return [Check("audit log", "fail", f"{state.state}: {state.reason}", state.remedy)]
            note = await asyncio.to_thread(log.checkpoint)
            made, drilled = [await asyncio.to_thread(last_ended, log, event) for event in (CREATED, DRILLED)]
            tested = await asyncio.to_thread(last_test, log)
    except ApplianceError as error:
        return [Check("audit log", "fail", error.message, error.hint or "see the documentation")]
    size = note.split("\n")[1]
    return [
        Check("audit log", "ok", f"{size} records under a signed checkpoint"),
        check_backup(config, made, drilled),
        check_egress(config, tested),
    ]


async def _check_exposure(config: Config) -> Check:
    """How old the newest checkpoint outside this machine is: what came after it could be rewritten here unseen."""
    quarantine = await asyncio.to_thread(read_quarantine, config.home.audit_database.parent)
    if quarantine is not None:
        return Check("exposure", "fail", f"the audit log is quarantined: {quarantine.why}", HINT)
    found = await asyncio.to_thread(exposure_of, config, StoredView(config.home))
    if not found.sinks:
        remedy = "run a witness on another machine (appliance witness init) and name it in witness.url"
        return Check("exposure", "warn", "no checkpoint leaves this machine", remedy)
    where = ", ".join(sink.sink for sink in found.sinks)
    age = "no checkpoint has left this machine yet" if found.age_s is None else f"{found.age_s:.0f} s"
    said = f"{age}; target {found.target_s:g} s; {found.anchored_size} of {found.size} records are outside ({where})"
    remedy = "is the server running, and are the witness and the SIEM reachable? see appliance audit exposure"
    return Check("exposure", "warn" if found.alarm else "ok", said, remedy)


def check_egress(config: Config, last: RecordView | None) -> Check:
    """What the last proof said that nothing leaves."""
    remedy = "appliance doctor --egress tries every way out and says what to close"
    if last is None:
        return Check("egress", "warn", "it was never tried to leave this machine", remedy)
    said = f"{last.attributes.get('verdict')}, tried {_age_s(last) / 3600:.0f} h ago"
    old = _age_s(last) > 2 * config.egress.every_s
    return Check("egress", "warn" if old or last.outcome != Outcome.COMPLETED else "ok", said, remedy)


async def _check_certificate(config: Config) -> Check:
    return check_certificate(await asyncio.to_thread(certificate_facts, config))


def check_certificate(facts: Facts | None) -> Check:
    """How long browsers go on believing this server."""
    if facts is None:
        return Check("certificate", "ok", "none: the server is reached on this machine, or by a proxy that has one")
    left = (facts.not_after - datetime.now(UTC)).days
    state: State = "fail" if left < 0 else "warn" if left < _CERTIFICATE_DAYS else "ok"
    remedy = "appliance tls create NAME, or appliance tls use FILE KEY; then start the server again"
    return Check("certificate", state, f"for {', '.join(facts.names)}, until {facts.not_after:%Y-%m-%d}", remedy)


async def _check_kit(config: Config) -> Check:
    return check_kit(await asyncio.to_thread(list_slots, config.home))


def check_kit(slots: Sequence[Slot]) -> Check:
    """Whether the log and its backups can be opened without the root key of this machine."""
    numbers = [str(slot.number) for slot in slots if slot.use == RECOVERY]
    if numbers:
        return Check("recovery kit", "ok", f"opens slot {', '.join(numbers)}")
    remedy = (
        "appliance recovery-kit create: without it a lost root key is the loss of everything, and no backup is made"
    )
    return Check("recovery kit", "warn", "there is none", remedy)


def check_backup(config: Config, made: RecordView | None, drilled: RecordView | None) -> Check:
    """How old the newest backup is, and how the last rehearsal of a restore ended."""
    settings = config.backup
    said = f"{_ended('backup', made)}; {_ended('rehearsal of a restore', drilled)}"
    if made is None and settings.folder is None:
        remedy = "set backup.folder in config.toml, or: appliance backup create --to FOLDER"
        return Check("backup", "warn", "no backup was ever made", remedy)
    remedy = "appliance backup create, appliance backup drill; they say what is wrong"
    failed = any(view is not None and view.outcome != Outcome.COMPLETED for view in (made, drilled))
    late = settings.folder is not None and (made is None or _age_s(made) > 2 * settings.every_s)
    return Check("backup", "fail" if failed else "warn" if late or drilled is None else "ok", said, remedy)


def _ended(what: str, view: RecordView | None) -> str:
    if view is None:
        return f"no {what} yet"
    how = "" if view.outcome == Outcome.COMPLETED else f" failed ({view.attributes.get('error')})"
    return f"last {what}{how} {_age_s(view) / 3600:.0f} h ago"


def _age_s(view: RecordView) -> float:
    return max(0.0, (datetime.now(UTC) - view.time).total_seconds())


async def _check_gpu(config: Config) -> Check:
    found = await gpu_finding(config.generation)
    return Check("gpu", found.state, found.found, found.remedy)


async def _engine_checks(config: Config, principal: Principal) -> list[Check]:
    """The worker, and one answer from each specialist, recorded and released as every other."""
    try:
        async with open_appliance(config, via="cli") as appliance:
            status = appliance.engine.status()
            entries = await asyncio.to_thread(appliance.registry.list)
            silent = [entry.ref.id for entry in entries if not await _answers(appliance, principal, entry)]
    except ApplianceError as error:
        return [Check("engine", "fail", error.message, error.hint or "see the documentation")]
    found = f"{status.device}; isolation: {status.isolation}"
    remedy = "the worker could not cut itself off from the network; run it on a kernel with seccomp or user namespaces"
    answered = f"{len(entries) - len(silent)} of {len(entries)} answered"
    said = f"{answered}; silent: {', '.join(silent)}" if silent else answered
    advice = "appliance specialists verify NAME; then roll that one back, or install it again"
    return [
        Check("engine", "ok" if status.isolated else "warn", found, remedy),
        Check("specialists", "fail" if silent else "ok", said, advice),
    ]


async def _answers(appliance: Appliance, principal: Principal, entry: SpecialistEntry) -> bool:
    try:
        await answer(appliance, principal, canary(entry))
    except ApplianceError:
        return False  # the record of the exchange says why
    return True


def canary(entry: SpecialistEntry) -> SpecialistRequest:
    """A question that a specialist of this task takes, and that says nothing of anybody."""
    manifest, name = entry.manifest, entry.ref.id
    if manifest.task == Task.ANSWER:
        return SpecialistRequest(None, name, question="When does it open?", context="It opens at nine.")
    if manifest.task == Task.CLASSIFY and manifest.unit == "sentence":
        return SpecialistRequest(None, name, sentences=("It opens at nine.",))
    about = ((manifest.context_name, "opening"),) if manifest.context_name else ()
    return SpecialistRequest("It opens at nine.", name, about=about)
