"""What a witness keeps on its own machine: its key, the logs it knows, the newest head of each, and a journal.

    create_witness(folder, "witness.example/w1")           # once; says the verifier key that a log's owner is given
    with open_witness(folder) as kept:                     # one process at a time
        kept.keep(head, note)                              # durable when it returns

    witness.json     name and verifier key                 witness.key   the seed, mode 0400
    logs.json        verifier keys of each known log       state.json    newest (size, root, note) of each
    journal.jsonl    every checkpoint with a known signature, cosigned or refused; older ones `journal.1.jsonl` …
    strangers.jsonl  the others, apart, so that a stranger cannot push signed history out of the journal
    evidence/        both notes where one contradicts what was cosigned

The state is the promise. A witness whose state is gone, or is older than its own journal, could cosign a second
history; it MUST be retired and another made, under another name. This folder is never that of an appliance.
"""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import msgspec

from appliance.audit.checkpoint import Checkpoint
from appliance.audit.lock import try_lock
from appliance.crypto import cosignature, note, signing
from appliance.errors import Conflict, HomeError, HomeExists, HomeInUse, HomeNotInitialised, InvalidRequest

LOGS_MAX = 256
KEYS_PER_LOG_MAX = 8
FILE_BYTES_MAX = 64 * 1024 * 1024  # the state of as many logs as there may be, each with a large note
JOURNAL_BYTES_MAX = 4 * 1024 * 1024
JOURNALS_KEPT = 8
EVIDENCE_MAX = 1000
DISK_FREE_BYTES_MIN = 16 * 1024 * 1024
APPLIANCE_MARKER = "home.json"  # of an appliance's data folder, which a witness never opens

T = TypeVar("T")


