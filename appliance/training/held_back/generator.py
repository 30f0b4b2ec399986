"""The held-back texts: notes, short queries with and without identifiers, and one sentence in names of every origin.

    for text in generate(seed=1, data=Path("DATA")):       # kinds "note/ED note", "query/clean" …
        text.text, text.spans
    fairness = names_by_origin(seed=1, data=Path("DATA"))  # kinds "names/Korean" …

The same seed and data give the same texts. Nothing proper in them occurs in training text: see `names.py`.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from appliance.training.held_back import layout
from appliance.training.held_back.carriers import read_carriers
from appliance.training.held_back.labelled import LabelledText, Piece, join
from appliance.training.held_back.names import ORIGINS, read_pools
from appliance.training.held_back.scene import Cast, Scene
from appliance.training.held_back.templates import QUERIES, SKELETONS, read_queries, read_skeletons, render

NOTES_PER_SKELETON = 5
CARRIER_NOTES = 60
QUERIES_PER_IDENTIFYING = 2
NAMES_PER_ORIGIN = 60


def generate(seed: int, data: Path) -> tuple[LabelledText, ...]:
    """Notes of every kind, carrier notes about made-up patients, and queries."""
    return generate_from(Cast.of(read_pools(data)), read_carriers(data), seed)


def names_by_origin(seed: int, data: Path) -> tuple[LabelledText, ...]:
    """The same passages about as many people of each origin, so that a difference is a difference of names."""
    return names_from(Cast.of(read_pools(data)), seed)


def generate_from(cast: Cast, carriers: Sequence[str], seed: int) -> tuple[LabelledText, ...]:
    """`generate` from lists in memory."""
    chance = random.Random(f"held-back {seed}")  # noqa: S311 - test text, not a secret
    texts = [
        _note(skeleton.body, f"note/{skeleton.kind}", cast, chance)
        for skeleton in read_skeletons(SKELETONS)
        for _ in range(NOTES_PER_SKELETON)
    ]
    chosen = chance.sample(carriers, min(CARRIER_NOTES, len(carriers)))
    texts.extend(_carrier_note(body, cast, chance) for body in chosen)
    queries = read_queries(QUERIES)
    texts.extend(join(render(line, Scene(cast, chance), chance), "query/clean") for line in queries["clean"])
    identifying = [line for line in queries["identifying"] for _ in range(QUERIES_PER_IDENTIFYING)]
    texts.extend(_query(line, cast, chance) for line in identifying)
    return tuple(texts)


def names_from(cast: Cast, seed: int) -> tuple[LabelledText, ...]:
    """`names_by_origin` from lists in memory."""
    chance = random.Random(f"held-back names {seed}")  # noqa: S311 - test text, not a secret
    passages = [passage.replace("\\n", "\n") for passage in read_queries(QUERIES)["passages"]]
    return tuple(
        join(render(passages[number % len(passages)], Scene(cast, chance, origin=origin), chance), f"names/{origin}")
        for origin in ORIGINS
        for number in range(NAMES_PER_ORIGIN)
    )


def _note(body: str, kind: str, cast: Cast, chance: random.Random) -> LabelledText:
    pieces = render(body, Scene(cast, chance), chance)
    return join(layout.typed(pieces, chance), kind)


def _query(line: str, cast: Cast, chance: random.Random) -> LabelledText:
    """Queries are often typed without capitals; nothing else happens to one line."""
    pieces = render(line, Scene(cast, chance), chance)
    return join(layout.all_lower(pieces, chance) if chance.random() < 0.3 else pieces, "query/identifying")


def _carrier_note(body: str, cast: Cast, chance: random.Random) -> LabelledText:
    """A real-style note without identifiers between a heading and a signature that have some."""
    scene = Scene(cast, chance)
    heading = render(chance.choice(_HEADINGS), scene, chance)
    ending = render(chance.choice(_ENDINGS), scene, chance)
    return join(layout.typed([*heading, Piece(body), *ending], chance), "note/carrier")


_HEADINGS = (
    "Patient: {pt.full}\nDate of visit: {day-0.any}\nMRN: {mrn}\n\n",
    "{hosp}\n{pt.LF}   {mrn}   {pt.dob}\n\n",
    "RE: {pt.lf}\nSeen {day-0.any} by {dr.full}, MD\n\n",
    "{pt.title} {pt.last} was seen at {clinic} on {day-0.md}.\n\n",
    "",
)
_ENDINGS = (
    "\n\n{dr.full}, MD\n{day-0}",
    "\n\nDictated by {dr.full}, {day-0} {time}; transcribed {staff.ini}",
    "\n\nPlease call {rel.full} at {phone} with any change.",
    "\n\ncc: Dr. {dr2.last}, {clinic2}",
    "",
)
