"""What keyboards, scanners and old systems do to a note.

Owns: changes of case, line breaks inside identifiers, OCR slips, typos, lost punctuation, tabs. Works on pieces, so a
label stays with its text. A name is never changed into a word of the held-back side.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable

from appliance.training.notes.pieces import Piece
from appliance.training.notes.sources import training_side

Pieces = list[Piece]
_OCR = {"O": "0", "l": "1", "I": "l", "S": "5", "B": "8", "m": "rn", "0": "O", "1": "l", "e": "c"}


def disturb(pieces: Pieces, rng: random.Random) -> Pieces:
    """About four notes in ten get one or two kinds of damage; the others stay as written."""
    for change, share in _CHANGES:
        if rng.random() < share:
            pieces = change(pieces, rng)
    return pieces


def upper(pieces: Pieces, rng: random.Random) -> Pieces:
    """All capitals; letters whose capital is longer (ß) stay."""
    return [Piece("".join(c.upper() if len(c.upper()) == 1 else c for c in text), label) for text, label in pieces]


def lower(pieces: Pieces, rng: random.Random) -> Pieces:
    """All lower case."""
    return [Piece("".join(c.lower() if len(c.lower()) == 1 else c for c in text), label) for text, label in pieces]


def lower_names(pieces: Pieces, rng: random.Random) -> Pieces:
    """Only what identifies in lower case: "dr okoro called"."""
    return [
        Piece(
            t.lower() if label in ("NAME", "LOCATION", "ORGANIZATION", "DATE") and len(t.lower()) == len(t) else t,
            label,
        )
        for t, label in pieces
    ]


def upper_names(pieces: Pieces, rng: random.Random) -> Pieces:
    """Names in capitals in ordinary prose, as registration systems paste them."""
    return [Piece(t.upper() if label == "NAME" and len(t.upper()) == len(t) else t, label) for t, label in pieces]


def hard_wrap(pieces: Pieces, rng: random.Random) -> Pieces:
    """A line break after every so many characters, inside identifiers too."""
    width = rng.choice((40, 60, 72, 78, 80, 90))
    indent = rng.choice(("", "", "", "  ", "\t"))
    column = 0
    wrapped: Pieces = []
    for text, label in pieces:
        out: list[str] = []
        for part in re.split(r"( |\n)", text):
            if part == "\n":
                column = 0
            elif part == " " and column >= width - 8:
                part, column = "\n" + indent, len(indent)
            else:
                column += len(part)
            out.append(part)
        wrapped.append(Piece("".join(out), label))
    return wrapped


def scanned(pieces: Pieces, rng: random.Random) -> Pieces:
    """OCR: letters mistaken, stray and doubled spaces."""
    return [Piece(_scan(text, label, rng), label) for text, label in pieces]


def _scan(text: str, label: str | None, rng: random.Random) -> str:
    out: list[str] = []
    for char in text:
        roll = rng.random()
        if roll < 0.012 and char in _OCR:
            out.append(_OCR[char])
        elif roll > 0.985 and char == " ":
            out.append("  ")
        elif roll > 0.99 and label not in (None, "NAME") and char in "-/.@":
            out.append(f" {char} ")
        elif roll > 0.996 and label is None and char.isalpha():
            out.append(char + " ")
        else:
            out.append(char)
    return _allowed("".join(out), text, label)


def mistyped(pieces: Pieces, rng: random.Random) -> Pieces:
    """Letters swapped, dropped or doubled."""
    return [Piece(_mistype(text, label, rng), label) for text, label in pieces]


def _mistype(text: str, label: str | None, rng: random.Random) -> str:
    out = list(text)
    for index in range(1, len(out) - 1):
        if rng.random() < 0.01 and out[index].isalpha() and out[index + 1].isalpha():
            roll = rng.random()
            if roll < 0.4:
                out[index], out[index + 1] = out[index + 1], out[index]
            elif roll < 0.7:
                out[index] = ""
            else:
                out[index] *= 2
    return _allowed("".join(out), text, label)


def _allowed(changed: str, text: str, label: str | None) -> str:
    """A changed name only if it did not become a held-back one."""
    return text if label == "NAME" and changed != text and not training_side(changed) else changed


def unpunctuated(pieces: Pieces, rng: random.Random) -> Pieces:
    """Full stops and commas lost outside identifiers, as in text messages and quick notes."""
    return [Piece(re.sub(r"[.,](?= |\n|$)", "", text) if label is None else text, label) for text, label in pieces]


def tabbed(pieces: Pieces, rng: random.Random) -> Pieces:
    """Tabs or runs of spaces where a header had one space after its colon."""
    gap = rng.choice(("\t", "   ", "      ", ""))
    return [Piece(text.replace(": ", ":" + gap) if label is None else text, label) for text, label in pieces]


def one_line(pieces: Pieces, rng: random.Random) -> Pieces:
    """Line breaks lost, as when a note is pasted into a form."""
    gap = rng.choice((" ", "  ", " "))
    return [Piece(re.sub(r"\n+", gap, text), label) for text, label in pieces]


_CHANGES: tuple[tuple[Callable[[Pieces, random.Random], Pieces], float], ...] = (
    (tabbed, 0.06),
    (one_line, 0.06),
    (unpunctuated, 0.05),
    (mistyped, 0.06),
    (scanned, 0.04),
    (hard_wrap, 0.12),
    (lower_names, 0.03),
    (upper_names, 0.04),
    (upper, 0.08),
    (lower, 0.1),
)
