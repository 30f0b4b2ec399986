"""Two collections of held-back text on the same machinery: one to find faults with, one to report figures of.

    DEVELOPMENT     read by people, its errors too; rules were corrected on it, so its figures flatter
    FINAL           the README's figures; nothing MUST be tuned on it, and nobody reads its errors to that end

They share no template, query, pattern of organisation or carrier note, and draw other names, because they draw from
other seeds. Lists of names and shapes of numbers are common to both. Owns the choice, not the drawing: `generator.py`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_FOLDER = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Collection:
    """Where its templates lie; `salt` opens its random draws; headings and endings go around carrier notes."""

    name: str
    salt: str
    skeletons: Path
    queries: Path
    organizations: Path
    headings: tuple[str, ...]
    endings: tuple[str, ...]


DEVELOPMENT = Collection(
    name="development",
    salt="held-back",
    skeletons=_FOLDER / "skeletons.txt",
    queries=_FOLDER / "queries.txt",
    organizations=_FOLDER / "organizations.txt",
    headings=(
        "Patient: {pt.full}\nDate of visit: {day-0.any}\nMRN: {mrn}\n\n",
        "{hosp}\n{pt.LF}   {mrn}   {pt.dob}\n\n",
        "RE: {pt.lf}\nSeen {day-0.any} by {dr.full}, MD\n\n",
        "{pt.title} {pt.last} was seen at {clinic} on {day-0.md}.\n\n",
        "",
    ),
    endings=(
        "\n\n{dr.full}, MD\n{day-0}",
        "\n\nDictated by {dr.full}, {day-0} {time}; transcribed {staff.ini}",
        "\n\nPlease call {rel.full} at {phone} with any change.",
        "\n\ncc: Dr. {dr2.last}, {clinic2}",
        "",
    ),
)
FINAL = Collection(
    name="final",
    salt="final held-back",
    skeletons=_FOLDER / "final_skeletons.txt",
    queries=_FOLDER / "final_queries.txt",
    organizations=_FOLDER / "final_organizations.txt",
    headings=(
        "{pt.lfm} | {pt.dob} | {pt.sex} | {mrn}\n{clinic}, visit of {day-0.num}\n\n",
        "Progress note for {pt.full}, {day-0.any}, {time}\n\n",
        "Provider: {dr.il}, {hosp}. Patient {pt.ms} {pt.last}, born {pt.dob}.\n\n",
        "{pt.first} came in today with {pt.her} sister {rel.first}.\n\n",
        "",
    ),
    endings=(
        "\n\nSigned electronically: {dr.full}, DO, {day-0.any} at {time}",
        "\n\nNext visit {day+21.md} with {dr2.full}. Questions: {phone}.",
        "\n\nPage 1 of 1   {pt.LF}   {mrn}",
        "\n\n{staff.ninit}, scribe for Dr. {dr.last}",
        "",
    ),
)
COLLECTIONS = {collection.name: collection for collection in (DEVELOPMENT, FINAL)}


def carriers_of(collection: Collection, carriers: Iterable[str]) -> list[str]:
    """The carriers of one collection: each belongs to one of the two, by its hash, for ever."""
    return [text for text in carriers if _owner(text) == collection.name]


def _owner(carrier: str) -> str:
    digest = hashlib.sha256(b"held-back-carriers-1\0" + carrier.encode()).digest()
    return FINAL.name if digest[0] < 128 else DEVELOPMENT.name
