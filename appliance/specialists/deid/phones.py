"""Telephone and fax numbers: their shapes, and the words around one that say which of the two it is.

Without such a word the model's FAX stands where it covers the number (`UNNAMED`).

>>> text = "Tel 617-555-0123, fax to 617-555-0199"
>>> sorted({(text[span.start : span.end], span.label) for span in phone_spans(text)})
[('617-555-0123', 'PHONE'), ('617-555-0199', 'FAX')]
"""

# ruff: noqa: E501 - a rule is one line of its table: an expression broken in two is hard to check
from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from appliance.specialists.deid.rules import CERTAIN, LIKELY, UNNAMED
from appliance.types import Span

DIGITS_MAX = 21  # fifteen of the longest number and six of an extension
LINE_REACH = 80  # how far back on the line, or into the line above, the words of a number are looked for
HEADER_REACH = 240  # how far back a cover sheet's "FAX" still speaks for "To:" and "From:"

UNIT = r"\s?(?:mg|mcg|ug|g|ml|l|units?|iu|meq|mmol|kcal|cal|cc|days?|weeks?|hours?|hrs?|mm|cm)\b"
_EXTENSION = r"(?:[ \t,;]{0,3}(?:ext(?:ension)?|x)\.?[ \t:]{0,2}\d{1,6}(?!\d))?"
_WORD = r"(?:telephone|phone|tel|ph|cell|mobile|home|work|office|call(?:ed|ing|back)?|contact|reach\w{0,3}|at|text|voicemail|vm|hotline|number|no)"
_LED_BY = (
    rf"\b(?:{_WORD}|fax|facsimile|pager|beeper|page)\b[\s:.#(*\-]{{1,4}}(?:is\s|at\s|#\s?|number\s|no\.?\s){{0,2}}"
)

