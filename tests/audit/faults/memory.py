"""A folder in memory for tests that open a log hundreds of times: what they test is not how long a disk takes.

    with memory_folder() as folder: shutil.copytree(home, folder / "home")

Where there is no file system in memory, or hardly room in it (a container's is small, browsers fill it, and a log that
is short of room pauses), it lies on the disk, and the tests take longer.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_MEMORY = Path("/dev/shm")
_FREE_BYTES_MIN = 1024**3


@contextmanager
def memory_folder() -> Iterator[Path]:
    """A folder that is gone when the block ends."""
    usable = _MEMORY.is_dir() and os.access(_MEMORY, os.W_OK | os.X_OK)
    usable = usable and shutil.disk_usage(_MEMORY).free >= _FREE_BYTES_MIN
    with tempfile.TemporaryDirectory(prefix="faults-", dir=_MEMORY if usable else None) as name:
        yield Path(name)
