"""The held-back texts: notes, short queries with and without identifiers, and one sentence in names of every origin.

    for text in generate(seed=1, data=Path("DATA"), collection="final"):       # kinds "note/ED note", "query/clean" …
        text.text, text.spans
    fairness = names_by_origin(seed=1, data=Path("DATA"), collection="final")  # kinds "names/Korean" …

The same seed, data and collection give the same texts; `collection.py` says what the two collections are for.
Nothing proper in them occurs in training text: see `names.py`.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from appliance.training.held_back import layout
from appliance.training.held_back.carriers import read_carriers
from appliance.training.held_back.collection import COLLECTIONS, DEVELOPMENT, Collection, carriers_of
from appliance.training.held_back.labelled import LabelledText, Piece, join
from appliance.training.held_back.names import ORIGINS, read_pools
from appliance.training.held_back.scene import Cast, Scene
from appliance.training.held_back.templates import read_queries, read_skeletons, render

CollectionName = Literal["development", "final"]
NOTES_PER_SKELETON = 5
CARRIER_NOTES = 60
QUERIES_PER_IDENTIFYING = 2
NAMES_PER_ORIGIN = 60


def generate(seed: int, data: Path, collection: CollectionName = "development") -> tuple[LabelledText, ...]:
    """Notes of every kind, carrier notes about made-up patients, and queries."""
    chosen = COLLECTIONS[collection]
    return generate_from(Cast.of(read_pools(data), chosen.organizations), read_carriers(data), seed, chosen)


def names_by_origin(seed: int, data: Path, collection: CollectionName = "development") -> tuple[LabelledText, ...]:
    """The same passages about as many people of each origin, so that a difference is a difference of names."""
    chosen = COLLECTIONS[collection]
    return names_from(Cast.of(read_pools(data), chosen.organizations), seed, chosen)


def generate_from(
    cast: Cast, carriers: Sequence[str], seed: int, collection: Collection = DEVELOPMENT
) -> tuple[LabelledText, ...]:
    """`generate` from lists in memory; of `carriers`, those of the other collection are left out."""
    chance = random.Random(f"{collection.salt} {seed}")  # noqa: S311 - test text, not a secret
    texts = [
        _note(skeleton.body, f"note/{skeleton.kind}", cast, chance)
        for skeleton in read_skeletons(collection.skeletons)
        for _ in range(NOTES_PER_SKELETON)
    ]
    own = carriers_of(collection, carriers)
    chosen = chance.sample(own, min(CARRIER_NOTES, len(own)))
    texts.extend(_carrier_note(body, collection, cast, chance) for body in chosen)
    queries = read_queries(collection.queries)
    texts.extend(join(render(line, Scene(cast, chance), chance), "query/clean") for line in queries["clean"])
    identifying = [line for line in queries["identifying"] for _ in range(QUERIES_PER_IDENTIFYING)]
    texts.extend(_query(line, cast, chance) for line in identifying)
    return tuple(texts)


def names_from(cast: Cast, seed: int, collection: Collection = DEVELOPMENT) -> tuple[LabelledText, ...]:
    """`names_by_origin` from lists in memory."""
    chance = random.Random(f"{collection.salt} names {seed}")  # noqa: S311 - test text, not a secret
    passages = [passage.replace("\\n", "\n") for passage in read_queries(collection.queries)["passages"]]
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


def _carrier_note(body: str, collection: Collection, cast: Cast, chance: random.Random) -> LabelledText:
    """A real-style note without identifiers between a heading and a signature that have some."""
    scene = Scene(cast, chance)
    heading = render(chance.choice(collection.headings), scene, chance)
    ending = render(chance.choice(collection.endings), scene, chance)
    return join(layout.typed([*heading, Piece(body), *ending], chance), "note/carrier")
