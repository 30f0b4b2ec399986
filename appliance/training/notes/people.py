"""People and the ways their names are written.

Owns: drawing a person of some origin and writing the name as notes do: "Okafor, John A", "J. Okafor", "mrs okafor".
A title or a credential is a piece of its own, outside the label.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from appliance.training.notes.pieces import Piece
from appliance.training.notes.sources import Origin, Sources, plain, training_side

_NICKNAMES = (
    "Bud Skip Buddy Junior Sonny Red Chip Doc Ace Tex Mimi Nana Coco Kiki Bear Tiny Slim Dot Peg Trixie "
    "Bebe Lulu Jojo Pepe Chuy Nacho Beto Memo Paco Lupita Sasha Misha Vova Tolya "
).split()
_SUFFIXES = ("Jr.", "Sr.", "II", "III", "IV", "Jr")
_CREDENTIALS = (
    "MD", "M.D.", "DO", "RN", "NP", "PA-C", "LPN", "MD, PhD", "DPM", "PharmD", "LCSW", "PT", "CRNA", "DDS", "MD, FACS",
    "CNM", "RD", "PsyD", "BSN, RN", "FNP-BC", "MBBS", "CMA", "R.N.", "DNP", "OTR/L", "PGY-2", "MS4",
)  # fmt: skip
_COMMON_SHARE = 0.24
# Names that are words: what tells them apart is where they stand.
_WORD_SHARE = 0.04
_WORDS = tuple(
    word
    for word in (
        "Long Son Do Can May Will Mark Grant Day Young Early Hope Faith Rose Park Lane Field Brook Stone Wood "
        "Banks Church Bishop Pope King Knight Noble Price Rich Short Small Little Moody Sharp Wise Savage "
        "Strange Darling Love Joy Bliss Paine Burns Blood Hand Foot Head Bone Akin Said An So Oh No In On To "
        "Ha He My Tong Man Ban Dung Hang Sun Moon Star Song Sing Ring Bell Chance Major Sargent Master Case "
        "Chart Bill Sue Pat Rob Nick Jack Frank Ernest Art Gene Dean Earl Duke Prince Baron April June August "
        "Friday Summer Winter Snow Frost Rain Storm West North East South English French German Welsh Holland "
        "Israel Paris London Austin Dallas Madison Jordan Chad Georgia Virginia Carolina Best Good Gay Swift "
        "Speed Power Strong Armstrong Broad High Low Hill Dale Glen Moor Marsh Pond Lake Rivers Wells Ford "
        "Bridge Castle Hall House Barnes Temple Abbott Priest Monk Parsons Dyer Baker Cook Butcher Fisher "
        "Hunter Archer Bowman Carter Cooper Fowler Gardner Glover Mason Miller Porter Potter Sawyer Shepherd "
        "Skinner Slater Smith Spencer Steward Tanner Taylor Turner Tyler Walker Weaver Webb Wright Fox Wolf "
        "Bear Lamb Bull Hogg Buck Hart Swan Crane Crow Finch Wren Drake Peacock Partridge Fish Pike Salmon "
        "Herring Lily Daisy Violet Ivy Hazel Heather Olive Ginger Basil Sage Rosemary Pearl Ruby Amber Jade "
        "Crystal Jewel Mercy Grace Charity Patience Prudence Constance Verity Justice Lin Ho Ma Pa Yu Lo Bo "
        "Mo Jo Vu Le La Ly Mai Minh Nam Tam Tran Hung Thu Thi Bao Dao Hoa Kim Min Sang Jung Sung Bang Ok Eun "
        "Deniz Ay Nur Su Ali Ada Ekim Bay Yaman Er Gul Bal Dal Tan Sen Das Dey Rao Roy Ray Lal Pal Sur Bose"
    ).split()
    if training_side(word)
)


@dataclass(frozen=True, slots=True)
class Person:
    """One person of a note: every mention is written from these."""

    given: str
    middle: str
    family: str
    female: bool
    nickname: str
    suffix: str

    def initials(self) -> str:
        """As in a dictation footer."""
        return "".join(part[0] for part in (self.given, self.middle, self.family) if part)


def draw_person(rng: random.Random, sources: Sources) -> Person:
    """A person of an origin drawn evenly, so that no origin is rare; a quarter from the large mixed list."""
    keys = sorted(sources.origins)
    key = "listed" if "listed" in sources.origins and rng.random() < _COMMON_SHARE else rng.choice(keys)
    origin = sources.origins[key]
    given, family = _given(rng, origin), origin.draw_family(rng)
    if rng.random() < 0.08:  # families move: a given name of one origin with a family name of another
        family = sources.origins[rng.choice(keys)].draw_family(rng)
    if rng.random() < 0.06:
        family = f"{family}-{origin.draw_family(rng)}" if rng.random() < 0.7 else f"{family} {origin.draw_family(rng)}"
    if rng.random() < 0.03:
        family = _particle(rng, family)
    if rng.random() < 0.5:
        given, family = plain(given), plain(family)
    if rng.random() < _WORD_SHARE:
        family = rng.choice(_WORDS)
    if rng.random() < _WORD_SHARE:
        given = rng.choice(_WORDS)
    middle = origin.draw_given(rng) if rng.random() < 0.35 else ""
    nickname = (
        rng.choice(_NICKNAMES) if rng.random() < 0.12 else given.split("-")[0][:4].rstrip("aeiou") + rng.choice("yi")
    )
    if not training_side(nickname):
        nickname = given
    suffix = rng.choice(_SUFFIXES) if rng.random() < 0.06 else ""
    return Person(given, middle, family, rng.random() < 0.5, nickname, suffix)


def _given(rng: random.Random, origin: Origin) -> str:
    given = origin.draw_given(rng)
    if rng.random() < 0.04 and " " not in given and "-" not in given:
        return f"{given}-{origin.draw_given(rng)}"
    return given


def _particle(rng: random.Random, family: str) -> str:
    particle = rng.choice(
        ("van der ", "de la ", "von ", "Mc", "Mac", "O'", "de ", "di ", "St. ", "al-", "El ", "da ", "Le", "D'")
    )
    joined = particle + family
    return joined if training_side(joined) else family


def full(person: Person, rng: random.Random) -> list[Piece]:
    """The whole name, in one of the ways a header or an opening sentence writes it."""
    middle = person.middle
    initial = f" {middle[0]}" if middle else ""
    roll = rng.random()
    if roll < 0.56:
        text = f"{person.given} {person.family}"
    elif roll < 0.68:
        text = f"{person.given}{initial}{'.' if initial and rng.random() < 0.7 else ''} {person.family}"
    elif roll < 0.74:
        text = f"{person.given}{' ' + middle if middle else ''} {person.family}"
    elif roll < 0.8:
        text = f"{person.given[0]}. {person.family}"
    elif roll < 0.83 and middle:
        text = f"{person.given[0]}.{rng.choice((' ', ''))}{middle[0]}. {person.family}"
    elif roll < 0.87:
        quotes = rng.choice(('""', "''", "()", "“”"))
        text = f"{person.given} {quotes[0]}{person.nickname}{quotes[1]} {person.family}"
    elif roll < 0.89:
        text = f"{person.family} {person.given}"
    else:
        text = f"{person.family}, {person.given}{initial}"
    if person.suffix and "," not in text:
        text += f"{rng.choice((' ', ', '))}{person.suffix}"
    return [Piece(text, "NAME")]


def listed(person: Person, rng: random.Random) -> list[Piece]:
    """Family name first, as in record headers: "OKAFOR, JOHN A"."""
    comma = rng.choice((", ", ", ", ",", " "))
    initial = f" {person.middle[0]}{rng.choice(('', '', '.'))}" if person.middle else ""
    text = f"{person.family}{comma}{person.given}{initial}"
    return [Piece(text.upper() if rng.random() < 0.5 else text, "NAME")]


def title_for(person: Person, rng: random.Random) -> str:
    """Mr., Mrs., ms or Miss, with the spelling slips of dictation."""
    title = (
        rng.choice(("Mrs.", "Ms.", "Ms.", "Mrs", "Ms", "Miss")) if person.female else rng.choice(("Mr.", "Mr.", "Mr"))
    )
    return title + " "


def titled(person: Person, rng: random.Random) -> list[Piece]:
    """Mrs. Okafor, or Mrs. Ada Okafor."""
    name = person.family if rng.random() < 0.8 else f"{person.given} {person.family}"
    return [Piece(title_for(person, rng)), Piece(name, "NAME")]


def mention(person: Person, rng: random.Random) -> list[Piece]:
    """The person in running text."""
    roll = rng.random()
    if roll < 0.4:
        return titled(person, rng)
    if roll < 0.68:
        return full(person, rng)
    if roll < 0.85:
        return [Piece(person.given, "NAME")]
    return [Piece(person.family if rng.random() < 0.75 else person.nickname, "NAME")]


def doctor(person: Person, rng: random.Random) -> list[Piece]:
    """A clinician: Dr. Okafor, or John Okafor, MD."""
    roll = rng.random()
    if roll < 0.62:
        title = rng.choice(("Dr. ", "Dr. ", "Dr. ", "Dr ", "Doctor ", "DR. "))
        name = person.family
        if rng.random() < 0.25:
            name = rng.choice((f"{person.given} {person.family}", f"{person.given[0]}. {person.family}"))
        return [Piece(title), Piece(name, "NAME")]
    return signed(person, rng)


def signed(person: Person, rng: random.Random) -> list[Piece]:
    """With a credential after it."""
    roll = rng.random()
    if roll < 0.6:
        name = f"{person.given} {person.family}"
    elif roll < 0.75:
        name = f"{person.given[0]}. {person.family}"
    elif roll < 0.85:
        name = f"{person.given} {(person.middle or person.family)[0]}. {person.family}"
    else:
        name = person.family
    return [Piece(name, "NAME"), Piece(rng.choice((", ", ", ", " ")) + rng.choice(_CREDENTIALS))]
