"""Readers of the labelled collections that recipes name, and the one split of each into training, tuning and held-back.

    collection = read_collection("banking77", data)
    collection.train, collection.development, collection.held_back      # tuples of Labelled

`data` is the folder with the collections; it is never part of the project. What belongs together (one sentence, one
contract, one article) is hashed as one, so that nothing crosses from one part into another. Development is for choosing
settings; held-back is measured once, with the file that ships, and is what its evidence reports.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from appliance.errors import ConfigInvalid
from appliance.training.collections import abstracts, assertions, contracts, finance, intents
from appliance.training.collections.labelled import Collection

READERS: Mapping[str, Callable[[Path], Collection]] = {
    "banking77": intents.read_banking77,
    "clinc150": intents.read_clinc150,
    "financial-sentiment": finance.read_sentiment,
    "abstract-sections": abstracts.read_sections,
    "assertion": assertions.read_assertions,
    contracts.NAME: contracts.read_clauses,
}


def read_collection(name: str, data: Path) -> Collection:
    """Raises `ConfigInvalid` for a name nobody reads, or a folder that does not hold it."""
    try:
        reader = READERS[name]
    except KeyError:
        raise ConfigInvalid(
            f"there is no collection {name!r}", hint=f"collections are {', '.join(sorted(READERS))}"
        ) from None
    try:
        return reader(data)
    except OSError as error:
        raise ConfigInvalid(
            f"cannot read the collection {name}: {error.filename}: {error.strerror}",
            hint="name the folder that holds the collections with --data",
        ) from None
