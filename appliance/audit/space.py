"""Room on the disk: when recording pauses, and the reserve that is given up to say so.

    space = Space(folder, free_min=64 << 20, reserve=8 << 20)
    if space.is_short(): space.release()         # then the pause is recorded, in the room that this made
    if space.is_back(): space.rebuild()

The reserve is a file that is allocated and never read. Pausing needs less room than it has, so that a disk that fills
up still gets the record which says that recording stopped, and those that must not be lost.
"""

from __future__ import annotations

import os
from pathlib import Path

RESERVE_FILE = "reserve"


class Space:
    """The free space of one folder's disk, and the reserve in it."""

    def __init__(self, folder: Path, *, free_min: int, reserve: int) -> None:
        """`free_min`: below this recording pauses; `reserve`: bytes held back for that. 0: no such rule."""
        self._folder = folder
        self._free_min = free_min
        self._reserve = reserve
        self._path = folder / RESERVE_FILE

    def is_short(self) -> bool:
        """Whether recording has to pause."""
        return self._free_min > 0 and self._free() < self._free_min

    def is_back(self) -> bool:
        """Whether recording may go on after a pause: enough for the reserve, and as much as before besides."""
        missing = 0 if self._path.exists() else self._reserve
        return self._free() >= self._free_min + missing

    def release(self) -> None:
        """Give the reserve up."""
        self._path.unlink(missing_ok=True)

    def rebuild(self) -> None:
        """Allocate the reserve, if it is not there; without room for it nothing happens."""
        if self._reserve == 0 or self._path.exists():
            return
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, self._reserve)
            finally:
                os.close(descriptor)
        except OSError:
            self.release()

    def _free(self) -> int:
        disk = os.statvfs(self._folder)
        return disk.f_bavail * disk.f_frsize
