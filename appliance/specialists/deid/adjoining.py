"""A family name that is also a word of every sentence, right after a name that was found: "Sangmi Son". Pure.

A model that reads without case takes such a word for what it mostly is. Written with a capital behind a name, where no
sentence begins, it is what people of some origins are called, and a list of the few that exist is a fair remedy: to
miss them would be to miss the same people every time.

>>> from appliance.specialists.deid.words import words
>>> text = "Thank you for referring Mrs. Sangmi Son for evaluation."
>>> [text[span.start : span.end] for span in with_adjoining(text, [Span(29, 35, "NAME", 0.99)], words(text))]
['Sangmi Son']
"""

from __future__ import annotations

import dataclasses
from bisect import bisect_left
from collections.abc import Sequence

from appliance.specialists.deid.words import Words
from appliance.types import Span

# Family names (Korean, Vietnamese, Turkish, Chinese, Burmese, English) that are words of every sentence.
_FAMILY_NAMES = frozenset("an can do ha he ho in long may my no oh on own so son than to too up will you".split())
_VERBS = frozenset("can do may will".split())
# Behind one of them these make it a verb: "Hi Mary Can you call".
_MAKES_A_VERB = frozenset("i you he she we they it not".split())
# Those that stand first in "Son, Dung" and begin no sentence with a comma behind them ("So, Mary said").
_LISTED_FIRST = frozenset("an can do ha he ho long may son".split())


def with_adjoining(text: str, spans: Sequence[Span], found: Words) -> tuple[Span, ...]:
    """`spans` (sorted, disjoint), each name grown by the family name behind it, or before it where family names come
    first and a comma follows ("SON, DUNG"); still sorted and disjoint.
    """
    grown: list[Span] = []
    for place, span in enumerate(spans):
        if span.label != "NAME":
            grown.append(span)
            continue
        start, end = _start_with_family(text, span, found), _end_with_family(text, span, found)
        if grown and start < grown[-1].end:
            start = span.start
        if place + 1 < len(spans) and end > spans[place + 1].start:
            end = span.end
        grown.append(
            dataclasses.replace(span, start=start, end=end) if (start, end) != (span.start, span.end) else span
        )
    return tuple(grown)


def _start_with_family(text: str, span: Span, found: Words) -> int:
    number = bisect_left(found.starts, span.start) - 1
    if number < 0 or text[found.ends[number] : span.start] != ", " or not text[span.start].isupper():
        return span.start
    word, before = text[found.starts[number] : found.ends[number]], text[: found.starts[number]].rstrip(" \t")
    begins = not before or before[-1] in "\n:|"
    return found.starts[number] if begins and word[0].isupper() and word.casefold() in _LISTED_FIRST else span.start


def _end_with_family(text: str, span: Span, found: Words) -> int:
    number = bisect_left(found.starts, span.end)
    if number >= len(found.starts) or text[span.end : found.starts[number]] != " ":
        return span.end
    word, named = text[found.starts[number] : found.ends[number]], text[span.start : span.end]
    if word.casefold() not in _FAMILY_NAMES or not named[:1].isupper() or not word[0].isupper():
        return span.end
    shouted = named == named.upper()
    if word[1:] != (word[1:].upper() if shouted else word[1:].lower()) or (shouted and text == text.upper()):
        return span.end
    if text[found.ends[number] : found.ends[number] + 1] in ("-", "'", "’"):
        return span.end  # the first part of a longer word
    following = number + 1
    if word.casefold() not in _VERBS:
        return found.ends[number]
    if following < len(found.starts) and text[found.ends[number] : found.starts[following]] == " ":
        after = text[found.starts[following] : found.ends[following]]
        if after.casefold() in _MAKES_A_VERB:
            return span.end
    return found.ends[number]
