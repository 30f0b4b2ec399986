"""What is learned from, what settings are chosen on, and what is held out: divided so that nothing leaks.

    groups = alike(texts)                        # texts that share a passage are one group
    parts = divide(groups, labels, seed="…")     # group by group, label by label

A letter from a form differs from its siblings in a name and a number; with one of them learned, the other is no test.
Texts that share a run of eight words (numbers count as one word) therefore stay on one side.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RUN_WORDS = 8
COMMON_MAX = 50  # a run that more texts share is a greeting or a footer, and says nothing about them
HELD_OUT_SHARE = 0.2
CHOSEN_SHARE = 0.2  # of what is not held out
_HELD_OUT_MIN = 5  # texts of a label before any of them is held out
_WORD = re.compile(r"\w+")
_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True, slots=True)
class Parts:
    """Positions of texts: `fit` and `choose` together are learned from in the end, `held_out` never."""

    fit: np.ndarray
    choose: np.ndarray
    held_out: np.ndarray


def alike(texts: Sequence[str]) -> np.ndarray:
    """A group number for each text; texts that share a run of words, or all their words, have the same."""
    seen: dict[bytes, list[int]] = defaultdict(list)
    for place, text in enumerate(texts):
        words = _WORD.findall(_NUMBER.sub("0", text.casefold()))
        runs = {" ".join(words[at : at + RUN_WORDS]) for at in range(max(1, len(words) - RUN_WORDS + 1))}
        for run in runs:
            key = hashlib.blake2b(run.encode("utf-8", "replace"), digest_size=8).digest()
            if len(seen[key]) <= COMMON_MAX:
                seen[key].append(place)
    parent = list(range(len(texts)))

    def root(place: int) -> int:
        while parent[place] != place:
            parent[place] = parent[parent[place]]
            place = parent[place]
        return place

    for places in seen.values():
        if 1 < len(places) <= COMMON_MAX:
            for other in places[1:]:
                one, two = root(places[0]), root(other)
                parent[max(one, two)] = min(one, two)
    return np.array([root(place) for place in range(len(texts))], dtype=np.int64)


def divide(groups: np.ndarray, labels: Sequence[str], *, seed: str) -> Parts:
    """A fifth held out and a fifth of the rest to choose on, of every label with enough texts; the same each time."""
    first = labels_of_groups(groups, labels)
    members: dict[int, list[int]] = defaultdict(list)
    for place, group in enumerate(groups.tolist()):
        members[group].append(place)
    by_label: dict[str, list[int]] = defaultdict(list)
    for group, label in first.items():
        by_label[label].append(group)
    chosen: dict[str, list[int]] = {"fit": [], "choose": [], "held_out": []}
    for label, own in sorted(by_label.items()):
        own.sort(key=lambda group: hashlib.sha256(f"{seed}\0{label}\0{group}".encode()).digest())
        texts = sum(len(members[group]) for group in own)
        wanted = round(HELD_OUT_SHARE * texts) if texts >= _HELD_OUT_MIN else 0
        then = round(CHOSEN_SHARE * (texts - wanted)) if texts >= _HELD_OUT_MIN else 0
        room = {"held_out": wanted, "choose": then}
        for group in own:
            size = len(members[group])
            part = next((name for name, left in room.items() if size <= left), "fit")
            if part in room:
                room[part] -= size
            chosen[part] += members[group]
    return Parts(*(np.array(sorted(chosen[name]), dtype=np.int64) for name in ("fit", "choose", "held_out")))


def labels_of_groups(groups: np.ndarray, labels: Sequence[str]) -> dict[int, str]:
    """The label of each group's first text."""
    first: dict[int, str] = {}
    for group, label in zip(groups.tolist(), labels, strict=True):
        first.setdefault(group, label)
    return first
