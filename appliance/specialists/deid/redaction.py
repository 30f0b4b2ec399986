"""Spans taken out of a text, in one of three styles; every other character stays byte for byte as it was. Pure.

- `label`: `[NAME 1]`, `[DATE 2]`; the same number for the same person, or for the same value written alike.
- `mask`: one `█` for every character, line breaks kept. The length shows; in exchange every offset into the text
  stays true, so that annotations, line wraps and tables made before masking still fit. Where length must not
  show, `label` is the style.
- `surrogate`: a realistic replacement, consistent in the document, keyed by a random seed of the document.

>>> redact("Seen by Ana Lima.", (Span(8, 16, "NAME", 1.0),), "label").text
'Seen by [NAME 1].'
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from appliance.errors import InvalidRequest, UnknownOption
from appliance.specialists.deid.persons import link
from appliance.specialists.deid.surrogates import Surrogates
from appliance.types import Span

Style = Literal["label", "mask", "surrogate"]
STYLES: tuple[Style, ...] = get_args(Style)
MASK = "█"
_LINE_BREAKS = frozenset("\r\n\v\f\x1c\x1d\x1e\x85\u2028\u2029")


@dataclass(frozen=True, slots=True)
class Replacement:
    """Characters `start:end` of the original became `new_start:new_end` of the redacted text."""

    start: int
    end: int
    label: str
    replacement: str
    new_start: int
    new_end: int


@dataclass(frozen=True, slots=True)
class Redaction:
    """The redacted text and where it differs, in order."""

    text: str
    replacements: tuple[Replacement, ...]


def redact(text: str, spans: Sequence[Span], style: Style, seed: bytes = b"") -> Redaction:
    """Replace every span. `spans` may come in any order but MUST lie in the text and not overlap.

    `seed` (16 random bytes or more, a new one per document) is needed for `surrogate` only; who keeps it can repeat
    the surrogates, so it is normally dropped. Raises `InvalidRequest` for spans that do not fit the text and
    `UnknownOption` for an unknown style.
    """
    if style not in STYLES:
        raise UnknownOption(f"unknown redaction style {style!r}", hint=f"use one of {', '.join(STYLES)}")
    ordered = sorted(spans, key=lambda span: (span.start, span.end))
    _check(text, ordered)
    if style == "mask":
        return _assembled(text, ordered, [_mask(text[span.start : span.end]) for span in ordered])
    numbers = _numbers(text, ordered)
    labels = [f"[{span.label} {number}]" for span, number in zip(ordered, numbers, strict=True)]
    if style == "label":
        return _assembled(text, ordered, labels)
    return _assembled(text, ordered, _surrogates(text, ordered, numbers, labels, seed))


def _check(text: str, ordered: Sequence[Span]) -> None:
    end = 0
    for span in ordered:
        if not 0 <= span.start < span.end <= len(text):
            raise InvalidRequest(f"span {span.start}:{span.end} does not lie in a text of {len(text)} characters")
        if span.start < end:
            raise InvalidRequest(f"span {span.start}:{span.end} overlaps the one before it, which ends at {end}")
        end = span.end


def _mask(original: str) -> str:
    return "".join(character if character in _LINE_BREAKS else MASK for character in original)


def _numbers(text: str, ordered: Sequence[Span]) -> list[int]:
    """Per label, counted from 1 in order of appearance; the same person or value has the same number."""
    persons = iter(link([text[span.start : span.end] for span in ordered if span.label == "NAME"]))
    seen: defaultdict[str, dict[str, int]] = defaultdict(dict)
    numbers = []
    for span in ordered:
        if span.label == "NAME":
            numbers.append(next(persons) + 1)
        else:
            known = seen[span.label]
            numbers.append(known.setdefault(value_key(text[span.start : span.end]), len(known) + 1))
    return numbers


def value_key(original: str) -> str:
    """What makes two writings one value: letters and digits, whatever the case and the separators."""
    return "".join(character for character in original.casefold() if character.isalnum()) or original


def _surrogates(
    text: str, ordered: Sequence[Span], numbers: Sequence[int], labels: Sequence[str], seed: bytes
) -> list[str]:
    originals = [text[span.start : span.end] for span in ordered]
    names = [original for span, original in zip(ordered, originals, strict=True) if span.label == "NAME"]
    dates = [original for span, original in zip(ordered, originals, strict=True) if span.label == "DATE"]
    chosen = Surrogates(seed, names=names, dates=dates)
    for span, original, number in zip(ordered, originals, numbers, strict=True):
        if span.label == "NAME":
            chosen.learn(original, number)
    return [
        chosen.of(span.label, original, number) or label
        for span, original, number, label in zip(ordered, originals, numbers, labels, strict=True)
    ]


def _assembled(text: str, ordered: Sequence[Span], replacements: Sequence[str]) -> Redaction:
    pieces: list[str] = []
    done: list[Replacement] = []
    place = length = 0
    for span, replacement in zip(ordered, replacements, strict=True):
        pieces += [text[place : span.start], replacement]
        new_start = length + span.start - place
        length = new_start + len(replacement)
        done.append(Replacement(span.start, span.end, span.label, replacement, new_start, length))
        place = span.end
    pieces.append(text[place:])
    return Redaction("".join(pieces), tuple(done))
