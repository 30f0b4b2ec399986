"""How well predicted spans cover the true ones, counted in characters and in notes. Pure.

score = score_spans([(note.text, note.spans, predicted), ...])
score.recall, score.precision, score.notes_without_leak
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from appliance.types import Span


@dataclass(frozen=True, slots=True)
class SpanScore:
    """Character recall and precision whatever the label; recall per label; shares of notes."""

    notes: int
    recall: float
    precision: float
    notes_without_leak: float
    clean_notes_touched: float
    recall_of: dict[str, float]

    def metrics(self) -> dict[str, float]:
        """For a manifest, rounded to four digits."""
        values = {
            "character_recall": self.recall,
            "character_precision": self.precision,
            "notes_without_leak": self.notes_without_leak,
            "clean_notes_touched": self.clean_notes_touched,
        }
        values |= {f"character_recall_{label}": value for label, value in sorted(self.recall_of.items())}
        return {name: round(value, 4) for name, value in values.items()}


def score_spans(notes: Iterable[tuple[str, Sequence[Span], Sequence[Span]]]) -> SpanScore:
    """`notes` are (text, true spans, predicted spans). White space counts for nothing: it identifies nobody."""
    count = leaking = clean = touched = 0
    found = missed = wrong = 0
    found_of: Counter[str] = Counter()
    all_of: Counter[str] = Counter()
    for text, true, predicted in notes:
        count += 1
        visible = np.array([not character.isspace() for character in text], dtype=bool)
        wanted, marked = _covered(true, len(text)) & visible, _covered(predicted, len(text)) & visible
        found += int((wanted & marked).sum())
        missed += int((wanted & ~marked).sum())
        wrong += int((marked & ~wanted).sum())
        leaking += bool((wanted & ~marked).any())
        clean += not true
        touched += (not true) and bool(marked.any())
        for span in true:
            inside = visible[span.start : span.end]
            found_of[span.label] += int((inside & marked[span.start : span.end]).sum())
            all_of[span.label] += int(inside.sum())
    return SpanScore(
        notes=count,
        recall=found / max(found + missed, 1),
        precision=found / max(found + wrong, 1),
        notes_without_leak=1 - leaking / max(count, 1),
        clean_notes_touched=touched / max(clean, 1),
        recall_of={label: found_of[label] / total for label, total in all_of.items() if total},
    )


def _covered(spans: Iterable[Span], length: int) -> np.ndarray:
    mask = np.zeros(length, dtype=bool)
    for span in spans:
        mask[span.start : span.end] = True
    return mask
