"""Which specialist a text is for: a decision over vectors, with a reason a person can read. Pure; runs nothing.

    inputs = prepare(["Remove the names\n\nMr. Okoro was seen …"], wordpiece)    # views of each text, for the bare base
    route = decide(unit(vectors), known, installed=frozenset({"phi-deid"}))
    route.specialist, route.score, route.reason, route.runner_up, route.nearest

A specialist is known by example requests. Its similarity to a text is the mean cosine of the text's vector and the
NEIGHBOURS examples that are nearest to it. A text of several paragraphs has two views, the whole and its first line,
because an instruction often stands before what it is about; similarities are averaged over views. A softmax of the
similarities over all known specialists gives scores that add up to one. Among the known are the release's specialists
that are not installed here, and `NONE`, whose examples are what nobody serves: where one of these is the best, or where
the best stays below the threshold, nothing is chosen.

The temperature and the threshold were chosen on the development part of `training/routing/`; its command prints them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from appliance.specialists.manifest import NOBODY_ID, RESERVED_ID
from appliance.specialists.tokenization import WordPiece
from appliance.types import Adapter, EncodeInput, Head

AUTO = RESERVED_ID  # the id that asks for a decision
NONE = NOBODY_ID  # examples of what no specialist serves
NEIGHBOURS = 3
NEAREST_SHOWN = 3
TOKENS_MAX = 62  # of a view, besides the two special tokens: what a text is about, it says early
_VIEW_CHARS_MAX = 4000
# The base model alone, mean over tokens: what examples and texts are compared by.
BARE_BASE = Adapter("bare-base", None, None, Head("none", 0, None, None, None, None))


@dataclass(frozen=True, slots=True)
class RouterCalibration:
    """From similarities (cosines) to scores, and the score below which nothing is chosen."""

    temperature: float
    abstain_below: float


CALIBRATION = RouterCalibration(temperature=0.025, abstain_below=0.55)


@dataclass(frozen=True, slots=True)
class Example:
    """A request that is known to be for this specialist."""

    specialist: str
    text: str


@dataclass(frozen=True, slots=True)
class Known:
    """Every example with its vector: `vectors` (examples, states), rows of length one."""

    examples: tuple[Example, ...]
    vectors: np.ndarray


@dataclass(frozen=True, slots=True)
class SpecialistScore:
    """How well one specialist fits; scores of all known ones add up to one."""

    specialist: str
    score: float


@dataclass(frozen=True, slots=True)
class NearExample:
    """An example near the text; `score` is their cosine."""

    specialist: str
    example: str
    score: float


@dataclass(frozen=True, slots=True)
class Route:
    """The decision. `specialist` None: it abstains, and `reason` says what to do. `scores`: best first."""

    specialist: str | None
    score: float
    reason: str
    runner_up: SpecialistScore | None
    nearest: tuple[NearExample, ...]
    scores: tuple[SpecialistScore, ...]

    @property
    def abstained(self) -> bool:
        """Whether nothing was chosen."""
        return self.specialist is None


def views(text: str) -> tuple[str, ...]:
    """The text and, where more follows, its first line.

    >>> views("Remove the names\\n\\nMr. Okoro was seen")
    ('Remove the names\\n\\nMr. Okoro was seen', 'Remove the names')
    """
    whole = text[:_VIEW_CHARS_MAX].strip()
    first, _, rest = whole.partition("\n")
    return (whole, first.strip()) if rest.strip() else (whole,)


def prepare(texts: Sequence[str], wordpiece: WordPiece) -> tuple[EncodeInput, ...]:
    """One input each, cut to what the router reads."""
    return tuple(
        EncodeInput(
            np.concatenate(
                ([wordpiece.cls_id], wordpiece.encode(text[:_VIEW_CHARS_MAX]).ids[:TOKENS_MAX], [wordpiece.sep_id])
            ).astype(np.int32)
        )
        for text in texts
    )


def unit(vectors: Sequence[np.ndarray]) -> np.ndarray:
    """Rows of length one (a row of zeros stays)."""
    rows = np.stack(vectors).astype(np.float32)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(lengths > 0, lengths, 1.0)


def decide(
    vectors: np.ndarray, known: Known, installed: Collection[str], calibration: RouterCalibration = CALIBRATION
) -> Route:
    """The route of one text from the vectors of its views (views, states). At least one specialist is known."""
    cosines = (vectors @ known.vectors.T).mean(axis=0)
    similar = similarities(vectors, known)
    scores = _scores(similar, calibration)
    nearest = tuple(
        NearExample(known.examples[row].specialist, known.examples[row].text, round(float(cosines[row]), 4))
        for row in np.argsort(-cosines, kind="stable")
        if known.examples[row].specialist != NONE
    )[:NEAREST_SHOWN]
    usable = [entry for entry in scores if entry.specialist in installed]
    best = scores[0]
    if best.specialist in installed and best.score >= calibration.abstain_below:
        runner_up = next((entry for entry in usable if entry.specialist != best.specialist), None)
        mine = _nearest_of(best.specialist, cosines, known)
        reason = f"it is most like requests to {best.specialist} ({best.score:.2f}), such as {_quoted(mine)}"
        if runner_up is not None:
            reason += f"; {runner_up.specialist} is next ({runner_up.score:.2f})"
        return Route(best.specialist, best.score, reason, runner_up, nearest, scores)
    return Route(None, best.score, _why_not(best, usable), usable[0] if usable else None, nearest, scores)


def similarities(vectors: np.ndarray, known: Known) -> dict[str, float]:
    """Mean cosine with the nearest examples of each specialist, averaged over views."""
    cosines = vectors @ known.vectors.T
    owners = np.array([example.specialist for example in known.examples])
    return {
        name: float(np.sort(cosines[:, owners == name], axis=1)[:, -NEIGHBOURS:].mean(axis=1).mean())
        for name in dict.fromkeys(owners.tolist())
    }


def _scores(similar: dict[str, float], calibration: RouterCalibration) -> tuple[SpecialistScore, ...]:
    values = np.array(list(similar.values())) / calibration.temperature
    weights = np.exp(values - values.max())
    shares = weights / weights.sum()
    scores = [SpecialistScore(name, round(float(share), 4)) for name, share in zip(similar, shares, strict=True)]
    return tuple(sorted(scores, key=lambda entry: (-entry.score, -similar[entry.specialist], entry.specialist)))


def _nearest_of(specialist: str, cosines: np.ndarray, known: Known) -> str:
    rows = [row for row, example in enumerate(known.examples) if example.specialist == specialist]
    return known.examples[max(rows, key=lambda row: cosines[row])].text


def _why_not(best: SpecialistScore, usable: Sequence[SpecialistScore]) -> str:
    if not usable:
        return "no specialist is installed here; install one"
    named = " or ".join(f"{entry.specialist} ({entry.score:.2f})" for entry in usable[:2])
    if best.specialist == NONE:
        return f"it is like nothing that a specialist here does ({best.score:.2f}); if one should, name it: {named}"
    if best.specialist != usable[0].specialist:
        return (
            f"it is most like requests to {best.specialist} ({best.score:.2f}), which is not installed here: install it"
        )
    return f"no specialist fits clearly; name the one that should answer: {named}"


def _quoted(text: str, chars_max: int = 80) -> str:
    return f"“{text if len(text) <= chars_max else text[: chars_max - 1] + '…'}”"
