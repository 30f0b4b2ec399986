"""Identifiers on their way to a model that writes and back: what a policy does with them. Pure; finds nothing itself.

    masked = mask("Ana Lima, MRN 4711", spans, Placeholders())
    masked.text                                   # "[NAME 1], [MRN 1]"
    restore("Dear [NAME 1],", masked.placeholders)            # "Dear Ana Lima,"

    restorer = Restorer(placeholders)             # the same, piece by piece: restorer.feed(chunk), restorer.finish()
    release_point(text, 0, spans, lookahead=200)  # how much of an answer that is being written may be shown

Policies: `allow` does nothing; `mark` shows where identifiers are; `mask` keeps them from the model and puts them back
for the one who asked; `block` refuses the request, or ends the answer, in which one is found.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from appliance.specialists.deid.persons import link
from appliance.specialists.deid.redaction import value_key
from appliance.types import Span

Policy = Literal["allow", "mark", "mask", "block"]
POLICIES: tuple[Policy, ...] = get_args(Policy)
_PLACEHOLDER = re.compile(r"\[([A-Z_]{1,32}) ([1-9][0-9]{0,5})\]")
_PLACEHOLDER_CHARS_MAX = 41  # "[", 32, " ", 6, "]"
_BEGUN = re.compile(r"\[(?:[A-Z_]{1,32}(?: (?:[1-9][0-9]{0,5})?)?)?\Z")


@dataclass(frozen=True, slots=True)
class Placeholders:
    """What stands for what in one conversation, in order of appearance: (label, number, original).

    Several originals may share one label and number (one person written in two ways): the first is put back.
    """

    entries: tuple[tuple[str, int, str], ...] = ()

    def originals(self) -> dict[str, str]:
        """The original of every placeholder, as `{"[NAME 1]": "Ana Lima"}`."""
        found: dict[str, str] = {}
        for label, number, original in self.entries:
            found.setdefault(_placeholder(label, number), original)
        return found


@dataclass(frozen=True, slots=True)
class Masked:
    """A text without its identifiers, and what the placeholders of the conversation stand for now."""

    text: str
    placeholders: Placeholders


def mask(text: str, spans: Sequence[Span], known: Placeholders) -> Masked:
    """Put a placeholder for every span; what is `known` from earlier turns keeps its number.

    `spans` MUST lie in the text and not overlap. A placeholder that somebody typed themselves is given to nobody:
    otherwise an answer that repeats it would show them a stranger's name.
    """
    typed = {(found[1], int(found[2])) for found in _PLACEHOLDER.finditer(text)}
    entries = list(known.entries)
    pieces: list[str] = []
    place = 0
    for span in sorted(spans, key=lambda span: span.start):
        assert place <= span.start < span.end <= len(text), "spans overlap or leave the text"
        number = _number(span.label, text[span.start : span.end], entries, typed)
        pieces += [text[place : span.start], _placeholder(span.label, number)]
        place = span.end
    return Masked("".join([*pieces, text[place:]]), Placeholders(tuple(entries)))


def restore(text: str, placeholders: Placeholders) -> str:
    """The text with every known placeholder replaced by its original, once: an original is not looked into again."""
    originals = placeholders.originals()
    return _PLACEHOLDER.sub(lambda found: originals.get(found[0], found[0]), text)


class Restorer:
    """`restore` for a text that arrives in pieces. Holds back what may be the beginning of a placeholder, no more."""

    def __init__(self, placeholders: Placeholders) -> None:
        self._placeholders = placeholders
        self._held = ""

    def feed(self, piece: str) -> str:
        """What can be shown after this piece; may be empty."""
        text = self._held + piece
        begun = _BEGUN.search(text, max(0, len(text) - _PLACEHOLDER_CHARS_MAX))
        cut = begun.start() if begun else len(text)
        self._held = text[cut:]
        return restore(text[:cut], self._placeholders)

    def finish(self) -> str:
        """What was held back, when nothing more comes."""
        held, self._held = self._held, ""
        return restore(held, self._placeholders)


def release_point(text: str, released: int, spans: Sequence[Span], *, lookahead: int, final: bool = False) -> int:
    """Up to where a text that grows may be shown: `text[released:point]`.

    `spans`: what was found in all of `text` so far. What follows decides what a word is, so at least `lookahead`
    characters stay back until the text is `final`; the cut lies between two words and in no span. MAY be `released`:
    nothing yet. Words longer than `lookahead` are cut where it must be, so that nothing is held back for ever.
    """
    if final:
        return len(text)
    point = max(released, len(text) - lookahead)
    boundary = next((place for place in range(point, released, -1) if text[place - 1].isspace()), released)
    if boundary == released and point - released > lookahead:
        boundary = point
    for span in sorted(spans, key=lambda span: span.start, reverse=True):
        if span.start < boundary < span.end:
            boundary = span.start
    return max(released, boundary)


def _placeholder(label: str, number: int) -> str:
    return f"[{label} {number}]"


def _number(label: str, original: str, entries: list[tuple[str, int, str]], typed: set[tuple[str, int]]) -> int:
    """The number of this value, an old one or the next free one; `entries` grows by what is new."""
    own = [(number, text) for found, number, text in entries if found == label]
    for number, text in own:
        if text == original:
            return number
    same = _same(label, original, own)
    number = same if same is not None else _free(label, own, typed)
    entries.append((label, number, original))
    return number


def _same(label: str, original: str, own: list[tuple[int, str]]) -> int | None:
    """The number of an earlier writing of the same person or value."""
    if label != "NAME":
        return next((number for number, text in own if value_key(text) == value_key(original)), None)
    persons = link([text for _, text in own] + [original])
    return next((number for (number, _), person in zip(own, persons, strict=False) if person == persons[-1]), None)


def _free(label: str, own: list[tuple[int, str]], typed: set[tuple[str, int]]) -> int:
    number = max((number for number, _ in own), default=0) + 1
    while (label, number) in typed:
        number += 1
    return number
