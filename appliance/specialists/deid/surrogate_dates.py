"""Dates moved by one offset for the whole document, written as they were written. Pure.

The offset is a whole number of weeks, so weekdays, which stay in the text, still agree with the dates; it is at least
five weeks and less than a year, so that a month given alone changes too.

>>> shift("March 14, 1931", -42, day_first=False), shift("03/14/31", -42, day_first=False)
('January 31, 1931', '01/31/31')
"""

# ruff: noqa: E501 - an expression broken in two is hard to check
from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import date, timedelta

from appliance.specialists.deid.lexicon import MONTHS

WEEKS_MIN, WEEKS_MAX = 5, 47
YEAR_PIVOT = 35  # two digits up to here are of this century
COMMON_YEAR, LEAP_YEAR = 2001, 2000  # stand in where no year is written; only 29 February asks for the second

_MONTH = r"(?P<month>january|february|march|april|may|june|july|august|september|october|november|december|sept|jan|feb|mar|apr|jun|jul|aug|sep|oct|nov|dec)"
_YEAR4 = r"(?:1[89]|20)\d\d"
_SUFFIX = r"(?P<ordinal>st|nd|rd|th)?"
_FORMS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"(?P<year>{_YEAR4})(?P<gap1>[-/.])(?P<m>\d{{1,2}})(?P<gap2>[-/.])(?P<d>\d{{1,2}})(?!\d)",
        rf"(?P<a>\d{{1,2}})(?P<gap1>\s?[-/.–]\s?)(?P<b>\d{{1,2}})(?P<gap2>\s?[-/.–]\s?'?)(?P<year>{_YEAR4}|\d\d)(?!\d)",
        rf"(?P<m>\d{{1,2}})(?P<gap2>[-/])(?P<year>{_YEAR4})(?!\d)",
        r"(?P<a>\d{1,2})(?P<gap1>/)(?P<b>\d{1,2})(?!\d)",
        rf"(?P<year>{_YEAR4})(?P<m>[01]\d)(?P<d>[0-3]\d)(?=(?:\d{{4}}|\d{{6}})?(?!\d))",
        rf"(?P<a>\d\d)(?P<gap1>\s?)(?P<b>\d\d)(?P<gap2>\s?)(?P<year>{_YEAR4})(?!\d)",
        rf"(?P<d>\d{{1,2}}){_SUFFIX}(?P<gap1>[\s\-/]{{0,2}}(?:(?:day\s)?of\s)?){_MONTH}(?P<gap2>\.?,?[\s\-/']{{0,2}})(?P<year>{_YEAR4}|(?<=[-/'])\d\d|(?<=[a-z])\d\d)?(?!\d)",
        rf"{_MONTH}(?P<gap1>\.?\s{{0,2}}(?:the\s)?)(?P<d>\d{{1,2}}){_SUFFIX}(?!\d)(?:(?P<gap2>,?\s{{1,2}}(?:of\s)?'?)(?P<year>{_YEAR4}|(?<=')\d\d)(?!\d))?",
        rf"{_MONTH}(?P<gap2>\.?,?(?:\s{{1,2}}(?:of\s)?|[-/])'?)(?P<year>{_YEAR4}|(?<=')\d\d)(?!\d)",
        rf"(?<![a-z]){_MONTH}(?![a-z])",
        r"(?<!\d)(?P<d>\d{1,2})(?P<ordinal>st|nd|rd|th)\b",
    )
)
_NUMERIC = re.compile(r"(?<!\d)(?P<a>\d{1,2})[-/.](?P<b>\d{1,2})[-/.](?:\d{4}|\d\d)(?!\d)")
_RANGE_END = re.compile(
    r"(?P<gap>\s?(?:-|–|—|to|and|&)\s?)(?P<d>\d{1,2})(?P<ordinal>st|nd|rd|th)?(?![\d/])", re.IGNORECASE
)


def writes_day_first(dates: Iterable[str]) -> bool:
    """Whether the numeric dates of a document put the day first; where none decides, the month is first."""
    day_first = month_first = 0
    for text in dates:
        for match in _NUMERIC.finditer(text):
            first, second = int(match["a"]), int(match["b"])
            day_first += first > 12 >= second
            month_first += second > 12 >= first
    return day_first > month_first


def shift(text: str, days: int, *, day_first: bool) -> str | None:
    """`text` with every date in it moved by `days`; None where no date can be read."""
    pieces: list[str] = []
    place = read = 0
    while place < len(text):
        inside = place > 0 and text[place].isdigit() and text[place - 1].isdigit()
        match = None if inside else next((found for form in _FORMS if (found := form.match(text, place))), None)
        moved = _moved(match, days, day_first) if match else None
        if match is None or moved is None:
            pieces.append(text[place])
            place += 1
            continue
        read += 1
        pieces.append(moved)
        place = match.end()
        tail = _RANGE_END.match(text, place)
        if tail and match.re.groupindex.keys() >= {"month", "d"} and not match.groupdict().get("year"):
            pieces.append(_moved_range_end(match, tail, days))
            place = tail.end()
    return "".join(pieces) if read else None


