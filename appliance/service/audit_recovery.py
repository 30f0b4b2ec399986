"""Going on after a loss that nothing brings back: what is known of it, and the declaration that begins a new epoch.

    known = await known_loss(config, kept=[note])           # reads; needs no key
    recovery = await declare_loss(config, principal, kept=[note])

For the local operator alone, while no server runs: see `audit/epochs.py` for what is done and why.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import migrations
from appliance.accounts.actions import Action, authorize
from appliance.audit import store
from appliance.audit.epochs import PLAN_FILE, Recovery, lost_range, recover_declaring_loss
from appliance.audit.header import epoch_of
from appliance.audit.keystore import PublicMaterial, public_material
from appliance.audit.quarantine import read_quarantine
from appliance.audit.root_source import unlock
from appliance.audit.signer_memory import read_signed_head
from appliance.config import Config, Home
from appliance.crypto.note import parse_verifier_key, verify_note
from appliance.errors import AuditLogInvalid, HomeError, HomeInUse, InvalidRequest
from appliance.service.events import new_event
from appliance.service.home import check_home, hold_server_lock
from appliance.service.rooms import open_log
from appliance.storage.database import open_database, reading
from appliance.types import AttributeValue, Outcome, Principal


@dataclass(frozen=True, slots=True)
class KnownLoss:
    """What the files and kept checkpoints say. `remembered`: the most records that a signature of this log covers.

    `signed`: sizes of the signed heads that are here, newest batch left out where its signature is not. `cut`: who is
    outside and set the quarantine remembers more records than were here.
    """

    epoch: int
    stored: int
    signed: tuple[int, ...]
    remembered: int
    quarantine: str | None
    unfinished: bool
    problem: str = ""  # why the database cannot be read
    cut: bool = False

    @property
    def untold(self) -> bool:
        """Whether records are missing, and no note says which: a declaration would say that none are."""
        return self.cut and self.lost is None and not self.unfinished

    @property
    def lost(self) -> tuple[int, int] | None:
        """First and last number that is missing, None where nothing is known to be."""
        first, last = lost_range(self.stored, self.signed, self.remembered)
        return (first, last) if last >= first else None


async def known_loss(config: Config, *, kept: Sequence[str] = ()) -> KnownLoss:
    """Look without changing anything. Raises `InvalidRequest` for a kept checkpoint that no key of this log signed."""
    await asyncio.to_thread(check_home, config.home)
    return await asyncio.to_thread(_look, config.home, kept)


async def declare_loss(config: Config, principal: Principal, *, kept: Sequence[str] = ()) -> Recovery:
    """Close the log as it is and begin the next one; who did it is recorded there. One that was cut off goes on.

    Raises `HomeInUse` while a server or a command uses the log, `AuditLogInvalid` where no signed head is known,
    `InvalidRequest` where records are missing and nothing says which, and what unlocking raises; nothing has changed
    then.
    """
    authorize(principal, Action.KEYS_MANAGE)
    known = await known_loss(config, kept=kept)
    require_told(known)
    with hold_server_lock(config.home):
        root_key = unlock(config)
        recovery = await asyncio.to_thread(_recover, config, root_key, kept)
        about: dict[str, AttributeValue] = {
            "epoch": epoch_of(recovery.origin),
            "lost_from": recovery.lost_from,
            "lost_to": recovery.lost_to,
            "quarantined": known.quarantine is not None,
        }
        async with open_log(config, root_key) as log:
            await log.append(new_event("audit.loss_declared", principal.id, Outcome.COMPLETED, about))
    return recovery


def require_told(known: KnownLoss) -> None:
    """Raise `InvalidRequest` where a declaration would be untrue: it stands in the new log for ever."""
    if known.untold:
        raise InvalidRequest(
            "records are missing and no checkpoint says how many; nothing was changed",
            hint="give --checkpoint FILE, as the witness has it (state.json in its folder), or a receipt's last part",
        )


def _recover(config: Config, root_key: bytes, kept: Sequence[str]) -> Recovery:
    try:
        return recover_declaring_loss(config, root_key, lambda home: migrations.upgrade(home.root), notes=kept)
    except HomeInUse:
        raise HomeInUse(
            "a command uses the log at this moment", hint="wait until it has ended, then declare the loss again"
        ) from None


def _look(home: Home, kept: Iterable[str]) -> KnownLoss:
    folder = home.audit_database.parent
    material = public_material(home)
    sizes = [_size_of(note, material) for note in kept]
    if None in sizes:
        raise InvalidRequest(
            "a checkpoint that was given is not signed by a key of this log",
            hint="give the file as `appliance audit checkpoint` printed it",
        )
    quarantine = read_quarantine(folder)
    if quarantine is not None:
        sizes.append(_size_of(quarantine.note, material))
    stored, note, problem = _stored(home)
    here = [_size_of(note, material)]
    try:
        signed = read_signed_head(home.signer_state, material.origin)
        here.append(signed.size if signed else None)
    except AuditLogInvalid as error:
        problem = problem or error.message
    sizes += here
    return KnownLoss(
        epoch_of(material.origin),
        stored,
        tuple(size for size in here if size is not None),
        max((size for size in sizes if size is not None), default=0),
        quarantine.why if quarantine else None,
        (folder / PLAN_FILE).exists(),
        problem,
        quarantine is not None and quarantine.cut,
    )


def _stored(home: Home) -> tuple[int, str, str]:
    """How many records are there and the note beside them, or why nobody can say."""
    try:
        engine = open_database(home.audit_database, mode="ro", connections=1)
    except HomeError as error:
        return 0, "", error.message
    try:
        with reading(engine) as connection:
            head = store.read_head(connection)
        return (0, "", "") if head is None else (head.size, head.note or "", "")
    except HomeError as error:
        return 0, "", error.message
    finally:
        engine.dispose()


def _size_of(note: str, material: PublicMaterial) -> int | None:
    """The size that a note signs, if a key of this log signed it."""
    for key in material.keys:
        if key.origin != material.origin:
            continue
        try:
            return int(verify_note(note, *parse_verifier_key(key.verifier_key)).split("\n")[1])
        except (ValueError, IndexError):
            continue
    return None
