"""Places and organisations of a note: addresses, postal codes, names of hospitals and firms. Drawn, never kept.

places = Places(pools)
places.street(chance)                    # "412 N. Okafor Lane Apt 3B"
places.organization("hosp", chance)      # "Yarrow County Hospital"
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path

from appliance.training.held_back.names import Pools, without_accents
from appliance.training.held_back.numbers import shaped

ORGANIZATIONS = Path(__file__).with_name("organizations.txt")
STATES = "MA OH TX NC WA GA MN PA CO OR VA MI AZ NM IA KY ME VT WI TN".split()
STATE_NAMES = "Ohio,Texas,North Carolina,Georgia,Minnesota,Oregon,Michigan,Maine,Iowa,Vermont".split(",")
_STREETS = "Street St. St Avenue Ave Ave. Road Rd Lane Ln Drive Dr. Court Ct Way Terrace Place Blvd Circle Pike".split()
_UK_STREETS = "Road Street Close Gardens Crescent Lane Grove Terrace Mews".split()
_UK_POSTCODES = ("LS8 9??", "M29 8??", "BN8 9??", "EH9 8??")
_BOXES = ("P.O. Box 8999", "PO Box 899", "RR 8 Box 89")
_HOMES = ("", "", "", " Apt 8B", " Apt 89", ", Unit 89", " #89")
_SIDES = ("", "", "", "N. ", "West ")
BOX_SHARE = 0.12


def read_organizations(path: Path = ORGANIZATIONS) -> dict[str, list[str]]:
    """The patterns of names per kind of organisation."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    return {kind: patterns.split(" | ") for kind, patterns in (line.split(": ", 1) for line in lines)}


@dataclass(frozen=True, slots=True)
class Places:
    """Draws from the held-back places and family names."""

    pools: Pools
    kinds: dict[str, list[str]] = field(default_factory=read_organizations)

    def street(self, chance: random.Random) -> str:
        """A street address, or a box."""
        if chance.random() < BOX_SHARE:
            return shaped(chance, chance.choice(_BOXES))
        number, home = shaped(chance, chance.choice(("8", "89", "899", "8999"))), shaped(chance, chance.choice(_HOMES))
        name = without_accents(chance.choice(self.pools.surnames))
        return f"{number} {chance.choice(_SIDES)}{name} {chance.choice(_STREETS)}{home}"

    def uk_street(self, chance: random.Random) -> str:
        """A number and a street."""
        return f"{chance.randint(1, 180)} {chance.choice(self.pools.surnames)} {chance.choice(_UK_STREETS)}"

    def uk_postcode(self, chance: random.Random) -> str:
        """A postal code."""
        return shaped(chance, chance.choice(_UK_POSTCODES))

    def zip_code(self, chance: random.Random) -> str:
        """Five digits, or nine."""
        return shaped(chance, chance.choice(("89999", "09999", "89999-9999")))

    def city(self, chance: random.Random) -> str:
        """A town."""
        return chance.choice(self.pools.places)

    def organization(self, kind: str, chance: random.Random) -> str:
        """A hospital, clinic, employer, school … that no training text names."""
        given = self.pools.people[chance.choice(("English", "Hispanic"))].given
        name, other = chance.choice(self.pools.surnames), chance.choice(self.pools.surnames)
        pattern = chance.choice(self.kinds[kind])
        return without_accents(pattern.format(p=self.city(chance), n=name, m=other, g=chance.choice(given)))
