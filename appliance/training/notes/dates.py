"""Dates as notes write them, and ages of ninety and over.

Owns: about forty spellings of a date. A weekday or a bare year beside a date is a piece without a label.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import date, timedelta

from appliance.training.notes.pieces import Piece

_EPOCH = date(1925, 1, 1)
_FIRST_VISIT = date(1990, 1, 1)
_SPAN_DAYS = 13_500

Spelling = Callable[[date, random.Random], str]


def _ordinal(day: int) -> str:
    if 10 <= day % 100 <= 20:
        return f"{day}th"
    return f"{day}{({1: 'st', 2: 'nd', 3: 'rd'}).get(day % 10, 'th')}"


def _comma(rng: random.Random) -> str:
    return "," if rng.random() < 0.8 else ""


_FULL: tuple[Spelling, ...] = (
    lambda d, r: f"{d.month:02}/{d.day:02}/{d.year}",
    lambda d, r: f"{d.month}/{d.day}/{d.year}",
    lambda d, r: f"{d.month}/{d.day}/{d.year % 100:02}",
    lambda d, r: f"{d.month:02}/{d.day:02}/{d.year % 100:02}",
    lambda d, r: f"{d.month:02}-{d.day:02}-{d.year}",
    lambda d, r: f"{d.month}-{d.day}-{d.year % 100:02}",
    lambda d, r: f"{d.month}.{d.day}.{d.year % 100:02}",
    lambda d, r: f"{d.day:02}.{d.month:02}.{d.year}",
    lambda d, r: f"{d.day:02}/{d.month:02}/{d.year}",
    lambda d, r: d.isoformat(),
    lambda d, r: f"{d.year}/{d.month:02}/{d.day:02}",
    lambda d, r: f"{d:%Y%m%d}",
    lambda d, r: f"{d:%B} {d.day}{_comma(r)} {d.year}",
    lambda d, r: f"{d:%B} {d.day}{_comma(r)} {d.year}",
    lambda d, r: f"{d:%B} {_ordinal(d.day)}{_comma(r)} {d.year}",
    lambda d, r: f"{d:%b} {d.day}{_comma(r)} {d.year}",
    lambda d, r: f"{d:%b}. {d.day}{_comma(r)} {d.year}",
    lambda d, r: f"{d.day} {d:%B} {d.year}",
    lambda d, r: f"{d.day} {d:%b} {d.year}",
    lambda d, r: f"{_ordinal(d.day)} {d:%B} {d.year}",
    lambda d, r: f"{_ordinal(d.day)} of {d:%B}{_comma(r)} {d.year}",
    lambda d, r: f"{d.day:02}-{d:%b}-{d.year}",
    lambda d, r: f"{d.day:02}-{d:%b}-{d.year % 100:02}",
    lambda d, r: f"{d.day:02}{d:%b}{d.year}".upper(),
    lambda d, r: f"{d:%b}-{d.day:02}-{d.year}".upper(),
    lambda d, r: f"{d:%B} {d.day}, '{d.year % 100:02}",
)
_PARTIAL: tuple[Spelling, ...] = (
    lambda d, r: f"{d.month}/{d.day}",
    lambda d, r: f"{d.month:02}/{d.day:02}",
    lambda d, r: f"{d:%B} {d.day}",
    lambda d, r: f"{d:%B} {_ordinal(d.day)}",
    lambda d, r: f"{d:%b} {d.day}",
    lambda d, r: f"{d.day} {d:%b}",
    lambda d, r: f"{_ordinal(d.day)} of {d:%B}",
    lambda d, r: f"{d:%B} {d.year}",
    lambda d, r: f"{d:%b} {d.year}",
    lambda d, r: f"{d:%B} of {d.year}",
    lambda d, r: f"{d.month:02}/{d.year}",
    lambda d, r: f"{d.month}/{d.year}",
    lambda d, r: f"{d:%b}-{d.year % 100:02}",
    lambda d, r: f"{d.month}-{d.day}",
    lambda d, r: f"{d:%B}, {d.year}",
)
_OLD_WORDS = (
    "ninety", "ninety-one", "ninety-two", "ninety-three", "ninety-four", "ninety five", "ninety-six", "ninety-seven",
    "ninety-eight", "ninety-nine", "one hundred", "one hundred and one", "a hundred and two",
)  # fmt: skip


def draw_visit(rng: random.Random) -> date:
    """The day a note is about."""
    return _FIRST_VISIT + timedelta(days=rng.randrange(_SPAN_DAYS))


def draw_birth(rng: random.Random, visit: date, age: int) -> date:
    """A birthday that fits the age at the visit."""
    return max(_EPOCH - timedelta(days=9000), visit - timedelta(days=age * 365 + rng.randrange(365)))


def near(rng: random.Random, visit: date, days: int) -> date:
    """A day within so many days before or (less often) after the visit."""
    offset = rng.randrange(days)
    return visit - timedelta(days=offset if rng.random() < 0.75 else -offset)


def full_date(day: date, rng: random.Random) -> list[Piece]:
    """With year, month and day."""
    return [Piece(rng.choice(_FULL)(day, rng), "DATE")]


def any_date(day: date, rng: random.Random) -> list[Piece]:
    """With or without the year or the day; sometimes after a weekday, which is not part of it."""
    text = rng.choice(_FULL)(day, rng) if rng.random() < 0.6 else rng.choice(_PARTIAL)(day, rng)
    if rng.random() < 0.04 and text[0].isalpha():
        return [Piece(f"{day:%A}, "), Piece(text, "DATE")]
    return [Piece(text, "DATE")]


def month(day: date, rng: random.Random) -> list[Piece]:
    """A month, with its year or alone."""
    name = f"{day:%B}" if rng.random() < 0.8 else f"{day:%b}"
    return [Piece(name if rng.random() < 0.65 else f"{name} {day.year}", "DATE")]


def day_of_month(day: date, rng: random.Random) -> list[Piece]:
    """A day alone, as in "on the 14th"; the month is understood."""
    return [Piece(_ordinal(day.day), "DATE")]


def date_range(day: date, rng: random.Random) -> list[Piece]:
    """Two days, joined as one identifier where they share a month."""
    last = day + timedelta(days=rng.randrange(1, 20))
    shared = day.month == last.month
    if shared and rng.random() < 0.4:
        return [Piece(f"{day:%B} {day.day}{rng.choice(('-', ' - ', '–'))}{last.day}, {day.year}", "DATE")]
    if rng.random() < 0.35:
        return [Piece(f"{day.month}/{day.day}-{last.month}/{last.day}/{last.year % 100:02}", "DATE")]
    spelling = rng.choice(_FULL[:12])
    joint = rng.choice((" to ", " - ", " through ", " until ", "-"))
    return [Piece(spelling(day, rng), "DATE"), Piece(joint), Piece(spelling(last, rng), "DATE")]


def stamp(day: date, rng: random.Random) -> list[Piece]:
    """A date with a time of day, which is not part of it."""
    clock = f"{rng.randrange(24):02}{rng.choice((':', ':', ''))}{rng.randrange(60):02}"
    return [
        *full_date(day, rng),
        Piece(rng.choice((" ", " at ", " @ ", ", ")) + clock + rng.choice(("", " hrs", " EST", ""))),
    ]


def old_age(rng: random.Random) -> list[Piece]:
    """Ninety or more."""
    number = rng.choice((90, 91, 92, 93, 94, 95, 96, 97, 98, 99, 100, 101, 102, 103, 104, 106, 108))
    return [Piece(rng.choice(_OLD_WORDS) if rng.random() < 0.12 else str(number), "AGE")]
