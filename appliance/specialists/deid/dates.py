"""Dates and ages of 90 and over, as rules. A bare year, a time of day and a fraction are not dates.

Numeric forms must name a real calendar day in one of the two orders; what could also be a score or a fraction
("3/14", "7/10") needs a word before it that dates have, and none around it that scores have.

>>> text = "on 3/14, pain 7/10"
>>> [text[span.start : span.end] for rule in DATE_RULES for span in rule.spans(text)]
['3/14']
"""

# ruff: noqa: E501 - a rule is one line of its table: an expression broken in two is hard to check
from __future__ import annotations

import re

from appliance.specialists.deid.checksums import is_calendar_day
from appliance.specialists.deid.rules import LIKELY, Rule, shaped

# Longest first; "may" and "mar", "sep", "dec" are words or abbreviations of other things: see the checks.
# A month in a hyphenated eponym ("May-Thurner") is a person's name.
MONTH = (
    r"(?:january|february|march|april|june|july|august|september|october|november|december|may"
    r"|jan|feb|mar|apr|jun|jul|aug|sept|sep|oct|nov|dec)\b\.?"
)
YEAR4 = r"(?:1[89]|20)\d{2}"
ORDINAL_DAY = r"(?:0?[1-9]|[12]\d|3[01])(?:st|nd|rd|th)?"
_TIGHT = r"(?<![\d/.\-])(?<![A-Za-z][/\-])"  # no digit, and no hyphenated word, runs into it from the left
_END = r"(?![\d/\-]|\.\d)"
_YEAR_AFTER = rf"(?:,?\s{{1,2}}(?:of\s)?{YEAR4}|,?\s?'\d{{2}})"

DATE_CONTEXT = re.compile(
    r"(?:\b(?:on|since|dated?|dob|d\.o\.b\.?|born|birth(?:day|date)?|until|till|thru|through|seen|due|visit|appt|"
    r"appointment|admitted|adm|admission|discharged?|d/c|dc|dos|signed|dictated|transcribed|collected|received|"
    r"reported|performed|scheduled|follow[- ]?up|f/u|labs?|expires?|exp|refilled|last|next|week of|between|starting|"
    r"effective|arrived|called|sent|faxed|surgery|procedure|echo|mri|ct|xray|x-ray|ekg|ecg|cxr|note|updated?|lmp|edd|edc|tdap|dtap|mmr|flu shot|vaccine|booster)"
    r"[\s:(=\-–]{1,3}(?:(?:is|was|of|on|from|date)[\s:]{1,2})?|^\s{0,8})$",
    re.IGNORECASE,
)
# What makes a dotted date of any width one: "DOB 4.3.51", "Discharged home 4.12.23".
_STRONG_CONTEXT = re.compile(
    r"\b(?:dob|d\.o\.b|birth|born|dated?|admi(?:tted|ssion)|discharged?|seen|signed|dictated|reported|collected|died)\b"
    r"[^\n\d]{0,16}$",
    re.IGNORECASE,
)
SCORE_CONTEXT = re.compile(
    r"strength|pain|scale|score|murmur|power|reflex|apgar|gcs|bp\b|pressure|pulses|motor|rating|rated|intensity|"
    r"systolic|tablet|tab\b|ratio|fev|nyha|stage|grade|visual|vision|\bva\b|level|lobes|quadrant|borg|out of",
    re.IGNORECASE,
)
# Halves to eighths of a tablet, reflexes, strength, murmurs, pain, coma: what else stands behind a slash.
_SCORED_OUT_OF = frozenset({2, 3, 4, 5, 6, 8, 10, 15})
_CLAUSE_END = re.compile(r"[,;.\n]")
_VERSION_BEFORE = re.compile(r"(?:\bv|version|ver\.?|release|build|section|table|figure|rev\.?)\s{0,2}$", re.IGNORECASE)


def _around(match: re.Match[str], before: int, after: int) -> tuple[str, str]:
    start, end = match.span("id")
    return match.string[max(0, start - before) : start], match.string[end : end + after]


def _real_day(match: re.Match[str]) -> bool:
    """First and second number are a month and a day of it, in either order."""
    first, second = int(match["a"]), int(match["b"])
    return is_calendar_day(first, second) or is_calendar_day(second, first)


def _triple(match: re.Match[str]) -> bool:
    """With slashes any real day; with hyphens or dots and a short year it must look written as a date."""
    if not _real_day(match):
        return False
    if match["sep"] == "/" or len(match["year"]) == 4:
        return True
    before, _ = _around(match, 24, 0)
    if _VERSION_BEFORE.search(before):
        return False
    if match["sep"] == ".":
        if _STRONG_CONTEXT.search(before):
            return True
        return len(match["a"]) == len(match["b"]) == 2 and DATE_CONTEXT.search(before.rstrip(" ") + " ") is not None
    return len(match["a"]) == 2 or len(match["b"]) == 2


