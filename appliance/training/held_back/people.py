"""One person of a note and the many ways in which notes write a name. Pure, given a source of chance."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from appliance.training.held_back.names import LISTED, ORIGINS, SURNAME_FIRST, NamePool, without_accents

_FORMS: dict[str, Callable[[Person], str]] = {
    "full": lambda who: f"{who.given} {who.family}",
    "first": lambda who: who.given,
    "last": lambda who: who.family,
    "fm": lambda who: f"{who.given} {who.middle}. {who.family}",
    "fmm": lambda who: f"{who.given} {who.second} {who.family}",
    "lf": lambda who: f"{who.family}, {who.given}",
    "lfm": lambda who: f"{who.family}, {who.given} {who.middle}",
    "LF": lambda who: f"{who.family}, {who.given}".upper(),
    "LFM": lambda who: f"{who.family}, {who.given} {who.middle}".upper(),
    "FULL": lambda who: f"{who.given} {who.family}".upper(),
    "LAST": lambda who: who.family.upper(),
    "il": lambda who: f"{who.given[0]}. {who.family}",
    "hl7": lambda who: f"{who.family}^{who.given}^{who.middle}".upper(),
    "ini": lambda who: f"{who.given[0]}{who.middle}{who.family[0]}".upper(),
    "dots": lambda who: f"{who.given[0]}.{who.family[0]}.".upper(),
    "ninit": lambda who: f"{who.given[0]}{who.family[0]}".upper(),
}
_PRONOUNS = {"F": ("she", "her", "her", "Mrs.", "woman", "female"), "M": ("he", "his", "him", "Mr.", "man", "male")}
FORMS = frozenset(_FORMS)


@dataclass(frozen=True, slots=True)
class Person:
    """Names and what the prose needs to speak of its bearer."""

    given: str
    family: str
    second: str
    middle: str
    sex: str
    age: int
    origin: str

    def written(self, form: str) -> str:
        """The name in one of `FORMS`."""
        return _FORMS[form](self)

    def plain(self, form: str) -> str:
        """Words about the person that identify nobody: pronouns, title, sex, age."""
        she, her, him, title, woman, female = _PRONOUNS[self.sex]
        words = {
            "she": she, "She": she.capitalize(), "her": her, "Her": her.capitalize(), "him": him, "title": title,
            "woman": woman, "female": female, "sex": self.sex, "age": str(min(self.age, 89)), "ms": title.rstrip("."),
        }  # fmt: skip
        return words[form]


def meet(pools: dict[str, NamePool], chance: random.Random, *, origin: str | None = None) -> Person:
    """A new person of the given or of any origin; accents are lost in half of the records, as in life."""
    chosen = origin or chance.choice((*ORIGINS, LISTED, LISTED, "English", "English", "Hispanic"))
    pool = pools[chosen]
    given, second, family = chance.choice(pool.given), chance.choice(pool.given), chance.choice(pool.family)
    style = chance.random()
    if chosen == "Hispanic" and style < 0.3:
        family = f"{family} {chance.choice(pool.family)}"
    elif chosen in ("English", LISTED) and style < 0.06:
        family = f"{family}-{chance.choice(pool.family)}"
    elif chosen in ("English", LISTED) and style < 0.09:
        family = f"{_particle(chance)}{family}"
    elif chosen in SURNAME_FIRST and style < 0.15:
        given = f"{given} {second}"
    if chance.random() < 0.5:
        given, second, family = (without_accents(name) for name in (given, second, family))
    return Person(given, family, second, second[0].upper(), chance.choice("FM"), chance.randint(19, 88), chosen)


def relative_of(person: Person, pools: dict[str, NamePool], chance: random.Random) -> Person:
    """Another person of the same origin, who often bears the same family name."""
    other = meet(pools, chance, origin=person.origin)
    family = person.family if chance.random() < 0.6 else other.family
    return Person(other.given, family, other.second, other.middle, other.sex, other.age, other.origin)


def _particle(chance: random.Random) -> str:
    particles: Sequence[str] = ("O'", "Mc", "van ", "St. ", "D'", "de ", "Van der ")
    return chance.choice(particles)
