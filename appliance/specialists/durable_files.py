"""Files that are there as a whole or not at all, and errors of the disk in words for the person who must act.

with disk_errors(folder):
    write_durably(folder / "manifest.json", content)
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from appliance.errors import HomeError, HomeFull, HomeReadOnly


@contextmanager
def disk_errors(place: Path) -> Iterator[None]:
    """An `OSError` inside becomes a `HomeError` that names `place`."""
    try:
        yield
    except OSError as error:
        raise disk_error(error, place) from None


def disk_error(error: OSError, place: Path) -> HomeError:
    """The error of writing `place`, as a person can act on it."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return HomeFull(f"no space left on the disk for {place}", hint=f"free space on the disk of {place.parent}")
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return HomeReadOnly(f"cannot write {place}: {error.strerror}", hint=f"make {place.parent} writable")
    return HomeError(f"cannot write {place}: {error.strerror}", hint=f"check the folder {place.parent}")


def write_durably(place: Path, content: bytes, *, mode: int = 0o600) -> None:
    """All of it under its final name, or nothing; on stable storage when this returns. Raises `OSError`."""
    descriptor, temporary = tempfile.mkstemp(prefix=".incoming-", dir=place.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        Path(temporary).replace(place)
    finally:
        Path(temporary).unlink(missing_ok=True)
    sync_folder(place.parent)


def sync_folder(folder: Path) -> None:
    """The names in `folder` are on stable storage when this returns. Raises `OSError`."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
