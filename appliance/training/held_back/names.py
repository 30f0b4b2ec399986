"""Names of people by origin, and places, all from the held-back side of the split. Reads lists, decides nothing else.

    pools = read_pools(data)                      # DATA/name_lists and Faker's lists beside our own `names.txt`
    pools.people["Korean"].given, pools.places

A word is used only if the word and its form without accents are both held back, so no spelling of it was trained on.
"""

from __future__ import annotations

import importlib
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from appliance.errors import NotFound
from appliance.training.partition import partition

OWN_NAMES = Path(__file__).with_name("names.txt")
# Faker's locales that spell names in Latin letters, per origin: (given names, family names).
_LOCALES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "English": (("en_US", "en_GB"), ("en_US", "en_GB")),
    "Hispanic": (("es_MX", "es_CO"), ("es_MX", "es_CO")),
    "Chinese": ((), ()),
    "Indian": (("en_IN",), ("en_IN",)),
    "Arabic": ((), ()),
    "West African": (("yo_NG", "ig_NG", "tw_GH", "ha_NG"), ("yo_NG", "ig_NG", "tw_GH", "ha_NG")),
    "Eastern European": (("pl_PL", "hr_HR", "ro_RO"), ("hr_HR", "ro_RO", "cs_CZ")),
    "Vietnamese": ((), ()),
    "Korean": ((), ()),
    "Turkish": (("tr_TR",), ("tr_TR",)),
}
ORIGINS = tuple(_LOCALES)
LISTED = "listed"  # names of DATA/name_lists, of no stated origin
SURNAME_FIRST = ("Chinese", "Korean", "Vietnamese")


@dataclass(frozen=True, slots=True)
class NamePool:
    """Given and family names of one origin."""

    given: tuple[str, ...]
    family: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Pools:
    """Everything proper that a text may name."""

    people: dict[str, NamePool]
    places: tuple[str, ...]
    surnames: tuple[str, ...]  # of all origins: for streets, hospitals and firms


def without_accents(word: str) -> str:
    """`Muñoz` to `Munoz`; letters without a decomposition stay."""
    plain = unicodedata.normalize("NFD", word)
    return "".join(letter for letter in plain if unicodedata.category(letter) != "Mn")


def held_back(words: Iterable[str]) -> tuple[str, ...]:
    """Those written in Latin letters whose every spelling and part is held back; sorted, each once."""
    return tuple(sorted({word for word in words if _usable(word)}))


def read_pools(data: Path) -> Pools:
    """The pools of one data folder: the same in every run. Raises `NotFound` for a folder without the lists."""
    lists = data / "name_lists"
    if not lists.is_dir():
        raise NotFound(f"{data} holds no folder name_lists", hint="give the folder with the training data")
    own = _sections(OWN_NAMES.read_text(encoding="utf-8"))
    people = {}
    for origin, (given_locales, family_locales) in _LOCALES.items():
        given = [*own.get(f"{origin} given", ()), *_faker(given_locales, "first_names")]
        family = [*own.get(f"{origin} family", ()), *_faker(family_locales, "last_names")]
        people[origin] = NamePool(held_back(given), held_back(family))
    # National lists contain the names of immigrants; whoever is counted as English must bear no name of the others.
    others = {name for origin, pool in people.items() if origin != "English" for name in (*pool.given, *pool.family)}
    english = people["English"]
    people["English"] = NamePool(
        tuple(name for name in english.given if name not in others),
        tuple(name for name in english.family if name not in others),
    )
    people[LISTED] = NamePool(held_back(_lines(lists / "first-names.txt")), held_back(_lines(lists / "names.txt")))
    surnames = held_back(name for pool in people.values() for name in pool.family)
    return Pools(people, held_back(_lines(lists / "places.txt")), surnames)


def _usable(word: str) -> bool:
    plain = without_accents(word)
    if len(word) < 2 or not word[0].isupper() or not all(_is_latin(letter) for letter in plain):
        return False
    parts = [part for part in plain.replace("-", " ").replace("'", " ").split() if len(part) > 2]
    return all(partition(key) == "held_back" for key in (word, plain, *parts))


def _is_latin(letter: str) -> bool:
    return letter in " '-." or "LATIN" in unicodedata.name(letter, "")


def _lines(path: Path) -> list[str]:
    return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def _sections(text: str) -> dict[str, list[str]]:
    """`[Korean given]` and the names below it, separated by white space; `_` stands for a space in a name."""
    sections: dict[str, list[str]] = {}
    words: list[str] = []
    for line in text.splitlines():
        if line.startswith("["):
            words = sections.setdefault(line.strip("[] "), [])
        else:
            words.extend(word.replace("_", " ") for word in line.split())
    return sections


def _faker(locales: Iterable[str], kind: str) -> list[str]:
    found: list[str] = []
    for locale in locales:
        provider = importlib.import_module(f"faker.providers.person.{locale}").Provider
        found.extend(getattr(provider, kind))
    return found
