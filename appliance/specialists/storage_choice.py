"""Which storage type the base model is converted to on this processor: the fastest one that keeps what it says.

    storage_for(processor_flags())           # StorageType.BF16 or StorageType.F16

BF16 is the fastest where the processor multiplies it, and a third slower than F16 where it has to be widened first
(figures in this room's README). A data folder that is moved to another processor keeps the file it registered.
"""

from __future__ import annotations

from collections.abc import Set
from pathlib import Path

from appliance.specialists.base_model import StorageType

CPUINFO = Path("/proc/cpuinfo")
# x86 and, in the last place, 64-bit Arm: what Linux calls instructions that multiply BF16.
MULTIPLIES_BF16 = frozenset(("avx512_bf16", "amx_bf16", "bf16"))
_FLAG_LINES = ("flags", "Features")
_CPUINFO_BYTES_MAX = 1024 * 1024


def storage_for(flags: Set[str]) -> StorageType:
    """The storage type for a processor with these flags.

    >>> storage_for({"avx2", "f16c"}), storage_for({"avx2", "avx512_bf16"})
    (<StorageType.F16: 'f16'>, <StorageType.BF16: 'bf16'>)
    """
    return StorageType.BF16 if MULTIPLIES_BF16 & flags else StorageType.F16


def processor_flags(cpuinfo: Path = CPUINFO) -> frozenset[str]:
    """What the first processor of this machine can do, in the kernel's words; empty where the system does not say."""
    try:
        with cpuinfo.open(encoding="ascii", errors="replace") as file:
            text = file.read(_CPUINFO_BYTES_MAX)
    except OSError:
        return frozenset()
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip() in _FLAG_LINES:
            return frozenset(value.split())
    return frozenset()
