"""Taking the log away in one of its formats: who may, recorded first, then written as a whole.

    wanted = parse_request("jsonl", from_="2026-03-01", to="2026-04-01", content=False)
    file = await export_to_send(config, log, principal, wanted)      # for a server: an unnamed file, sent and gone
    await export_to(config, log, principal, wanted, Path("march.jsonl"))     # for the command: whole or not at all

`bundle` and `tiles` are always of the whole log, because nothing would show what was left out of an excerpt; contents
stay sealed in them. The other formats carry what a record says of itself in clear, `jsonl` on request its content too.

An export never takes the space that recording needs: it ends with an error before the disk is that full.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO, Literal, cast, get_args

from appliance.accounts.actions import Action, authorize
from appliance.audit.formats.syslog import Sender
from appliance.audit.formats.write import FILE_TYPES, Progress, write_export
from appliance.audit.formats.write import Format as RecordFormat
from appliance.audit.lock import try_lock
from appliance.audit.log import AuditLog
from appliance.config import Config, Home
from appliance.errors import HomeFull, InvalidRequest, RequestCancelled, UnknownOption
from appliance.service.events import record_reading
from appliance.service.home import home_error
from appliance.types import AttributeValue, Principal

Format = Literal["bundle", "tiles", "jsonl", "fhir", "fhir-bundle", "syslog", "cef"]
FORMATS: tuple[Format, ...] = get_args(Format)
_WHOLE = ("bundle", "tiles")  # of the log as a whole, with everything sealed
_FILE_NAMES = {"bundle": "audit-export.zip", "tiles": "audit-tiles.zip"}
_LOOK_AT_DISK_BYTES = 16 * 1024 * 1024  # so much is written between two looks at the free space
_TEXT_CHARS_MAX = 40
_YOUNG_S = 60.0


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """What is wanted. `from_ms` (inclusive) and `to_ms` (exclusive): milliseconds since 1970 UTC, None: unbounded.

    `all_epochs`: a bundle of this log and of all before it.
    """

    format: Format
    from_ms: int | None = None
    to_ms: int | None = None
    epoch: int | None = None
    content: bool = False
    all_epochs: bool = False

    def about(self) -> dict[str, AttributeValue]:
        """What is recorded of it."""
        bounds = {"from": self.from_ms, "to": self.to_ms, "epoch": self.epoch}
        given: dict[str, AttributeValue] = {name: value for name, value in bounds.items() if value is not None}
        if self.all_epochs:
            given["all_epochs"] = True
        return {"format": self.format, "content": self.content, **given}


@dataclass(frozen=True, slots=True)
class ExportFile:
    """A finished export without a name in any folder: it is gone when it is closed, however the process ends."""

    file: BinaryIO
    size: int
    name: str
    media_type: str

    def close(self) -> None:
        """Give the space back. May be called twice."""
        self.file.close()


def parse_request(
    format_: str,
    *,
    from_: str | None = None,
    to: str | None = None,
    epoch: int | None = None,
    content: bool = False,
    all_epochs: bool = False,
) -> ExportRequest:
    """Check what was asked for. Raises `UnknownOption`, `InvalidRequest`."""
    if format_ not in FORMATS:
        raise UnknownOption(
            f"there is no export format {format_[:_TEXT_CHARS_MAX]!r}", hint=f"formats are {', '.join(FORMATS)}"
        )
    if format_ in _WHOLE and (from_ or to):
        raise InvalidRequest(
            f"a {format_} export is always of the whole log: nothing would show what was left out of an excerpt",
            hint="leave the times out, or export an excerpt as jsonl, fhir, fhir-bundle, syslog or cef",
        )
    if content and format_ != "jsonl":
        sealed = "stay sealed in it" if format_ in _WHOLE else "are not part of it"
        raise InvalidRequest(f"contents cannot be exported as {format_}: they {sealed}", hint="export them as jsonl")
    if all_epochs and (format_ != "bundle" or epoch is not None):
        raise InvalidRequest(
            "all epochs together are one bundle", hint="leave the format out and name no epoch, or export one by one"
        )
    from_ms, to_ms = parse_window(from_, to)
    return ExportRequest(cast("Format", format_), from_ms, to_ms, epoch, content, all_epochs)


def parse_window(from_: str | None, to: str | None) -> tuple[int | None, int | None]:
    """Two times as milliseconds since 1970, nothing where nothing was said. Raises `InvalidRequest`."""
    from_ms, to_ms = (parse_time(text) if text else None for text in (from_, to))
    if from_ms is not None and to_ms is not None and to_ms <= from_ms:
        raise InvalidRequest(
            f"the window ends at {to} before it begins at {from_}", hint="exchange the two times; `to` is exclusive"
        )
    return from_ms, to_ms


def parse_time(text: str) -> int:
    """Milliseconds since 1970 of an ISO date or time; UTC where no zone is named. Raises `InvalidRequest`."""
    try:
        moment = datetime.fromisoformat(text.strip())
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return int(moment.timestamp() * 1000)
    except (ValueError, OverflowError):
        raise InvalidRequest(
            f"{text.strip()[:_TEXT_CHARS_MAX]!r} is not a time",
            hint="write it as 2026-11-24, 2026-11-24T18:30 or 2026-11-24T18:30:00+01:00; without a zone it is UTC",
        ) from None


async def export_to_send(config: Config, log: AuditLog, principal: Principal, wanted: ExportRequest) -> ExportFile:
    """The finished file; every error is told before its first byte can be sent. The caller MUST close it.

    Raises `PermissionDenied`, `NotFound` for an epoch that there is not, `HomeFull`. Cancelled, it ends at the next
    page of records and leaves nothing.
    """
    await _admit(config, log, principal, wanted)
    stop = threading.Event()
    writing = asyncio.ensure_future(asyncio.to_thread(_write_unnamed, config, log, wanted, stop))
    try:
        return await asyncio.shield(writing)
    except asyncio.CancelledError:
        stop.set()
        await asyncio.wait({writing})
        if not writing.cancelled() and writing.exception() is None:
            writing.result().close()
        raise


async def export_to(
    config: Config,
    log: AuditLog,
    principal: Principal,
    wanted: ExportRequest,
    target: Path,
    *,
    progress: Progress | None = None,
) -> None:
    """Write `target`, whole or not at all; it MUST NOT exist. A bundle is a folder unless its name ends in `.zip`.

    `progress` is told of records written and the most that there may be. Raises as `export_to_send`, and
    `InvalidRequest` for a target that is there or cannot be written, before anything is recorded.
    """
    check_target(target)
    await _admit(config, log, principal, wanted)
    await asyncio.to_thread(_write_named, config, log, wanted, target, progress)


async def _admit(config: Config, log: AuditLog, principal: Principal, wanted: ExportRequest) -> None:
    """Refuse, or record that it is done. A quarantined log, which takes no record, can be taken away sealed."""
    authorize(principal, Action.AUDIT_EXPORT)
    if wanted.content:
        authorize(principal, Action.AUDIT_READ_CONTENT)
    if wanted.epoch is not None:
        await asyncio.to_thread(log.checkpoint, epoch=wanted.epoch)  # NotFound before anything is recorded
    if log.quarantine is None or wanted.format not in _WHOLE:
        await record_reading(log, principal, "audit.export", wanted.about())


def _write_unnamed(config: Config, log: AuditLog, wanted: ExportRequest, stop: threading.Event) -> ExportFile:
    with _folder(config.home) as folder:
        path = folder / _file_name(wanted)
        _write(config, log, wanted, path, _until(stop, None))
        # The folder goes now; what is open stays readable until it is closed, and no longer.
        file = path.open("rb")
    media_type = "application/zip" if wanted.format in _WHOLE else FILE_TYPES[cast("RecordFormat", wanted.format)][0]
    return ExportFile(file, os.fstat(file.fileno()).st_size, path.name, media_type)


def _write_named(config: Config, log: AuditLog, wanted: ExportRequest, target: Path, progress: Progress | None) -> None:
    if wanted.format in _WHOLE:
        _write(config, log, wanted, target, progress)  # it does the same by itself
        return
    draft = target.with_name(target.name + ".partial")
    try:
        _write(config, log, wanted, draft, progress)
        if target.exists():
            raise _exists(target)
        draft.rename(target)
    except OSError as error:
        raise _unwritable(target, error) from None
    finally:
        draft.unlink(missing_ok=True)


def _write(config: Config, log: AuditLog, wanted: ExportRequest, path: Path, progress: Progress | None) -> None:
    least = config.audit.disk_free_bytes_min
    if wanted.format in _WHOLE:
        _require_space(path.parent, least + _size_of_log(config.home, wanted))
        if wanted.format == "tiles":
            log.export_tiles(path, epoch=wanted.epoch)
        elif wanted.all_epochs:
            log.export_epochs(path, ciphertexts=True)
        else:
            log.export(path, ciphertexts=True, epoch=wanted.epoch)
        return
    sender = Sender(socket.gethostname(), config.siem.enterprise_id, str(os.getpid()))
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        write_export(
            log,
            wanted.format,  # type: ignore[arg-type]  # the others were written above
            wanted.from_ms,
            wanted.to_ms,
            cast("BinaryIO", _BoundedFile(file, path.parent, least)),
            wanted.content,
            progress,
            sender=sender,
            epoch=wanted.epoch,
        )
        file.flush()
        os.fsync(file.fileno())


class _BoundedFile:
    """Passes on what is written as long as the disk has room for the log beside it."""

    def __init__(self, file: BinaryIO, folder: Path, free_bytes_min: int) -> None:
        self._file, self._folder, self._least = file, folder, free_bytes_min
        self._unlooked = _LOOK_AT_DISK_BYTES

    def write(self, content: bytes) -> int:
        """Raises `HomeFull`."""
        self._unlooked += len(content)
        if self._unlooked >= _LOOK_AT_DISK_BYTES:
            _require_space(self._folder, self._least)
            self._unlooked = 0
        try:
            return self._file.write(content)
        except OSError as error:
            raise _unwritable(self._folder, error) from None


def _until(stop: threading.Event, progress: Progress | None) -> Progress:
    def go_on(written: int, at_most: int) -> None:
        if stop.is_set():
            raise RequestCancelled("the client closed the connection before the export was ready")
        if progress is not None:
            progress(written, at_most)

    return go_on


@contextmanager
def _folder(home: Home) -> Iterator[Path]:
    """A folder of this export's own, held by a lock as long as it lives; those of processes that died are removed."""
    for left in home.runtime.glob("export-*"):
        _remove_abandoned(left)
    try:
        with TemporaryDirectory(prefix="export-", dir=home.runtime) as name:
            descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
                yield Path(name)
            finally:
                os.close(descriptor)
    except OSError as error:
        raise home_error(home, error) from None


