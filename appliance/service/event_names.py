"""Every event that the product records, with its class and what it means. A table and two functions; no state.

    check_event("session.sign_in")      # returns the name, or raises UnknownOption with the known ones that are near
    python -m appliance.service.event_names      # the table of audit/README.md; a test compares the two

A name stays in this table for ever: logs are kept for years, and what they hold must be found and understood. The
class decides how long a record is kept. `exchange`: part of somebody's exchange with a specialist. `administration`:
accounts, keys, reading and administering the log, the machine. `public`: what the log says about itself, in clear
(`audit/control.py` writes those).
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Literal

from appliance.errors import UnknownOption

Class = Literal["exchange", "administration", "public"]

# The names that code compares with or chooses between; all others appear where they are recorded.
STARTED = "appliance.started"
VOIDED = "change.voided"
WINDOW = "answer.window"
GUARD_DECIDED = "guard.decided"
DENIED = "request.denied"
RELEASE_REQUESTED = "hold.release_requested"


@dataclass(frozen=True, slots=True)
class EventName:
    """One kind of event."""

    name: str
    record_class: Class
    meaning: str


_EXCHANGE = {
    "specialist.run": "a specialist was run on a text: accepted, then how it ended",
    "specialist.deidentify": "a text was de-identified: accepted, then how it ended",
    "specialist.embed": "texts were turned into vectors: accepted, then how it ended",
    "specialist.find": "passages of a document were sought: accepted, then how it ended",
    "specialist.evaluate": "a specialist was judged on labelled data: accepted, then its figures",
    "specialist.route": "the router was asked whose a text is: accepted, then what it chose and why not another",
    "model.generate": "a model that writes was asked: accepted, then its end, tools it called, turns that did not fit",
    GUARD_DECIDED: "identifiers were found in a prompt or an answer: what was done, and how many of which kind",
    WINDOW: "one piece of a streamed answer, recorded before it left",
    "review.completed": "a person corrected the findings of their own exchange; the corrected spans are the content",
}

_ADMINISTRATION = {
    "appliance.initialised": "the data folder was created",
    "appliance.upgraded": "the data folder was brought up to a later release",
    STARTED: "a server started: its release and the hash of its configuration",
    "appliance.stopped": "a server stopped in order",
    "specialist.loaded": "a server loaded this specialist: version and hash of its file",
    "engine.event": "something happened to an engine worker; `kind` says what",
    DENIED: "a request was refused for who sent it; with `count`: so many more from there within the minute",
    "session.sign_in": "somebody signed in, or was refused",
    "session.sign_out": "somebody signed out",
    "setup.link_created": "a one-time link that makes an administrator was made",
    "setup.link_used": "the one-time link was used, or was refused",
    "account.created": "an account was created",
    "account.disabled": "an account was disabled; its sessions ended",
    "account.enabled": "a disabled account works again",
    "account.password_set": "an account got another password; its sessions ended",
    "account.list": "the accounts were read",
    "api_key.created": "an API key was created",
    "api_key.revoked": "an API key was revoked",
    "api_key.list": "the API keys were read, without their secrets",
    VOIDED: "a change that was recorded and did not happen, because the process died between the two",
    "key.list": "what unlocks the log, and the keys that sign it, were listed",
    "key.checked": "somebody asked which slot a key opens; `slot` says it",
    "key.slot_added": "a passphrase or a key file may unlock the log: accepted, then how it ended",
    "key.slot_changed": "a passphrase was replaced by another: accepted, then how it ended",
    "key.slot_removed": "what unlocked the log by this slot unlocks it no more: accepted, then how it ended",
    "key.rotated": "a key above the keys of records was replaced; `level` says which: accepted, then how it ended",
    "key.passphrase_refused": "wrong passphrases were tried since the log was last unlocked; `failures` says how many",
    "backup.created": "a backup of the data folder was made and read back: accepted, then how it ended",
    "backup.verified": "all of a backup was opened, and nothing kept: accepted, then how it ended",
    "backup.drilled": "a restore of a backup was rehearsed and thrown away: accepted, then how it ended",
    "backup.list": "the backups of this log were listed",
    "backup.pruned": "backups that had expired, or held destroyed keys, were deleted: accepted, then how it ended",
    "backup.restored": "this data folder was brought back from a backup; the log goes on in a new epoch",
    "guard.shown": "the policies about identifiers in chats were read",
    "guard.policy_set": "a workspace got another policy about identifiers in chats",
    "guard.member_set": "an account works in another workspace",
    "specialist.list": "the cards of the installed specialists were read",
    "specialist.show": "the card of one specialist was read",
    "model.list": "the models that write, or the catalogue of those that could be had, were read",
    "model.show": "the facts of one model were read",
    "model.added": "a model was fetched or carried in: accepted, then how it ended",
    "model.verified": "the file of a model was hashed again: accepted, then how it ended",
    "model.removed": "a model was deleted from this machine: accepted, then how it ended",
    "model.exported": "a model was written into a folder to be carried: accepted, then how it ended",
    "conversation.list": "somebody's own conversations were listed",
    "conversation.show": "one of somebody's own conversations was read",
    "conversation.create": "a conversation was begun: accepted, then how it ended",
    "conversation.change": "a conversation was renamed or set otherwise, as `fields` says: accepted, then how it ended",
    "conversation.answer": "an answer was asked for in a conversation; `turn` says where; `model.generate` follows",
    "conversation.delete": "a conversation was deleted, by a public `shred` of its key: accepted, then how it ended",
    "specialist.versions": "the installed versions of a specialist were read",
    "specialist.install": "a specialist file was let in or refused; `admitted` says why: accepted, then how it ended",
    "specialist.approve": "a second person approved a version, or was refused: accepted, then how it ended",
    "specialist.promote": "a version answers from now on: accepted, then how it ended",
    "specialist.rollback": "the last promotion was undone: accepted, then how it ended",
    "specialist.remove": "a version and its file were removed: accepted, then how it ended",
    "specialist.verify": "an installed file and its signature were checked again",
    "specialist.export": "an installed file and its signature were handed out",
    "signer.list": "the keys whose signatures count were read",
    "signer.trust": "signatures of a key count from now on: accepted, then how it ended",
    "signer.distrust": "signatures of a key count no more: accepted, then how it ended",
    "teaching.table": "a table of labelled texts was read and checked; its texts are not recorded",
    "teaching.train": "a specialist was taught from a table: accepted, then how it ended",
    "teaching.read": "the report of a teaching job was read",
    "teaching.cancel": "a teaching job was cancelled, or its result thrown away",
    "system.metrics": "the counters for operators were read",
    "system.protection": "what protects this site was looked at: egress, backup, rehearsal, recovery kit, certificate",
    "system.capacity": "how many people each model serves at once here was looked at",
    "capacity.measured": "how fast a model answers so many people at once here was measured; the figures are in it",
    "doctor.examined": "the machine and the data folder were examined",
    "support.written": "a file for support was written: facts of the machine and of the log, no content, name or key",
    "certificate.set": "the server got another certificate: accepted, then how it ended",
    "egress.tested": "every way to leave the machine was tried; `verdict` and a word for each kind say what came of it",
    "audit.list": "records were listed",
    "audit.show": "one record was read; `content` says whether its content was",
    "audit.receipt": "the receipt of a record was read",
    "audit.receipt_checked": "a receipt from outside was compared with the log",
    "audit.checkpoint": "the newest checkpoint was read",
    "audit.verify": "the log was verified",
    "audit.export": "the log was exported; `format` says how",
    "audit.search": "records were searched; the sought text is the content",
    "audit.activity": "how much was recorded when was read",
    "audit.exposure": "the age of the newest checkpoint outside the machine was read",
    "audit.exposure_alarm": "no checkpoint left the machine for too long, or one does again; `state` says which",
    "audit.epochs": "the epochs of the log were listed",
    "audit.loss_declared": "somebody declared what a restored log has lost, and a new epoch began",
    "hold.list": "the legal holds were read",
    "hold.place": "somebody placed a legal hold; the public `hold.set` follows",
    RELEASE_REQUESTED: "a first person asked to release a legal hold",
    "hold.release_approve": "a second person approved; the public `hold.release` follows",
    "retention.list": "how long records are kept was read",
    "retention.change": "somebody changed how long records are kept; the public `retention` follows",
    "retention.run": "records whose time had come were looked for and destroyed",
    "erasure.shred": "somebody had the content about one subject destroyed; the public `shred` follows",
    "erasure.list": "what was destroyed was read",
}

_PUBLIC = {
    "genesis": "the first record of a log: which log, and which key signs it",
    "start": "recording began",
    "stop": "recording ended in order",
    "heartbeat": "recording goes on and nothing happened",
    "clock.anomaly": "the wall clock moved by itself",
    "key.rotate": "the signing key changed",
    "key.distrust": "a signing key was compromised: what it signed later proves nothing",
    "backup": "a copy of the log was made",
    "tombstone": "these records lose their ciphertexts, on purpose",
    "epoch": "this log continues another after a declared loss",
    "purge": "the records of a class and month lose their ciphertexts: retention ended",
    "shred": "contents lose their keys, on purpose",
    "erased": "what an earlier record announced is destroyed",
    "hold.set": "nothing that this covers is destroyed",
    "hold.release": "a legal hold ended; two people approved",
    "retention": "how long records of a class are kept",
    "audit.paused": "recording paused, and with it every answer",
    "audit.resumed": "recording goes on after a pause",
}

_CLASSES: dict[Class, dict[str, str]] = {
    "exchange": _EXCHANGE,
    "administration": _ADMINISTRATION,
    "public": _PUBLIC,
}
EVENTS: dict[str, EventName] = {
    name: EventName(name, record_class, meaning)
    for record_class, names in _CLASSES.items()
    for name, meaning in names.items()
}

# Every record that announces an account change which can be voided (`service/recovery.py`).
CHANGES = frozenset(
    {
        "account.created",
        "account.disabled",
        "account.enabled",
        "account.password_set",
        "api_key.created",
        "api_key.revoked",
        "guard.policy_set",
        "guard.member_set",
        "setup.link_created",
        "setup.link_used",
    }
)
# Records in the middle of an exchange: neither do they open it nor do they close it.
PARTS = frozenset({WINDOW, GUARD_DECIDED})
CLASS_NUMBERS: dict[str, int] = {"exchange": 1, "administration": 2}  # as in record headers


def check_event(name: str) -> str:
    """The name, if it is one. Raises `UnknownOption` with the known ones."""
    if name in EVENTS:
        return name
    near = difflib.get_close_matches(name[:64], EVENTS, n=3)
    raise UnknownOption(
        f"there is no event {name[:64]!r}",
        hint=f"did you mean {' or '.join(near)}?" if near else f"events are {', '.join(sorted(EVENTS))}",
    )


def check_class(name: str) -> int:
    """The number of a class that is kept and destroyed as a whole. Raises `UnknownOption` with the known ones."""
    if name in CLASS_NUMBERS:
        return CLASS_NUMBERS[name]
    raise UnknownOption(f"there is no class {name[:64]!r}", hint=f"classes are {', '.join(CLASS_NUMBERS)}")


def class_name(number: int) -> str:
    """The name of a class in a header; an unknown one is shown as its number."""
    return next((name for name, known in CLASS_NUMBERS.items() if known == number), str(number))


def as_table() -> str:
    """The table for people, in Markdown."""
    rows = (f"| `{event.name}` | {event.record_class} | {event.meaning} |" for event in EVENTS.values())
    return "\n".join(("| Event | Class | Says |", "|---|---|---|", *rows)) + "\n"


if __name__ == "__main__":
    print(as_table(), end="")
