"""The same labelled text with other people's names in it, origin by origin, so that a gap is a gap of names. Pure.

    swapped = swap_names(item, "Korean", seed=0, number=17)     # spans moved along; other characters as they were

A word of a name becomes the same word wherever it stands in the text. Its case is kept; the first word of a name
becomes a given name, the last a family name, an initial the initial of a given name; particles and suffixes stay. The
names are in `names_by_origin.txt`; none of them is among the words that bundled taggers were trained on.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from appliance.specialists.evaluation.gold import GoldItem
from appliance.types import Material, Span

NAME = "NAME"
_LISTS = Path(__file__).with_name("names_by_origin.txt")
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
_KEPT = frozenset("jr sr ii iii iv van von der den de la le el al bin ibn da dos du mac st".split())


@dataclass(frozen=True, slots=True)
class Names:
    """Given and family names of one origin."""

    given: tuple[str, ...]
    family: tuple[str, ...]


@cache
def names_by_origin() -> Mapping[str, Names]:
    """The lists beside this module."""
    return read_names(_LISTS.read_text(encoding="utf-8"))


def read_names(content: str) -> dict[str, Names]:
    """Names from `[origin given]` and `[origin family]` headings with names of one word below."""
    found: dict[str, dict[str, tuple[str, ...]]] = {}
    heading = ("", "")
    for line in content.splitlines():
        if line.startswith("["):
            origin, _, part = line.strip("[]").rpartition(" ")
            heading = (origin, part)
        elif line.strip() and not line.startswith("#"):
            parts = found.setdefault(heading[0], {})
            parts[heading[1]] = (*parts.get(heading[1], ()), *line.split())
    return {origin: Names(parts["given"], parts["family"]) for origin, parts in found.items()}


def has_names(item: GoldItem) -> bool:
    """Whether there is anything to swap."""
    return any(span.label == NAME for span in item.spans)


def swap_names(item: GoldItem, origin: str, *, seed: int, number: int) -> GoldItem:
    """`item` with every name replaced. The same seed, number and origin give the same names."""
    chance = random.Random(f"{seed} {number} {origin}")  # noqa: S311 - test text, not a secret
    names = names_by_origin()[origin]
    text = item.material.text or ""
    chosen = _choices([text[span.start : span.end] for span in item.spans if span.label == NAME], names, chance)
    pieces: list[str] = []
    spans: list[Span] = []
    place = shift = 0
    for span in item.spans:
        pieces.append(text[place : span.start])
        within = text[span.start : span.end]
        new = _WORD.sub(lambda found: _cased(found[0], chosen), within) if span.label == NAME else within
        start = span.start + shift
        spans.append(replace(span, start=start, end=start + len(new)))
        pieces.append(new)
        shift += len(new) - len(within)
        place = span.end
    pieces.append(text[place:])
    return replace(item, material=Material("".join(pieces), item.material.about), spans=tuple(spans))


def _choices(names_in_text: list[str], names: Names, chance: random.Random) -> dict[str, str]:
    """What each word of a name becomes, by the word in lower case. Longer names say what a word is."""
    chosen: dict[str, str] = {}
    for name in sorted(names_in_text, key=lambda name: -len(_WORD.findall(name))):
        words = [word for word in _WORD.findall(name) if word.lower() not in _KEPT]
        family_first = "," in name
        for place, word in enumerate(words):
            if word.lower() in chosen:
                continue
            last = place == (0 if family_first else len(words) - 1)
            is_family = last if len(words) > 1 else chance.random() < 0.5
            pool = names.family if is_family and len(word) > 1 else names.given
            chosen[word.lower()] = chance.choice(pool)
    return chosen


def _cased(word: str, chosen: Mapping[str, str]) -> str:
    new = chosen.get(word.lower())
    if new is None:
        return word
    if len(word) == 1:
        return new[0].upper() if word.isupper() else new[0].lower()
    if word.isupper():
        return new.upper()
    return new.lower() if word.islower() else new
