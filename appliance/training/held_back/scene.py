"""What one note speaks of: its people, places, days and numbers, drawn once and the same throughout the note.

    scene = Scene(Cast.of(pools), chance)
    scene.value("pt.last")      # pieces of text with their labels, the same on every call

A slot is `name`, `name2` (another one of its kind) or `name.form`. Owns nothing beyond one note.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

from appliance.errors import UnknownOption
from appliance.training.held_back.labelled import OPTIONAL, Piece
from appliance.training.held_back.names import Pools, without_accents
from appliance.training.held_back.numbers import DATE_STYLES, Draw, date_format, read_numbers, shaped, write_date
from appliance.training.held_back.people import FORMS, Person, meet, relative_of
from appliance.training.held_back.places import (
    ORGANIZATIONS,
    STATE_NAMES,
    STATES,
    Places,
    read_organizations,
)

_PEOPLE = ("pt", "dr", "rn", "rel", "staff", "kid")
_SLOT = re.compile(r"(?P<kind>[a-z]+)(?P<number>\d?)(?:\.(?P<form>[A-Za-z0-9]+))?")
_DAY = re.compile(r"day(?P<offset>[+-]\d+)(?:\.(?P<form>[a-z0-9]+))?")
_RANGE = re.compile(r"n:(?P<low>\d+)-(?P<high>\d+)(?:/(?P<scale>\d+))?")
_BIRTH_STYLES = {"dob": "us", "ukdob": "uk", "hldob": "hl7"}
_SMALL_WORDS = ("of", "at", "the", "and")
_FIRST_DAY, _DAYS = date(2016, 1, 4), 3500


@dataclass(frozen=True, slots=True)
class Cast:
    """All that may appear, read once for all notes."""

    pools: Pools
    places: Places
    numbers: dict[str, tuple[str, Draw]]

    @classmethod
    def of(cls, pools: Pools, organizations: Path = ORGANIZATIONS) -> Cast:
        """With the shapes that lie beside this module, and the patterns of organisations of a collection."""
        return cls(pools, Places(pools, read_organizations(organizations)), read_numbers())


class Scene:
    """The facts of one note. Values are drawn when first asked for and kept."""

    def __init__(self, cast: Cast, chance: random.Random, *, origin: str | None = None) -> None:
        self._cast = cast
        self._chance = chance
        self._people: dict[str, Person] = {}
        self._kept: dict[str, Piece] = {}
        self._day = _FIRST_DAY + timedelta(days=chance.randrange(_DAYS))
        self._forms = {style: date_format(chance, style) for style in sorted(DATE_STYLES)}
        if origin is not None:
            self._people["pt"] = meet(cast.pools.people, chance, origin=origin)

    def value(self, slot: str) -> Piece:
        """The piece that stands for `slot`. Raises `UnknownOption` for a slot nobody defined."""
        bounds = _RANGE.fullmatch(slot)
        if bounds is not None:  # plain numbers and times of day are drawn anew each time
            return Piece(self._number(bounds))
        day = _DAY.fullmatch(slot)
        if day is not None:
            return self._dated(self._day + timedelta(days=int(day["offset"])), day["form"] or "us")
        if slot not in self._kept:
            self._kept[slot] = self._drawn(slot)
        return self._kept[slot]

    def person(self, key: str) -> Person:
        """Patient, doctors, nurse, relative: met once."""
        if key not in self._people:
            people = self._cast.pools.people
            related = key.startswith(("rel", "kid"))
            met = relative_of(self.person("pt"), people, self._chance) if related else meet(people, self._chance)
            self._people[key] = met
        return self._people[key]

    def _number(self, bounds: re.Match[str]) -> str:
        number, scale = self._chance.randint(int(bounds["low"]), int(bounds["high"])), int(bounds["scale"] or 1)
        return str(number) if scale == 1 else f"{number / scale:.{len(str(scale)) - 1}f}"

    def _dated(self, day: date, style: str) -> Piece:
        if style == "year":
            return Piece(str(day.year))
        if style == "weekday":
            return Piece(day.strftime("%A"))
        form = date_format(self._chance, style) if style == "any" else self._forms[style]
        return Piece(write_date(day, form), "DATE")

    def _drawn(self, slot: str) -> Piece:
        match = _SLOT.fullmatch(slot)
        if match is not None:
            kind, number, form = match["kind"], match["number"], match["form"]
            if kind in _PEOPLE:
                return self._named(self.person(kind + number), form or "full")
            if kind in self._cast.places.kinds:
                return self._organization(kind, number, form)
            if kind in self._cast.numbers:
                label, draw = self._cast.numbers[kind]
                return Piece(draw(self._chance), label)
            if kind in _ONLINE:
                return _online(kind, self.person(form or "pt"), self._cast.pools, self._chance)
            if kind in _SURROUNDINGS:
                label, describe = _SURROUNDINGS[kind]
                return Piece(describe(self._cast.places, self._chance), label)
        raise UnknownOption(f"no value is known for the slot {slot!r}; scene.py and shapes.txt list those that are")

    def _named(self, who: Person, form: str) -> Piece:
        if form == "old":
            return Piece(str(self._chance.randint(90, 103)), "AGE")
        if form in _BIRTH_STYLES:
            born = date(self._day.year - who.age, self._chance.randint(1, 12), self._chance.randint(1, 28))
            return Piece(write_date(born, self._forms[_BIRTH_STYLES[form]]), "DATE")
        return Piece(who.written(form), "NAME") if form in FORMS else Piece(who.plain(form))

    def _organization(self, kind: str, number: str, form: str | None) -> Piece:
        if form == "abbr":
            words = re.findall(r"[A-Za-z']+", self.value(kind + number).text)
            return Piece("".join(word[0] for word in words if word not in _SMALL_WORDS).upper(), "ORGANIZATION")
        return Piece(self._cast.places.organization(kind, self._chance), "ORGANIZATION")


def _time(_: Places, chance: random.Random) -> str:
    hour, minute = chance.randrange(24), chance.randrange(60)
    written = (f"{hour:02}:{minute:02}", f"{hour:02}{minute:02}", f"{hour % 12 + 1}:{minute:02} AM")
    return chance.choice(written)


# Slots that need nobody: their label and how they are drawn. Optional, because careful readers differ: times, rooms,
# numbers of machines, jobs and lots, the letter before an extension, and the state, which stands behind a city.
_SURROUNDINGS: dict[str, tuple[str, Callable[[Places, random.Random], str]]] = {
    "time": (OPTIONAL, _time),
    "bed": (OPTIONAL, lambda _, chance: shaped(chance, "bed 899")),
    "rm": (OPTIONAL, lambda _, chance: shaped(chance, "Rm 899")),
    "x": (OPTIONAL, lambda *_: "x"),
    "p": (OPTIONAL, lambda *_: "p"),
    "room": (OPTIONAL, lambda _, chance: shaped(chance, "899")),
    "num": (OPTIONAL, lambda _, chance: shaped(chance, chance.choice(("999999", "8?99999", "89999")))),
    "extword": (OPTIONAL, lambda _, chance: chance.choice((" ext ", " ext. ", " x", ", extension "))),
    "st": (OPTIONAL, lambda _, chance: chance.choice(STATES)),
    "state": (OPTIONAL, lambda _, chance: chance.choice(STATE_NAMES)),
    "city": ("LOCATION", Places.city),
    "county": ("LOCATION", lambda places, chance: f"{places.city(chance)} County"),
    "zip": ("LOCATION", Places.zip_code),
    "street": ("LOCATION", Places.street),
    "ukstreet": ("LOCATION", Places.uk_street),
    "postcode": ("LOCATION", Places.uk_postcode),
}
_ONLINE = {
    "email": ("EMAIL", "{g}.{f}@{h}.net {i}{f}{n}@example.com {f}_{i}@{h}health.org {g}{n}@mail.example.org"),
    "url": ("URL", "https://portal.{h}.org/msg/{n}{n} www.{h}clinic.com https://www.{h}-health.org/patients?id={n}"),
    "user": ("OTHER_ID", "{i}{f}{n} {g}.{f}"),
}


def _online(kind: str, who: Person, pools: Pools, chance: random.Random) -> Piece:
    """An address or login that spells its owner's name."""
    given, family, host = (
        re.sub(r"[^a-z]", "", without_accents(name).lower())
        for name in (who.given, who.family, chance.choice(pools.surnames))
    )
    label, patterns = _ONLINE[kind]
    pattern = chance.choice(patterns.split())
    return Piece(pattern.format(g=given, f=family, i=given[0], h=host, n=chance.randint(2, 999)), label)
