"""What the worker needs of a backend, and what it must check before it hands one a file.

Two backends exist: `llama_encoder.LlamaEncoder` and `echo.EchoEncoder`. A backend has lanes; they compute apart.

    file = open_checked(Path("base.gguf"), sha256)     # ModelFileRefused unless the bytes are the registered ones
    check_memory(need_bytes, limit_bytes)              # ModelFileRefused with the figures
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np

from appliance.errors import ModelFileRefused

_MIB = 1024**2
_CGROUP_V2 = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What a loaded base is like. `device` is a sentence: which device and how many layers, or why the CPU."""

    states: int
    positions: int
    vocabulary: int
    device: str
    memory_bytes: int


class Backend(Protocol):
    """One base model and its adapters. Every sequence is valid when it arrives: the worker has checked it.

    Different lanes MAY encode at the same time in different threads; one lane is used by one thread at a time.
    Adapters are loaded and unloaded while no lane encodes.
    """

    @property
    def facts(self) -> ModelFacts: ...

    def load_adapter(self, key: str, path: Path, *, merge: bool = False) -> None:
        """Raises `SpecialistFileInvalid` when the file cannot be used. MAY abort the process.

        `merge`: spend memory on speed, if the backend can; the answers are the same but for rounding.
        """

    def unload_adapter(self, key: str) -> None:
        """Forget an adapter and free its memory; one that was never loaded is no error."""

    def encode(self, lane: int, adapter: str | None, sequences: Sequence[np.ndarray]) -> np.ndarray:
        """Token states of all sequences end to end, (sum of lengths, states) float32, valid until its next call."""


def open_checked(path: Path, sha256: str) -> BinaryIO:
    """Open a model file whose content is exactly the registered one; the caller loads from this descriptor.

    Hashing and loading the same open file means that swapping the path in between changes nothing.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise ModelFileRefused(
            f"cannot open the model file {path.name}: {error.strerror}", hint="check that it exists and who owns it"
        ) from None
    found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        file.close()
        raise ModelFileRefused(
            f"the model file {path.name} is not the registered one: SHA-256 {found[:16]}…, expected {sha256[:16]}…",
            hint="install it again from a source you trust, and find out who changed this one",
        )
    return file


def descriptor_path(file: BinaryIO, fallback: Path) -> Path:
    """A path that opens this very file again, for libraries that want a name."""
    through = Path(f"/dev/fd/{file.fileno()}")
    return through if through.exists() else fallback


def check_memory(need_bytes: int, limit_bytes: int, what: str, section: str = "engine") -> None:
    """Raise `ModelFileRefused` when `what` would not fit into the configured limit or into what is free."""
    if need_bytes > limit_bytes:
        raise ModelFileRefused(
            f"{what} needs about {need_bytes // _MIB} MiB, {section}.memory_bytes_max allows {limit_bytes // _MIB} MiB",
            hint=f"raise {section}.memory_bytes_max, or unload what is not needed",
        )
    free = available_bytes()
    if free is not None and need_bytes > free:
        raise ModelFileRefused(
            f"{what} needs about {need_bytes // _MIB} MiB, this machine has {free // _MIB} MiB left",
            hint="free memory or give the machine more",
        )


def available_bytes() -> int | None:
    """Memory that can still be taken: the machine's and the control group's, whichever is less. None: unknown."""
    figures = []
    for line in _lines(Path("/proc/meminfo")):
        if line.startswith("MemAvailable:"):
            figures.append(int(line.split()[1]) * 1024)
    limit, used = _lines(_CGROUP_V2 / "memory.max"), _lines(_CGROUP_V2 / "memory.current")
    if limit and used and limit[0].isdigit():
        figures.append(max(0, int(limit[0]) - int(used[0])))
    return min(figures, default=None)


def pss_bytes() -> int:
    """This process's proportional share of memory; 0 where the system does not say."""
    for line in _lines(Path("/proc/self/smaps_rollup")):
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
