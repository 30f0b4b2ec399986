"""Task `tag`: text to windows of tokens, logits back to character spans. Pure; the engine runs in between.

    prepared = prepare(text, manifest, wordpiece, config.specialists)
    outputs = await engine.encode(key, prepared.inputs)
    spans = finish(prepared, outputs)            # sorted, disjoint, exact code-point offsets into `text`

A span covers whole words, begins and ends on no blank or stray punctuation, and carries the mean probability of its
tokens. What follows decoding is the manifest's choice (`post`): "none", or "deid" for patterns with check digits,
Safe Harbor policy and propagation, in that order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from appliance.config import SpecialistsConfig
from appliance.errors import InputTooLong, ModelFileRefused, SpecialistFileInvalid
from appliance.specialists import windows, word_shapes
from appliance.specialists.deid import adjoining, patterns, policy, propagation
from appliance.specialists.deid.words import Words, tidy, words
from appliance.specialists.manifest import Manifest
from appliance.specialists.tasks import bio
from appliance.specialists.tokenization import Tokens, WordPiece
from appliance.types import EncodeInput, Span

# Keys of `calibration.thresholds`; any other key is a label and the least score its spans need.
PROPAGATE_NAME, PROPAGATE_PART, PROPAGATE_OTHER = "propagate-name", "propagate-part", "propagate-other"

SCORE_TIE = 1e-3  # two pieces of one word this close in score are equally sure, and the first decides


@dataclass(frozen=True, slots=True)
class PreparedTag:
    """A text cut into the engine's inputs, with what `finish` needs to find the way back."""

    text: str
    manifest: Manifest
    tokens: Tokens
    windows: tuple[windows.Window, ...]
    inputs: tuple[EncodeInput, ...]


def prepare(text: str, manifest: Manifest, wordpiece: WordPiece, config: SpecialistsConfig) -> PreparedTag:
    """Tokens, features and windows of `text`. A text without any token has no inputs and, in the end, no model spans.

    Raises `InputTooLong` beyond the specialist's own limit and `ModelFileRefused` where this release computes
    other features than the head was trained with.
    """
    check_length(text, manifest)
    check_features(manifest)
    tokens = wordpiece.encode(text)
    features = word_shapes.features(text, tokens) if manifest.feature_version else None
    size = min(manifest.window_tokens, config.window_tokens)
    overlap = min(config.window_overlap_tokens, (size - windows.SPECIAL_TOKENS) // 2)
    plan = windows.plan(len(tokens), window_tokens=size, overlap_tokens=overlap)
    inputs = tuple(
        windows.cut(window, tokens, features, cls_id=wordpiece.cls_id, sep_id=wordpiece.sep_id) for window in plan
    )
    return PreparedTag(text, manifest, tokens, plan, inputs)


def finish(prepared: PreparedTag, outputs: Sequence[np.ndarray]) -> tuple[Span, ...]:
    """The spans of the text from one array of logits per input. Raises `SpecialistFileInvalid` for foreign logits."""
    found = words(prepared.text)
    spans = _model_spans(prepared, outputs, found)
    return _deidentified(prepared, spans, found) if prepared.manifest.post == "deid" else spans


def check_length(text: str, manifest: Manifest) -> None:
    """Refuse a text beyond what the specialist was made and measured for."""
    if len(text) > manifest.input_chars_max:
        raise InputTooLong(
            f"the text has {len(text)} characters; {manifest.id} takes {manifest.input_chars_max}",
            hint="split the text",
        )


def check_features(manifest: Manifest) -> None:
    """Refuse a head trained on features that this release does not compute: it would answer, and wrongly."""
    if manifest.feature_version not in (0, word_shapes.FEATURE_VERSION):
        raise ModelFileRefused(
            f"{manifest.id} {manifest.version} needs word shapes of version {manifest.feature_version}; "
            f"this release computes version {word_shapes.FEATURE_VERSION}",
            hint="install a version of the specialist made for this release",
        )


def check_outputs(manifest: Manifest, outputs: Sequence[np.ndarray], columns: int) -> None:
    """Refuse logits that cannot belong to the manifest's labels, or that are no numbers."""
    for rows in outputs:
        if rows.shape[-1] != columns or not np.isfinite(rows).all():
            raise SpecialistFileInvalid(
                f"{manifest.id} {manifest.version} returned unusable logits of shape {rows.shape}; "
                f"its {len(manifest.labels)} labels need {columns} finite columns",
                hint="install the specialist again",
            )


def _model_spans(prepared: PreparedTag, outputs: Sequence[np.ndarray], found: Words) -> tuple[Span, ...]:
    manifest = prepared.manifest
    check_outputs(manifest, outputs, bio.class_count(len(manifest.labels)))
    if not prepared.windows:
        return ()
    logits = windows.merge(prepared.windows, outputs) / manifest.calibration.temperature
    thresholds = manifest.calibration.thresholds
    starts, ends = prepared.tokens.starts, prepared.tokens.ends
    spans: list[Span] = []
    for piece in bio.decode(logits, manifest.calibration.recall_bias):
        label = manifest.labels[piece.label]
        if piece.score < thresholds.get(label, 0.0):
            continue
        span = Span(int(starts[piece.first]), int(ends[piece.end - 1]), label, piece.score)
        whole = tidy(found, span)
        if whole is not None:
            _append(spans, whole, prepared.text)
    return tuple(spans)


def _append(spans: list[Span], span: Span, text: str) -> None:
    """Add a span that begins no earlier than the last; a word both claim goes to the surer one.

    Decoding may break inside a word ("Oka" B-NAME, "for" B-NAME): both pieces then grow to the same word.
    """
    if not spans or spans[-1].end < span.start:
        spans.append(span)
        return
    last = spans[-1]
    same = last.label == span.label
    if last.end > span.start or (same and last.end == span.start):
        label = span.label if span.score > last.score + SCORE_TIE else last.label
        joined = Span(min(last.start, span.start), max(last.end, span.end), label, max(last.score, span.score))
        spans[-1] = joined
    else:
        spans.append(span)


def _deidentified(prepared: PreparedTag, spans: Sequence[Span], found: Words) -> tuple[Span, ...]:
    """Patterns over the model, policy, propagation, policy: a recurrence must pass the same filter."""
    text, thresholds = prepared.text, prepared.manifest.calibration.thresholds
    merged = patterns.merge(text, adjoining.with_adjoining(text, spans, found), patterns.structured_spans(text))
    kept = policy.apply(text, merged)
    carried = propagation.propagate(
        text,
        kept,
        found,
        name_score_min=thresholds.get(PROPAGATE_NAME, propagation.NAME_SCORE_MIN),
        part_score_min=thresholds.get(PROPAGATE_PART, propagation.PART_SCORE_MIN),
        other_score_min=thresholds.get(PROPAGATE_OTHER, propagation.OTHER_SCORE_MIN),
    )
    return policy.apply(text, carried)
