"""Where the sequencer listens, and a way to name the place that is never too long for a socket address.

with socket_address(home.runtime / SOCKET_FILE) as address:
    listener.bind(address)
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOCK_FILE = "audit.lock"
SOCKET_FILE = "audit.sock"
_ADDRESS_BYTES_MAX = 100  # Linux has room for 107, macOS for 103


@contextmanager
def socket_address(path: Path) -> Iterator[str]:
    """`path` itself, or on Linux, where it is too long, a short name for it that is valid inside the block."""
    if len(os.fsencode(path)) <= _ADDRESS_BYTES_MAX:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
