"""Reading, proving, verifying and exporting the log. Every reading is recorded before anything is shown."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from appliance.accounts.actions import Action, actions_of, authorize
from appliance.accounts.directory import Directory
from appliance.audit.keystore import open_keystore
from appliance.audit.log import AuditLog, RecordView
from appliance.audit.root_key import read_root_key
from appliance.audit.signer import read_signed_head
from appliance.config import Config, child_environment
from appliance.errors import ApplianceError, AuditLogInvalid, PermissionDenied, RecordNotFound
from appliance.service.events import code_of, new_event
from appliance.types import AttributeValue, Outcome, Principal, Receipt

# A program of its own, started as one: an auditor runs the same file, which knows nothing of this package.
VERIFIER = Path(__file__).parents[1] / "audit" / "auditverify.py"

_RECORD_ID_BYTES = 16
_VERIFY_S = 1800.0
_VERDICT_BYTES_MAX = 1024 * 1024


@dataclass(frozen=True, slots=True)
class RecordQuery:
    """Which records. `after` is the sequence number of the last one seen; older ones follow."""

    after: int | None = None
    limit: int = 50
    event: str | None = None
    actor: str | None = None


@dataclass(frozen=True, slots=True)
class RecordPage:
    """Records, newest first, and the `after` of the next page."""

    records: tuple[RecordView, ...]
    next: int | None


@dataclass(frozen=True, slots=True)
class CheckpointView:
    """The newest signed tree head and the key that verifies it."""

    checkpoint: str
    verifier_key: str
    origin: str
    size: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """What `auditverify` found; `exit_code` as in `audit/README.md`."""

    verdict: str
    exit_code: int
    records: int
    first_bad_seq: int | None
    messages: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ExportBundle:
    """A finished export in a folder of its own, which goes when the bundle has been read."""

    folder: tempfile.TemporaryDirectory[str]
    path: Path

    def chunks(self, size: int) -> Iterator[bytes]:
        """The bundle's bytes; afterwards it is gone."""
        with self.folder, self.path.open("rb") as file:
            while chunk := file.read(size):
                yield chunk


async def list_records(
    config: Config, directory: Directory, log: AuditLog, principal: Principal, query: RecordQuery
) -> RecordPage:
    """An auditor sees everybody's records, a user those of theirs and of their API keys. Raises `PermissionDenied`."""
    actors = None if query.actor is None else frozenset({query.actor})
    if Action.AUDIT_READ_ALL not in actions_of(principal):
        authorize(principal, Action.AUDIT_READ_OWN)
        own = await asyncio.to_thread(directory.actors_of, principal)
        if actors is not None and not actors <= own:
            raise PermissionDenied("you may read your own records only", hint="ask an auditor")
        actors = actors or own
    limit = min(query.limit, config.limits.page_size_max)
    await _record_reading(log, principal, "audit.list", {"limit": limit, "after": query.after or 0})
    records = await asyncio.to_thread(log.records, query.after, limit, actors, query.event)
    return RecordPage(tuple(records), records[-1].seq if len(records) == limit else None)


async def show_record(
    directory: Directory, log: AuditLog, principal: Principal, record_id: str
) -> tuple[RecordView, bytes | None]:
    """One record, and its content for those who may read contents. Raises `RecordNotFound`, `PermissionDenied`."""
    view = await _own_or_any(directory, log, principal, record_id)
    with_content = view.has_content and Action.AUDIT_READ_CONTENT in actions_of(principal)
    await _record_reading(log, principal, "audit.show", {"record": view.record_id, "content": with_content})
    content = await asyncio.to_thread(log.content, bytes.fromhex(view.record_id)) if with_content else None
    return view, content


async def show_receipt(
    directory: Directory, log: AuditLog, principal: Principal, record_id: str
) -> tuple[Receipt, str]:
    """A record's receipt and its proof file. It proves that something was recorded and shows nothing of it."""
    view = await _own_or_any(directory, log, principal, record_id)
    identifier = bytes.fromhex(view.record_id)
    return await asyncio.to_thread(log.receipt, identifier), await asyncio.to_thread(log.proof_text, identifier)


async def show_checkpoint(log: AuditLog, principal: Principal) -> CheckpointView:
    """The newest signed checkpoint. Raises `PermissionDenied`."""
    authorize(principal, Action.AUDIT_CHECKPOINT)
    note = await asyncio.to_thread(log.checkpoint)
    origin, size, *_ = note.split("\n", 2)
    return CheckpointView(note, log.verifier_key(), origin, int(size))


