"""Whether a span can be what its label says where it stands: the words around it decide. Pure.

A model reads "Karnofsky 90" as an age and "Foley in place" as a person. Each test here states, for one label, what an
expert would see in the neighbouring words; without such evidence a name or a number stays redacted. `pieces` comes
first: an entity ends at a column's gap, at an empty line and before the next number of a list.

>>> text = "Karnofsky 90, a man of 93"
>>> spans = (Span(10, 12, "AGE", 0.9), Span(23, 25, "AGE", 0.9))
>>> [is_meant(text, span, Neighbours()) for span in spans]
[False, True]
"""

# ruff: noqa: E501 - a list of words is one line: an expression broken in two is hard to check
from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from appliance.specialists.deid.checksums import is_calendar_day, luhn
from appliance.specialists.deid.clinical_words import (
    ABBREVIATIONS,
    CREDENTIALS_EXTRA,
    DEPARTMENTS,
    DRUGS,
    EPONYM_NOUNS,
    EPONYM_NOUNS_WEAK,
    EPONYMS_ALONE,
    EPONYMS_WITH_NOUN,
    FORM_WORDS,
)
from appliance.specialists.deid.dates import DATE_CONTEXT, MONTH, SCORE_CONTEXT
from appliance.specialists.deid.lexicon import CREDENTIALS, MONTHS, TITLES
from appliance.types import Span

REACH = 40  # characters of context on either side
_BREAK = re.compile(r"\t|[ \xa0]{3,}|\n\s{0,80}\n|\r\n?\s{0,80}\r|\n[ \t]*(?=\d{1,2}[.)](?:\s|$))")
_BREAK_OF_WORDS = re.compile(rf"{_BREAK.pattern}|  ")  # names and places: two blanks end a column or a sentence
_WORDY = frozenset({"NAME", "LOCATION", "ORGANIZATION"})
_WORD = re.compile(r"[^\W_]+(?:[-'’&][^\W_]+)*")
_EDGE = " \xa0\t\r\n,;:|-"
_LIST_NUMBER = re.compile(r"\s*\d{1,2}[.)]?\s*")

_AGED_BEFORE = re.compile(
    r"\b(?:aged?|age/sex|reached|be|old|turn(?:ed|ing|s)|born|birthday|is|was|he|she|at|to|until|of|now|lived|died|dec(?:eased)?|d\.|alive|living"
    r"|patient|pt|man|woman|male|female|lady|gentleman|resident|widow(?:er)?|veteran|mother|father|mom|dad|parents?|wife"
    r"|husband|spouse|partner|sister|brother|sibling|aunt|uncle|grand\w{2,8}|gm|gf|mgm|pgm|mgf|pgf|neighbou?r|friend|this"
    r"|an?)\b[\s,:;(~]{0,3}(?:(?:is|was|at|age|about|nearly|almost|over|now|the|of|an?)\b[\s:]{0,2}){0,2}$",
    re.IGNORECASE,
)
_AGED_AFTER = re.compile(
    r"\s{0,2}[-,(/]?\s{0,2}(?:y(?:ear|r|\.|/|o\b|\b)|[mf]\b|male|female|man\b|woman|lady|gentleman|widow|birthday|old\b|yowm)",
    re.IGNORECASE,
)
_BESIDE_NAME = re.compile(r"[^\W\d_]{2}[,(]\s?$")  # "Ana Lima, 93, fell": an apposition
_BESIDE_NAME_ENDS = re.compile(r"\s?(?:[,;)\n]|\.(?!\d)|$)")
_AGED_ITSELF = re.compile(r"y|old|[mf]$|th|age|ninet|hundred|genarian", re.IGNORECASE)
_MEASURED = re.compile(
    r"\b(?:karnofsky|kps|lansky|gault|crcl|e?gfr|clearance|sp?o2|sats?|saturat\w{1,6}|o2|oxygen|oximetry|bp|pulse|hr|rate"
    r"|temp\w{0,7}|weigh\w{0,3}|wt|weight|height|bmi|score|index|scale|ppr|pr|qtc?|qrs|ef|lvef|fev1?|inr|ptt|glucose"
    r"|sugars?|fsbs|bun|creat\w{0,6}|ldl|hdl|dose|mg|units?|degrees?|angle|flexion|extension|abduction|rotation|range|rom"
    r"|map|percent|cd4|plt|platelets?|wbc|co2|pco2|po2|sodium|na|chloride|cl|bed|room|rm|unit|iq|braden|barthel|gaf|flow"
    r"|peak|level|first|last|next|every|within|in|past|for|x|day|hospital)\b[^\w\n]{0,3}(?:(?:of|is|was|at|to|about|the|=)\b[\s:]{0,2}){0,2}$",
    re.IGNORECASE,
)
_UNIT_AFTER = re.compile(
    r"\s?(?:%|percent|mg|mcg|ml|cc|kg|lbs?|pounds|cm|mm|bpm|degrees?|°|/\d|\.\d|units?|days?|weeks?|months?|min|hours?|hrs?"
    r"|beats|tablets?|tabs?|feet|ft|mmhg|l\b|g\b)",
    re.IGNORECASE,
)

