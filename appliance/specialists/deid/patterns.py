"""Structured identifiers by shape, context and check digit: the layer that needs no model. Pure.

`structured_spans` runs every rule and settles their overlaps; `merge` lays the result over what the model found.
The rules themselves are tables, by kind: `dates.py`, `identifiers.py`, `announced.py`, `phones.py`, `places.py`,
`hl7.py`, `signatures.py`.

>>> text = "MRN: 00-1234567, call (617) 555-0123"
>>> [(span.label, text[span.start : span.end]) for span in structured_spans(text)]
[('MRN', '00-1234567'), ('PHONE', '(617) 555-0123')]

Priority, in words:

1. Nothing that either layer found is left in the text; layers only decide which label a character carries (but 6).
2. Between two patterns: the surer one, then the longer one, then the one that begins first.
3. A `certain` pattern gives its characters its label. A model span that reaches further keeps its other parts.
4. A `likely` pattern yields to a model span that covers it, and otherwise acts as a certain one.
5. Same label, overlapping: one span over both.
6. Except where the pattern is of an exactly delimited kind (an address of the internet, a number with a check digit):
   then its bounds stand, and of a model span of that label only what carries the mark of the kind is left beside it
   (another "@", another digit) or is one word with it. The words around an e-mail address are no e-mail address.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence

from appliance.specialists.deid.announced import ANNOUNCED_RULES
from appliance.specialists.deid.checksums import is_card, is_dea, is_iban, is_nhs_number, is_npi, is_vin
from appliance.specialists.deid.dates import AGE_RULES, DATE_RULES
from appliance.specialists.deid.hl7 import segment_spans
from appliance.specialists.deid.identifiers import IDENTIFIER_RULES
from appliance.specialists.deid.phones import phone_spans
from appliance.specialists.deid.places import PLACE_RULES
from appliance.specialists.deid.rules import CERTAIN, UNNAMED, Rule
from appliance.specialists.deid.signatures import SIGNATURE_RULES
from appliance.types import Span

# What a piece beside an exact pattern must hold to be another, perhaps damaged, identifier of the kind.
_MARKS = {"EMAIL": "@", "URL": "./", "IP": "0123456789:"}
_NUMBER_MARKS = "0123456789"
_CHECKED: dict[str, tuple[Callable[[str], bool], ...]] = {
    "ACCOUNT": (is_card, is_iban),
    "VEHICLE": (is_vin,),
    "LICENSE": (is_dea, is_npi),
    "MRN": (is_nhs_number,),
}

RULES: tuple[Rule, ...] = (*IDENTIFIER_RULES, *ANNOUNCED_RULES, *DATE_RULES, *AGE_RULES, *PLACE_RULES, *SIGNATURE_RULES)


def structured_spans(text: str) -> tuple[Span, ...]:
    """Every structured identifier in `text`, sorted and disjoint; the score is the rule's certainty."""
    found = [span for rule in RULES for span in rule.spans(text)]
    found.extend(segment_spans(text))
    found.extend(phone_spans(text))
    return _without_overlaps(text, (_without_stop(text, span) for span in found))


def merge(text: str, model: Sequence[Span], patterns: Sequence[Span]) -> tuple[Span, ...]:
    """One sorted, disjoint sequence from both layers, by the priority rules at the top of this file.

    Both arguments MUST be sorted and disjoint within themselves.
    """
    model = _cut_back(text, model, patterns)
    starts = [span.start for span in model]
    kept: list[Span] = []
    cuts: list[Span] = []
    for pattern in patterns:
        covering = _covering(model, starts, pattern)
        if covering is not None and _stands(covering, pattern):
            continue  # the model already redacts these characters, under a label that stands
        cuts.append(pattern)
    place = 0
    for span in model:
        while place < len(cuts) and cuts[place].end <= span.start:
            place += 1
        kept.extend(_remainders(text, span, cuts, place))
    return _join_same_label(sorted([*kept, *cuts], key=lambda span: (span.start, span.end)))


def _stands(model: Span, pattern: Span) -> bool:
    """Whether the label of a model span that covers a pattern wins."""
    if pattern.score < CERTAIN and {model.label, pattern.label} == {"PHONE", "FAX"}:
        return True
    return model.label == pattern.label or pattern.score < UNNAMED


