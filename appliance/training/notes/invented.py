"""Capitalised words that name nobody, made up by the million: brands, eponyms, acronyms.

A tagger that has only seen a few hundred drug names takes every other capitalised word for a person. These words are
new each time, so what remains to be learned is the place they stand in: a dose after it, a head noun behind it.

>>> import random
>>> brand(random.Random(1))[0].isupper()
True
"""

from __future__ import annotations

import random

_STARTS = tuple(
    "Ab Ac Al Am An Ar Az Be Bri Bro Cal Ce Cla Co Cy Da De Di Du Ef El En Ep Es Ev Fa Fi Flo Fos Ga Gly He Hu Im In"
    " Ja Ke La Le Li Lo Lu Ma Me Mi Mo Na Ne No Nu Om Op Or Ox Pa Pe Pra Pro Qui Ra Re Ri Ro Sa Se Si So Sta Su Sy Ta"
    " Te Tra Tri Tru Ul Va Ve Vi Vo Vy Xa Xe Xi Za Ze Zo Zy".split()
)
_MIDDLES = tuple(
    "bri ce ci da di do fe flu ga gli lo la li lu ma me mi mu na ne ni no pa pi pra ra re ri ro sa si sta ta te ti tra"
    " va ve vi vo xa xi za ze zi".split()
)
_ENDS = tuple(
    "cor da dex dia fil gan gen ka kta la lar lin lix lta lto max mab mune na nase nex nib nor nta pan pra pril prim"
    " quel ra ran rel ro ron sa sol star stin sta tal tan tec tin tol tra tris trol va van ver vex via vir xa xin yo za"
    " zac zid zol".split()
)
_FORMS = (" XR", " ER", " SR", " HFA", " Diskus", " Respimat", " FlexPen", " ODT", " IV", " 24h")
_HEADS = tuple(
    "sign;syndrome;disease;criteria;score;scale;stage II;class III;grade 2;type 1;classification;test;maneuver;reflex;"
    "procedure;operation;repair;resection;anastomosis;incision;flap;fracture;lesion;tumor;cells;bodies;nodes;rings;"
    "triad;phenomenon;habitus;facies;gait;tremor;catheter;drain;retractor;clamp;forceps;clip;blade;tube;stent;valve;"
    "reservoir;collar;brace;stockings;pouch;stain;agar;antigen;negative;positive;palsy;neuropathy;arthropathy;"
    "dystrophy;encephalopathy;thyroiditis;granulomatosis;lymphoma;sarcoma;cyst;hernia;contracture;osteotomy;equation;"
    "index;formula;exam;grid;tonometry;chart;position;protocol;nomogram;questionnaire;inventory;duct;canal;ganglion;"
    "muscle;tendon;fascia;plexus;crisis;disease in remission;I;II;III;IV;3;neg;pos".split(";")
)
_CONSONANTS, _LETTERS = "BCDFGHKLMNPRSTV", "ABCDEFGHILMNOPRSTUVX"


def brand(rng: random.Random) -> str:
    """A word that could be a drug's or a device's brand, sometimes with the form it comes in."""
    name = rng.choice(_STARTS) + (rng.choice(_MIDDLES) if rng.random() < 0.7 else "") + rng.choice(_ENDS)
    return name + (rng.choice(_FORMS) if rng.random() < 0.12 else "")


def eponym(rng: random.Random, families: tuple[str, ...]) -> str:
    """Somebody's name that has become a thing's: the head noun, the number or the hyphen says so."""
    first, second = rng.choice(families), rng.choice(families)
    form = rng.random()
    if form < 0.15:
        first = f"{first}-{second}"
    elif form < 0.3:
        first = f"{first}'s"
    return f"{first} {rng.choice(_HEADS)}"


def acronym(rng: random.Random) -> str:
    """Three to six capitals, as every specialty has its own."""
    letters = "".join(rng.choice(_LETTERS) for _ in range(rng.choice((2, 3, 3, 3, 4, 4, 5))))
    return rng.choice(_CONSONANTS) + letters