_FRACTION = re.compile(r"(?P<a>\d{1,2})\s?/\s?(?P<b>\d{1,3})")
_PAIR = re.compile(r"\d{1,3}\s?(?:-|–|\.|to)\s?\d{1,3}")
_NUMBER = re.compile(r"\d{1,3}")
_COUNTED_AFTER = re.compile(
    r"\s?(?:bottles?|cultures?|sets?|samples?|specimens?|tubes?|strength|power|pulses|reflex\w{0,2}|motor|murmur|pain|doses?"
    r"|tab\w{0,5}|cores?|nodes?|vision|acuity|pts?\b|points?|stars?|quadrants?|segments?|vessels?|mmhg|cm|mg|ml|%)",
    re.IGNORECASE,
)
_MEASURED_DATE = re.compile(
    r"\b(?:va|vision|acuity|od|os|ou|cpap|bipap|peep|auto-?pap|cycles?|ratio|scored?)\W{0,3}$", re.IGNORECASE
)
_NEAR_DATE = re.compile(
    rf"(?:{MONTH}|\d[/.\-–]|\d(?:st|nd|rd|th)?\s?(?:and|to|&|,|-|–))\s{{0,2}}(?:the\s)?$", re.IGNORECASE
)
_DATE_GOES_ON = re.compile(rf"\s{{0,2}}(?:[/.\-–]\s?\d|(?:st|nd|rd|th)\b|(?:of\s)?{MONTH})", re.IGNORECASE)
_EPONYM_MONTH = re.compile(rf"(?:{'|'.join(MONTHS)})[-–](?!(?:{MONTH}))[A-Za-z]{{2,}}", re.IGNORECASE)

_CITED = re.compile(
    r"\b(?:cfr|u\.?s\.?c|sections?|loinc|cpt|icd(?:-?\d\d?)?|snomed(?:[ -]ct)?|hcpcs|ndc|rxnorm|cvx|drg|pmid|doi|apc|rev(?:enue)? code)"
    r"\W{0,3}(?:code\W{0,3}|part\W{0,2}|no\W{0,3})?$|§\s?$",
    re.IGNORECASE,
)
_LOINC = re.compile(r"\d{3,5}-\d")
_DECIMAL = re.compile(r"\d{1,3}\.\d{1,4}")
_ANNOUNCED = re.compile(
    r"(?:#|№|\b(?:no|num|number|id|code|mrn|acct|account|record|case|chart|pager?|ext|x)\b)[\s.:#=]{0,3}$",
    re.IGNORECASE,
)
_NUMBERED = frozenset(
    {"MRN", "ACCOUNT", "SSN", "HEALTH_PLAN", "LICENSE", "OTHER_ID", "DEVICE", "PHONE", "FAX", "VEHICLE", "BIOMETRIC"}
)

