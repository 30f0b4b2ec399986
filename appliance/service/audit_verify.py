"""Verifying the log with the stand-alone verifier, what is new or all of it, also when the log cannot be opened.

    verdict = await verify(config, log, principal, full=False)
    verdict = await verify_unopened(config)          # no key, no log, no record of it: for the local operator

The verifier is another program on purpose: it shares no code with the writer, and an auditor runs the same file. It
reads the database as it lies there, in short transactions, while the log goes on.

After a verdict without faults `audit/verified-e<n>.json` says how far the log is verified; the next run begins there,
and nothing before it can be rewritten without contradicting it. A full run reads every record of every epoch again
and then goes on from that file as well, so that a history which was replaced as a whole contradicts it too.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from appliance.accounts.actions import Action, authorize
from appliance.audit.header import epoch_of
from appliance.audit.keystore import PublicMaterial, public_material
from appliance.audit.lock import try_lock
from appliance.audit.log import AuditLog
from appliance.audit.quarantine import read_quarantine
from appliance.audit.signer_memory import read_signed_head
from appliance.config import Config, Home, child_environment
from appliance.crypto.note import parse_verifier_key, verify_note
from appliance.errors import AuditError, AuditLogInvalid, Conflict
from appliance.service.events import code_of, record_reading
from appliance.service.home import home_error
from appliance.types import Principal

# A program of its own, started as one.
VERIFIER = Path(__file__).parents[1] / "audit" / "auditverify.py"
PASSED = (0, 2)
_MALFORMED = 30

_VERIFY_S = 1800.0
_OTHER_VERIFICATION_S = 10.0  # a second caller waits so long for the first
_POLL_S = 0.05
_VERDICT_BYTES_MAX = 16 * 1024 * 1024
_STATE_BYTES_MAX = 64 * 1024 * 1024
_MESSAGES_MAX = 200


@dataclass(frozen=True, slots=True)
class Verdict:
    """What `auditverify` found; `exit_code` as in `audit/README.md`. `since`: what an earlier run verified."""

    verdict: str
    exit_code: int
    records: int
    first_bad_seq: int | None
    messages: tuple[str, ...]
    since: int = 0

    @property
    def incremental(self) -> bool:
        """Whether only what is new was read."""
        return self.since > 0


async def verify(
    config: Config, log: AuditLog, principal: Principal, *, full: bool = False, wait_s: float = _OTHER_VERIFICATION_S
) -> Verdict:
    """Verify what is new since the last verification, or with `full` everything.

    A log that takes no records is verified all the same, and the verdict says that this is not in it. Raises
    `PermissionDenied`, `Conflict` when another verification does not end within `wait_s`, `AuditLogInvalid` without
    a verdict.
    """
    authorize(principal, Action.AUDIT_VERIFY)
    unrecorded: tuple[str, ...] = ()
    try:
        await record_reading(log, principal, "audit.verify", {"full": full})
    except AuditError as error:
        unrecorded = (f"this verification is not in the log: {error.message}",)
    verdict = await verify_unopened(config, full=full, wait_s=wait_s)
    return replace(verdict, messages=(*verdict.messages, *unrecorded))


async def verify_unopened(config: Config, *, full: bool = False, wait_s: float = _OTHER_VERIFICATION_S) -> Verdict:
    """The same of the files as they are, with nothing recorded and nothing unlocked: for the local operator, and for
    a log that does not open, which is when its verdict matters most. Raises `KeystoreInvalid` and as `verify`."""
    async with _alone(config.home, wait_s):
        material = await asyncio.to_thread(public_material, config.home)
        with tempfile.TemporaryDirectory(prefix="verify-", dir=config.home.runtime) as folder:
            run = await asyncio.to_thread(_Run, config.home, material, Path(folder))
            return run.contradicted(await run.verify(full))


class _Run:
    """One verification: which files, which keys, what was kept."""

    def __init__(self, home: Home, material: PublicMaterial, folder: Path) -> None:
        self._material = material
        self._folder = folder
        self._home = home
        self._state = home.audit_database.parent / f"verified-e{epoch_of(material.origin)}.json"
        self._databases = _databases(home, material)
        self._messages: list[str] = []
        self._quarantine = read_quarantine(home.audit_database.parent)
        self._since = self._read_state()
        (folder / "keys").write_text("".join(f"{key.verifier_key}\n" for key in material.keys))
        self._notes = [self._write(f"trusted-{at}", note) for at, note in enumerate(self._trusted())]

    async def verify(self, full: bool) -> Verdict:
        """The verdict; of several runs the first one with a fault."""
        since, whole = self._since, None
        if (full or since is None) and (since is not None or len(self._databases) > 1):
            whole = await self._verified(self._databases)
            if whole.exit_code not in PASSED:
                return whole
        latest = await self._verified(self._databases[-1:], "--since", str(self._state))
        if latest.exit_code == _MALFORMED and since is not None:
            since = None
            self._put_state_aside()
            latest = await self._verified(self._databases[-1:], "--since", str(self._state))
        if whole is None:
            return replace(latest, since=since or 0)
        return whole if latest.exit_code in PASSED else latest

    def contradicted(self, verdict: Verdict) -> Verdict:
        """A log in quarantine is not in order, also where the files by themselves do not show why: see `messages`."""
        if self._quarantine is None or verdict.exit_code not in PASSED:
            return verdict
        name, code = ("truncated", 11) if self._quarantine.cut else ("forked", 12)
        return replace(verdict, verdict=name, exit_code=code)

    async def _verified(self, databases: Sequence[Path], *options: str) -> Verdict:
        trusted = [word for note in self._notes for word in ("--trusted", str(note))]
        verdict = await _run_verifier(*map(str, databases), "--pub", str(self._folder / "keys"), *trusted, *options)
        return replace(verdict, messages=(*self._messages, *verdict.messages))

    def _read_state(self) -> int | None:
        """How many records an earlier run verified. A file that cannot be one is put aside, and everything verified."""
        try:
            with self._state.open("rb") as file:
                said: dict[str, Any] = json.loads(file.read(_STATE_BYTES_MAX))
            if said["origin"] == self._material.origin:
                return int(said["size"])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            pass
        self._put_state_aside()
        return None

    def _put_state_aside(self) -> None:
        aside = self._state.with_suffix(".unreadable")
        self._state.replace(aside)
        self._messages.append(
            f"{self._state.name} was not of this log and is now {aside.name}: everything was verified"
        )

    def _trusted(self) -> list[str]:
        """What the signer remembers, and what contradicted the log when it was quarantined."""
        notes = []
        try:
            signed = read_signed_head(self._home.signer_state, self._material.origin)
            notes.append(signed.note if signed else "")
        except AuditLogInvalid:
            pass  # the verifier reads the file itself and says what is wrong with it
        if self._quarantine is not None:
            self._messages.append(f"the log is quarantined: {self._quarantine.why}")
            notes.append(self._quarantine.note)
        return [note for note in dict.fromkeys(notes) if _is_ours(note, self._material)]

    def _write(self, name: str, note: str) -> Path:
        path = self._folder / name
        path.write_text(note)
        return path


def _databases(home: Home, material: PublicMaterial) -> list[Path]:
    """The log's database and those of the epochs before it that are still there, oldest first."""
    origins = list(dict.fromkeys(key.origin for key in material.keys))
    found: list[Path] = []
    for origin in sorted(origins, key=epoch_of):
        path = home.audit_database
        if origin != material.origin:
            path = path.parent / f"e{epoch_of(origin)}" / path.name
            if not path.exists():
                found.clear()  # epochs are verified together only as far back as there is no gap
                continue
        found.append(path)
    return found


