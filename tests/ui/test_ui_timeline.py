"""Guaranteed: a plot shows each count once, in its own place; silence of the log is a gap, but not before the log
began nor in what is still to come; spans of days mean what they say. Pure functions; time is a value."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ui.audit_views import age
from ui.client import Refused
from ui.periods import CUSTOM, WINDOWS, period, window
from ui.timeline import HEIGHT, WIDTH, timeline

START = datetime(2026, 11, 24, tzinfo=UTC)
HOUR = timedelta(hours=1)


def answer(*totals: int) -> dict[str, object]:
    buckets = [
        {"start": (START + HOUR * at).isoformat(), "exchange": total, "administration": 0, "public": 0}
        for at, total in enumerate(totals)
    ]
    return {"from": START.isoformat(), "to": (START + HOUR * len(totals)).isoformat(), "buckets": buckets}


def test_neighbouring_silent_parts_are_one_gap_and_the_future_is_none() -> None:
    plot = timeline(answer(3, 0, 0, 5, 0, 0), begun=None, now=START + 4.5 * HOUR)
    assert [part.state for part in plot.parts] == ["", "gap", "gap", "", "gap", "ahead"]
    assert [(gap.start[11:16], gap.end[11:16]) for gap in plot.gaps] == [("01:00", "03:00"), ("04:00", "05:00")]


def test_before_the_log_began_silence_is_no_gap() -> None:
    plot = timeline(answer(0, 0, 0, 5), begun=(START + 2.99 * HOUR).isoformat(), now=START + 9 * HOUR)
    assert [part.state for part in plot.parts] == ["before", "before", "", ""]


def test_the_part_that_has_just_begun_may_still_be_empty() -> None:
    assert timeline(answer(3, 0), begun=None, now=START + HOUR + timedelta(seconds=90)).gaps == ()


@given(st.lists(st.tuples(*[st.integers(0, 10**9)] * 3), max_size=60))
def test_every_bar_lies_inside_the_plot_and_stacks_without_overlap(counts) -> None:
    asked = answer(*([0] * len(counts)))
    for bucket, (exchange, administration, public) in zip(asked["buckets"], counts, strict=True):
        bucket.update(exchange=exchange, administration=administration, public=public)
    plot = timeline(asked, begun=None, now=START)
    assert plot.levels[0] >= max((sum(count) for count in counts), default=0)
    assert dict(plot.totals)["public"] == sum(count[2] for count in counts)
    for part in plot.parts:
        below = float(HEIGHT)
        for bar in part.bars:
            assert bar.x >= 0 and bar.x + bar.width <= WIDTH + 0.05
            assert bar.y >= -0.05 and abs(bar.y + bar.height - below) < 0.1
            below = bar.y


def test_an_empty_answer_is_a_plot_without_parts() -> None:
    assert timeline(answer(), begun=None, now=START).parts == ()


@pytest.mark.parametrize(
    ("name", "begins"),
    [("Today", "2026-11-24"), ("Last 7 days", "2026-11-18"), ("This month", "2026-11-01"), ("Any time", None)],
)
def test_named_periods_begin_at_midnight_and_are_open(name: str, begins: str | None) -> None:
    expected = f"{begins}T00:00:00+00:00" if begins else None
    assert period(name, "2020-01-01", "2020-01-01", START + 13 * HOUR) == (expected, None)


def test_the_last_day_belongs_to_a_span_and_either_end_may_be_open() -> None:
    assert period(CUSTOM, "2026-02-27", "2026-02-28", START)[1] == "2026-03-01T00:00:00+00:00"
    assert period(CUSTOM, "", "2026-02-28", START)[0] is None
    assert period(CUSTOM, "2026-02-28", None, START)[1] is None


@pytest.mark.parametrize(
    ("first", "last"),
    [("yesterday", ""), ("2026-02-30", ""), ("2026-03-01", "2026-02-01"), ("0001-01-01", ""), ("", "9999-12-31")],
)
def test_what_is_no_span_of_days_is_refused_in_words(first: str, last: str) -> None:
    with pytest.raises(Refused) as caught:
        period(CUSTOM, first, last, START)
    assert caught.value.hint


@pytest.mark.parametrize("name", list(WINDOWS))
def test_a_window_holds_now_in_its_last_part(name: str) -> None:
    now = datetime(2026, 11, 24, 13, 37, 5, tzinfo=UTC)
    start, end, parts = window(name, now)
    step = (datetime.fromisoformat(end) - datetime.fromisoformat(start)) / parts
    assert datetime.fromisoformat(end) - step <= now < datetime.fromisoformat(end)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0 s"), (119.4, "119 s"), (240, "4 min"), (7200, "2 h"), (200_000, "2 days"), (None, "–"), (-1, "–")],
)
def test_an_age_is_read_at_a_glance(seconds: object, shown: str) -> None:
    assert age(seconds) == shown
