"""Hospitals, employers, streets and towns.

Owns: putting their names together from places, family names and words such as "Riverside". Whether a piece of them is a
LOCATION or an ORGANIZATION is decided by the slot (`slots`).
"""

from __future__ import annotations

import random

from appliance.training.notes import identifiers, people, word_lists
from appliance.training.notes.sources import Sources


def organisation(rng: random.Random, sources: Sources, form: str) -> str:
    """A facility or employer; `form` names the list of forms in places.txt. As often one put together freely."""
    words = word_lists.place_words()
    if rng.random() < 0.5:
        return _composed(rng, sources, words["care kind" if form == "hospital form" else "work kind"])
    name = rng.choice(words[form])
    while "{n}" in name:
        name = name.replace("{n}", people.draw_person(rng, sources).family, 1)
    for mark, part in (
        ("{p}", rng.choice(sources.places)),
        ("{s}", rng.choice(words["site word"])),
        ("{f}", people.draw_person(rng, sources).given),
    ):
        name = name.replace(mark, part)
    return name


def unit(rng: random.Random, sources: Sources) -> str:
    """A ward or unit that identifies where somebody lay; a third of them bear somebody's name."""
    if rng.random() < 0.33:
        return f"{people.draw_person(rng, sources).family} {rng.choice(word_lists.place_words()['named unit'])}"
    if rng.random() < 0.4:
        return rng.choice(word_lists.place_words()["unit"])
    side = rng.choice(("North", "South", "East", "West", "Center", "Main", "Annex"))
    shape = rng.choice(
        ("#@", "# ~", "~ #", "##@", "Unit #@", "Unit ##", "Ward #@", "Ward ##", "@-#", "Bldg ##", "Pod @")
    )
    return identifiers.shaped(rng, shape).replace("~", side)


def _composed(rng: random.Random, sources: Sources, kinds: tuple[str, ...]) -> str:
    """Whose or where, and what: "Okafor & Lind Imaging", "The Gardens at Cedar Grove", "Quincy Eye Center"."""
    families = [people.draw_person(rng, sources).family for _ in range(3)]
    site = rng.choice((rng.choice(word_lists.place_words()["site word"]), rng.choice(sources.places)))
    kind = rng.choice(kinds)
    return rng.choice(
        (
            f"{site} {kind}",
            f"{site} {kind}",
            f"{site} {kind}",
            f"{families[0]} {kind}",
            f"{families[0]} {kind}",
            f"{families[0]} & {families[1]} {kind}",
            f"{families[0]} and {families[1]} {kind}",
            f"{families[0]}-{families[1]} {kind}",
            f"{families[0]}, {families[1]} & {families[2]}",
            f"St. {people.draw_person(rng, sources).given}'s {kind}",
            f"{kind} of {site}",
            f"The {rng.choice(word_lists.place_words()['home word'])} at {site}",
            f"{site} {rng.choice(word_lists.place_words()['home word'])}",
            f"Greater {site} {kind}",
            f"{site} {families[0]} {kind}",
        )
    )


def address(rng: random.Random, sources: Sources, near: str, *, lines: bool) -> str:
    """A street, box or rural route, mostly with its town; on two lines where it stands in a block."""
    words = word_lists.place_words()
    if rng.random() < 0.1:
        return _abroad(rng, sources)
    base = (
        rng.choice(words["street"])
        if rng.random() < 0.6
        else rng.choice(sources.origins[rng.choice(sorted(sources.origins))].family)
    )
    roll = rng.random()
    if roll < 0.1:
        street = f"{rng.choice(('PO Box', 'P.O. Box', 'Box'))} {rng.randrange(1, 9999)}"
    elif roll < 0.15:
        route = f"{rng.choice(('RR', 'Rural Route', 'HC'))} {rng.randrange(1, 9)}"
        street = f"{route}{rng.choice((' ', ', '))}Box {rng.randrange(1, 400)}"
    elif roll < 0.22:
        street = f"{rng.choice(('County Road', 'Highway', 'State Route', 'FM', 'US Hwy'))} {rng.randrange(1, 999)}"
        street = f"{rng.randrange(10, 9999)} {street}"
    else:
        side = rng.choice(("", "", "", "N ", "S. ", "West ", "E "))
        street = f"{rng.randrange(1, 9999)} {side}{base} {rng.choice(words['suffix'])}{rng.choice(('', '', '', '.'))}"
        if rng.random() < 0.25:
            street += rng.choice((", Apt ", " Apt. ", " #", ", Unit ", ", Suite ", " Ste ")) + identifiers.one_of(
                rng, "#", "##", "#@", "###"
            )
    joint = rng.choice(("\n", "\n", ", ")) if lines else ", "
    return f"{street}{joint}{town(rng, sources, near)}" if rng.random() < 0.8 else street


def _abroad(rng: random.Random, sources: Sources) -> str:
    """An address as other countries write it."""
    city, base = rng.choice(sources.places), rng.choice(word_lists.place_words()["street"])
    family = rng.choice(sources.origins[rng.choice(sorted(sources.origins))].family)
    number = rng.randrange(1, 240)
    form = rng.choice(
        (
            f"{number} {base} Road, {city} @@# #@@",
            f"Flat {rng.randrange(1, 40)}, {number} {base} Close, {city}, @@## #@@",
            f"{number} {base} Ave, {city}, {rng.choice(('ON', 'QC', 'BC', 'AB', 'MB'))} @#@ #@#",
            f"{number}, rue {family}, ##### {city}",
            f"{family}str. {number}, ##### {city}",
            f"{family}straat {number}, #### @@ {city}",
            f"Calle {family} {number}, ##### {city}",
            f"Via {family} {number}, ##### {city}",
            f"Plot {number}, {family} Street, {city}",
            f"{number}/{rng.randrange(1, 30)} {family} Nagar, {city} ######",
        )
    )
    return identifiers.shaped(rng, form)


def town(rng: random.Random, sources: Sources, near: str) -> str:
    """City, state and ZIP, mostly of the town that the note is about."""
    city = near if rng.random() < 0.6 else rng.choice(sources.places)
    code = f"{rng.randrange(501, 99951):05}" + (f"-{rng.randrange(10000):04}" if rng.random() < 0.2 else "")
    state = rng.choice(word_lists.place_words()["us state"])
    return rng.choice(
        (
            f"{city}, {state} {code}",
            f"{city}, {state} {code}",
            f"{city} {state} {code}",
            f"{city}, {state}",
            f"{city} {code}",
        )
    )
