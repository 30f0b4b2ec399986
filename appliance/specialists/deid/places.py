"""Addresses below the state, as rules: streets, post office boxes, rural routes, postal codes and the city before one.

>>> text = "lives at 12 Elm Street, Salem, MA 01970"
>>> sorted({text[span.start : span.end] for rule in PLACE_RULES for span in rule.spans(text)})
['01970', '12 Elm Street', 'Salem']
"""

# ruff: noqa: E501 - a rule is one line of its table: an expression broken in two is hard to check
from __future__ import annotations

import re

from appliance.specialists.deid.lexicon import STATE_CODES, STATES
from appliance.specialists.deid.rules import LIKELY, Rule, in_context, shaped

_CLEAR_SUFFIX = (
    "street|avenue|ave|boulevard|blvd|road|rd|lane|ln|drive|terrace|parkway|pkwy|highway|hwy|turnpike|tpke|circle|cir"
    "|court|place|square|plaza|crescent|trail|trl|expressway|broadway|alley|commons|esplanade|close|mews|gardens|grove"
)
_SHORT_SUFFIX = "st|dr|ct|pl|sq|ter|way|loop|row|walk|path|run|pike|park"  # also "saint", "doctor", "scan", "way"
_UNIT = r"(?:,?\s{1,2}(?:apt|apartment|unit|suite|ste|bldg|building|floor|fl|rm|room|lot|flat|#)\.?\s{0,2}#?\s?[A-Z0-9-]{1,6}\b|,?\s{0,2}#\s?\w{1,5}\b)?"
_DIRECTION = r"(?:(?:n|s|e|w|ne|nw|se|sw|north|south|east|west)\.?\s{1,2})?"
_AFTER = r"(?:[ \t](?:n|s|e|w|ne|nw|se|sw)\b\.?)?"
# No digit begins a word of a street name but an ordinal ("5th Avenue"), so the number before cannot be re-read.
# A full stop is an abbreviation's ("St.", "N."); after a longer word it ends the sentence.
_STREET_WORD = r"(?:[A-Z][A-Z'’\-]{0,2}\.|[A-Z](?:[A-Z'’\-]|\.(?=[A-Z])){0,20}|\d{1,3}(?:st|nd|rd|th))"
_BLANK = r"[ \t]{1,2}"
_BLANK_OR_WRAP = r"(?:[ \t]{1,2}|[ \t]?\n)"
_NOT_STREET = frozenset(
    """mg ml mcg g kg units unit days day weeks week months month years year hours hour hrs minutes minute min mile miles
    block blocks the a an of left right and with was is in on to for per at from by pm am cc cm mm tablets tablet tabs
    caps times time or head chest abdomen abdominal brain spine ct mri more other way different point step""".split()
)
_STATE = "|".join(sorted((*(re.escape(code.upper()) for code in STATE_CODES), *(name.title() for name in STATES), *(name.upper() for name in STATES)), key=len, reverse=True))  # fmt: skip
_CITY = r"(?:[A-Z][A-Za-z.'’\-]{1,20}\s){0,2}[A-Z][A-Za-z.'’\-]{1,20}"

# Areas of the United Kingdom's postcodes: without them "T4 2ML" and "B12 3RD" would pass as one.
_UK_AREAS = frozenset(
    """AB AL B BA BB BD BH BL BN BR BS BT CA CB CF CH CM CO CR CT CV CW DA DD DE DG DH DL DN DT DY E EC EH EN EX FK FY G
    GL GU GY HA HD HG HP HR HS HU HX IG IM IP IV JE KA KT KW KY L LA LD LE LL LN LS LU M ME MK ML N NE NG NN NP NR NW
    OL OX PA PE PH PL PO PR RG RH RM S SA SE SG SK SL SM SN SO SP SR SS ST SW SY TA TD TF TN TQ TR TS TW UB W WA WC WD
    WF WN WR WS WV YO ZE""".split()
)
_ORDINAL_ENDINGS = frozenset({"ST", "ND", "RD", "TH", "HT"})


_ANY_SUFFIX = re.compile(rf"\b(?:{_CLEAR_SUFFIX}|{_SHORT_SUFFIX})\.?[ \t]*$", re.IGNORECASE)