_PERSON_BEFORE = re.compile(
    rf"(?:\b(?:{'|'.join(sorted(TITLES))})\b\.?|\b(?:patient|pt|name|physician|provider|surgeon|author|attending|signed|from|to"
    r"|cc)\s?:|\b(?:by|named|called|i am|i'm|spoke (?:with|to)|per))\s{0,3}$",
    re.IGNORECASE,
)
_PERSON_AFTER = re.compile(
    r",?\s(?:m\.?d|d\.?o|r\.?n|n\.?p|p\.?a(?:-c)?|ph\.?d|l\.?p\.?n|aprn|pharmd|jr|sr)\b", re.IGNORECASE
)
_DRUGLIKE = DRUGS | FORM_WORDS
_LETTERED = ABBREVIATIONS | DEPARTMENTS | CREDENTIALS | CREDENTIALS_EXTRA


@dataclass(frozen=True, slots=True)
class Neighbours:
    """What a test may know of the other spans: the names directly beside, and the words of all names of two or more."""

    previous: Span | None = None
    following: Span | None = None
    borne: frozenset[str] = frozenset()


def borne_words(text: str, spans: Sequence[Span]) -> frozenset[str]:
    """The words of every name that has a given name too: "Foley" after "Tom Foley" may be he."""
    borne: set[str] = set()
    for span in spans:
        if span.label == "NAME":
            bearing = {word.casefold() for word in _WORD.findall(text, span.start, span.end)}
            if len(bearing) > 1 and not bearing <= EPONYMS_ALONE | EPONYM_NOUNS:
                borne |= bearing
    return frozenset(borne)


def pieces(text: str, span: Span) -> Iterator[Span]:
    """The parts of a span between the breaks no entity crosses, without the labels of a form and list numbers."""
    expression = _BREAK_OF_WORDS if span.label in _WORDY else _BREAK
    # A list number may end the span: what makes it one, the full stop, is looked for beyond.
    found = expression.finditer(text, span.start, min(len(text), span.end + 2))
    breaks = [match for match in found if match.start() < span.end]
    start = span.start
    for number, end in enumerate([*(match.start() for match in breaks), span.end]):
        if start < end and not (breaks and number and _is_form_label(text, start, end)):
            yield _trimmed(text, start, end, span) if breaks else span
        start = breaks[number].end() if number < len(breaks) else end


def is_meant(text: str, span: Span, beside: Neighbours) -> bool:
    """Whether the words around `span` allow its label."""
    words = text[span.start : span.end]
    before, after = text[max(0, span.start - REACH) : span.start], text[span.end : span.end + REACH]
    if span.label == "AGE":
        return _is_age(words, before, after)
    if span.label == "DATE":
        return _is_date(words, before, after)
    if span.label in _NUMBERED:
        return not _is_code(words, before)
    if span.label in ("NAME", "ORGANIZATION"):
        return not _is_clinical(text, span, before, after, beside)
    if span.label == "LOCATION":
        return not all(word.casefold() in FORM_WORDS for word in _WORD.findall(words))
    return True


def _trimmed(text: str, start: int, end: int, span: Span) -> Span:
    while start < end and text[start] in _EDGE:
        start += 1
    while start < end and text[end - 1] in _EDGE:
        end -= 1
    return Span(start, end, span.label, span.score)


def _is_form_label(text: str, start: int, end: int) -> bool:
    words = _WORD.findall(text[start:end])
    listed = _LIST_NUMBER.fullmatch(text, start, end) is not None
    return (
        listed or text[end : end + 2].lstrip().startswith(":") or all(word.casefold() in FORM_WORDS for word in words)
    )


def _is_age(words: str, before: str, after: str) -> bool:
    if _AGED_ITSELF.search(words) or _AGED_AFTER.match(after):
        return True
    if _MEASURED.search(before) or _UNIT_AFTER.match(after):
        return False
    apposed = _BESIDE_NAME.search(before) and _BESIDE_NAME_ENDS.match(after)
    return bool(apposed or _AGED_BEFORE.search(before))


def _is_date(words: str, before: str, after: str) -> bool:
    dated = bool(before.strip()) and DATE_CONTEXT.search(before) is not None
    if _EPONYM_MONTH.fullmatch(words) or (words.casefold() in MONTHS and re.match(r"[-–](?!\d)[A-Za-z]{3}", after)):
        return re.match(rf"[-–]{MONTH}", after, re.IGNORECASE) is not None
    fraction = _FRACTION.fullmatch(words)
    if fraction:
        return _is_day(int(fraction["a"]), int(fraction["b"]), before, after, dated)
    if _NUMBER.fullmatch(words):
        return bool(_NEAR_DATE.search(before) or _DATE_GOES_ON.match(after))
    if _PAIR.fullmatch(words):
        return dated or bool(_NEAR_DATE.search(before) or _DATE_GOES_ON.match(after))
    return True


