"""Task `classify`: text to one sequence, logits back to calibrated labels, best first. Pure.

    prepared = prepare(text, manifest, wordpiece, config.specialists)
    outputs = await engine.encode(key, prepared.inputs)
    labels = finish(prepared, outputs)           # empty: the specialist abstains

One label of many: softmax, and an abstention where the best stays below `calibration.abstain_below`. Several labels
at once (`multi_label`): a sigmoid each, and those that reach their threshold. A long text is read in windows, whose
logits are averaged by the number of tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from appliance.config import SpecialistsConfig
from appliance.specialists import windows, word_shapes
from appliance.specialists.manifest import Manifest
from appliance.specialists.tasks.tag import check_features, check_length, check_outputs
from appliance.specialists.tokenization import WordPiece
from appliance.types import EncodeInput, LabelScore

MULTI_LABEL_THRESHOLD = 0.5


@dataclass(frozen=True, slots=True)
class PreparedClassify:
    """A text cut into the engine's inputs; `weights` are the windows' token counts."""

    text: str
    manifest: Manifest
    inputs: tuple[EncodeInput, ...]
    weights: tuple[int, ...]


def prepare(text: str, manifest: Manifest, wordpiece: WordPiece, config: SpecialistsConfig) -> PreparedClassify:
    """Windows of `text` without overlap; a text without any token is classified by its special tokens alone.

    Raises `InputTooLong` and `ModelFileRefused` as `tag.prepare` does.
    """
    check_length(text, manifest)
    check_features(manifest)
    tokens = wordpiece.encode(text)
    features = word_shapes.features(text, tokens) if manifest.feature_version else None
    # No site-wide window here: a classifier reads as much at once as it was trained on.
    plan = windows.plan(len(tokens), window_tokens=manifest.window_tokens, overlap_tokens=0)
    plan = plan or (windows.Window(0, 0, 0, 0),)
    inputs = tuple(
        windows.cut(window, tokens, features, cls_id=wordpiece.cls_id, sep_id=wordpiece.sep_id) for window in plan
    )
    return PreparedClassify(text, manifest, inputs, tuple(max(window.stop - window.start, 1) for window in plan))


def finish(prepared: PreparedClassify, outputs: Sequence[np.ndarray]) -> tuple[LabelScore, ...]:
    """Labels with their probabilities, best first; empty where the specialist abstains.

    A single-label specialist that does not abstain returns every label, so that the runner-up can be shown.
    """
    manifest = prepared.manifest
    check_outputs(manifest, outputs, len(manifest.labels))
    logits = np.average(np.stack(outputs).astype(np.float64), axis=0, weights=prepared.weights)
    logits = logits / manifest.calibration.temperature
    if manifest.multi_label:
        scores = 0.5 * (1.0 + np.tanh(0.5 * logits))  # the sigmoid, in the form that cannot overflow
        thresholds = manifest.calibration.thresholds
        kept = [
            LabelScore(label, float(score))
            for label, score in zip(manifest.labels, scores, strict=True)
            if score >= thresholds.get(label, MULTI_LABEL_THRESHOLD)
        ]
    else:
        weights = np.exp(logits - logits.max())
        scores = weights / weights.sum()
        if scores.max() < manifest.calibration.abstain_below:
            return ()
        kept = [LabelScore(label, float(score)) for label, score in zip(manifest.labels, scores, strict=True)]
    return tuple(sorted(kept, key=lambda label: -label.score))
