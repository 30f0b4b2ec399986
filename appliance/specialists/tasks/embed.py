"""Task `embed`: text to sequences, states back to one vector of length 1. Pure.

    prepared = prepare(text, manifest, wordpiece, config.specialists)
    outputs = await engine.encode(key, prepared.inputs)
    vector = finish(prepared, outputs)           # (states,) float32; the dot product of two is their cosine

The mean over the tokens of a text, special tokens included, scaled to length 1: what the base model was trained to
give. A long text is read in as few windows as hold it, whose means are averaged by the number of tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from appliance.config import SpecialistsConfig
from appliance.errors import SpecialistFileInvalid
from appliance.specialists import windows, word_shapes
from appliance.specialists.manifest import Manifest
from appliance.specialists.tasks.tag import check_features, check_length, check_outputs
from appliance.specialists.tokenization import WordPiece
from appliance.types import EncodeInput


@dataclass(frozen=True, slots=True)
class PreparedEmbed:
    """A text cut into the engine's inputs; `weights` are the windows' token counts."""

    manifest: Manifest
    inputs: tuple[EncodeInput, ...]
    weights: tuple[int, ...]


def prepare(text: str, manifest: Manifest, wordpiece: WordPiece, config: SpecialistsConfig) -> PreparedEmbed:
    """As few windows as hold `text`; a text without any token is its special tokens alone.

    Raises `InputTooLong` and `ModelFileRefused` as `tag.prepare` does.
    """
    check_length(text, manifest)
    check_features(manifest)
    tokens = wordpiece.encode(text)
    features = word_shapes.features(text, tokens) if manifest.feature_version else None
    # No site-wide window here: the mean of many short windows is another vector than the one the model was made for.
    plan = windows.plan(len(tokens), window_tokens=manifest.window_tokens, overlap_tokens=0)
    plan = plan or (windows.Window(0, 0, 0, 0),)
    inputs = tuple(
        windows.cut(window, tokens, features, cls_id=wordpiece.cls_id, sep_id=wordpiece.sep_id) for window in plan
    )
    return PreparedEmbed(manifest, inputs, tuple(max(window.stop - window.start, 1) for window in plan))


def finish(prepared: PreparedEmbed, outputs: Sequence[np.ndarray]) -> np.ndarray:
    """The vector from one mean per input. Raises `SpecialistFileInvalid` for states that have no direction."""
    check_outputs(prepared.manifest, outputs, outputs[0].shape[-1])
    mean = np.average(np.stack(outputs).astype(np.float64), axis=0, weights=prepared.weights)
    length = float(np.linalg.norm(mean))
    if length == 0.0:
        raise SpecialistFileInvalid(
            f"{prepared.manifest.id} {prepared.manifest.version} returned states without a direction",
            hint="install the specialist again",
        )
    return (mean / length).astype(np.float32)