class Identity(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who this witness is. `verifier_key` is what the owners of logs are given."""

    name: str
    verifier_key: str
    format: int = 1


class KeptHead(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The newest head that was cosigned for one log; `root` in base64."""

    size: int
    root: str
    note: str
    time_s: int

    def checkpoint(self, origin: str) -> Checkpoint:
        """The head as a value."""
        return Checkpoint(origin, self.size, base64.b64decode(self.root))


class Entry(msgspec.Struct, frozen=True):
    """One line of the journal: which checkpoint was offered, what became of it, and what the witness knew."""

    time: str
    verdict: str
    origin: str
    size: int
    root: str
    old: int
    known: int


Logs = dict[str, list[str]]
State = dict[str, KeptHead]


def create_witness(folder: Path, name: str) -> Identity:
    """A new witness. Raises `HomeExists`, `HomeError`, `InvalidRequest`."""
    if not note.is_name(name):
        raise InvalidRequest(
            "a witness's name has no spaces and no plus sign", hint="take one like witness.clinic.example/w1"
        )
    refuse_appliance_folder(folder)
    if folder.exists() and any(folder.iterdir()):
        raise HomeExists(f"{folder} is not empty", hint="a witness begins in a folder of its own; choose another")
    with _told(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        (folder / "evidence").mkdir(mode=0o700)
        seed = signing.generate_seed()
        identity = Identity(name, cosignature.verifier_key(name, signing.public_key(seed)))
        _write(folder / "witness.key", base64.b64encode(seed) + b"\n", mode=0o400)
        _write(folder / "logs.json", b"{}\n")
        _write(folder / "state.json", b"{}\n")
        _write(folder / "witness.json", msgspec.json.encode(identity) + b"\n")  # last: its existence means completeness
    return identity


def read_identity(folder: Path) -> Identity:
    """Who the witness of `folder` is. Raises `HomeNotInitialised`."""
    refuse_appliance_folder(folder)
    found = _read(folder / "witness.json", Identity)
    if found is None:
        raise HomeNotInitialised(
            f"{folder} is not the folder of a witness", hint=f"create it: appliance witness init --folder {folder}"
        )
    return found


def read_logs(folder: Path) -> Logs:
    """Verifier keys of every known log, by origin."""
    return _read(folder / "logs.json", Logs) or {}


def add_log(folder: Path, verifier_key: str) -> str:
    """Know a log, or another key of a log that rotates its own; returns its origin. The same key again is no change.

    Raises `InvalidRequest`, `Conflict`.
    """
    identity = read_identity(folder)
    try:
        origin, public = note.parse_verifier_key(verifier_key)
    except ValueError as error:
        raise InvalidRequest(
            f"this is not the key of a log: {error}", hint="it is what `appliance audit checkpoint` prints as its key"
        ) from None
    if public == cosignature.parse_verifier_key(identity.verifier_key)[1]:
        raise InvalidRequest("a witness does not witness itself", hint="give the key of a log")
    logs = read_logs(folder)
    keys = logs.setdefault(origin, [])
    if verifier_key.strip() in keys:
        return origin
    if len(logs) > LOGS_MAX or len(keys) >= KEYS_PER_LOG_MAX:
        raise Conflict(
            f"a witness knows at most {LOGS_MAX} logs and {KEYS_PER_LOG_MAX} keys of each",
            hint="make another witness for further logs",
        )
    keys.append(verifier_key.strip())
    with _told(folder):
        _write(folder / "logs.json", msgspec.json.encode(logs) + b"\n")
    return origin


def read_state(folder: Path) -> State:
    """The newest head of each log. Raises `HomeError` where it is missing, damaged or older than the journal."""
    # The journal first: a running witness writes the state before the journal, so that the state is never behind it.
    cosigned: dict[str, int] = {}
    for entry in read_journal(folder):
        if entry.verdict == "cosigned":
            cosigned[entry.origin] = max(entry.size, cosigned.get(entry.origin, 0))
    state = _read(folder / "state.json", State)
    if state is None:
        raise _retire(f"{folder / 'state.json'} is missing: this witness no longer knows what it cosigned")
    for origin, size in cosigned.items():
        kept = state.get(origin)
        if kept is None or kept.size < size:
            raise _retire(
                f"the state of {origin} ends at {kept.size if kept else 0} records, "
                f"but {size} were cosigned: it was put back to an older one"
            )
    return state


def read_journal(folder: Path, name: str = "journal") -> Iterator[Entry]:
    """The lines that are kept, oldest first. A line that was cut off by a crash is passed over."""
    for number in range(JOURNALS_KEPT, -1, -1):
        try:
            with _journal_path(folder, name, number).open("rb") as file:
                content = file.read(2 * JOURNAL_BYTES_MAX)
        except FileNotFoundError:
            continue
        for line in content.splitlines():
            try:
                yield msgspec.json.decode(line, type=Entry)
            except msgspec.DecodeError:
                continue


def refuse_appliance_folder(folder: Path) -> None:
    """A witness beside the log that it watches watches nothing. Raises `HomeError`."""
    if any((place / APPLIANCE_MARKER).exists() for place in (folder.absolute(), *folder.absolute().parents)):
        raise HomeError(
            f"{folder} lies in the data folder of an appliance",
            hint="run the witness on another machine, in a folder of its own",
        )


class WitnessFolder:
    """An opened folder: the only writer of state, journal and evidence. Made by `open_witness`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.identity = read_identity(folder)
        self.seed = _read_seed(folder, self.identity)
        self.state = read_state(folder)

    def trusted_keys(self, origin: str) -> list[bytes]:
        """Public keys of a known log, read anew: `add-log` needs no restart. Empty for a log that is not known."""
        return [note.parse_verifier_key(key)[1] for key in read_logs(self.folder).get(origin, [])]

    def keep(self, head: Checkpoint, signed: str, time_s: int) -> None:
        """Remember the newest head of a log. On stable storage when it returns; a crash leaves the old or the new."""
        kept = self.state.get(head.origin)
        if kept is not None and kept.checkpoint(head.origin) == head:
            return
        entry = KeptHead(head.size, base64.b64encode(head.root).decode(), signed, time_s)
        state = {**self.state, head.origin: entry}
        _write(self.folder / "state.json", msgspec.json.encode(state) + b"\n")
        self.state = state

    def note_down(self, entry: Entry, *, stranger: bool) -> None:
        """Add a line to the journal; the oldest file of it goes when there are too many."""
        name = "strangers" if stranger else "journal"
        path = _journal_path(self.folder, name, 0)
        line = msgspec.json.encode(entry) + b"\n"
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, line)
            full = os.fstat(descriptor).st_size > JOURNAL_BYTES_MAX
        finally:
            os.close(descriptor)
        if full:
            for number in range(JOURNALS_KEPT - 1, -1, -1):
                older = _journal_path(self.folder, name, number)
                if older.exists():
                    older.replace(_journal_path(self.folder, name, number + 1))

    def keep_evidence(self, origin: str, refused: str) -> None:
        """Keep both notes of a contradiction, once each pair, at most `EVIDENCE_MAX`."""
        folder = self.folder / "evidence"
        stem = hashlib.sha256(refused.encode()).hexdigest()[:16]
        target = folder / f"{stem}.refused.note"
        if target.exists() or sum(1 for _ in folder.iterdir()) >= 2 * EVIDENCE_MAX:
            return
        known = self.state.get(origin)
        if known is not None:
            _write(folder / f"{stem}.cosigned.note", known.note.encode())
        _write(target, refused.encode())

    def require_space(self) -> None:
        """Raise `HomeError` when nothing more can be kept."""
        if shutil.disk_usage(self.folder).free < DISK_FREE_BYTES_MIN:
            raise HomeError(f"the disk of {self.folder} is full", hint="free some space; nothing was cosigned")


@contextmanager
def open_witness(folder: Path) -> Iterator[WitnessFolder]:
    """The folder for one process. Raises `HomeNotInitialised`, `HomeInUse`, `HomeError`."""
    read_identity(folder)
    with _told(folder):
        descriptor = os.open(folder / "witness.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if not try_lock(descriptor):
            raise HomeInUse(f"the witness of {folder} runs already", hint="stop the other process first")
        yield WitnessFolder(folder)
    finally:
        os.close(descriptor)


def timestamp(time_s: float) -> str:
    """A time as the journal writes it: UTC, to the second."""
    return datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _read_seed(folder: Path, identity: Identity) -> bytes:
    path = folder / "witness.key"
    try:
        if path.stat().st_mode & 0o077:
            raise HomeError(f"{path} is readable by others", hint=f"chmod 0400 {path}")
        seed = base64.b64decode(path.read_bytes()[:128].strip(), validate=True)
        fits = cosignature.verifier_key(identity.name, signing.public_key(seed)) == identity.verifier_key
    except (OSError, ValueError):
        raise HomeError(f"{path} cannot be read", hint="run as its owner; a lost key means another witness") from None
    if not fits:
        raise HomeError(f"{path} is not the key of {identity.name}", hint="restore the folder as a whole")
    return seed


def _journal_path(folder: Path, name: str, number: int) -> Path:
    return folder / (f"{name}.{number}.jsonl" if number else f"{name}.jsonl")


def _read(path: Path, kind: type[T]) -> T | None:
    try:
        with path.open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
        return msgspec.json.decode(content, type=kind)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise HomeError(f"{path} cannot be read: {error.strerror}", hint="run as the user who owns it") from None
    except msgspec.DecodeError:
        raise _retire(f"{path} is damaged") from None


def _write(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Replace a file as a whole; it is on stable storage, and so is its name, when this returns."""
    beside = path.with_name(path.name + ".new")
    beside.unlink(missing_ok=True)
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def _told(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise HomeError(
            f"{folder} cannot be written: {error.strerror}", hint="run as the user who owns it, on a disk with space"
        ) from None


def _retire(why: str) -> HomeError:
    return HomeError(
        why,
        hint="retire this witness: make another under another name and key in a new folder, and give its key to every "
        "appliance; keep this folder as evidence",
    )
