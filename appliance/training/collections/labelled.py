"""What every reader yields, and the split that all of them share.

collection = split("banking77", labels, examples)
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Part = Literal["train", "development", "held_back"]
HELD_BACK_PERCENT = 10
DEVELOPMENT_PERCENT = 5


@dataclass(frozen=True, slots=True)
class Labelled:
    """One text, what it is asked about (`context`, may be empty) and the labels it carries.

    `group` names what it belongs to: texts of one group are never split. No label: out of scope.
    """

    text: str
    labels: tuple[str, ...]
    context: str = ""
    group: str = ""


@dataclass(frozen=True, slots=True)
class Collection:
    """A collection in its three parts; `labels` in the order of the head's outputs."""

    labels: tuple[str, ...]
    train: tuple[Labelled, ...]
    development: tuple[Labelled, ...]
    held_back: tuple[Labelled, ...]


def split(
    name: str,
    labels: Iterable[str],
    examples: Iterable[Labelled],
    *,
    held_back_percent: int = HELD_BACK_PERCENT,
    development_percent: int = DEVELOPMENT_PERCENT,
) -> Collection:
    """Divide by the hash of each example's group, or of its text where it has none."""
    parts: dict[Part, list[Labelled]] = {"train": [], "development": [], "held_back": []}
    for example in examples:
        key = example.group or normalised(example.text)
        parts[part_of(name, key, held_back_percent, development_percent)].append(example)
    return Collection(tuple(labels), tuple(parts["train"]), tuple(parts["development"]), tuple(parts["held_back"]))


def part_of(
    name: str, key: str, held_back_percent: int = HELD_BACK_PERCENT, development_percent: int = DEVELOPMENT_PERCENT
) -> Part:
    """Which part a group falls into, once and for ever."""
    digest = hashlib.sha256(f"{name}\0{key}".encode()).digest()
    share = int.from_bytes(digest[:8], "big") * 100 >> 64
    if share < held_back_percent:
        return "held_back"
    return "development" if share < held_back_percent + development_percent else "train"


def without_repeats(collection: Collection) -> Collection:
    """Without development and held-back texts that an earlier part has too: stock phrases say nothing about the new."""
    seen = {normalised(example.text) for example in collection.train}
    development = tuple(example for example in collection.development if normalised(example.text) not in seen)
    seen |= {normalised(example.text) for example in development}
    held_back = tuple(example for example in collection.held_back if normalised(example.text) not in seen)
    return Collection(collection.labels, collection.train, development, held_back)


def normalised(text: str) -> str:
    """Letters and digits only, case folded: texts that differ in less are one text."""
    return "".join(character for character in text.casefold() if character.isalnum())