async def verify(config: Config, log: AuditLog, principal: Principal) -> Verdict:
    """Run the stand-alone verifier on an export made now, against the signer's own state.

    The verifier is another program on purpose: it shares no code with the writer, and an auditor runs the same file.
    """
    authorize(principal, Action.AUDIT_VERIFY)
    await _record_reading(log, principal, "audit.verify", {})
    with tempfile.TemporaryDirectory(prefix="verify-", dir=config.home.runtime) as folder:
        bundle = Path(folder) / "log"
        trusted = Path(folder) / "trusted"
        trusted.write_text(await asyncio.to_thread(log.checkpoint))
        await asyncio.to_thread(log.export, bundle, ciphertexts=True)
        return await _run_verifier(bundle, trusted, log.verifier_key())


async def verify_unopened(config: Config) -> Verdict:
    """The same for a log that cannot be opened any more, which is when its verdict matters most.

    Judges the files as they are, against what the signer remembers, and records nothing. For the local operator.
    Raises `WrongKey`, `KeystoreInvalid`.
    """
    home = config.home
    root_key = await asyncio.to_thread(read_root_key, home.root_key_file)
    keystore = await asyncio.to_thread(open_keystore, home, root_key)
    try:
        signed = await asyncio.to_thread(read_signed_head, home.signer_state, keystore.origin)
    except AuditLogInvalid:
        signed = None  # the verifier reads the file itself and says what is wrong with it
    with tempfile.TemporaryDirectory(prefix="verify-", dir=home.runtime) as folder:
        trusted = Path(folder) / "trusted"
        if signed is not None and signed.note:
            trusted.write_text(signed.note)
        return await _run_verifier(home.audit_database, trusted, keystore.verifier_key)


async def export(config: Config, log: AuditLog, principal: Principal) -> ExportBundle:
    """The whole log as one zip file. Raises `PermissionDenied`."""
    authorize(principal, Action.AUDIT_EXPORT)
    await _record_reading(log, principal, "audit.export", {})
    folder = tempfile.TemporaryDirectory(prefix="export-", dir=config.home.runtime)
    path = Path(folder.name) / "audit-export.zip"
    try:
        await asyncio.to_thread(log.export, path, ciphertexts=True)
    except ApplianceError:
        folder.cleanup()
        raise
    return ExportBundle(folder, path)


async def _own_or_any(directory: Directory, log: AuditLog, principal: Principal, record_id: str) -> RecordView:
    """The record, if it is there and `principal` may know of it; another's record does not exist for a user."""
    allowed = actions_of(principal)
    if Action.AUDIT_READ_ALL not in allowed:
        authorize(principal, Action.AUDIT_READ_OWN)
    not_found = RecordNotFound("there is no such record", hint="record ids are 32 hexadecimal digits")
    try:
        identifier = bytes.fromhex(record_id)
    except ValueError:
        raise not_found from None
    if len(identifier) != _RECORD_ID_BYTES:
        raise not_found
    view = await asyncio.to_thread(log.record, identifier)
    if Action.AUDIT_READ_ALL not in allowed and view.actor not in await asyncio.to_thread(
        directory.actors_of, principal
    ):
        raise not_found
    return view


async def _record_reading(
    log: AuditLog, principal: Principal, event: str, attributes: dict[str, AttributeValue]
) -> None:
    await log.append(new_event(event, principal.id, Outcome.COMPLETED, attributes))


async def _run_verifier(bundle: Path, trusted: Path, verifier_key: str) -> Verdict:
    key_file = trusted.with_name("key")
    key_file.write_text(verifier_key + "\n")
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        str(VERIFIER),
        str(bundle),
        "--pub",
        str(key_file),
        *(("--trusted", str(trusted)) if trusted.exists() else ()),
        "--json",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=child_environment(),
    )
    try:
        output, _ = await asyncio.wait_for(child.communicate(), _VERIFY_S)
        body = json.loads(output[:_VERDICT_BYTES_MAX])
        return Verdict(
            body["verdict"], body["exit_code"], body["records"], body.get("first_bad_seq"), tuple(body["messages"])
        )
    except (TimeoutError, ValueError, KeyError) as error:
        raise AuditLogInvalid(
            f"the verifier gave no verdict ({code_of(error)})", hint="export the log and run auditverify on it by hand"
        ) from None
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