def _is_street(match: re.Match[str]) -> bool:
    """No unit of measure or function word inside; a short suffix needs a capital or an address around it."""
    words = [word.strip(".").casefold() for word in match["name"].split()]
    if any(word in _NOT_STREET for word in words):
        return False
    suffix = match["suffix"]
    first, wrap, _ = match.string[match.start("name") : match.start("suffix")].partition("\n")
    if wrap and _ANY_SUFFIX.search(first):
        return False  # the address was over at the end of its line
    if suffix.casefold() in _SHORT_SUFFIX.split("|"):
        if suffix.islower():  # all-lower text: only where the line or the clause ends
            return (
                re.match(r"\.?[ \t]{0,3}(?:,|\n|$)", match.string[match.end("suffix") : match.end("suffix") + 5])
                is not None
            )
        capitalised = all(word[0].isupper() or word[0].isdigit() for word in match["name"].split())
        if not capitalised or (suffix.isupper() and not match["name"].isupper()):
            return False  # "1 Chest CT", "saw 2 other dr"
        after = match.string[match.end("id") : match.end("id") + 3]
        return not (suffix.casefold() in ("dr", "st") and re.match(r"\.?\s[A-Z]", after) and "," not in after)
    return True


def _is_uk_postcode(match: re.Match[str]) -> bool:
    area = match["area"].upper()
    return area in _UK_AREAS and match["inward"].upper()[1:] not in _ORDINAL_ENDINGS


def _is_not_staging(match: re.Match[str]) -> bool:
    return re.fullmatch(r"T\d[A-Z]?\s?[A-Z]\d[A-Z]\d", match["id"]) is None


def _street(blank: str) -> Rule:
    return shaped(
        "LOCATION",
        rf"(?<![\w.\-/])(?P<id>\d{{1,6}}[A-Z]?(?:-\d{{1,4}})?{blank}{_DIRECTION}"
        rf"(?P<name>{_STREET_WORD}(?:{blank}{_STREET_WORD}){{0,3}}){blank}(?P<suffix>{_CLEAR_SUFFIX}|{_SHORT_SUFFIX})\b\.?{_AFTER}{_UNIT})",
        _is_street,
    )


PLACE_RULES: tuple[Rule, ...] = (
    _street(_BLANK),
    _street(_BLANK_OR_WRAP),  # a hard wrap may fall inside an address
    shaped("LOCATION", r"(?<![A-Z0-9])(?P<id>(?:p\.?\s?o\.?\s{0,2}box|post office box|postal box)\s{0,2}#?\s?\d{1,6}(?:-\d{1,4})?)(?!\d)"),
    shaped("LOCATION", r"(?<![A-Z0-9])(?P<id>(?:rural route|r\.?r\.?|hc|star route)\s{1,2}#?\d{1,4},?\s{1,2}box\s{1,2}\d{1,5}[A-Z]?)(?![A-Z0-9])"),
    shaped("LOCATION", r"(?<![A-Z0-9])(?P<id>(?:rural route|county (?:road|rd)|state (?:route|road)|farm to market road)\s{1,2}#?\d{1,5})(?!\d)"),
    # ZIP+4; a five-digit ZIP after a state or the word
    shaped("LOCATION", r"(?<![\w\-./])(?P<id>\d{5}-\d{4})(?![\w\-/]|\.\d)"),
    shaped("LOCATION", rf"(?<![A-Za-z])(?:{_STATE})[.,]?\s{{1,3}}(?P<id>\d{{5}}(?:-\d{{4}})?)(?![\w\-/]|\.\d)", any_case=False),
    shaped("LOCATION", r",\s?(?:" + "|".join(sorted(STATE_CODES)) + r")\s{1,2}(?P<id>\d{5})(?![\w\-/]|\.\d)"),
    in_context("LOCATION", r"zip(?: ?code)?|postal code|post ?code", r"\d{5}(?:-\d{4})?|[A-Z]{1,2}\d[A-Z\d]? ?\d[A-Z]{2}|[A-Z]\d[A-Z] ?\d[A-Z]\d"),
    # the city that stands before a state and its ZIP
    shaped("LOCATION", rf"(?<![A-Za-z])(?P<id>{_CITY}),?\s(?:{_STATE})[.,]?\s{{1,3}}\d{{5}}(?!\d)", certainty=LIKELY, any_case=False),
    shaped(
        "LOCATION",
        r"(?<![\w-])(?P<id>(?P<area>[A-Z]{1,2})\d[A-Z\d]?\s{1,2}(?P<inward>\d[ABD-HJLNP-UW-Z]{2}))(?![\w-])",
        _is_uk_postcode,
        any_case=False,
    ),
    shaped("LOCATION", r"(?<![\w-])(?P<id>[ABCEGHJ-NPRSTVXY]\d[ABCEGHJ-NPRSTV-Z][ -]\d[ABCEGHJ-NPRSTV-Z]\d)(?![\w-])", _is_not_staging, any_case=False),
)  # fmt: skip