def _moved(match: re.Match[str], days: int, day_first: bool) -> str | None:
    fields = match.groupdict()
    year = _full_year(fields.get("year"))
    month, day = _month_and_day(fields, day_first)
    try:
        year = year or (LEAP_YEAR if (month, day) == (2, 29) else COMMON_YEAR)
        moved = date(year, month or 1, day or 15) + timedelta(days=days)
    except (ValueError, OverflowError):
        return None
    if month is None:  # "the 14th": only the day of a month is known
        return _day_in(fields, moved.day)
    return _rewritten(match, moved, day_first)


def _month_and_day(fields: dict[str, str | None], day_first: bool) -> tuple[int | None, int | None]:
    if fields.get("month"):
        return _month_number(str(fields["month"])), int(str(fields["d"])) if fields.get("d") else None
    if fields.get("a"):
        first, second = int(str(fields["a"])), int(str(fields["b"]))
        return (second, first) if _is_day_first(first, second, day_first) else (first, second)
    month = int(str(fields["m"])) if fields.get("m") else None
    return month, int(str(fields["d"])) if fields.get("d") else None


def _is_day_first(first: int, second: int, day_first: bool) -> bool:
    return first > 12 or (day_first and second <= 12)


def _rewritten(match: re.Match[str], moved: date, day_first: bool) -> str:
    """Each field of the match replaced in its place, everything between copied."""
    fields = match.groupdict()
    new: dict[str, int] = {}
    numbers = [value for name, value in fields.items() if name in ("a", "b", "m", "d") and value]
    padded = "month" not in fields and all(len(value) == 2 for value in numbers)
    if fields.get("a"):
        day_leads = _is_day_first(int(str(fields["a"])), int(str(fields["b"])), day_first)
        new["a"], new["b"] = (moved.day, moved.month) if day_leads else (moved.month, moved.day)
    if fields.get("m"):
        new["m"] = moved.month
    if fields.get("d"):
        new["d"] = moved.day
    written = {name: f"{value:02d}" if padded else str(value) for name, value in new.items()}
    if fields.get("month"):
        written["month"] = _month_like(str(fields["month"]), moved.month)
        if fields.get("d") and str(fields["d"]).startswith("0"):
            written["d"] = f"{moved.day:02d}"
    if fields.get("ordinal"):
        written["ordinal"] = _ordinal_like(str(fields["ordinal"]), moved.day)
    if fields.get("year"):
        written["year"] = str(moved.year) if len(str(fields["year"])) == 4 else f"{moved.year % 100:02d}"
    return _substituted(match, written)


def _substituted(match: re.Match[str], written: dict[str, str]) -> str:
    text, place, pieces = match.string, match.start(), []
    for name in sorted(written, key=match.start):
        pieces += [text[place : match.start(name)], written[name]]
        place = match.end(name)
    pieces.append(text[place : match.end()])
    return "".join(pieces)


def _moved_range_end(match: re.Match[str], tail: re.Match[str], days: int) -> str:
    """The second day of "March 30-31": it names its month only where the two days now fall into different months."""
    month = _month_number(match["month"])
    try:
        first = date(COMMON_YEAR, month, int(match["d"])) + timedelta(days=days)
        last = date(COMMON_YEAR, month, int(tail["d"])) + timedelta(days=days)
    except ValueError:
        return tail[0]
    named = "" if first.month == last.month else f"{_month_like(match['month'], last.month)} "
    ordinal = _ordinal_like(tail["ordinal"], last.day) if tail["ordinal"] else ""
    return f"{tail['gap']}{named}{last.day}{ordinal}"


def _day_in(fields: dict[str, str | None], day: int) -> str:
    same = day == int(str(fields["d"]))
    day = day % 28 + 1 if same else day
    return f"{day}{_ordinal_like(str(fields['ordinal']), day)}"


def _full_year(text: str | None) -> int | None:
    if not text:
        return None
    year = int(text)
    return year if len(text) == 4 else year + (2000 if year <= YEAR_PIVOT else 1900)


def _month_number(word: str) -> int:
    return next(number for number, name in enumerate(MONTHS, start=1) if name.startswith(word.casefold()[:3]))


def _month_like(word: str, month: int) -> str:
    """The month's name, long or short and in the case of `word`."""
    name = MONTHS[month - 1]
    name = name if word.casefold() in MONTHS else name[:3]
    if word.isupper():
        return name.upper()
    return name if word.islower() else name.capitalize()


def _ordinal_like(suffix: str, day: int) -> str:
    ending = "th" if 11 <= day % 100 <= 13 else {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")
    return ending.upper() if suffix.isupper() else ending
