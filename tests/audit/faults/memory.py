"""A folder in memory for tests that open a log hundreds of times: what they test is not how long a disk takes.

    with memory_folder() as folder: shutil.copytree(home, folder / "home")

Where there is no file system in memory it lies on the disk, and the tests take longer.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_MEMORY = Path("/dev/shm")


@contextmanager
def memory_folder() -> Iterator[Path]:
    """A folder that is gone when the block ends."""
    usable = _MEMORY.is_dir() and os.access(_MEMORY, os.W_OK | os.X_OK)
    with tempfile.TemporaryDirectory(prefix="faults-", dir=_MEMORY if usable else None) as name:
        yield Path(name)
