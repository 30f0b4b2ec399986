"""A data folder at every opening: complete, of our version, writable, and held by one server at a time.

    check_home(config.home)
    with hold_server_lock(config.home): ...  # a second server on the same folder is refused

`service/initialise.py` creates it.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager

from appliance.audit.lock import try_lock
from appliance.config import Home
from appliance.errors import (
    HomeError,
    HomeFull,
    HomeInUse,
    HomeNotInitialised,
    HomeReadOnly,
    HomeTooNew,
)

FORMAT_VERSION = 1
MARKER_BYTES_MAX = 4096
DISK_FREE_BYTES_MIN = 256 * 1024 * 1024
_LOOKED_AT_S = 10.0  # a lock that is only looked at is free at once, if whoever looks is not held up
_LOOKED_AT_POLL_S = 0.01


def check_home(home: Home) -> None:
    """Refuse a folder that is not ours, incomplete, of a later release, read-only or full; say what to do."""
    check_marker(home)
    check_writable(home)


def check_marker(home: Home) -> None:
    """Refuse a folder that is not ours, incomplete or of a later release."""
    try:
        with home.marker.open("rb") as file:
            marker = json.loads(file.read(MARKER_BYTES_MAX))
        version = int(marker["format"])
    except FileNotFoundError:
        raise HomeNotInitialised(
            f"{home.root} is not an appliance's data folder", hint=f"create it: appliance init --home {home.root}"
        ) from None
    except PermissionError:
        raise HomeReadOnly(
            f"the data folder {home.root} cannot be read by this user", hint="run as the user who owns it"
        ) from None
    except (ValueError, KeyError, TypeError):
        raise HomeNotInitialised(
            f"{home.marker} is damaged", hint="restore the data folder from a backup; the audit log is not affected"
        ) from None
    if version > FORMAT_VERSION:
        raise HomeTooNew(
            f"{home.root} was written by a later release (format {version}; this one knows {FORMAT_VERSION})",
            hint="install the release that wrote it, or a later one",
        )


@contextmanager
def hold_server_lock(home: Home) -> Iterator[None]:
    """Hold the folder's server lock, a kernel lock that a crash releases. Raises `HomeInUse` naming the holder."""
    path = home.runtime / "server.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        given_up = time.monotonic() + _LOOKED_AT_S
        while not try_lock(descriptor):
            if _is_held(descriptor) or time.monotonic() >= given_up:
                holder = os.pread(descriptor, 20, 0).decode(errors="replace").strip() or "unknown"
                raise HomeInUse(
                    f"the data folder {home.root} is in use by another server (process {holder})",
                    hint="stop that server, or choose another folder with --home",
                )
            time.sleep(_LOOKED_AT_POLL_S)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def server_pid(home: Home) -> int | None:
    """The process that holds the server lock, None while nobody does. Raises `OSError` where there is no lock yet."""
    descriptor = os.open(home.runtime / "server.lock", os.O_RDWR | os.O_CLOEXEC)
    try:
        content = os.pread(descriptor, 20, 0).strip()
        return int(content) if _is_held(descriptor) and content.isdigit() else None
    finally:
        os.close(descriptor)


def _is_held(descriptor: int) -> bool:
    """Whether another has the lock; whoever only looks shares it for a moment, and keeps nobody from looking too."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(descriptor, fcntl.LOCK_UN)  # two that wait for the lock must not keep each other from it
    return False


def check_writable(home: Home) -> None:
    """Write, sync and remove a probe. Raises `HomeReadOnly`, `HomeFull`."""
    try:
        free = shutil.disk_usage(home.root).free
        probe = home.runtime / f".writable-{os.getpid()}"
        descriptor = os.open(probe, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, b"\0" * 4096)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
            probe.unlink()
    except OSError as error:
        raise home_error(home, error) from None
    if free < DISK_FREE_BYTES_MIN and not home.marker.exists():
        raise HomeFull(
            f"the disk of {home.root} has {free // 2**20} MiB free; {DISK_FREE_BYTES_MIN // 2**20} MiB are needed",
            hint="free some space, or choose another folder with --home",
        )


def home_error(home: Home, error: OSError) -> HomeError:
    """What an operating system's refusal means for the person who must act."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return HomeFull(f"the disk of the data folder {home.root} is full", hint="free some space; nothing was lost")
    return HomeReadOnly(
        f"the data folder {home.root} cannot be written: {error.strerror}",
        hint="run as the user who owns it, and check that its file system is mounted read-write",
    )
