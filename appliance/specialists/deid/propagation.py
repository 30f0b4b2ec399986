"""A name or number found once is redacted wherever it recurs in the note. Pure.

Only spans the model or a rule was sure of are carried on, because a false name would otherwise spread. The whole
form recurs in any place; a part of a name ("Okafor" of "Ngozi Okafor") recurs only as a capitalised word, long
enough, no common word, and not the eponym of a disease or a device.

>>> text = "Ngozi Okafor was seen. OKAFOR denies pain. Okafor disease is unrelated."
>>> [text[span.start : span.end] for span in propagate(text, [Span(0, 12, "NAME", 0.99)])]
['Ngozi Okafor', 'OKAFOR']
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from appliance.specialists.deid.lexicon import (
    COMMON_WORDS,
    CREDENTIALS,
    EPONYM_NEIGHBOURS,
    MONTHS,
    TITLES,
    WEEKDAY_FORMS,
)
from appliance.specialists.deid.words import Words, words
from appliance.types import Span

NAME_SCORE_MIN = 0.9
PART_SCORE_MIN = 0.95  # a part alone says less than the whole name
OTHER_SCORE_MIN = 0.9
PART_LETTERS_MIN = 3
CASELESS_LETTERS_MIN = 5  # in a note typed without capitals a short part is too likely a word
OTHER_CHARACTERS_MIN = 5
# A bound on the forms one first word may begin: without it a crafted note could cost its square.
FORMS_PER_WORD_MAX = 16
FORM_WORDS_MAX = 12
CARRIED = frozenset(
    {"NAME", "ORGANIZATION", "MRN", "ACCOUNT", "HEALTH_PLAN", "LICENSE", "SSN", "OTHER_ID", "DEVICE", "VEHICLE",
     "PHONE", "FAX", "EMAIL", "BIOMETRIC"}
)  # fmt: skip
_PARTICLES = frozenset("van von der den de la le du da di del al el bin ibn abu ben st ste mac mc o d l".split())


@dataclass(frozen=True, slots=True)
class _Form:
    """Consecutive words to look for, casefolded.

    `part`: one word of a name, as it was spelled (`surface`). `titled`: a common word ("Young"), a name only behind
    a title. `capitalised`: an organisation, which a lower-case phrase does not name.
    """

    words: tuple[str, ...]
    label: str
    score: float
    surface: str
    part: bool = False
    titled: bool = False
    capitalised: bool = False


def propagate(
    text: str,
    spans: Sequence[Span],
    found: Words | None = None,
    *,
    name_score_min: float = NAME_SCORE_MIN,
    part_score_min: float = PART_SCORE_MIN,
    other_score_min: float = OTHER_SCORE_MIN,
) -> tuple[Span, ...]:
    """`spans` (sorted, disjoint) and every recurrence of them that touches none of them, sorted and disjoint.

    `found` are the words of `text`, where the caller has them already.
    """
    found = found or words(text)
    folded = tuple(word.casefold() for word in found.texts)
    places: defaultdict[str, list[int]] = defaultdict(list)
    for number, word in enumerate(folded):
        places[word].append(number)
    forms: dict[tuple[str, ...], _Form] = {}
    for span in spans:
        least = name_score_min if span.label == "NAME" else other_score_min
        if span.label in CARRIED and span.score >= least:
            for form in _forms(found, folded, span, part_score_min):
                forms.setdefault(form.words, form)
    taken = list(spans)
    caseless = text == text.lower()
    for form in _bounded(forms):
        for number in places[form.words[0]]:
            again = _recurrence(found, folded, number, form, caseless)
            if again is not None:
                _insert_if_free(taken, again)
    return tuple(taken)


def _forms(found: Words, folded: Sequence[str], span: Span, part_score_min: float) -> Iterator[_Form]:
    first, last = bisect_right(found.ends, span.start), bisect_right(found.starts, span.end - 1)
    numbers = range(first, last)
    if not 0 < len(numbers) <= FORM_WORDS_MAX:
        return
    whole = tuple(folded[number] for number in numbers)
    surface = found.text[span.start : span.end]
    if span.label != "NAME":
        characters = sum(map(len, whole))
        digits = any(character.isdigit() for word in whole for character in word)
        if characters >= OTHER_CHARACTERS_MIN and (digits or not _is_ordinary(whole)):
            yield _Form(whole, span.label, span.score, surface, capitalised=span.label == "ORGANIZATION")
        return
    if len(whole) > 1:
        yield _Form(whole, "NAME", span.score, surface)
    if span.score < part_score_min:
        return
    for number in numbers:
        word = found.text[found.starts[number] : found.ends[number]]
        if _may_stand_alone(folded[number]):
            titled = folded[number] in COMMON_WORDS or folded[number] in MONTHS
            yield _Form((folded[number],), "NAME", span.score, word, part=True, titled=titled)


def _may_stand_alone(word: str) -> bool:
    if word in TITLES or word in CREDENTIALS or word in _PARTICLES or word in WEEKDAY_FORMS or not word.isalpha():
        return False
    # Scripts without case and with short words (Chinese, Korean) have two characters to a name.
    return len(word) >= (PART_LETTERS_MIN if word != word.upper() else 2)


def _is_ordinary(form: Sequence[str]) -> bool:
    return all(word in COMMON_WORDS or word in TITLES or len(word) < 3 for word in form)


def _bounded(forms: dict[tuple[str, ...], _Form]) -> Iterator[_Form]:
    """Longest first, so that a full name is taken before its parts; few for each first word."""
    used: defaultdict[str, int] = defaultdict(int)
    for form in sorted(forms.values(), key=lambda form: -len(form.words)):
        used[form.words[0]] += 1
        if used[form.words[0]] <= FORMS_PER_WORD_MAX:
            yield form


def _recurrence(found: Words, folded: Sequence[str], number: int, form: _Form, caseless: bool) -> Span | None:
    end = number + len(form.words)
    if tuple(folded[number:end]) != form.words:
        return None
    for place in range(number, end - 1):
        gap = found.text[found.ends[place] : found.starts[place + 1]]
        if len(gap) > 4 or "\n\n" in gap or any(character in ";:!?|" for character in gap):
            return None
    start, stop = found.starts[number], found.ends[end - 1]
    surface = found.text[start:stop]
    if form.part and not _stands_for_a_person(found, folded, number, form, caseless):
        return None
    if form.capitalised and surface == surface.lower() and not caseless:
        return None
    return Span(start, stop, form.label, form.score)


def _stands_for_a_person(found: Words, folded: Sequence[str], number: int, form: _Form, caseless: bool) -> bool:
    """Capitalised (or in a text without capitals, long), and what follows is no disease, sign or device."""
    word = found.text[found.starts[number] : found.ends[number]]
    if word != form.surface and len(word) <= PART_LETTERS_MIN:
        return False  # Ana is a person, ANA a laboratory test
    if word[0] != word[0].upper() and not (caseless and len(word) >= CASELESS_LETTERS_MIN):
        return False
    if form.titled and not (number and folded[number - 1] in TITLES):
        return False
    following = number + 1
    if following < len(folded) and folded[following] == "s" and found.starts[following] - found.ends[number] == 1:
        following += 1  # "Okafor's disease"
    if following < len(folded):
        gap = found.text[found.ends[following - 1] : found.starts[following]]
        return not (gap in (" ", "-", "\n") and folded[following] in EPONYM_NEIGHBOURS)
    return True


def _insert_if_free(taken: list[Span], span: Span) -> None:
    place = bisect_right(taken, span.start, key=lambda other: other.start)
    if place and taken[place - 1].end > span.start:
        return
    if place < len(taken) and taken[place].start < span.end:
        return
    taken.insert(place, span)
