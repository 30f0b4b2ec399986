"""Task `answer`: a question and a context to sequences, logits back to a quote cut from the context, or none. Pure.

    prepared = prepare(question, context, manifest, wordpiece, config.specialists)
    outputs = await engine.encode(key, prepared.inputs)
    quote = finish(prepared, outputs)            # quote.text == context[quote.start : quote.end]; None: not found

The head has two outputs per token: whether an answer starts here and whether it ends here. Row 0 of every window,
the special token before it, stands for "no answer in this window". With s and e the two columns,

    margin = max over i <= j of (s[i] + e[j])  -  (s[0] + e[0])        of the window where it is highest
    score  = sigmoid((margin + recall_bias) / temperature)

and a score below `abstain_below` is no answer. Answers begin and end at whole words, so a quote never cuts one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from appliance.config import SpecialistsConfig
from appliance.specialists import windows
from appliance.specialists.manifest import ANSWER_WINDOW_TOKENS_MIN, Manifest
from appliance.specialists.tasks.tag import check_features, check_length, check_outputs
from appliance.specialists.tokenization import Tokens, WordPiece
from appliance.types import EncodeInput, Quote

COLUMNS = 2  # start, end
QUESTION_TOKENS_MAX = 64
ANSWER_TOKENS_MAX = 80
OVERLAP_SHARE = 3  # windows overlap by a third, so that an answer shorter than that is whole in one of them
_IMPOSSIBLE = -1e30


@dataclass(frozen=True, slots=True)
class PreparedAnswer:
    """A context cut into the engine's inputs, the question before each. `first_row`: of the context's tokens."""

    context: str
    manifest: Manifest
    tokens: Tokens
    windows: tuple[windows.Window, ...]
    inputs: tuple[EncodeInput, ...]
    first_row: int
    begins: np.ndarray  # (T,) whether a token begins a word, and
    ends: np.ndarray  # (T,) whether it ends one


@dataclass(frozen=True, slots=True)
class Candidate:
    """The best place for an answer, before calibration. Characters `context[start:end]`."""

    start: int
    end: int
    margin: float


def prepare(
    question: str, context: str, manifest: Manifest, wordpiece: WordPiece, config: SpecialistsConfig
) -> PreparedAnswer:
    """Windows of `context` with the question before each. A context without any token has no inputs and no answer.

    Raises `InputTooLong` and `ModelFileRefused` as `tag.prepare` does.
    """
    check_length(context, manifest)
    check_length(question, manifest)
    check_features(manifest)
    asked = wordpiece.encode(question).ids[:QUESTION_TOKENS_MAX]
    tokens = wordpiece.encode(context)
    # No site-wide window here: the model reads as much at once as it was trained on.
    assert manifest.window_tokens >= ANSWER_WINDOW_TOKENS_MIN > QUESTION_TOKENS_MAX
    room = manifest.window_tokens - len(asked) - 1
    overlap = (room - windows.SPECIAL_TOKENS) // OVERLAP_SHARE
    plan = windows.plan(len(tokens), window_tokens=room, overlap_tokens=overlap)
    head = np.concatenate(([wordpiece.cls_id], asked, [wordpiece.sep_id]))
    inputs = tuple(
        EncodeInput(np.concatenate((head, tokens.ids[window.start : window.stop], [wordpiece.sep_id])).astype(np.int32))
        for window in plan
    )
    begins = ~wordpiece.continues[tokens.ids]
    return PreparedAnswer(context, manifest, tokens, plan, inputs, len(head), begins, np.append(begins[1:], True))


def finish(prepared: PreparedAnswer, outputs: Sequence[np.ndarray]) -> Quote | None:
    """The quote, or None: not found. Raises `SpecialistFileInvalid` for foreign logits."""
    found = best_candidate(prepared, outputs)
    if found is None:
        return None
    calibration = prepared.manifest.calibration
    score = score_of(found.margin, calibration.temperature, calibration.recall_bias)
    if score < calibration.abstain_below:
        return None
    return Quote(prepared.context[found.start : found.end], found.start, found.end, score)


def best_candidate(prepared: PreparedAnswer, outputs: Sequence[np.ndarray]) -> Candidate | None:
    """The span that stands out most against "no answer in this window"; None: there is nothing to quote."""
    check_outputs(prepared.manifest, outputs, COLUMNS)
    best: Candidate | None = None
    for window, rows in zip(prepared.windows, outputs, strict=True):
        inside = slice(window.start, window.stop)
        logits = rows.astype(np.float64)
        context = logits[prepared.first_row : prepared.first_row + window.stop - window.start]
        first, last, value = best_span(context, prepared.begins[inside], prepared.ends[inside])
        margin = value - float(logits[0].sum())
        if value > _IMPOSSIBLE / 2 and (best is None or margin > best.margin):
            start = int(prepared.tokens.starts[window.start + first])
            best = Candidate(start, int(prepared.tokens.ends[window.start + last]), margin)
    return best


def best_span(logits: np.ndarray, begins: np.ndarray, ends: np.ndarray) -> tuple[int, int, float]:
    """(i, j, s[i] + e[j]) with the highest sum among i <= j < i + ANSWER_TOKENS_MAX, whole words only.

    >>> best_span(np.array([[0.0, 9.0], [5.0, 0.0], [0.0, 4.0]]), np.full(3, True), np.full(3, True))
    (1, 2, 9.0)
    """
    starts = np.where(begins, logits[:, 0], _IMPOSSIBLE)
    stops = np.where(ends, logits[:, 1], _IMPOSSIBLE)
    padded = np.concatenate((stops, np.full(ANSWER_TOKENS_MAX - 1, 2 * _IMPOSSIBLE)))
    reach = np.lib.stride_tricks.sliding_window_view(padded, ANSWER_TOKENS_MAX)
    last = reach.argmax(axis=1)
    sums = starts + reach[np.arange(len(last)), last]
    first = int(sums.argmax())
    return first, first + int(last[first]), float(sums[first])


def score_of(margin: float, temperature: float, recall_bias: float) -> float:
    """The calibrated probability that the context holds an answer."""
    return float(0.5 * (1.0 + np.tanh(0.5 * (margin + recall_bias) / temperature)))
