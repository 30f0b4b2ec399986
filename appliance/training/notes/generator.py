"""Synthetic clinical and financial notes with every identifier marked: what `phi-deid` learns from.

Owns: the public interface. The same seed gives the same notes, whatever the count. Uses the training side of the
partition alone; a held-back set is written elsewhere, by other means.

    for note in generate(seed=1, count=1000, data=Path("data")):
        print(note.kind, note.text, note.spans)
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from appliance.training.notes.documents import draw_kind
from appliance.training.notes.noise import disturb
from appliance.training.notes.pieces import LABELS, assemble, join_names
from appliance.training.notes.slots import Case
from appliance.training.notes.sources import Sources
from appliance.types import Span

__all__ = ["LABELS", "Note", "Sources", "generate", "generate_from"]


@dataclass(frozen=True, slots=True)
class Note:
    """A text, its identifiers (sorted, apart, trimmed; code points; score 1), and what kind of text it is."""

    text: str
    spans: tuple[Span, ...]
    kind: str
    unmarked: tuple[str, ...] = ()  # every label is marked


def generate(seed: int, count: int, data: Path) -> Iterator[Note]:
    """`count` notes made from the data folder."""
    return generate_from(Sources.load(data), seed, count)


def generate_from(sources: Sources, seed: int, count: int) -> Iterator[Note]:
    """`count` notes made from given sources. MUST be deterministic in (sources, seed, index of the note)."""
    for index in range(count):
        rng = random.Random(f"{seed}:{index}")  # noqa: S311 - synthetic text, nothing secret
        kind, build = draw_kind(rng)
        text, spans = assemble(disturb(join_names(build(Case.draw(rng, sources))), rng))
        yield Note(text, spans, kind)