def _is_ours(note: str, material: PublicMaterial) -> bool:
    origin = note.partition("\n")[0]
    for key in material.keys:
        try:
            if key.origin == origin:
                verify_note(note, *parse_verifier_key(key.verifier_key))
                return True
        except ValueError:
            continue
    return False


@asynccontextmanager
async def _alone(home: Home, wait_s: float) -> AsyncIterator[None]:
    """One verification of a data folder at a time, whoever asks: the lock is the kernel's."""
    try:
        descriptor = os.open(home.runtime / "verify.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise home_error(home, error) from None
    try:
        waited_s = 0.0
        while not try_lock(descriptor):
            if waited_s >= wait_s:
                raise Conflict("another verification of this log goes on", hint="ask again when it has ended")
            await asyncio.sleep(_POLL_S)
            waited_s += _POLL_S
        yield
    finally:
        os.close(descriptor)


async def _run_verifier(*arguments: str) -> Verdict:
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        str(VERIFIER),
        *arguments,
        "--json",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=child_environment(),
    )
    try:
        output, _ = await asyncio.wait_for(child.communicate(), _VERIFY_S)
        body = json.loads(output[:_VERDICT_BYTES_MAX])
        messages = tuple(map(str, body["messages"]))[:_MESSAGES_MAX]
        return Verdict(body["verdict"], body["exit_code"], body["records"], body.get("first_bad_seq"), messages)
    except (TimeoutError, ValueError, KeyError) as error:
        raise AuditLogInvalid(
            f"the verifier gave no verdict ({code_of(error)})", hint="export the log and run auditverify on it by hand"
        ) from None
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