def _year_first(match: re.Match[str]) -> bool:
    return is_calendar_day(int(match["a"]), int(match["b"]))


def _partial(match: re.Match[str]) -> bool:
    """Month and day without a year: only in a dating context, and never where a score is spoken of."""
    if not _real_day(match):
        return False
    before, after = _around(match, 30, 24)
    if not DATE_CONTEXT.search(before):
        return False
    if int(match["b"]) not in _SCORED_OUT_OF:
        return True
    clause = _CLAUSE_END.split(before)[-1], _CLAUSE_END.split(after)[0]
    return not any(SCORE_CONTEXT.search(side) for side in clause)


def _month_is_meant(match: re.Match[str]) -> bool:
    """ "may 2 tablets", "march 4 miles", "MAR 12" (a medication record): the ambiguous words need more than a number."""
    word = re.search(MONTH, match["id"], re.IGNORECASE)
    if word is None or word[0].rstrip(".").casefold() not in ("may", "march", "mar", "dec", "sep"):
        return True
    if re.search(rf"{YEAR4}|'\d\d|\d(?:st|nd|rd|th)\b|^\d{{1,2}}([-/])[a-z]+\1\d\d$", match["id"], re.IGNORECASE):
        return True
    before, _ = _around(match, 24, 0)
    capitalised = word[0][0].isupper() and not word[0].isupper()
    return capitalised or (bool(before.strip()) and DATE_CONTEXT.search(before) is not None)


def _day_before_month(match: re.Match[str]) -> bool:
    """ "HD 4  September 23": what stands apart from the month, while a day follows it, is no day of it."""
    day = re.match(r"\d{1,2}(?:st|nd|rd|th)?(\s*)", match["id"], re.IGNORECASE)
    gap = day[1] if day else ""
    followed = re.search(r" \d\d$", match["id"]) or re.match(
        r"\s{1,2}\d{1,2}(?![\d:])", match.string[match.end("id") : match.end("id") + 5]
    )
    return not ((len(gap) > 1 or "\n" in gap) and followed) and _month_is_meant(match)


def _month_alone(match: re.Match[str]) -> bool:
    return match["month"] != "may"  # the verb


def _compact_day(match: re.Match[str]) -> bool:
    digits = match["id"][:8]
    return is_calendar_day(int(digits[4:6]), int(digits[6:8]), int(digits[:4]))


_NINETIES = (
    r"(?:ninety(?:[- ](?:one|two|three|four|five|six|seven|eight|nine))?"
    r"|(?:a |one )?hundred(?:(?: and)?[- ](?:one|two|three|four|five|six|seven|eight|nine|ten))?)"
)
_AGE = r"(?:9\d|1[0-2]\d)"

