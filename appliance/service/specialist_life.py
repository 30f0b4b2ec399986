"""The life of a specialist: installed, approved by a second person, promoted, rolled back, removed; all recorded.

    version = await install(registry, log, principal, Upload(content, signature))   # awaiting_approval
    await approve(registry, log, another, "router", "0.2.0")                        # never who installed or taught it
    await promote(registry, log, another, "router", "0.2.0", load=engine.load)      # answers from now on
    await rollback(registry, log, principal, "router")                              # as before the last promotion

A change leaves two records: `accepted` before anything is touched, then how it ended. One that has no end was cut off;
the registry's entry is what decides whether it happened, and doing it again is safe.

The functions take the rooms that they need instead of the whole appliance, as those of `accounts.py` do.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import zipfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from appliance.accounts.actions import Action, authorize, person_of
from appliance.audit.log import AuditLog
from appliance.errors import ModelFileError, SecondPersonNeeded, SignerUntrusted
from appliance.service.audit_checks import check_reason
from appliance.service.events import Announced, announced, code_of, new_event, record_reading
from appliance.service.specialists import version_card
from appliance.specialists.file_format import decode_specialist
from appliance.specialists.registry import Admission, Registry, SpecialistEntry
from appliance.specialists.signature import (
    TrustedKey,
    check_signed_file,
    read_signature,
    signer_of,
    trusted_key,
    write_signature,
)
from appliance.specialists.store import TrustedKeyRow
from appliance.types import Adapter, AttributeValue, Outcome, Principal

Load = Callable[[Adapter], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Upload:
    """A specialist file, its signature file, and why it shall be admitted without one that this site trusts.

    `reason` is a code, as for legal holds: it stands in clear in the log.
    """

    content: bytes = field(repr=False)
    signature: bytes | None = field(default=None, repr=False)
    reason: str = ""


async def install(registry: Registry, log: AuditLog, principal: Principal, upload: Upload) -> dict[str, Any]:
    """Let a file in, awaiting approval; installing the same file again changes nothing.

    Raises `PermissionDenied`, `SpecialistFileInvalid`, `ModelFileRefused` (another base), `SignatureInvalid`,
    `SignerUntrusted` (not signed, or by nobody trusted, and no reason was given), `Conflict`, `HomeError`.
    """
    authorize(principal, Action.SPECIALIST_INSTALL)
    if upload.reason:
        authorize(principal, Action.SPECIALISTS_MANAGE)  # the decision to admit what nobody vouches for
        check_reason(upload.reason)
    about: dict[str, AttributeValue] = {
        "sha256": await asyncio.to_thread(_sha256, upload.content),
        "size": len(upload.content),
        "signature": upload.signature is not None,
    }
    async with announced(log, principal.id, "specialist.install", about) as step:
        file = await asyncio.to_thread(registry.check, upload.content)
        step.attributes |= {"specialist": file.manifest.id, "specialist_version": file.manifest.version}
        keys = [row.key for row in await asyncio.to_thread(registry.trusted_keys)]
        admission = _admission(principal, upload, file.sha256, keys)
        step.attributes["admitted"] = admission.admitted
        if admission.reason:
            step.attributes["reason"] = admission.reason
        if admission.signer is not None:
            step.attributes["signer"] = admission.signer
        entry = await asyncio.to_thread(registry.admit, upload.content, admission)
    return version_card(entry)


async def admit_taught(
    registry: Registry, log: AuditLog, principal: Principal, content: bytes, about: dict[str, AttributeValue]
) -> dict[str, Any]:
    """Let a file in that was taught on this appliance; it awaits the approval of somebody else.

    `about` names the table and the job that it comes from.
    """
    authorize(principal, Action.SPECIALIST_TEACH)
    said: dict[str, AttributeValue] = {"sha256": _sha256(content), "size": len(content), "admitted": "taught", **about}
    async with announced(log, principal.id, "specialist.install", said) as step:
        admission = Admission("taught", by=principal.id, person=person_of(principal))
        entry = await asyncio.to_thread(registry.admit, content, admission)
        step.attributes |= _named(entry)
    return version_card(entry)


async def approve(
    registry: Registry, log: AuditLog, principal: Principal, specialist: str, version: str
) -> dict[str, Any]:
    """Approve a version that somebody else installed or taught.

    Raises `PermissionDenied`, `SpecialistNotFound`, `SecondPersonNeeded`, `Conflict` where nothing waits for approval.
    """
    authorize(principal, Action.SPECIALIST_APPROVE)
    async with announced(log, principal.id, "specialist.approve", _asked(specialist, version)) as step:
        entry = await asyncio.to_thread(registry.version, specialist, version)
        _describe(step, entry)
        _require_second_person(entry, principal, "approves")
        entry = await asyncio.to_thread(registry.approve, specialist, version, by=principal.id)
    return version_card(entry)


async def promote(
    registry: Registry, log: AuditLog, principal: Principal, specialist: str, version: str, *, load: Load
) -> dict[str, Any]:
    """Let an approved version answer. The engine loads it first, so that one that it refuses never answers anybody.

    Requests that run meanwhile end with the version they began with. Raises as `approve` does, and what `load` raises.
    """
    authorize(principal, Action.SPECIALIST_PROMOTE)
    async with announced(log, principal.id, "specialist.promote", _asked(specialist, version)) as step:
        entry = await asyncio.to_thread(registry.version, specialist, version)
        _describe(step, entry)
        _require_second_person(entry, principal, "promotes")
        if entry.state in ("approved", "retired"):  # whatever else it is, the registry refuses it
            await load(await asyncio.to_thread(entry.adapter))
        entry = await asyncio.to_thread(registry.promote, specialist, version, by=principal.id)
        step.attributes["replaced_sha256"] = entry.row.follows or ""
    return version_card(entry)


async def rollback(registry: Registry, log: AuditLog, principal: Principal, specialist: str) -> dict[str, Any]:
    """Undo the last promotion: {"retired": the version that answered, "active": the one that answers again or None}.

    Raises `PermissionDenied`, `SpecialistNotFound` where none is active, `ModelFileRefused`, `Conflict`.
    """
    authorize(principal, Action.SPECIALIST_PROMOTE)
    async with announced(log, principal.id, "specialist.rollback", {"specialist": specialist[:64]}) as step:
        gone, back = await asyncio.to_thread(registry.rollback, specialist)
        _describe(step, gone)
        step.attributes["restored_sha256"] = back.sha256 if back else ""
    return {"retired": version_card(gone), "active": version_card(back) if back else None}


async def remove(
    registry: Registry, log: AuditLog, principal: Principal, specialist: str, version: str
) -> dict[str, Any]:
    """Forget a version that is not active, and delete its file.

    Raises `PermissionDenied`, `SpecialistNotFound`, `Conflict`.
    """
    authorize(principal, Action.SPECIALISTS_MANAGE)
    async with announced(log, principal.id, "specialist.remove", _asked(specialist, version)) as step:
        entry = await asyncio.to_thread(registry.remove, specialist, version)
        _describe(step, entry)
    return version_card(entry)


async def verify(
    registry: Registry, log: AuditLog, principal: Principal, specialist: str, version: str | None = None
) -> dict[str, Any]:
    """Read an installed file again: its hash, and its signature under the keys that are trusted now.

    The version's card, and `verified`: `signature`, `release` (its hash is the one of the release's list that admitted
    it), `decision`, `taught` or `administrator`. None as version: the active one. Raises `PermissionDenied`,
    `SpecialistNotFound`, `ModelFileRefused` for another file, `SignatureInvalid`, `SignerUntrusted`.
    """
    authorize(principal, Action.SPECIALIST_LIST)
    about = _asked(specialist, version or "")
    try:
        entry = await asyncio.to_thread(_version_of, registry, specialist, version)
        about |= _named(entry)
        await asyncio.to_thread(registry.content, entry)
        keys = [row.key for row in await asyncio.to_thread(registry.trusted_keys)]
        verified = _verified(entry, keys)
    except ModelFileError as error:
        await log.append(
            new_event("specialist.verify", principal.id, Outcome.FAILED, about | {"error": code_of(error)})
        )
        raise
    await record_reading(log, principal, "specialist.verify", about | {"verified": verified})
    return version_card(entry) | {"verified": verified}


async def export(
    registry: Registry, log: AuditLog, principal: Principal, specialist: str, version: str | None = None
) -> tuple[str, bytes]:
    """Name and content of a zip with the file of a version (None: the active one) and, if it has one, its signature.

    Raises `PermissionDenied`, `SpecialistNotFound`, `ModelFileRefused` if the file is not the installed one.
    """
    authorize(principal, Action.SPECIALISTS_MANAGE)
    entry = await asyncio.to_thread(_version_of, registry, specialist, version)
    content = await asyncio.to_thread(registry.content, entry)
    await record_reading(log, principal, "specialist.export", _named(entry))
    name = f"{entry.manifest.id}-{entry.manifest.version}"
    return f"{name}.zip", await asyncio.to_thread(_zipped, name, content, entry.row.signature)


async def list_keys(registry: Registry, log: AuditLog, principal: Principal) -> tuple[TrustedKeyRow, ...]:
    """The keys whose signatures count, by name. Raises `PermissionDenied`."""
    authorize(principal, Action.SPECIALIST_LIST)
    await record_reading(log, principal, "signer.list")
    return await asyncio.to_thread(registry.trusted_keys)


async def trust(registry: Registry, log: AuditLog, principal: Principal, name: str, pem: str) -> TrustedKeyRow:
    """Let signatures of a key count. Raises `PermissionDenied`, `InvalidRequest`, `Conflict`."""
    authorize(principal, Action.SPECIALIST_APPROVE)
    key = trusted_key(name, pem)
    about: dict[str, AttributeValue] = {"signer": key.name, "fingerprint": key.fingerprint}
    async with announced(log, principal.id, "signer.trust", about):
        return await asyncio.to_thread(registry.trust, key, by=principal.id)


async def distrust(registry: Registry, log: AuditLog, principal: Principal, name: str) -> None:
    """Signatures of a key count no more; what they admitted stays. Raises `PermissionDenied`, `NotFound`."""
    authorize(principal, Action.SPECIALIST_APPROVE)
    async with announced(log, principal.id, "signer.distrust", {"signer": name[:64]}):
        await asyncio.to_thread(registry.distrust, name)


def signature_of(content: bytes, name: str, private_pem: str, passphrase: str | None = None) -> bytes:
    """The signature file of a specialist file under somebody's own key; changes and records nothing.

    Raises `SpecialistFileInvalid`, `InvalidRequest` for what is no such key.
    """
    file = decode_specialist(content)
    return write_signature(private_pem, name=name, sha256=file.sha256, passphrase=passphrase)


def _admission(principal: Principal, upload: Upload, sha256: str, keys: list[TrustedKey]) -> Admission:
    """Why this file may come in. A signature that is wrong is refused whatever the reason; one of a stranger is not."""
    by, person = principal.id, person_of(principal)
    try:
        if upload.signature is None:
            raise SignerUntrusted(
                "the file is not signed",
                hint="send its signature file too; or let an administrator admit it and say why (a reason)",
            )
        signature = read_signature(upload.signature)
        check_signed_file(signature, sha256)
        signer = signer_of(signature, keys)
    except SignerUntrusted:
        if not upload.reason:
            raise
        text = upload.signature.decode("ascii", "replace") if upload.signature else None
        return Admission("decision", by=by, person=person, reason=upload.reason, signature=text)
    return Admission("signature", by=by, person=person, signature=upload.signature.decode(), signer=signer.name)


def _verified(entry: SpecialistEntry, keys: list[TrustedKey]) -> str:
    if entry.row.signature is None or entry.admitted == "decision":
        return "release" if entry.admitted == "bundled" else entry.admitted
    signature = read_signature(entry.row.signature.encode())
    check_signed_file(signature, entry.sha256)
    signer_of(signature, keys)
    return "signature"


def _require_second_person(entry: SpecialistEntry, principal: Principal, does: str) -> None:
    if entry.row.person is not None and entry.row.person == person_of(principal):
        raise SecondPersonNeeded(
            f"you installed or taught {entry.manifest.id} {entry.manifest.version}: another person {does} it",
            hint="ask another administrator; at a terminal, one signs in with --user NAME",
        )


def _version_of(registry: Registry, specialist: str, version: str | None) -> SpecialistEntry:
    return registry.get(specialist) if version is None else registry.version(specialist, version)


def _asked(specialist: str, version: str) -> dict[str, AttributeValue]:
    """As it was typed: it may name nothing."""
    return {"specialist": specialist[:64], "specialist_version": version[:32]}


def _named(entry: SpecialistEntry) -> dict[str, AttributeValue]:
    ref = entry.ref
    return {"specialist": ref.id, "specialist_version": ref.version, "specialist_sha256": ref.sha256}


def _describe(step: Announced, entry: SpecialistEntry) -> None:
    step.attributes |= _named(entry)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _zipped(name: str, content: bytes, signature: str | None) -> bytes:
    """Stored, not compressed, with a fixed time: the same version is the same zip."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr(zipfile.ZipInfo(f"{name}.gguf"), content)
        if signature is not None:
            archive.writestr(zipfile.ZipInfo(f"{name}.gguf.sig"), signature)
    return target.getvalue()