def _cut_back(text: str, model: Sequence[Span], patterns: Sequence[Span]) -> list[Span]:
    """The model's spans, without what surrounds an exact pattern of their own label (rule 6)."""
    exact = [span for span in patterns if _is_exact(text, span)]
    starts = [span.start for span in exact]
    cut: list[Span] = []
    for span in model:
        place = bisect_right(starts, span.start)
        place -= place > 0 and exact[place - 1].end > span.start
        inside = [other for other in exact[place : bisect_right(starts, span.end - 1)] if other.label == span.label]
        if not inside:
            cut.append(span)
            continue
        marks, start = _MARKS.get(span.label, _NUMBER_MARKS), span.start
        for other in inside:
            first, last = _whole_word(text, other, span)
            if any(mark in text[start:first] for mark in marks):
                cut.append(Span(*_trimmed(text, start, first), span.label, span.score))
            cut.append(Span(first, last, span.label, span.score))
            start = last
        if any(mark in text[start : span.end] for mark in marks):
            cut.append(Span(*_trimmed(text, start, span.end), span.label, span.score))
    return [span for span in cut if span.start < span.end]


def _is_exact(text: str, span: Span) -> bool:
    value = text[span.start : span.end]
    return span.label in _MARKS or any(test(value) for test in _CHECKED.get(span.label, ()))


def _whole_word(text: str, pattern: Span, model: Span) -> tuple[int, int]:
    """The pattern grown over letters that stick to it, within the model's span: half a word is never left."""
    start, end = max(pattern.start, model.start), min(pattern.end, model.end)
    while start > model.start and text[start - 1].isalnum():
        start -= 1
    while end < model.end and text[end].isalnum():
        end += 1
    return start, end


def _without_stop(text: str, span: Span) -> Span:
    """The full stop after "St." ends the sentence as often as the abbreviation; it identifies nobody."""
    end = span.end
    while end > span.start and text[end - 1] in " .,;:":
        end -= 1
    return Span(span.start, end, span.label, span.score)


def _without_overlaps(text: str, found: Iterable[Span]) -> tuple[Span, ...]:
    """Surest first, then longest, then leftmost; each later span keeps only what is not taken yet."""
    chosen: list[Span] = []
    for span in sorted(found, key=lambda span: (-span.score, span.start - span.end, span.start)):
        place = bisect_right(chosen, span.start, key=lambda other: other.start)
        if place and chosen[place - 1].end > span.start:
            place -= 1
        pieces = _remainders(text, span, chosen, place, cut_same_label=True)
        for piece in pieces:
            chosen.insert(bisect_right(chosen, piece.start, key=lambda other: other.start), piece)
    return _join_same_label(chosen)


def _covering(model: Sequence[Span], starts: Sequence[int], pattern: Span) -> Span | None:
    place = bisect_right(starts, pattern.start)
    if place and model[place - 1].end >= pattern.end:
        return model[place - 1]
    return None


def _remainders(text: str, span: Span, cuts: Sequence[Span], place: int, *, cut_same_label: bool = False) -> list[Span]:
    """What is left of a span beside the cuts from `place` on; pieces of mere punctuation are dropped.

    A cut of the span's own label is normally left in: the two are joined afterwards.
    """
    pieces, start = [], span.start
    while place < len(cuts) and cuts[place].start < span.end:
        cut = cuts[place]
        if cut_same_label or cut.label != span.label:
            pieces.append((start, cut.start))
            start = max(start, cut.end)
        place += 1
    pieces.append((start, span.end))
    whole = len(pieces) == 1
    return [
        Span(*((first, end) if whole else _trimmed(text, first, end)), span.label, span.score)
        for first, end in pieces
        if first < end and (whole or any(character.isalnum() for character in text[first:end]))
    ]


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    while start < end and not text[start].isalnum():
        start += 1
    while start < end and not text[end - 1].isalnum():
        end -= 1
    return start, end


def _join_same_label(spans: Sequence[Span]) -> tuple[Span, ...]:
    joined: list[Span] = []
    for span in spans:
        if joined and joined[-1].label == span.label and joined[-1].end >= span.start:
            last = joined[-1]
            joined[-1] = Span(last.start, max(last.end, span.end), last.label, max(last.score, span.score))
        else:
            joined.append(span)
    return tuple(joined)
