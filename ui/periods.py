"""Spans of time that a person names: today, the last seven days, this month, or from one day to another. Pure.

Days are those of UTC, as the times of the records are; the last day of a span belongs to it.

    period("Today", None, None, now)            # ("2026-11-24T00:00:00+00:00", None)
    period("From … to …", "2026-11-01", "2026-11-30", now)
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

from ui.client import Refused

PERIODS = ("Today", "Last 7 days", "This month", "Any time", "From … to …")
CUSTOM = PERIODS[-1]
WINDOWS = {
    "24 hours": (timedelta(hours=24), 48),
    "7 days": (timedelta(days=7), 56),
    "30 days": (timedelta(days=30), 60),
}


def period(name: str, first_day: str | None, last_day: str | None, now: datetime) -> tuple[str | None, str | None]:
    """The span's beginning and end as ISO times, end exclusive; None is open. Raises `Refused` for what is no day."""
    today = now.astimezone(UTC).date()
    if name == CUSTOM:
        return days(first_day, last_day)
    begins = {"Today": today, "Last 7 days": today - timedelta(days=6), "This month": today.replace(day=1)}.get(name)
    return (_midnight(begins) if begins else None), None


def days(first_day: str | None, last_day: str | None) -> tuple[str | None, str | None]:
    """From the start of the first day to the end of the last; either may be empty."""
    first, last = _day(first_day), _day(last_day)
    if first and last and last < first:
        raise Refused(400, "invalid_request", "the last day is before the first", "exchange the two days")
    return (_midnight(first) if first else None), (_midnight(last + timedelta(days=1)) if last else None)


def window(name: str, now: datetime) -> tuple[str, str, int]:
    """Beginning, end and number of equal parts of a span that ends now; the parts begin at round times."""
    length, parts = WINDOWS[name]
    step_s = length.total_seconds() / parts
    end_s = (now.timestamp() // step_s + 1) * step_s
    end = datetime.fromtimestamp(end_s, UTC)
    return (end - length).isoformat(), end.isoformat(), parts


def _day(text: str | None) -> date | None:
    if not text or not text.strip():
        return None
    try:
        day = date.fromisoformat(text.strip())
    except ValueError:
        raise Refused(400, "invalid_request", f"{text.strip()[:40]!r} is not a day", "write it as 2026-11-24") from None
    if not 1970 <= day.year <= 9000:
        raise Refused(400, "invalid_request", f"the year {day.year} is not in this log", "write days as 2026-11-24")
    return day


def _midnight(day: date) -> str:
    return datetime(day.year, day.month, day.day, tzinfo=UTC).isoformat()