# The word that decides is the last one before the number; "P:", "T", "F:" and "(F)" count where a number may follow.
_FAX_WORD = r"fax(?:ed|es|ing)?|facsimile|telefax|efax|fx"
_CONTACT_WORD = re.compile(
    rf"(?<![a-z])(?:(?P<fax>{_FAX_WORD})|telephone|phones?|tel|ph|cell|mobile|call(?:ed|ing|back)?|pager?|beeper|contact"
    r"|reach(?:ed|able)?|voicemail|text|dial|ring)(?![a-z])|(?:^|[\s(|/,;])(?:(?P<letter>f)|[ptmc])(?:[:.)]|(?=\s{1,2}$))",
    re.IGNORECASE,
)
# "(fax)" behind a number is about it; "fax to", "Fax: 617" is about the next one.
_FAX_AFTER = re.compile(
    rf"[ \t]{{0,2}}[-(\[]?[ \t]?(?:(?:{_FAX_WORD})\b(?!\s?(?:to|no|num|#|:)|[\s.(+-]{{1,3}}\d)|f[)\]])", re.IGNORECASE
)
_COVER_LINE = re.compile(r"[ \t]*(?:to|from)\b", re.IGNORECASE)
_COVER = re.compile(rf"\b(?:{_FAX_WORD})\b", re.IGNORECASE)
_ASKS_TO_CALL = re.compile(
    r"\b(?:call|phone|tel|telephone|ring|reach|contact|text|dial|cell|mobile|fax|number|pager?|home|work|office|desk"
    r"|clinic|reception|pharmacy|station|ward|dr|doctor|nurse|md|rn|np)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class _Shape:
    """One way to write a number; `digits_min` below it is none; `announced`: only near a telephone word."""

    expression: re.Pattern[str]
    certainty: float = CERTAIN
    digits_min: int = 3
    announced: bool = False


def _shape(pattern: str, certainty: float = CERTAIN, *, digits_min: int = 3, announced: bool = False) -> _Shape:
    return _Shape(re.compile(pattern, re.IGNORECASE), certainty, digits_min, announced)


_SHAPES: tuple[_Shape, ...] = (
    # (617) 555-0123, 617-555-0123, 617.555.0123, +1 617 555 0123, 1-800-555-0199 x12
    _shape(
        rf"(?<![\d\-./+])(?P<id>(?:\+?1[\s.-]{{1,2}})?(?:\([2-9]\d{{2}}\)\s{{0,2}}[-.]?\s?|[2-9]\d{{2}}[-.–])"
        rf"\d{{3}}[-.–\s]\s?\d{{4}}{_EXTENSION})(?![\d\-/]|\.\d|{UNIT})"
    ),
    _shape(rf"(?<![\d\-./])(?P<id>\+1[ .-]?[2-9]\d{{2}}[ .-]?\d{{3}}[ .-]?\d{{4}}{_EXTENSION})(?!\d)"),
    # 617 555 0123 and 6175550123 only where a telephone is spoken of: directly before, or earlier on the line
    _shape(rf"{_LED_BY}(?P<id>\(?[2-9]\d{{2}}\)?[\s.-]?\d{{3}}[\s.-]?\d{{4}}{_EXTENSION})(?![\d-])"),
    _shape(rf"(?<![\d\-./+])(?P<id>[2-9]\d{{2}} \d{{3}} \d{{4}}{_EXTENSION})(?![\d\-/]|[ .]\d|{UNIT})", announced=True),
    # 555-0123 likewise
    _shape(rf"{_LED_BY}(?P<id>[2-9]\d{{2}}[-.]\d{{4}}{_EXTENSION})(?![\d-])"),
    # extension and pager numbers
    _shape(r"\b(?:ext(?:ension|n)?|pager|beeper|pgr|spectralink|vocera|ascom|bleep)\b[\s:.#\-]{0,3}(?:(?:id|no|number|is|at)\b[\s:.#]{0,2}){0,2}(?P<id>\d{3,7})(?![\d/%]|-\d)"),
    _shape(rf"\bx(?P<id>\d{{4,5}})(?![\d/%A-Za-z]|{UNIT})", LIKELY),
    _shape(rf"\bx(?P<id>\d{{3}})(?![\d/%A-Za-z.]|{UNIT}|\s?(?:times|doses|cells))", LIKELY, announced=True),
    _shape(r"(?<=\()x(?P<id>\d{3})(?=\))"),
    _shape(r"\b(?:pager?|beeper|bleep)\b[^\n\d]{1,40}\bp(?P<id>\d{4,6})(?![\d/%A-Za-z])"),
    # page Dr. Lima at 6426; "at 1400 hrs" is a time
    _shape(rf"\b(?:page|paged|bleep|beep)\b[^\n\d]{{1,40}}\b(?:at|on)\s(?P<id>\d{{4,7}})(?![\d/%:h]|[.,]\d|{UNIT})"),
    _shape(rf"\b(?:office|desk|direct line|front desk|nurses? station)\s(?P<id>(?!19\d\d|20\d\d)\d{{4,5}})(?![\d/%:,.-]\d|\d|{UNIT}|\s?%)", LIKELY),
    # +44 20 7946 0958, +49 (0)30 123456; not +21.5 (dioptres)
    _shape(r"(?<![\d+])(?P<id>\+(?!\d{1,2}\.\d{1,2}(?![\d.]))[1-9]\d{0,2}(?:[ .\-]?\(?\d{1,5}\)?){2,6})(?!\d)", digits_min=8),
    # 020 7946 0958, 07700 900123, 0161 496 0000
    _shape(r"(?<![\d\-./+])(?P<id>0\d{2,4}[ -]\d{3,4}[ -]\d{3,4}|07\d{3}[ -]?\d{6}|0[1-9]\d{2,3}[ -]\d{6})(?![\d\-/]|\.\d)"),
)  # fmt: skip


def phone_spans(text: str) -> Iterator[Span]:
    """Every telephone and fax number of `text`, in the order of the shapes."""
    for shape in _SHAPES:
        for match in shape.expression.finditer(text):
            if not shape.digits_min <= sum(character.isdigit() for character in match["id"]) <= DIGITS_MAX:
                continue
            start, end = match.span("id")
            if shape.announced and not _ASKS_TO_CALL.search(_line_before(text, start)):
                continue
            label, spoken_of = _kind(text, start, end)
            yield Span(start, end, label, shape.certainty if spoken_of else min(shape.certainty, UNNAMED))


def _kind(text: str, start: int, end: int) -> tuple[str, bool]:
    """The label of the number at `start:end`, and whether a word said so."""
    if _FAX_AFTER.match(text, end):
        return "FAX", True
    line = _line_before(text, start)
    words = list(_CONTACT_WORD.finditer(line))
    if not words and not line.strip(" \t:*|"):  # the number stands alone on its line, under its heading
        above = text[max(0, start - LINE_REACH) : start - len(line)].rstrip().rpartition("\n")[2]
        words = list(_CONTACT_WORD.finditer(above))
    if words:
        return ("FAX" if words[-1]["fax"] or words[-1]["letter"] else "PHONE"), True
    if _COVER_LINE.match(line) and _COVER.search(text, max(0, start - HEADER_REACH), start):
        return "FAX", True
    return "PHONE", False


def _line_before(text: str, start: int) -> str:
    return text[max(0, start - LINE_REACH) : start].rpartition("\n")[2]
