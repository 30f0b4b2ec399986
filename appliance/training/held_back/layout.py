"""How a record is typed and transmitted: capitals, wraps, scanned spacing, slips. Pieces in, pieces out; labels stay.

Each change keeps every identifier in its piece, so the marks stay exact.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from appliance.training.held_back.labelled import Piece

_Change = Callable[[list[Piece], random.Random], list[Piece]]
LABELS_KEPT_AS_TYPED = frozenset({"EMAIL", "URL", "IP", "DEVICE", "BIOMETRIC"})


def typed(pieces: list[Piece], chance: random.Random) -> list[Piece]:
    """The pieces as one of the ways of typing leaves them; more than half of all notes are as they were."""
    draw = chance.random()
    for share, change in _CHANGES:
        if draw < share:
            return change(pieces, chance)
        draw -= share
    return pieces


def all_capitals(pieces: list[Piece], _: random.Random) -> list[Piece]:
    """A terminal without lower case."""
    return [Piece(_mapped(piece.text, str.upper), piece.label) for piece in pieces]


def all_lower(pieces: list[Piece], _: random.Random) -> list[Piece]:
    """Typed in a hurry."""
    return [Piece(_mapped(piece.text, str.lower), piece.label) for piece in pieces]


def wrapped(pieces: list[Piece], chance: random.Random) -> list[Piece]:
    """Hard line ends at a fixed width, inside identifiers too."""
    width, column = chance.randint(52, 78), 0
    result = []
    for piece in pieces:
        letters = []
        for letter in piece.text:
            column = 0 if letter == "\n" else column + 1
            if letter == " " and column > width - 6 and piece.label not in LABELS_KEPT_AS_TYPED:
                letter, column = "\n", 0
            letters.append(letter)
        result.append(Piece("".join(letters), piece.label))
    return result


def scanned(pieces: list[Piece], chance: random.Random) -> list[Piece]:
    """Character recognition: doubled and lost spaces in the prose, a letter read as its neighbour."""
    swaps = {"l": "1", "O": "0", "m": "rn", "e": "c"}
    result = []
    for piece in pieces:
        letters = [
            letter + " " if letter == " " and chance.random() < 0.08
            else swaps[letter] if piece.label is None and letter in swaps and chance.random() < 0.01
            else letter
            for letter in piece.text
        ]  # fmt: skip
        result.append(Piece("".join(letters), piece.label))
    return result


def unpunctuated(pieces: list[Piece], _: random.Random) -> list[Piece]:
    """No full stops behind titles and sentences, no commas in prose."""
    return [
        Piece(piece.text.replace(". ", " ").replace(", ", " "), None) if piece.label is None else piece
        for piece in pieces
    ]


def _mapped(text: str, change: Callable[[str], str]) -> str:
    """Letter by letter, and only where one letter stays one: `ß` in capitals would be two."""
    return "".join(change(letter) if len(change(letter)) == 1 else letter for letter in text)


_CHANGES: tuple[tuple[float, _Change], ...] = (
    (0.08, all_capitals),
    (0.08, all_lower),
    (0.14, wrapped),
    (0.06, scanned),
    (0.06, unpunctuated),
)
