"""The plot of activity as numbers: heights of stacked bars, spans in which nothing was recorded, marks of the axes.

A log in order is never silent: when nothing happens it says so once a minute. A part of the span without any record
is therefore a gap, unless the log had not begun or the part is still to come. Pure; the template only draws.

    plot = timeline(answer, begun="2026-01-05T09:00:00+00:00", now=datetime.now(UTC))
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

CLASSES = ("exchange", "administration", "public")
WIDTH, HEIGHT = 1000, 200  # units of the drawing; it is stretched to the width of the page
_QUIET_AT_LEAST = timedelta(seconds=120)  # shorter parts may be empty although the log is in order
_BUCKETS_MAX = 1000


@dataclass(frozen=True, slots=True)
class Bar:
    """One rectangle: the class it counts, and where it is drawn."""

    kind: str
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the span: its numbers for the table, its rectangles for the plot."""

    start: str
    counts: tuple[int, ...]
    total: int
    state: str  # "", "gap", "before" (the log had not begun) or "ahead" (still to come)
    bars: tuple[Bar, ...]


@dataclass(frozen=True, slots=True)
class Gap:
    """Neighbouring silent parts as one span."""

    start: str
    end: str
    x: float
    width: float


@dataclass(frozen=True, slots=True)
class Timeline:
    """Everything the template needs."""

    parts: tuple[Part, ...]
    gaps: tuple[Gap, ...]
    levels: tuple[int, ...]  # labels of the vertical axis, top first
    marks: tuple[str, ...]  # times below the plot, evenly spread
    totals: tuple[tuple[str, int], ...]
    start: str
    end: str


def timeline(answer: Mapping[str, Any], *, begun: str | None, now: datetime) -> Timeline:
    """`answer` as of `GET /v1/audit/activity`; `begun` is when the log began, None when nobody said."""
    buckets: Sequence[Mapping[str, Any]] = answer["buckets"][:_BUCKETS_MAX]
    starts = [_time(bucket["start"]) for bucket in buckets]
    end = _time(answer["to"])
    ends = [*starts, end][1:]  # without parts there is no end either
    counts = [tuple(max(0, int(bucket[kind])) for kind in CLASSES) for bucket in buckets]
    top = _round_up(max((sum(count) for count in counts), default=0))
    width = WIDTH / max(1, len(buckets))
    born = _time(begun) if begun else None
    parts = tuple(
        Part(
            start.isoformat(),
            count,
            sum(count),
            _state(sum(count), start, until, born, now),
            _bars(n, width, count, top),
        )
        for n, (start, until, count) in enumerate(zip(starts, ends, counts, strict=True))
    )
    totals = tuple((kind, sum(count[at] for count in counts)) for at, kind in enumerate(CLASSES))
    return Timeline(
        parts=parts,
        gaps=_gaps(parts, ends, width),
        levels=(top, top // 2, 0),
        marks=tuple(starts[at].isoformat() for at in _spread(len(starts))),
        totals=totals,
        start=answer["from"],
        end=answer["to"],
    )


def _state(total: int, start: datetime, end: datetime, born: datetime | None, now: datetime) -> str:
    if total:
        return ""
    if start >= now:
        return "ahead"
    if born is not None and end <= born:
        return "before"
    # The part in which "now" lies may simply have no record yet.
    return "gap" if min(end, now) - max(start, born or start) >= _QUIET_AT_LEAST else ""


def _bars(number: int, width: float, counts: tuple[int, ...], top: int) -> tuple[Bar, ...]:
    bars, y = [], float(HEIGHT)
    for kind, count in zip(CLASSES, counts, strict=True):
        height = HEIGHT * count / top
        y -= height
        if count:
            bars.append(Bar(kind, _n(number * width + width * 0.12), _n(y), _n(width * 0.76), _n(height)))
    return tuple(bars)


def _gaps(parts: Sequence[Part], ends: Sequence[datetime], width: float) -> tuple[Gap, ...]:
    gaps: list[Gap] = []
    for number, part in enumerate(parts):
        if part.state != "gap":
            continue
        end = ends[number].isoformat()
        if gaps and gaps[-1].end == part.start:
            before = gaps.pop()
            gaps.append(Gap(before.start, end, before.x, _n(before.width + width)))
        else:
            gaps.append(Gap(part.start, end, _n(number * width), _n(width)))
    return tuple(gaps)


def _spread(count: int, marks: int = 4) -> list[int]:
    return sorted({count * at // marks for at in range(marks)}) if count else []


def _round_up(count: int) -> int:
    """An even number that is easy to read and not less than `count`."""
    if count <= 2:
        return 2
    unit = 10 ** max(0, len(str(count)) - 1)
    for factor in (1, 2, 4, 6, 8, 10):
        if factor * unit >= count:
            return max(2, factor * unit)
    return 10 * unit


def _n(value: float) -> float:
    return round(value, 2)


def _time(text: object) -> datetime:
    moment = datetime.fromisoformat(str(text))
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
