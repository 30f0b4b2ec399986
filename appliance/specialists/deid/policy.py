"""What HIPAA Safe Harbor lets stand although a model marked it. Pure.

`identifies` decides on the words of a span alone, `plausibility.py` on the words around it; `apply` asks both, after
a span was cut where no entity goes on. Not identifiers: ages under 90, a year, a weekday, a holiday, a state or a
country by itself. Titles and credentials around a name ("Dr.", ", MD") stay in the text, so that a reader still knows
who is spoken of as what.

>>> text = "Dr. Okoro saw her on Monday"
>>> [text[span.start : span.end] for span in apply(text, [Span(0, 9, "NAME", 1.0), Span(21, 27, "DATE", 0.9)])]
['Okoro']
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from appliance.specialists.deid.lexicon import (
    COUNTRIES,
    CREDENTIALS,
    HOLIDAYS,
    STATE_CODES,
    STATES,
    STATES_THAT_ARE_CITIES,
    TITLES,
    WEEKDAY_FORMS,
)
from appliance.specialists.deid.plausibility import Neighbours, borne_words, is_meant, pieces
from appliance.types import Span

AGE_MIN = 90
_YEAR = re.compile(r"(?:the )?(?:(?:early|mid|late)[ -])?(?:1[89]|20)\d\d(?:'?s)?|'\d\ds?")
_YEAR_RANGE = re.compile(r"(?:1[89]|20)\d\d\s?(?:-|–|to|and|/)\s?(?:(?:1[89]|20)\d\d|\d\d)")
_TIME = re.compile(r"\d{1,2}:\d\d(?::\d\d)?(?:\s?[ap]\.?m\.?)?|\d{1,2}\s?[ap]\.?m\.?")
_DIGITS = re.compile(r"\d+")
_SPACES = re.compile(r"\s+")
_OLD_IN_WORDS = re.compile(r"ninet(?:y|ies)|hundred|centenarian|nonagenarian")
_TITLE = re.compile(r"(?P<word>[^\W\d_]{1,12})\.?(?:\s{1,3}|(?<=\.))")
_CREDENTIAL = re.compile(r"[,\s]{1,4}(?P<word>[A-Za-z](?:\.?[A-Za-z\-]){0,9})\.?$")
TRIMS_MAX = 4


def apply(text: str, spans: Iterable[Span]) -> tuple[Span, ...]:
    """The spans that identify, names without their titles; order is kept."""
    candidates: list[Span] = []
    for whole in spans:
        for span in pieces(text, whole):
            if span.label == "NAME":
                span = _without_titles(text, span)
            if span.start < span.end and identifies(span.label, text[span.start : span.end]):
                candidates.append(span)
    borne = borne_words(text, candidates)
    beside = zip([None, *candidates[:-1]], candidates, [*candidates[1:], None], strict=False)
    return tuple(
        span for previous, span, following in beside if is_meant(text, span, Neighbours(previous, following, borne))
    )


def identifies(label: str, words: str) -> bool:
    """Whether `words` under `label` are an identifier under Safe Harbor."""
    plain = _SPACES.sub(" ", words).strip(" .,;:()").casefold().replace("’", "'")
    if label == "AGE":
        return _is_old(plain)
    if label == "DATE":
        return not _is_undated(plain)
    if label == "LOCATION":
        return not _is_wide(plain)
    return True


def _is_old(plain: str) -> bool:
    numbers = [int(number[:4]) for number in _DIGITS.findall(plain)]
    if numbers:
        return any(number >= AGE_MIN for number in numbers)
    return _OLD_IN_WORDS.search(plain) is not None


def _is_undated(plain: str) -> bool:
    if plain in HOLIDAYS or any(pattern.fullmatch(plain) for pattern in (_YEAR, _YEAR_RANGE, _TIME)):
        return True
    pieces = re.split(r"[ ,/&-]+", plain)
    return all(piece.rstrip(".") in WEEKDAY_FORMS or piece in ("and", "or", "to", "through") for piece in pieces)


def _is_wide(plain: str) -> bool:
    if plain in STATES_THAT_ARE_CITIES:
        return False
    names = [name.strip(" .").removeprefix("the ") for name in plain.split(",")]
    return all(name in STATES or name in STATE_CODES or name in COUNTRIES for name in names)


def _without_titles(text: str, span: Span) -> Span:
    """Titles off the front, credentials off the end; at most a few, and never the whole name."""
    start, end = span.start, span.end
    for _ in range(TRIMS_MAX):
        title = _TITLE.match(text, start, end)
        if title is None or title["word"].casefold() not in TITLES or title.end() >= end:
            break
        start = title.end()
    for _ in range(TRIMS_MAX):
        # A comma, or capitals throughout: "Kim Do" is a name, "Kim, DO" and "Kim DO" carry a degree.
        degree = _CREDENTIAL.search(text, max(start, end - 16), end)
        if degree is None or degree["word"].replace(".", "").replace("-", "").casefold() not in CREDENTIALS:
            break
        comma = "," in degree[0]
        shouted = text[start : degree.start()].isupper()
        if not comma and (not degree["word"].replace(".", "").isupper() or shouted):
            break
        end = degree.start()
    if text[start:end].strip(" .,").casefold() in TITLES:
        return Span(start, start, span.label, span.score)
    return Span(start, end, span.label, span.score)
