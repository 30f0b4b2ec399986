"""A text with its identifiers marked, and how one is put together from pieces. Pure.

>>> join([Piece("Dr. "), Piece("Okoro", "NAME"), Piece(" saw her")], "note").spans
(Span(start=4, end=9, label='NAME', score=1.0),)
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from appliance.types import Span

# Characters that may be redacted or left, as a careful reader likes: the state in an address, the weekday before a
# date. They count neither for nor against.
OPTIONAL = "optional"


@dataclass(frozen=True, slots=True)
class Piece:
    """Consecutive characters that are one identifier, or none (`label` None), or `OPTIONAL`."""

    text: str
    label: str | None = None


@dataclass(frozen=True, slots=True)
class LabelledText:
    """`spans` are sorted and disjoint; `optional` are stretches (start, end) that no measure counts."""

    text: str
    spans: tuple[Span, ...]
    kind: str
    optional: tuple[tuple[int, int], ...] = ()


def join(pieces: Iterable[Piece], kind: str) -> LabelledText:
    """The text of all pieces; neighbouring pieces of the same label stay two spans."""
    parts: list[str] = []
    spans: list[Span] = []
    optional: list[tuple[int, int]] = []
    place = 0
    for piece in pieces:
        end = place + len(piece.text)
        if piece.label == OPTIONAL:
            optional.append((place, end))
        elif piece.label is not None and piece.text:
            spans.append(Span(place, end, piece.label, 1.0))
        parts.append(piece.text)
        place = end
    return LabelledText("".join(parts), tuple(spans), kind, tuple(optional))