DATE_RULES: tuple[Rule, ...] = (
    # 2019-03-14, 2019/3/14, with a time glued to it: the word cannot be cut, so the time goes too
    shaped(
        "DATE",
        rf"{_TIGHT}(?P<id>{YEAR4}(?P<sep>[-/.])(?P<a>\d{{1,2}})(?P=sep)(?P<b>\d{{1,2}})"
        rf"(?:T\d{{2}}:?\d{{2}}(?::?\d{{2}}(?:\.\d{{1,6}})?)?(?:Z|[+-]\d{{2}}:?\d{{2}})?)?){_END}",
        _year_first,
    ),
    # 3/14/1931, 14.03.1931, 3-14-31, and with OCR spaces 3 / 14 / 1931
    shaped(
        "DATE",
        rf"{_TIGHT}(?P<id>(?P<a>\d{{1,2}})\s?(?P<sep>[/.\-–])\s?(?P<b>\d{{1,2}})\s?(?P=sep)\s?"
        rf"(?P<year>{YEAR4}|'?\d{{2}})){_END}",
        _triple,
    ),
    # 3/4-3/7/2019, 3/4 to 3/7/19: the first day of a range borrows its year from the last
    shaped(
        "DATE",
        rf"{_TIGHT}(?P<id>(?P<a>\d{{1,2}})/(?P<b>\d{{1,2}})(?:\s?[-–—]\s?|\s(?:to|through|thru|until)\s)"
        rf"\d{{1,2}}/\d{{1,2}}/(?:{YEAR4}|\d{{2}})){_END}",
        _real_day,
    ),
    shaped("DATE", rf"{_TIGHT}(?P<id>(?:0?[1-9]|1[0-2])[/\-]{YEAR4}){_END}"),  # 03/2019
    shaped("DATE", rf"{_TIGHT}(?P<id>(?P<a>\d{{1,2}})[/](?P<b>\d{{1,2}}))(?![\d/%]|\.\d)", _partial, LIKELY),
    # the last day of a dated range: "on 3/4-3/7", "between 3/4 and 3/7"
    shaped(
        "DATE",
        r"\b(?:on|from|between|dates?:?)\s\d{1,2}/\d{1,2}\s?(?:[-–—]|to|and|through)\s?"
        r"(?P<id>(?P<a>\d{1,2})/(?P<b>\d{1,2}))(?![\d/%]|\.\d)(?!\s(?:pain|strength|out))",
        lambda match: _real_day(match) and match["b"] not in ("5", "10"),
        LIKELY,
    ),
    # March 14, 1931; Mar. 14th; March 4-7, 2019; MARCH 14
    shaped(
        "DATE",
        rf"(?<![A-Za-z])(?P<id>{MONTH}\s{{0,2}}(?:the\s)?{ORDINAL_DAY}\b(?:\s?(?:[-–—]|to|and|&)\s?{ORDINAL_DAY}\b)?"
        rf"{_YEAR_AFTER}?)(?!\s?(?:mg|ml|mcg|miles|tablets?|times|%|/\d|:\d))",
        _month_is_meant,
    ),
    # 14 March 1931, 14-Mar-31, 14MAR1931, the 4th of March, 4th March
    shaped(
        "DATE",
        rf"(?<![\d/.\-A-Za-z#])(?P<id>{ORDINAL_DAY}[\s\-/]{{0,2}}(?:(?:day\s)?of\s)?{MONTH}(?!-[A-Za-z])"
        rf"(?:{_YEAR_AFTER}|[\s\-/]{{0,2}}{YEAR4}|[\-/]\d{{2}}| \d\d(?!\d|[:/.]\d|\s?(?:%|mg|mcg|ml|units?|tab|times|hours?)))?)(?![\dA-Za-z])",
        _day_before_month,
    ),
    # 14MAR1931 and 14Mar31: no boundary between month and year
    shaped(
        "DATE", r"(?<![\dA-Za-z])(?P<id>\d{1,2}(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)(?:\d{4}|\d{2}))\b"
    ),
    # March 1931, March of 1931, Mar-1931, Mar '31
    shaped("DATE", rf"(?<![A-Za-z])(?P<id>{MONTH}(?:,?\s{{1,2}}(?:of\s)?|[-/]){YEAR4}|{MONTH}\s'\d{{2}})\b"),
    # in March, since last October, mid-April
    shaped(
        "DATE",
        r"\b(?:in|since|until|by|last|next|this past|early|late|mid|during|of|through)[\s-]"
        r"(?:early |late |mid[- ]?|last |next )?"
        r"(?P<id>(?P<month>january|february|march|april|may|june|july|august|september|october|november|december))\b"
        r"(?!-[A-Za-z])(?!\s(?:be|have|not|need|also|in\b|fracture))",
        _month_alone,
        LIKELY,
    ),
    # 19310314 where a birth date or a segment's field is announced
    shaped(
        "DATE",
        rf"(?:\b(?:dob|birth|born|date)[\s:=]{{1,3}}|[|^])(?P<id>{YEAR4}[01]\d[0-3]\d(?:\d{{4}}|\d{{6}})?)(?!\d)",
        _compact_day,
    ),
    # Digits without separators after DOB, and 03 14 1931
    shaped(
        "DATE",
        rf"\b(?:dob|d\.o\.b\.|date of birth|born|birth ?date)[\s:=]{{1,3}}(?P<id>(?P<a>\d{{2}})\s?(?P<b>\d{{2}})\s?{YEAR4})(?!\d)",
        _real_day,
    ),
)

AGE_RULES: tuple[Rule, ...] = (
    shaped(
        "AGE",
        rf"(?<![\d.,/\-])(?P<id>{_AGE}|{_NINETIES})\s?-?\s?(?:(?:years?|yrs?\.?|y)\s?-?\s?(?:old|o\b|of age|/o|young)"
        r"|y\.?/?o\.?\b|yr\.?\b(?= [mfMF]\b)|yowm\b|yof\b|yom\b|y\.o\.)",
    ),
    shaped("AGE", rf"\b(?:aged?|age is|age of|age at \w{{3,12}}|turned|turning)[\s:=]{{1,3}}(?P<id>{_AGE}|{_NINETIES})(?![\d%./]|\s?(?:mg|days|weeks|months))\b"),
    shaped("AGE", rf"(?:\b(?:[Aa]n?|[Tt]his|is|[Pp]t|[Pp]atient)\s|[,:]\s)(?P<id>{_AGE})\s?[MF]\b(?!\.)", certainty=LIKELY, any_case=False),
)  # fmt: skip
