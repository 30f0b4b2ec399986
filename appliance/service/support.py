"""A file for whoever helps with a fault: facts of the machine, the settings and the log, and nothing of anybody.

    written = await support_bundle(config, principal, Path("support.zip"))

What goes in is chosen by name, never what is there but for exceptions: names of events, outcomes, times and codes of
records, never who, about whom or what; of settings numbers and switches, of texts and paths only that they are set; of
files kinds and sizes. A code is one of a list, whatever stands in a record: somebody's words are not. A test plants
canaries in every field that a person fills, and looks for them.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import re
import sys
import zipfile
from collections import Counter
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from appliance import __version__, errors
from appliance.accounts.actions import Action, authorize
from appliance.audit.auditverify import VERDICTS
from appliance.audit.log import AuditLog, RecordView
from appliance.config import Config
from appliance.errors import ApplianceError, AuditQuarantined, HomeExists, HomeNotInitialised, InvalidRequest
from appliance.service.doctor import examine
from appliance.service.events import announced
from appliance.service.rooms import open_log
from appliance.types import Principal

_RECORDS_MAX = 1000
_FILES_MAX = 10_000
# Attributes whose values are codes of this product; all others may name somebody.
_CODES = ("error", "kind", "state", "verdict", "took_ms", "count", "version", "level")
_WORDS = frozenset(
    {error.code for error in vars(errors).values() if isinstance(error, type) and issubclass(error, ApplianceError)}
    | set(VERDICTS.values())
    | {"interrupted", "cancelled", "internal_error", "blocked", "open", "begun", "ended", "root", "signing", "scope"}
    | {"passphrase", "file", "recovery", "credential", "worker_started", "worker_died", "worker_stuck"}
    | {"adapter_loaded", "adapter_refused"}
)
_OTHER = "another word"
_RELEASE = re.compile(r"[0-9]{1,4}(\.[0-9]{1,4}){1,3}")
_FOLDERS = frozenset({"audit", "db", "keys", "models", "specialists", "tls", "run", "logs", "training"})
_SUFFIXES = frozenset(
    {"", ".db", ".db-shm", ".db-wal", ".db-journal", ".gguf", ".json", ".key", ".lock", ".pem", ".toml"}
)


@dataclass(frozen=True, slots=True)
class Written:
    """The names of its parts. `unrecorded`: why the log has no record of it, empty where it has."""

    parts: tuple[str, ...]
    unrecorded: str = ""


async def support_bundle(config: Config, principal: Principal, target: Path) -> Written:
    """Write the zip file `target`, which must not exist. Recorded where the log takes a record.

    A log that does not open, or takes no more, is what help is needed for: then its fault stands in the file, as a
    code. Raises `PermissionDenied`, `HomeNotInitialised`, and what `write_support_bundle` does.
    """
    async with AsyncExitStack() as opened:
        try:
            log = await opened.enter_async_context(open_log(config))
        except HomeNotInitialised:
            raise
        except ApplianceError as error:
            parts = await _facts(config, principal) | {"log.json": {"problem": error.code}}
            await asyncio.to_thread(_write, target, parts)
            return Written(tuple(parts), error.message)
        if log.quarantine is None:
            return Written(tuple(await write_support_bundle(config, log, principal, target)))
        parts = await _facts(config, principal) | {"log.json": {"problem": AuditQuarantined.code}}
        parts["records.json"] = await asyncio.to_thread(records, log)
        await asyncio.to_thread(_write, target, parts)
        return Written(tuple(parts), "the log is quarantined")


async def write_support_bundle(config: Config, log: AuditLog, principal: Principal, target: Path) -> list[str]:
    """Write it and record that; the names of its parts. Raises `PermissionDenied`, `HomeExists`, `InvalidRequest`."""
    authorize(principal, Action.SYSTEM_STATUS)
    async with announced(log, principal.id, "support.written", {}) as step:
        parts = await _facts(config, principal)
        parts["records.json"] = await asyncio.to_thread(records, log)
        await asyncio.to_thread(_write, target, parts)
        step.attributes["parts"] = len(parts)
    return list(parts)


async def _facts(config: Config, principal: Principal) -> dict[str, Any]:
    """What needs no log."""
    authorize(principal, Action.SYSTEM_STATUS)
    checks = await examine(config, principal, start_engine=False)
    return {
        "about.json": about(),
        "doctor.json": [{"name": one.name, "state": one.state} for one in checks],
        "settings.json": settings(config),
        "files.json": await asyncio.to_thread(files, config.home.root),
    }


def about() -> dict[str, Any]:
    """Release, system and packages."""
    packages = sorted({f"{one.metadata['Name']} {one.version}" for one in metadata.distributions()})
    return {
        "release": __version__,
        "python": sys.version,
        "system": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "processors": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "packages": packages,
    }


def settings(config: Config) -> dict[str, dict[str, Any]]:
    """Numbers and switches as they are; of everything else only whether somebody set it."""
    found: dict[str, dict[str, Any]] = {}
    for section in fields(config):
        value = getattr(config, section.name)
        if isinstance(value, BaseModel):
            defaults = type(value)()
            found[section.name] = {
                name: _shown(getattr(value, name), getattr(defaults, name)) for name in type(value).model_fields
            }
    return found


def files(root: Path) -> dict[str, int]:
    """Kinds of files below the data folder, how many and how large; names of models and backups are not told."""
    sizes: Counter[str] = Counter()
    for path in sorted(root.rglob("*"))[:_FILES_MAX]:
        if path.is_file() and not path.is_symlink():
            kind = _kind(path.relative_to(root))
            sizes[f"{kind} files"] += 1
            sizes[f"{kind} bytes"] += path.stat().st_size
    return dict(sizes)


def _kind(place: Path) -> str:
    """Which folder of ours and what kind of file; of a folder or a kind that is not ours, only that."""
    suffix = f"*{place.suffix}" if place.suffix in _SUFFIXES else "*.other"
    if len(place.parts) == 1:
        return suffix
    return f"{place.parts[0] if place.parts[0] in _FOLDERS else 'other'}/{suffix}"


def records(log: AuditLog) -> list[dict[str, Any]]:
    """The newest records: what happened when, and how it ended."""
    return [_record(view) for view in log.records(limit=_RECORDS_MAX)]


def _record(view: RecordView) -> dict[str, Any]:
    said = {name: _code(view.attributes[name]) for name in _CODES if name in view.attributes}
    return {
        "seq": view.seq,
        "time": view.time.isoformat(timespec="seconds"),
        "event": view.event,
        "outcome": view.outcome,
        "readable": view.readable,
        "bytes": view.size,
        **said,
    }


def _code(value: object) -> object:
    if isinstance(value, bool | int | float):
        return value
    return value if isinstance(value, str) and (value in _WORDS or _RELEASE.fullmatch(value)) else _OTHER


def _shown(value: object, default: object) -> object:
    if isinstance(value, bool | int | float) or value is None:
        return value
    return "default" if value == default else "set"


def _write(target: Path, parts: Mapping[str, Any]) -> None:
    try:
        with target.open("xb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            target.chmod(0o600)
            for name, content in parts.items():
                archive.writestr(name, json.dumps(content, indent=1, default=asdict) + "\n")
    except FileExistsError:
        raise HomeExists(f"{target} exists already", hint="choose another name") from None
    except OSError as error:
        if target.is_file():
            target.unlink()  # half a file helps nobody, and its name is free for the next try
        raise InvalidRequest(f"cannot write {target}: {error.strerror}", hint="name another file") from None
