"""Which mentions of a name are one person: "Margaret O'Neill", "Mrs. O'Neill" and "O'NEILL, MARGARET" are. Pure.

Whole names are linked by family name and a compatible given name (equal, an initial, or missing). A single word
goes to the person last mentioned before it who bears it, as a reader would take it.

>>> link(("Margaret O'Neill", "John Roe", "O'NEILL, MARGARET", "M. O'Neill", "Roe"))
(0, 1, 0, 0, 1)
"""

from __future__ import annotations

import unicodedata
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from appliance.specialists.deid.lexicon import CREDENTIALS, TITLES
from appliance.specialists.deid.words import words

PERSONS_PER_WORD_MAX = 32  # bound on the candidates looked at for one mention
_SUFFIXES = frozenset({"jr", "sr", "ii", "iii", "iv"})
_PARTICLES = frozenset("van von der den de la le du da di del al el bin ibn abu ben ter".split())


@dataclass(frozen=True, slots=True)
class NameWord:
    """One word of a mention: where it stands, and its form for comparing; `borne` is False for titles and the like."""

    start: int
    end: int
    normal: str
    borne: bool


@dataclass(frozen=True, slots=True)
class Mention:
    """A name as written, taken apart. `family` is None where a single word leaves it open."""

    words: tuple[NameWord, ...]
    given: tuple[str, ...]
    family: str | None

    @property
    def single(self) -> str | None:
        """The only word, where there is only one."""
        return self.given[0] if self.family is None and len(self.given) == 1 else None


def normal_form(word: str) -> str:
    """Without case, accents and apostrophes: "O'Neill", "ONEILL" and "O’Néill" compare equal."""
    plain = "".join(part for part in unicodedata.normalize("NFKD", word) if not unicodedata.combining(part))
    return "".join(character for character in plain.casefold() if character.isalnum()) or word.casefold()


def parse(name: str) -> Mention:
    """Take a name apart: titles and degrees aside, "LAST, FIRST" turned round."""
    parts: list[NameWord] = []
    for start, end in _name_words(name):
        normal = normal_form(name[start:end])
        lesser = normal in TITLES or normal in _SUFFIXES or normal in _PARTICLES
        degree = normal in CREDENTIALS and "," in name[:start] and name[start:end].isupper() and bool(parts)
        parts.append(NameWord(start, end, normal, not (lesser or degree)))
    if parts and not any(part.borne for part in parts):
        parts = [NameWord(part.start, part.end, part.normal, True) for part in parts]
    borne = [part for part in parts if part.borne]
    comma = name.find(",")
    before = [part.normal for part in borne if comma >= 0 and part.end <= comma]
    after = [part.normal for part in borne if comma < 0 or part.start > comma]
    if before and after:
        return Mention(tuple(parts), tuple(after), before[-1])
    everything = [*before, *after]
    if len(everything) < 2:
        return Mention(tuple(parts), tuple(everything), None)
    return Mention(tuple(parts), tuple(everything[:-1]), everything[-1])


def link(names: Sequence[str]) -> tuple[int, ...]:
    """A person's number for each mention, counted from 0 in order of first appearance."""
    mentions = [parse(name) for name in names]
    persons: list[_Person] = []
    by_word: defaultdict[str, list[int]] = defaultdict(list)
    owner: list[int] = [-1] * len(mentions)
    whole_first = sorted(range(len(mentions)), key=lambda number: (_waits(mentions[number]), number))
    for number in whole_first:
        mention = mentions[number]
        chosen = _owner_of(mention, number, persons, by_word)
        if chosen is None:
            chosen = len(persons)
            persons.append(_Person([], set(), set(), set()))
        persons[chosen].add(mention, number, by_word, chosen)
        owner[number] = chosen
    order: dict[int, int] = {}
    return tuple(order.setdefault(person, len(order)) for person in owner)


@dataclass(slots=True)
class _Person:
    places: list[int]  # numbers of the mentions, sorted
    first: set[str]  # first given names: a middle initial says nothing about who it is
    given: set[str]
    family: set[str]

    def add(self, mention: Mention, number: int, by_word: defaultdict[str, list[int]], own: int) -> None:
        self.places.insert(bisect_left(self.places, number), number)
        fresh = {*mention.given, *([mention.family] if mention.family else [])} - self.given - self.family
        self.given.update(mention.given)
        if mention.family and mention.given:
            self.first.add(mention.given[0])
        if mention.family:
            self.family.add(mention.family)
        for word in fresh:
            by_word[word].append(own)

    def before(self, number: int) -> int:
        """The person's last mention before `number`, or -1."""
        place = bisect_left(self.places, number)
        return self.places[place - 1] if place else -1


def _waits(mention: Mention) -> bool:
    """A single word or mere initials: told apart only once the whole names are known."""
    return mention.single is not None or all(len(word.normal) == 1 for word in mention.words)


def _owner_of(
    mention: Mention, number: int, persons: Sequence[_Person], by_word: defaultdict[str, list[int]]
) -> int | None:
    single = mention.single
    if single is not None:
        candidates = by_word[single][-PERSONS_PER_WORD_MAX:]
        return max(candidates, key=lambda person: (persons[person].before(number), -person), default=None)
    if mention.family is None:
        return None
    bearing = {*mention.given, mention.family}
    for person in by_word[mention.family][-PERSONS_PER_WORD_MAX:]:
        known = persons[person]
        turned = bearing <= known.given | known.family
        if turned or (mention.family in known.family and _compatible(mention.given[0], known.first)):
            return person
    if all(len(word) == 1 for word in bearing):  # "M.O."
        for person in range(len(persons) - 1, max(-1, len(persons) - 1 - PERSONS_PER_WORD_MAX), -1):
            known = persons[person]
            if _begins_one(mention.given[0], known.first) and _begins_one(mention.family, known.family):
                return person
    return None


def _begins_one(initial: str, names: set[str]) -> bool:
    return any(name.startswith(initial) for name in names)


def _compatible(first: str, known: set[str]) -> bool:
    """The first given name is known, or one of the two is only an initial of the other."""
    return not known or any(
        first == other or (min(len(first), len(other)) == 1 and first[0] == other[0]) for other in known
    )


def _name_words(name: str) -> list[tuple[int, int]]:
    """Words, those around an apostrophe joined ("O'Neill"), a possessive's s left out."""
    found = words(name)
    joined: list[tuple[int, int]] = []
    for start, end in zip(found.starts, found.ends, strict=True):
        if joined and name[joined[-1][1] : start] in ("'", "’"):
            if name[start:end] in ("s", "S"):
                continue
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return joined
