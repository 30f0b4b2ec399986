"""A note under construction: pieces of text, each with the label it carries or none.

Owns: turning pieces into a text with exact spans. Because a piece knows its label, no later step (noise, wrapping,
carriers) has to keep offsets; they are counted once, at the end.

>>> assemble([Piece("Dr. "), Piece("Okafor", "NAME"), Piece(" called.")])[1]
(Span(start=4, end=10, label='NAME', score=1.0),)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from appliance.types import Span

LABELS = (
    "NAME",
    "DATE",
    "AGE",
    "LOCATION",
    "ORGANIZATION",
    "PHONE",
    "FAX",
    "EMAIL",
    "SSN",
    "MRN",
    "HEALTH_PLAN",
    "ACCOUNT",
    "LICENSE",
    "VEHICLE",
    "DEVICE",
    "URL",
    "IP",
    "BIOMETRIC",
    "OTHER_ID",
)

# Never the first or last character of an identifier: what surrounds it stays in the text when it is redacted.
_EDGES = ' \t\r\n.,;:!?"“”|'


class Piece(NamedTuple):
    """A run of text; `label` None means it identifies nobody."""

    text: str
    label: str | None = None


def assemble(pieces: Iterable[Piece]) -> tuple[str, tuple[Span, ...]]:
    """The whole text and its spans: sorted, apart from each other, trimmed of surrounding punctuation."""
    texts: list[str] = []
    spans: list[Span] = []
    at = 0
    for text, label in pieces:
        texts.append(text)
        if label is not None:
            core = text.strip(_EDGES)
            if core:
                start = at + text.index(core)
                spans.append(Span(start, start + len(core), label, 1.0))
        at += len(text)
    return "".join(texts), tuple(spans)


def join_names(pieces: Iterable[Piece]) -> list[Piece]:
    """Given and family name side by side are one name: `[Ada][ ][Okafor]` becomes `[Ada Okafor]`."""
    joined: list[Piece] = []
    for piece in pieces:
        joined.append(piece)
        if len(joined) >= 3 and joined[-2] == Piece(" ") and joined[-3].label == piece.label == "NAME":
            joined[-3:] = [Piece(f"{joined[-3].text} {piece.text}", "NAME")]
    return joined


def split(text: str, spans: Sequence[Span]) -> list[Piece]:
    """The inverse of `assemble`."""
    pieces: list[Piece] = []
    at = 0
    for span in spans:
        if span.start > at:
            pieces.append(Piece(text[at : span.start]))
        pieces.append(Piece(text[span.start : span.end], span.label))
        at = span.end
    if at < len(text):
        pieces.append(Piece(text[at:]))
    return pieces
