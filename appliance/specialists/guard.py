"""Identifiers on their way to a model that writes and back: what a policy does with them. Pure; finds nothing itself.

    masked = mask("Ana Lima, MRN 4711", spans, Placeholders())
    masked.text                                   # "[NAME 1], [MRN 1]"
    restore("Dear [NAME 1],", masked.placeholders)            # "Dear Ana Lima,"
    carry(text, spans, values)                    # and where what was found elsewhere in the conversation recurs

`guard_answer.py` cuts an answer that is being written, `guard_memory.py` remembers what was found.

Policies: `allow` does nothing; `mark` shows where identifiers are; `mask` keeps them from the model and puts them back
for the one who asked; `block` refuses the request, or ends the answer, in which one is found.
"""

from __future__ import annotations

import re
from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from typing import Literal, get_args

from appliance.specialists.deid import policy
from appliance.specialists.deid.persons import link
from appliance.specialists.deid.propagation import propagate
from appliance.specialists.deid.redaction import value_key
from appliance.types import Span

Policy = Literal["allow", "mark", "mask", "block"]
POLICIES: tuple[Policy, ...] = get_args(Policy)
_PLACEHOLDER = re.compile(r"\[([A-Z_]{1,32}) ([1-9][0-9]{0,5})\]")
_APART = "\n\n"  # no form of a value goes over an empty line


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
            found.setdefault(placeholder(label, number), original)
        return found

    def taken(self) -> Set[tuple[str, int]]:
        """Label and number of each."""
        return {(label, number) for label, number, _ in self.entries}

    def number_of(self, label: str, original: str) -> int | None:
        """The number of this value, or of the same person or value written otherwise."""
        own = [(number, text) for found, number, text in self.entries if found == label]
        exact = next((number for number, text in own if text == original), None)
        return exact if exact is not None else _same(label, original, own)


@dataclass(frozen=True, slots=True)
class Value:
    """An identifier as it was found somewhere in a conversation, and how sure that was."""

    label: str
    text: str
    score: float


@dataclass(frozen=True, slots=True)
class Masked:
    """A text without its identifiers, and what the placeholders of the conversation stand for now."""

    text: str
    placeholders: Placeholders


NOBODY = Placeholders()


def mask(text: str, spans: Sequence[Span], known: Placeholders, taken: Set[tuple[str, int]] = frozenset()) -> Masked:
    """Put a placeholder for every span; what is `known` from earlier turns keeps its number, and `taken` are nobody's.

    `spans` MUST lie in the text and not overlap. A placeholder that somebody typed themselves is given to nobody:
    otherwise an answer that repeats it would show them a stranger's name.
    """
    taken = taken | typed_in(text)
    pieces: list[str] = []
    place = 0
    for span in sorted(spans, key=lambda span: span.start):
        assert place <= span.start < span.end <= len(text), "spans overlap or leave the text"
        number, known = _numbered(span.label, text[span.start : span.end], known, taken)
        pieces += [text[place : span.start], placeholder(span.label, number)]
        place = span.end
    return Masked("".join([*pieces, text[place:]]), known)


def restore(text: str, placeholders: Placeholders) -> str:
    """The text with every known placeholder replaced by its original, once: an original is not looked into again."""
    originals = placeholders.originals()
    return _PLACEHOLDER.sub(lambda found: originals.get(found[0], found[0]), text)


def restored_places(text: str, placeholders: Placeholders) -> list[tuple[Span, str]]:
    """Where in `restore(text, placeholders)` originals stand, each with the placeholder that it was."""
    originals, places, moved = placeholders.originals(), [], 0
    for found in _PLACEHOLDER.finditer(text):
        original = originals.get(found[0])
        if original is not None:
            start = found.start() + moved
            places.append((Span(start, start + len(original), found[1], 1.0), found[0]))
            moved += len(original) - len(found[0])
    return places


def carry(text: str, spans: Sequence[Span], values: Sequence[Value]) -> tuple[Span, ...]:
    """`spans` (sorted, disjoint) and every place where a value found elsewhere recurs, by the detector's own rules."""
    if not values or not text:
        return tuple(spans)
    words = [value.text for value in values]
    if text == text.lower():  # otherwise what stands before it would say that this text knows capitals
        words = [word.lower() for word in words]
    before, place = [], 0
    for value, word in zip(values, words, strict=True):
        before.append(Span(place, place + len(word), value.label, value.score))
        place += len(word) + len(_APART)
    found = propagate(_APART.join([*words, text]), [*before, *(_moved(span, place) for span in spans)])
    if len(found) == len(before) + len(spans):
        return tuple(spans)
    identifying = policy.apply(text, [_moved(span, -place) for span in found[len(before) :]])
    free = [span for span in identifying if not any(span.start < own.end and own.start < span.end for own in spans)]
    return tuple(sorted([*spans, *free], key=lambda span: span.start))


def find_placeholders(text: str) -> list[Span]:
    """Where something stands that looks like a placeholder, as spans of its label."""
    return [Span(found.start(), found.end(), found[1], 1.0) for found in _PLACEHOLDER.finditer(text)]


def typed_in(text: str) -> Set[tuple[str, int]]:
    """Label and number of everything in the text that looks like a placeholder."""
    return {(found[1], int(found[2])) for found in _PLACEHOLDER.finditer(text)}


def _moved(span: Span, by: int) -> Span:
    return replace(span, start=span.start + by, end=span.end + by)


def placeholder(label: str, number: int) -> str:
    """What stands for an identifier, as `[NAME 1]`."""
    return f"[{label} {number}]"


def _numbered(label: str, original: str, known: Placeholders, taken: Set[tuple[str, int]]) -> tuple[int, Placeholders]:
    """The number of this value, an old one or the next free one, and what is known with it."""
    number = known.number_of(label, original)
    if number is None:
        number = _free(label, known, taken)
    elif (label, number, original) in known.entries:
        return number, known
    return number, Placeholders((*known.entries, (label, number, original)))


def _same(label: str, original: str, own: list[tuple[int, str]]) -> int | None:
    """The number of an earlier writing of the same person or value."""
    if label != "NAME":
        return next((number for number, text in own if value_key(text) == value_key(original)), None)
    persons = link([text for _, text in own] + [original])
    return next((number for (number, _), person in zip(own, persons, strict=False) if person == persons[-1]), None)


def _free(label: str, known: Placeholders, taken: Set[tuple[str, int]]) -> int:
    used = {number for found, number, _ in known.entries if found == label}
    number = max(used, default=0) + 1
    while (label, number) in taken:
        number += 1
    return number
