"""What administrators ask of the log: decided, and what follows from it, inside the transaction that records it.

    step = decide(connection, request, context)      # raises Refusal: nothing was changed
    rows = ...append(step.bodies)                    # by the writer, in the same transaction
    step.apply(connection, rows[0].seq)

Because a hold is looked for in the transaction that announces a destruction, and the writer is the only one, there is
no moment at which a hold is set and a destruction begins beside it. A hold that comes while keys are being destroyed
is refused until they are gone: it could not be kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from appliance.audit import control, derived, store
from appliance.audit.checkpoint import parse_checkpoint
from appliance.audit.derived import OutboxRow
from appliance.audit.protocol import (
    Administration,
    BackupMade,
    KeepCosigned,
    KeysDestroyed,
    MoveCursor,
    Purge,
    RejectionCode,
    ReleaseHold,
    SetHold,
    SetRetention,
    Shred,
)
from appliance.audit.store import StoredCheckpoint
from appliance.crypto.note import split_note, verify_note
from appliance.storage.database import Connection

HOLD_BYTES = 8
ID_BYTES = 16
CODE_CHARS_MAX = 64  # of a reason, and of the name of a sink or a target
APPROVALS_CHARS_MAX = 400
MONTHS_MIN = 6
MONTHS_MAX = 1200
CLASSES_MAX = 16
COSIGNED_KEPT_MS = 60_000
COSIGNED_LOOKED_AT = 64
_UNFINISHED_MAX = 100_000
_EXPIRES_MS_MAX = 253_402_300_799_999  # the end of the year 9999


Place = tuple[int, int]  # class and month


class Refusal(Exception):
    """What was asked is not done; `code` is that of `protocol.Rejected`."""

    def __init__(self, code: RejectionCode, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.code: RejectionCode = code
        self.message = message
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Context:
    """What the writer knows when it decides. `public_keys`: those that sign, newest first."""

    origin: str
    signed_size: int
    public_keys: tuple[bytes, ...]
    now_ms: int


@dataclass(frozen=True, slots=True)
class Step:
    """What is done: records to append (none: nothing is recorded), and what follows from the first one's number.

    `retired`: keys under which nothing may be sealed from here on; `closed`: class and month of which nothing is
    taken until their keys are gone, `opened`: of which it is taken again.
    """

    bodies: tuple[bytes, ...]
    apply: Callable[[Connection, int], None]
    retired: frozenset[bytes] = frozenset()
    closed: Place | None = None
    opened: Place | None = None


def decide(connection: Connection, request: Administration, context: Context) -> Step:
    """The step for one request. Reads only. Raises `Refusal`."""
    try:
        match request:
            case SetHold():
                return _set_hold(connection, request)
            case ReleaseHold():
                return _release_hold(connection, request)
            case SetRetention():
                return _set_retention(connection, request)
            case Purge():
                return _purge(connection, request)
            case Shred():
                return _shred(connection, request)
            case KeysDestroyed():
                return _keys_destroyed(connection, request)
            case BackupMade():
                _check_backup(request)
                return Step((control.backup_made(request.target, request.size, request.expires_ms),), _nothing)
            case KeepCosigned():
                return _keep_cosigned(connection, request, context)
            case MoveCursor():
                return _move_cursor(request, context)
            case _:
                raise Refusal("malformed", "the sequencer does not know this request")
    except ValueError as error:
        raise Refusal("malformed", str(error)) from None


def retired(connection: Connection) -> tuple[set[bytes], set[Place]]:
    """Keys that shreds of the log retired, and what purges closed whose keys are not gone yet."""
    scopes: set[bytes] = set()
    closed: set[Place] = set()
    for row in derived.read_erasures(connection, _UNFINISHED_MAX):
        said = announced(connection, row.seq)
        if said["event"] == "shred":
            scopes.update(control.parse_ids(str(said["scopes"]), ID_BYTES))
        elif not row.keys_destroyed:
            closed.add(place_of(said))
    return scopes, closed


def place_of(said: dict[str, control.Value]) -> Place:
    """Class and month of a purge."""
    return int(said["class"]), int(said["month"])


def announced(connection: Connection, seq: int) -> dict[str, control.Value]:
    """The fields of the record that announced a destruction. Raises `ValueError`."""
    return control.parse_control(derived.read_body(connection, seq) or b"")


def _set_hold(connection: Connection, request: SetHold) -> Step:
    _check_ids(request.hold, length=HOLD_BYTES)
    _check_ids(*request.scopes, *request.subjects)
    _check_code(request.reason)
    if len(request.classes) > CLASSES_MAX or not all(1 <= number <= 255 for number in request.classes):
        raise Refusal("malformed", "a hold names classes from 1 to 255")
    if not (request.scopes or request.subjects or request.classes):
        raise Refusal("malformed", "a hold covers something: subjects, keys or classes")
    if derived.read_hold(connection, request.hold) is not None:
        raise Refusal("conflict", f"there is a hold {request.hold.hex()} already", "choose another id")
    if any(not row.keys_destroyed for row in derived.read_erasures(connection, _UNFINISHED_MAX, unfinished=True)):
        raise Refusal("conflict", "keys are being destroyed at this moment", "set the hold when that is finished")
    body = control.hold_set(request.hold, request.scopes, request.subjects, request.classes, request.reason)
    items = [
        *(("scope", value) for value in request.scopes),
        *(("subject", value) for value in request.subjects),
        *(("class", bytes([number])) for number in request.classes),
    ]
    return Step((body,), lambda writing, seq: derived.insert_hold(writing, request.hold, seq, items))


def _release_hold(connection: Connection, request: ReleaseHold) -> Step:
    _check_approvals(request.approvals)
    found = derived.read_hold(connection, request.hold)
    if found is None:
        raise Refusal("not_found", f"there is no hold {request.hold.hex()}")
    if found.released_seq is not None:
        raise Refusal("conflict", f"the hold {request.hold.hex()} was released before")
    body = control.hold_released(request.hold, request.approvals)
    return Step((body,), lambda writing, seq: derived.release_hold(writing, request.hold, seq))


def _set_retention(connection: Connection, request: SetRetention) -> Step:
    if not 1 <= request.record_class <= 255 or request.months > MONTHS_MAX:
        raise Refusal("malformed", f"a rule is for a class from 1 to 255 and at most {MONTHS_MAX} months")
    kept = derived.read_retention(connection).get(request.record_class, MONTHS_MIN)
    if request.months < kept:
        raise Refusal(
            "retention_shortened",
            f"records of this class are kept for {kept} months; {request.months} would be shorter",
            "retention can be lengthened only",
        )
    body = control.retention_set(request.record_class, request.months)
    return Step((body,), lambda writing, seq: derived.put_retention(writing, request.record_class, request.months, seq))


def _purge(connection: Connection, request: Purge) -> Step:
    _check_ids(*request.keys, *request.owners)
    _check_code(request.reason)
    _check_approvals(request.approvals)
    if not 1 <= request.record_class <= 255 or not 0 <= request.month <= 0xFFFF:
        raise Refusal("malformed", "class or month is out of range")
    _refuse_held(connection, request.keys, request.owners, (request.record_class,))
    body = control.purge(request.record_class, request.month, request.parts, request.reason, request.approvals)
    return Step((body,), derived.insert_erasure, closed=(request.record_class, request.month))


def _shred(connection: Connection, request: Shred) -> Step:
    _check_ids(*request.scopes, *request.owners)
    _check_code(request.reason)
    _check_approvals(request.approvals)
    if not request.scopes:
        raise Refusal("not_found", "there is no key to destroy")
    _refuse_held(connection, request.scopes, (*request.owners, request.subject), request.classes)
    body = control.shred(request.scopes, request.subject.hex(), request.grade, request.reason, request.approvals)
    return Step((body,), derived.insert_erasure, frozenset(request.scopes))


def _keys_destroyed(connection: Connection, request: KeysDestroyed) -> Step:
    if derived.read_erasure(connection, request.seq) is None:
        raise Refusal("not_found", f"record {request.seq} announced no destruction")
    said = announced(connection, request.seq)
    return Step(
        (),
        lambda writing, _: derived.mark_keys_destroyed(writing, request.seq),
        frozenset(request.keys),
        opened=place_of(said) if said["event"] == "purge" else None,
    )


def _keep_cosigned(connection: Connection, request: KeepCosigned, context: Context) -> Step:
    text, lines = split_note(request.note)
    signed = parse_checkpoint(text)
    if signed.origin != context.origin or not 0 < signed.size <= context.signed_size:
        raise Refusal("malformed", "that checkpoint is not one of this log")
    ours = "".join(str(line) for line in lines if line.name == context.origin)
    others = "".join(str(line) for line in lines if line.name != context.origin)
    if not others or not any(_signs(f"{text}\n{ours}", context.origin, key) for key in context.public_keys):
        raise Refusal("malformed", "the checkpoint is not signed by this log and by a witness")
    kept = StoredCheckpoint(signed.size, signed.root, f"{text}\n{ours}", context.now_ms, others)
    # The newest is always kept, and of those before it one a minute.
    recent = store.newest_cosigned(connection, COSIGNED_LOOKED_AT)
    minute = [row.size for row in recent if row.t_signed_ms > context.now_ms - COSIGNED_KEPT_MS]

    def apply(writing: Connection, _: int) -> None:
        store.drop_checkpoints(writing, [size for size in minute[1:] if size != kept.size])
        store.keep_cosigned(writing, kept)

    return Step((), apply)


def _move_cursor(request: MoveCursor, context: Context) -> Step:
    _check_code(request.sink)
    if not 0 <= request.next_seq <= context.signed_size or not 0 <= request.anchored_size <= context.signed_size:
        raise Refusal("malformed", "a sink cannot be further than the log")
    row = OutboxRow(request.sink, request.next_seq, request.anchored_size, max(0, request.anchored_ms))
    return Step((), lambda writing, _: derived.put_cursor(writing, row))


def _refuse_held(
    connection: Connection, scopes: tuple[bytes, ...], subjects: tuple[bytes, ...], classes: tuple[int, ...]
) -> None:
    hold = derived.touching_hold(connection, scopes=scopes, subjects=subjects, classes=classes)
    if hold is not None:
        raise Refusal(
            "under_legal_hold",
            f"the legal hold {hold.hex()} covers what was to be destroyed",
            "nothing was destroyed; two people can release the hold",
        )


def _signs(note: str, origin: str, public: bytes) -> bool:
    try:
        verify_note(note, origin, public)
    except ValueError:
        return False
    return True


def _check_ids(*ids: bytes, length: int = ID_BYTES) -> None:
    if any(len(value) != length for value in ids):
        raise Refusal("malformed", f"an id does not have {length} bytes")


def _check_code(code: str) -> None:
    """Codes and labels stand in clear in the log: short, printable, without spaces."""
    if not 0 < len(code) <= CODE_CHARS_MAX or not code.isascii() or not code.isprintable() or " " in code:
        raise Refusal("malformed", f"a reason, target or sink is a code of 1 to {CODE_CHARS_MAX} characters")


def _check_backup(request: BackupMade) -> None:
    _check_code(request.target)
    if request.size < 0 or not 0 <= request.expires_ms <= _EXPIRES_MS_MAX:
        raise Refusal("malformed", "a backup has a size and a time of expiry that a calendar can name")


def _check_approvals(approvals: str) -> None:
    if len(approvals) > APPROVALS_CHARS_MAX or not approvals.isascii() or not approvals.isprintable():
        raise Refusal("malformed", "approvals are ids of people, separated by commas")


def _nothing(connection: Connection, seq: int) -> None:
    """A record that changes nothing else."""
