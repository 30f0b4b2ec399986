"""Skeletons of notes: text with slots, read from a file, rendered to pieces. Pure but for reading the file.

    for skeleton in read_skeletons(DEVELOPMENT.skeletons):
        pieces = render(skeleton.body, scene, chance)

In a body `{slot}` stands for a value of the scene (`scene.py`), `[one|two|three]` for a choice, which may hold slots.
A file is a sequence of `=== kind` lines, each followed by a body.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from pathlib import Path

from appliance.errors import UnknownOption
from appliance.training.held_back.labelled import Piece
from appliance.training.held_back.scene import Scene

_CHOICE = re.compile(r"\[([^\[\]\n]*\|[^\[\]\n]*)\]")
_SLOT = re.compile(r"\{([^{}\s]+)\}")


@dataclass(frozen=True, slots=True)
class Skeleton:
    """One kind of document with its slots open."""

    kind: str
    body: str


def read_skeletons(path: Path) -> tuple[Skeleton, ...]:
    """Every skeleton of a file, in its order."""
    parts = re.split(r"^=== (.+)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    if len(parts) < 3 or parts[0].strip():
        raise UnknownOption(f"{path} is no file of skeletons: it must begin with a line `=== kind`")
    return tuple(Skeleton(kind.strip(), body.strip("\n")) for kind, body in zip(parts[1::2], parts[2::2], strict=True))


def read_queries(path: Path) -> dict[str, tuple[str, ...]]:
    """One query a line under its kind."""
    return {part.kind: tuple(line for line in part.body.splitlines() if line.strip()) for part in read_skeletons(path)}


def render(body: str, scene: Scene, chance: random.Random) -> list[Piece]:
    """Choices made, slots filled."""
    chosen = _CHOICE.sub(lambda match: chance.choice(match[1].split("|")), body)
    pieces: list[Piece] = []
    for place, part in enumerate(_SLOT.split(chosen)):
        if place % 2:
            pieces.append(scene.value(part))
        elif part:
            pieces.append(Piece(part))
    return pieces
