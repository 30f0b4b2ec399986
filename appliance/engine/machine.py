"""How many cores this process may use, as the operating system and the control group have it.

usable_cores()      # 2
"""

from __future__ import annotations

import os
from pathlib import Path

_TOPOLOGY = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
_CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def usable_cores() -> int:
    """Physical cores among those we may run on, no more than the quota pays for. Two hyper-threads are one core:
    matrix products gain nothing from the second and lose time waiting for it."""
    if hasattr(os, "sched_getaffinity"):
        allowed = os.sched_getaffinity(0)
    else:
        allowed = set(range(os.cpu_count() or 1))
    cores = {_read(Path(_TOPOLOGY.format(number))) or str(number) for number in allowed}
    return max(1, min(len(cores), quota_cores(_read(_CPU_QUOTA))))


def quota_cores(cpu_max: str) -> int:
    """Whole cores of a control group's `cpu.max` ("150000 100000" is 1.5, counted as 2); very many if unlimited."""
    parts = cpu_max.split()
    if len(parts) != 2 or not all(part.isdigit() for part in parts) or int(parts[1]) == 0:
        return 1 << 16
    return max(1, -(-int(parts[0]) // int(parts[1])))


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
