"""Where the words of a text are, in the sense of de-identification: nothing may cut inside one. Pure.

A word is a run of letters and digits with the combining marks that belong to them; hyphens, apostrophes and
underscores separate, so "O'Neill" is two words and "Smith-Jones" is two.

>>> words("Dr.O'Neill, 93yo").texts
('Dr', 'O', 'Neill', '93yo')
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from dataclasses import dataclass

from appliance.types import Span

_RUN = re.compile(r"[^\W_]+")
_JOINERS = frozenset("\u200c\u200d")  # shape letters of one word (Persian, Devanagari) without being letters
_EDGE_LEFT = frozenset(",;:.!?-–—*|=/\\\"'’‘“”)]}>_#")
_EDGE_RIGHT = frozenset(",;:.!?-–—*|=/\\\"'’‘“”([{<_")
_PAIRS = {"(": ")", "[": "]", "{": "}", "<": ">"}
_OPENED_BY = {closing: opening for opening, closing in _PAIRS.items()}
BRACKET_REACH = 64  # how far the partner of a bracket is looked for


@dataclass(frozen=True, slots=True)
class Words:
    """The words of `text` in order: `starts[i]:ends[i]` is `texts[i]`."""

    text: str
    starts: tuple[int, ...]
    ends: tuple[int, ...]

    @property
    def texts(self) -> tuple[str, ...]:
        """The words themselves."""
        return tuple(self.text[start:end] for start, end in zip(self.starts, self.ends, strict=True))

    def at(self, place: int) -> int | None:
        """The number of the word that has the character at `place`, or None."""
        number = bisect_right(self.starts, place) - 1
        return number if number >= 0 and place < self.ends[number] else None

    def whole(self, start: int, end: int) -> tuple[int, int]:
        """`start:end` grown so that it cuts no word."""
        first, last = self.at(start), self.at(end - 1)
        return (
            start if first is None else self.starts[first],
            end if last is None else self.ends[last],
        )


def words(text: str) -> Words:
    """Every word of `text`."""
    starts: list[int] = []
    ends: list[int] = []
    for match in _RUN.finditer(text):
        start, end = match.span()
        if ends and all(_belongs_to_word(character) for character in text[ends[-1] : start]):
            ends[-1] = end
        else:
            if ends:
                ends[-1] = _over_marks(text, ends[-1], start)
            starts.append(start)
            ends.append(end)
    if ends:
        ends[-1] = _over_marks(text, ends[-1], len(text))
    return Words(text, tuple(starts), tuple(ends))


def tidy(found: Words, span: Span) -> Span | None:
    """The span over whole words, without blanks and punctuation at its edges; None if nothing is left.

    A bracket stays where its partner is inside ("(617) 555-0123") and goes where the pair encloses everything.
    """
    text = found.text
    start, end = found.whole(span.start, span.end)
    before = None
    while start < end and before != (start, end):
        before = (start, end)
        while start < end and _is_edge(text[start], _EDGE_LEFT):
            start += 1
        while start < end and _is_edge(text[end - 1], _EDGE_RIGHT):
            end -= 1
        if start < end and text[start] in _PAIRS:
            partner = _PAIRS[text[start]]
            start += partner not in text[start : min(end - 1, start + BRACKET_REACH)]
        if start < end and text[end - 1] in _OPENED_BY:
            partner = _OPENED_BY[text[end - 1]]
            end -= partner not in text[max(start, end - BRACKET_REACH) : end]
    return Span(start, end, span.label, span.score) if start < end else None


def _is_edge(character: str, edge: frozenset[str]) -> bool:
    return character in edge or character.isspace()


def _belongs_to_word(character: str) -> bool:
    return character in _JOINERS or unicodedata.category(character).startswith("M")


def _over_marks(text: str, place: int, limit: int) -> int:
    while place < limit and _belongs_to_word(text[place]):
        place += 1
    return place
