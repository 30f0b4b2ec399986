"""Task `classify`: text to sequences, logits back to calibrated labels, best first. Pure.

    prepared = prepare(text, manifest, wordpiece, config.specialists, context=entity)
    outputs = await engine.encode(key, prepared.inputs)
    decision = finish(prepared, outputs)         # decision.labels: what is assigned; decision.best: the best even then

One label of many: softmax, and an abstention where the best stays below `calibration.abstain_below`. Several labels
at once (`multi_label`): a sigmoid each, and those that reach their threshold. A long text is read in windows, whose
logits are averaged by the number of tokens. What the text is asked about (`manifest.context`: an entity, a finding)
stands before it in every window, with a separator between.

A manifest of `unit` `sentence` takes the sentences of one document, and labels each by the mean of its tokens' logits:

    prepared = prepare_sentences(sentences, manifest, wordpiece, config.specialists)
    decisions = finish_sentences(prepared, outputs)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from appliance.config import SpecialistsConfig
from appliance.errors import InputEmpty, InvalidRequest
from appliance.specialists import windows, word_shapes
from appliance.specialists.manifest import NEGATED, Manifest
from appliance.specialists.tasks import negation
from appliance.specialists.tasks.tag import check_features, check_length, check_outputs
from appliance.specialists.tokenization import WordPiece
from appliance.types import EncodeInput, LabelScore

MULTI_LABEL_THRESHOLD = 0.5
CONTEXT_TOKENS_MAX = 64
SENTENCES_MAX = 1000


@dataclass(frozen=True, slots=True)
class Decision:
    """What a classifier says. `labels`: every label of a single-label specialist with its probability, best first, or
    the assigned ones of a multi-label specialist; empty where it abstains. `best`: the best label even then.
    """

    labels: tuple[LabelScore, ...]
    best: LabelScore

    @property
    def abstains(self) -> bool:
        """Whether no label is assigned."""
        return not self.labels


@dataclass(frozen=True, slots=True)
class PreparedClassify:
    """A text cut into the engine's inputs; `weights` are the windows' token counts."""

    text: str
    manifest: Manifest
    inputs: tuple[EncodeInput, ...]
    weights: tuple[int, ...]
    context: str = ""


@dataclass(frozen=True, slots=True)
class PreparedSentences:
    """Sentences in as few inputs as hold them; `places[i]` is (input, first row, row after the last) of sentence i."""

    manifest: Manifest
    inputs: tuple[EncodeInput, ...]
    places: tuple[tuple[int, int, int], ...]


def prepare(
    text: str, manifest: Manifest, wordpiece: WordPiece, config: SpecialistsConfig, *, context: str = ""
) -> PreparedClassify:
    """Windows of `text` without overlap; a text without any token is classified by its special tokens alone.

    Raises `InputTooLong` and `ModelFileRefused` as `tag.prepare` does, `InvalidRequest` for a context that is missing
    or not wanted, or where sentences are wanted.
    """
    _check_unit(manifest, "text")
    check_context(manifest, context)
    check_length(text, manifest)
    check_features(manifest)
    tokens = wordpiece.encode(text)
    features = word_shapes.features(text, tokens) if manifest.feature_version else None
    before = wordpiece.encode(context).ids[:CONTEXT_TOKENS_MAX] if context else None
    # No site-wide window here: a classifier reads as much at once as it was trained on.
    room = manifest.window_tokens - (0 if before is None else len(before) + 1)
    plan = windows.plan(len(tokens), window_tokens=room, overlap_tokens=0) or (windows.Window(0, 0, 0, 0),)
    cuts = [windows.cut(window, tokens, features, cls_id=wordpiece.cls_id, sep_id=wordpiece.sep_id) for window in plan]
    inputs = tuple(cut if before is None else _with_context(cut, before, wordpiece.sep_id) for cut in cuts)
    weights = tuple(max(window.stop - window.start, 1) for window in plan)
    return PreparedClassify(text, manifest, inputs, weights, context)


def finish(prepared: PreparedClassify, outputs: Sequence[np.ndarray]) -> Decision:
    """The decision from one row of logits per input. Raises `SpecialistFileInvalid` for foreign logits."""
    check_outputs(prepared.manifest, outputs, len(prepared.manifest.labels))
    logits = np.average(np.stack(outputs).astype(np.float64), axis=0, weights=prepared.weights)
    if prepared.manifest.post == "negation":
        logits[prepared.manifest.labels.index(NEGATED)] += negation.opinion(prepared.text, prepared.context)
    return decide(prepared.manifest, logits)


def prepare_sentences(
    sentences: Sequence[str], manifest: Manifest, wordpiece: WordPiece, config: SpecialistsConfig
) -> PreparedSentences:
    """The sentences of one document, each ended by a separator; a new input begins where one would be too long.

    Raises `InputEmpty` without any, `InvalidRequest` for too many or where a whole text is wanted.
    """
    _check_unit(manifest, "sentence")
    if not sentences:
        raise InputEmpty("there is no sentence", hint="send `sentences`, a list of texts")
    if len(sentences) > SENTENCES_MAX:
        raise InvalidRequest(f"{len(sentences)} sentences; at most {SENTENCES_MAX} at once", hint="split the document")
    check_features(manifest)
    rows: list[list[int]] = [[wordpiece.cls_id]]
    places: list[tuple[int, int, int]] = []
    for sentence in sentences:
        check_length(sentence, manifest)
        pieces = wordpiece.encode(sentence).ids[: manifest.window_tokens - windows.SPECIAL_TOKENS].tolist()
        pieces.append(wordpiece.sep_id)
        if len(rows[-1]) > 1 and len(rows[-1]) + len(pieces) > manifest.window_tokens:
            rows.append([wordpiece.cls_id])
        first = len(rows[-1])
        rows[-1] += pieces
        places.append((len(rows) - 1, first, len(rows[-1])))
    inputs = tuple(EncodeInput(np.array(row, dtype=np.int32)) for row in rows)
    return PreparedSentences(manifest, inputs, tuple(places))


def finish_sentences(prepared: PreparedSentences, outputs: Sequence[np.ndarray]) -> tuple[Decision, ...]:
    """One decision per sentence. Raises `SpecialistFileInvalid` for foreign logits."""
    check_outputs(prepared.manifest, outputs, len(prepared.manifest.labels))
    return tuple(
        decide(prepared.manifest, outputs[index][first:stop].astype(np.float64).mean(axis=0))
        for index, first, stop in prepared.places
    )


def decide(manifest: Manifest, logits: np.ndarray) -> Decision:
    """Calibrated labels from one row of logits."""
    logits = logits / manifest.calibration.temperature
    if manifest.multi_label:
        scores = 0.5 * (1.0 + np.tanh(0.5 * logits))  # the sigmoid, in the form that cannot overflow
    else:
        weights = np.exp(logits - logits.max())
        scores = weights / weights.sum()
    ranked = sorted(
        (LabelScore(label, float(score)) for label, score in zip(manifest.labels, scores, strict=True)),
        key=lambda label: -label.score,
    )
    if manifest.multi_label:
        thresholds = manifest.calibration.thresholds
        kept = tuple(label for label in ranked if label.score >= thresholds.get(label.label, MULTI_LABEL_THRESHOLD))
        return Decision(kept, ranked[0])
    if ranked[0].score < manifest.calibration.abstain_below:
        return Decision((), ranked[0])
    return Decision(tuple(ranked), ranked[0])


def check_context(manifest: Manifest, context: str) -> None:
    """Refuse a question without what it is about, and one about something where nothing is asked about."""
    if manifest.context == "required" and not context.strip():
        raise InvalidRequest(
            f"{manifest.id} judges a text with regard to something: its {manifest.context_name} is missing",
            hint=f"send `{manifest.context_name}` beside the text",
        )
    if manifest.context == "none" and context:
        raise InvalidRequest(f"{manifest.id} takes a text alone", hint="send nothing beside the text")


def _with_context(cut: EncodeInput, before: np.ndarray, sep_id: int) -> EncodeInput:
    """[CLS] context [SEP] text [SEP]; the context's rows have no features."""
    ids = np.concatenate((cut.token_ids[:1], before, [sep_id], cut.token_ids[1:])).astype(np.int32)
    if cut.features is None:
        return EncodeInput(ids)
    blank = np.zeros((len(before) + 1, cut.features.shape[1]), dtype=np.float32)
    return EncodeInput(ids, np.concatenate((cut.features[:1], blank, cut.features[1:])))


def _check_unit(manifest: Manifest, unit: str) -> None:
    if manifest.unit != unit:
        wanted = "`sentences`, a list of texts" if manifest.unit == "sentence" else "`text`"
        raise InvalidRequest(f"{manifest.id} labels each {manifest.unit}", hint=f"send {wanted}")