def _remove_abandoned(folder: Path) -> None:
    try:
        if folder.stat().st_mtime > time.time() - _YOUNG_S:
            return  # it may not be locked yet
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if try_lock(descriptor):  # nobody writes in it any more
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(descriptor)


def _file_name(wanted: ExportRequest) -> str:
    if wanted.format in _WHOLE:
        return _FILE_NAMES[wanted.format]
    suffix = FILE_TYPES[cast("RecordFormat", wanted.format)][1]
    return f"audit-export{'-fhir' if wanted.format.startswith('fhir') else ''}{suffix}"


def _size_of_log(home: Home, wanted: ExportRequest) -> int:
    """Roughly what a bundle or the tiles of it need: no more than the database."""
    database = home.audit_database
    if wanted.epoch is not None and (earlier := database.parent / f"e{wanted.epoch}" / database.name).exists():
        database = earlier
    size = database.stat().st_size
    if wanted.all_epochs:
        size += sum(earlier.stat().st_size for earlier in database.parent.glob(f"e*/{database.name}"))
    return size if wanted.format == "bundle" else size // 4


def _require_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise HomeFull(
            f"the disk of {folder} has {free // 2**20} MiB left, and the export would leave too little for recording",
            hint="free some space, export a shorter span, or let the command write it to another disk",
        )


def check_target(target: Path) -> None:
    """Refuse a file that is there, or a folder that cannot be written. Raises `InvalidRequest`."""
    if target.exists() or target.is_symlink():
        raise _exists(target)
    if not os.access(target.absolute().parent, os.W_OK | os.X_OK):
        raise InvalidRequest(f"cannot write {target}: its folder cannot be written", hint="check that it exists")


def _exists(target: Path) -> InvalidRequest:
    return InvalidRequest(f"{target} exists already", hint="choose another name; exports are not overwritten")


def _unwritable(target: Path, error: OSError) -> InvalidRequest:
    return InvalidRequest(f"cannot write {target}: {error.strerror}", hint="check the folder and its free space")
