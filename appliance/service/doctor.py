"""What `appliance doctor` examines: the machine, the data folder, the keys, the log, the engine and its isolation.

Each check returns one `Check`; none stops the others, so that one report names everything that is wrong.
"""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
import stat
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from appliance import __version__
from appliance.audit.key_slots import slot_of
from appliance.audit.quarantine import HINT, read_quarantine
from appliance.audit.root_source import unlock
from appliance.audit.stored_view import StoredView
from appliance.config import Config, Home
from appliance.errors import ApplianceError
from appliance.service.anchoring import exposure_of
from appliance.service.appliance import open_appliance, open_log
from appliance.service.audit_state import audit_state
from appliance.service.events import record_looking
from appliance.service.home import check_home
from appliance.storage.database import sqlite_version
from appliance.types import Principal

State = Literal["ok", "warn", "fail"]
_MEMORY_BYTES_MIN = 1024**3
_DISK_BYTES_MIN = 1024**3


@dataclass(frozen=True, slots=True)
class Check:
    """One finding: what was looked at, what was found, and what to do if it is not well."""

    name: str
    state: State
    found: str
    remedy: str = ""


async def examine(config: Config, principal: Principal, *, start_engine: bool = True) -> tuple[Check, ...]:
    """All checks, in the order in which a person would repair what they name. Recorded where the log takes it."""
    checks = [check_release(), check_sqlite(), check_memory(), check_disk(config.home)]
    checks.append(await _guarded("data folder", lambda: _check_folder(config.home)))
    if checks[-1].state == "fail":
        return tuple(checks)
    checks.append(check_modes(config.home))
    checks.append(await _guarded("root key", lambda: _check_root_key(config)))
    checks.append(await _guarded("audit log", lambda: _check_log(config, principal)))
    checks.append(await _guarded("exposure", lambda: _check_exposure(config)))
    if start_engine:
        checks.append(await _guarded("engine", lambda: _check_engine(config)))
    return tuple(checks)


def check_release() -> Check:
    """Which release on which Python and processor."""
    return Check("release", "ok", f"Cloister {__version__}, Python {platform.python_version()}, {platform.machine()}")


def check_sqlite() -> Check:
    """The SQLite in use is one without the WAL-reset corruption (storage refuses an older one)."""
    return Check("sqlite", "ok", sqlite_version())


def check_memory() -> Check:
    """Enough memory for the base model and a few specialists."""
    available = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    state: State = "ok" if available >= _MEMORY_BYTES_MIN else "warn"
    return Check("memory", state, f"{available / 2**30:.1f} GiB", "1 GiB or more is needed to serve many users")


def check_disk(home: Home) -> Check:
    """Room for the log to grow."""
    place = next(path for path in (home.root, *home.root.parents) if path.exists())
    free = shutil.disk_usage(place).free
    state: State = "ok" if free >= _DISK_BYTES_MIN else "warn"
    return Check("disk", state, f"{free / 2**30:.1f} GiB free at {place}", "free some space: a full disk stops answers")


def check_modes(home: Home) -> Check:
    """Nobody but the owner can read the folder."""
    open_paths = [path for path in home.folders() if stat.S_IMODE(path.stat().st_mode) & 0o077]
    if not open_paths:
        return Check("permissions", "ok", "readable by the owner only")
    return Check("permissions", "fail", f"{open_paths[0]} is readable by others", f"chmod -R go= {home.root}")


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


async def _check_log(config: Config, principal: Principal) -> Check:
    async with open_log(config) as log:
        await record_looking(log, principal, "doctor.examined")
        state = audit_state(log)
        if state.state != "ready":
            return Check("audit log", "fail", f"{state.state}: {state.reason}", state.remedy)
        note = await asyncio.to_thread(log.checkpoint)
    size = note.split("\n")[1]
    return Check("audit log", "ok", f"{size} records under a signed checkpoint")


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


async def _check_engine(config: Config) -> Check:
    async with open_appliance(config, via="cli") as appliance:
        status = appliance.engine.status()
    found = f"{status.device}; isolation: {status.isolation}"
    remedy = "the worker could not cut itself off from the network; run it on a kernel with seccomp or user namespaces"
    return Check("engine", "ok" if status.isolated else "warn", found, remedy)
