"""Time of a record: never decreasing, and honest about a clock that jumps. Pure except for `read_clock`.

    commit_clock, t_commit_ms, anomaly_ms = commit_clock.advance(read_clock())

Our timestamps are claims, not trusted time: order comes from the sequence number, and an outside bound only from
checkpoints that left the machine.
"""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from pathlib import Path

ANOMALY_MS = 2000
_TOGETHER_NS = 50_000_000  # two clocks that were read within this were read at one moment
_READINGS_MAX = 10
_BOOT_ID_FILE = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class ClockReading:
    """Both clocks at one moment; the monotonic one counts from boot and cannot be set."""

    wall_ms: int
    monotonic_ms: int


def read_clock() -> ClockReading:
    """The clocks now.

    On a busy machine we may be held up between the two: by more than `ANOMALY_MS` it would look as if somebody had set
    one of them. Hence they are read until nothing came between, and of many such readings the closest counts.
    """
    closest: tuple[int, ClockReading] | None = None
    for _ in range(_READINGS_MAX):
        before_ns = time.monotonic_ns()
        wall_ns = time.time_ns()
        took_ns = time.monotonic_ns() - before_ns
        if closest is None or took_ns < closest[0]:
            closest = took_ns, ClockReading(wall_ns // 1_000_000, (before_ns + took_ns // 2) // 1_000_000)
        if took_ns < _TOGETHER_NS:
            break
    assert closest is not None
    return closest[1]


def read_boot_id() -> str:
    """Which boot the monotonic clock counts from; without Linux's own, one per process."""
    try:
        return _BOOT_ID_FILE.read_text(encoding="ascii").strip()
    except OSError:
        return str(uuid.uuid4())


@dataclass(frozen=True, slots=True)
class CommitClock:
    """What the last commit knew: its time, and the reading it was made with (None: none in this process yet)."""

    last_commit_ms: int
    last_reading: ClockReading | None = None

    def advance(self, now: ClockReading) -> tuple[CommitClock, int, int | None]:
        """The next clock, the commit time, and the jump in ms where the wall clock moved by itself, else None.

        Within a process a jump is wall time minus monotonic time passed, in either direction. At the first commit
        after a start only a step backwards can be told apart from time spent switched off.
        """
        commit_ms = max(self.last_commit_ms, now.wall_ms)
        if self.last_reading is None:
            jump = min(0, now.wall_ms - self.last_commit_ms)
        else:
            passed = now.monotonic_ms - self.last_reading.monotonic_ms
            jump = now.wall_ms - self.last_reading.wall_ms - passed
        anomaly = jump if abs(jump) > ANOMALY_MS else None
        return CommitClock(commit_ms, now), commit_ms, anomaly
