"""What the sequencer does to itself before it holds a key, and what it demands of the disk below the log.

    harden_process(parent_pid)
    warnings = check_medium(home.audit_database.parent)

Linux gives all of it; elsewhere the calls that do not exist are left out and the rest still holds.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path

from appliance.errors import AuditUnavailable

FSYNC_MS_MIN = 0.1
_FSYNC_SAMPLES = 3
_MOUNTS = Path("/proc/self/mountinfo")
# Locks and shared memory of SQLite do not work between machines, and most of these lie about fsync.
_NETWORK = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "lustre", "ocfs2", "gfs2", "beegfs"}
)
_NETWORK_FUSE = frozenset({"fuse.sshfs", "fuse.glusterfs", "fuse.ceph", "fuse.s3fs", "fuse.rclone", "fuse.davfs"})

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4


def harden_process(parent_pid: int) -> None:
    """No core dump, no reading of our memory by others, files for the owner only, and no life without the parent.

    Signals that a terminal or a service manager sends to the whole group are ignored: the parent decides when the
    log closes, after the closing records of its requests.
    """
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
        # Second line only: normally the closed control socket ends us. It covers a socket that leaked to a sibling.
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent_pid:
        raise SystemExit("the process that started the audit sequencer is gone")


def check_medium(folder: Path) -> tuple[str, ...]:
    """Refuse a network file system (`AuditUnavailable`); warn about storage that cannot be as durable as it says."""
    kind = file_system_of(folder, _read_mounts())
    if kind in _NETWORK or kind in _NETWORK_FUSE:
        raise AuditUnavailable(
            f"the audit log cannot lie on a network file system ({kind}) at {folder}",
            hint="put the data folder on a local disk",
        )
    warnings = []  # without the path: they are recorded in clear, and a path may name a person
    if kind == "overlay":
        warnings.append("the log is on an overlay file system: mount a volume, or it goes with the container")
    took_ms = measure_fsync_ms(folder)
    if took_ms < FSYNC_MS_MIN:
        warnings.append(
            f"writes are acknowledged in {took_ms:.3f} ms: this storage keeps data in memory, and a power cut may lose "
            "records that were acknowledged"
        )
    return tuple(warnings)


def file_system_of(folder: Path, mountinfo: str) -> str | None:
    """The type of the file system that holds `folder`, from the text of /proc/self/mountinfo; None if unknown."""
    place = folder.resolve()
    found: tuple[int, str] | None = None
    for line in mountinfo.splitlines():
        mount, separator, source = line.partition(" - ")
        fields = mount.split(" ")
        if not separator or len(fields) < 5:
            continue
        point = Path(fields[4].encode().decode("unicode_escape"))  # spaces are written as \040
        # Of several mounts at one point the last covers the others, hence >=.
        if place.is_relative_to(point) and (found is None or len(point.parts) >= found[0]):
            found = (len(point.parts), source.split(" ")[0])
    return found[1] if found else None


def measure_fsync_ms(folder: Path) -> float:
    """Median time until a 4 KiB write is said to be on the disk."""
    samples = []
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(_FSYNC_SAMPLES):
            os.write(file.fileno(), bytes(4096))
            before = time.perf_counter()
            os.fsync(file.fileno())
            samples.append((time.perf_counter() - before) * 1000)
    return statistics.median(samples)


def _read_mounts() -> str:
    try:
        return _MOUNTS.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