def _is_day(first: int, second: int, before: str, after: str, dated: bool) -> bool:
    if _DATE_GOES_ON.match(after):
        return True
    month_and_year = 1 <= first <= 12 and second > 31
    if not (month_and_year or is_calendar_day(first, second) or is_calendar_day(second, first)):
        return False
    if _COUNTED_AFTER.match(after) or _MEASURED_DATE.search(before):
        return False
    begins_line = not before.rpartition("\n")[2].strip()  # the day of an entry
    return dated or begins_line or not (first == second or SCORE_CONTEXT.search(before))


def _is_code(words: str, before: str) -> bool:
    """A code of a published list (LOINC has a check digit), a section of a law, a decimal."""
    if _CITED.search(before):
        return True
    plain = words.strip(" .()")
    loinc = _LOINC.fullmatch(plain) is not None and luhn([int(digit) for digit in plain if digit.isdigit()])
    return (loinc or _DECIMAL.fullmatch(plain) is not None) and _ANNOUNCED.search(before) is None


def _is_clinical(text: str, span: Span, before: str, after: str, beside: Neighbours) -> bool:
    """A drug, an eponym, a degree, a department or an abbreviation, and nothing speaks of a person."""
    words = _WORD.findall(text[span.start : span.end])
    if not words:
        return False
    if span.label == "NAME" and (_PERSON_BEFORE.search(before) or _PERSON_AFTER.match(after)):
        return False
    if span.label == "NAME" and _is_eponym(text, span, words, after, beside):
        return True
    line = text[text.rfind("\n", max(0, span.start - 200), span.start) + 1 : span.end] + after.partition("\n")[0]
    shouted = not any(character.islower() for character in line)
    if not all(_is_clinical_word(word, shouted) for word in words):
        return False
    return not _is_beside_name(text, span, beside)


def _is_clinical_word(word: str, shouted: bool) -> bool:
    folded = word.casefold()
    if folded in _DRUGLIKE:
        return True
    if folded not in _LETTERED or not any(character.isupper() for character in word[1:]):
        return False
    return not (shouted and any(vowel in folded for vowel in "aeiouy"))  # "ANA" of a note in capitals may be a woman


def _is_eponym(text: str, span: Span, words: Sequence[str], after: str, beside: Neighbours) -> bool:
    """ "Marfan habitus", "Hinchey stage", "Cheyne-Stokes"; a person's own name keeps its redaction elsewhere."""
    parts = [part for word in words for part in re.split(r"[-'’]", word.casefold()) if part not in ("", "s")]
    following = re.match(r"(?:['’]s)?[\s-]{1,2}([^\W\d_]+)", after)
    noun = following[1].casefold() if following else ""
    last = parts[-1] if parts else ""
    if noun not in EPONYM_NOUNS and last in EPONYM_NOUNS and len(parts) > 1:
        noun, parts = last, parts[:-1]  # the model took the noun too
    known = all(part in EPONYMS_ALONE or part in EPONYMS_WITH_NOUN for part in parts)
    if noun in EPONYM_NOUNS and (known or len(words) == 1):
        return True
    if known and noun in EPONYM_NOUNS_WEAK:
        return True
    if not known or all(part in EPONYMS_WITH_NOUN for part in parts):
        return False
    return not _is_beside_name(text, span, beside) and not beside.borne.intersection(parts)


def _is_beside_name(text: str, span: Span, beside: Neighbours) -> bool:
    """Part of a name written in two spans ("Allen" beside "Ruth")."""
    previous, following = beside.previous, beside.following
    gaps = []
    if previous is not None and previous.label == "NAME":
        gaps.append(text[previous.end : span.start])
    if following is not None and following.label == "NAME":
        gaps.append(text[span.end : following.start])
    return any(len(gap) <= 2 and not gap.strip(" ,-") for gap in gaps)
