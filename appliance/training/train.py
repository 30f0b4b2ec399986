"""Train a tagger from a recipe: `python -m appliance.training.train RECIPE --data DATA --base BASE --out OUT`.

BASE holds `model.safetensors` and `vocab.txt`; DATA the folders that the note generator reads. OUT receives
`checkpoint.pt` while the run lasts (the same command continues it) and at the end `trained.pt`, which
`python -m appliance.training.export` turns into a specialist file. Two CPU cores do about 5,000 tokens a second.

The run is a loop over batches that the generator makes as they are needed; the schedule anneals to zero at the recipe's
number of tokens, or at `--minutes`, whichever comes first.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from appliance.errors import ApplianceError, ModelFileRefused
from appliance.specialists.base_model import MINILM, VOCABULARY_FILE, WEIGHTS_FILE, sha256_of_file
from appliance.specialists.tasks.bio import class_count, decode
from appliance.specialists.tokenization import WordPiece
from appliance.specialists.windows import merge, plan
from appliance.specialists.word_shapes import FEATURE_COUNT
from appliance.training.answer_recipe import AnswerSchedule
from appliance.training.answerer import Reader
from appliance.training.arithmetic import CPU, DEVICES, autocast, device_named, device_of, on
from appliance.training.beside import beside
from appliance.training.collections import biomedical
from appliance.training.examples import (
    UNMARKED_CLASS,
    Batch,
    Encoding,
    LabelledText,
    PieceReplacement,
    batches,
    examples_of,
    pad,
)
from appliance.training.notes.generator import generate
from appliance.training.recipe import Recipe, Schedule, read_recipe
from appliance.training.scores import SpanScore, score_spans
from appliance.training.tagger import HeadShape, Tagger, build_tagger
from appliance.types import Span

CHECKPOINT_FILE, TRAINED_FILE = "checkpoint.pt", "trained.pt"
CHECKPOINT_EVERY_S = 120.0
PROGRESS_EVERY_S = 10.0
GRADIENT_NORM_MAX = 1.0
NOTES_MAX = 100_000_000  # more than any schedule draws


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run has come to: enough to continue it."""

    step: int
    tokens: int
    seconds: float


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Progress goes to stderr, the development figures to stdout."""
    parser = argparse.ArgumentParser(prog="python -m appliance.training.train", description="train a specialist")
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="folder with the collections the recipe names")
    parser.add_argument("--base", type=Path, required=True, help="folder with model.safetensors and vocab.txt")
    parser.add_argument("--out", type=Path, required=True, help="working folder")
    parser.add_argument("--minutes", type=float, default=120.0, help="end by then, whatever the recipe says")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", choices=DEVICES, default="cpu", help="where to compute")
    parser.add_argument("--workers", type=int, default=1, help="processes that make texts")
    options = parser.parse_args(arguments)
    try:
        recipe = read_recipe(options.recipe).recipe
        torch.set_num_threads(options.threads)
        run(
            recipe,
            data=options.data,
            base=options.base,
            out=options.out,
            seconds_max=60 * options.minutes,
            device=device_named(options.device),
            workers=options.workers,
        )
    except ApplianceError as error:
        print(f"appliance: error: {error}", file=sys.stderr)
        return 1
    return 0


def run(
    recipe: Recipe,
    *,
    data: Path,
    base: Path,
    out: Path,
    seconds_max: float,
    device: torch.device = CPU,
    workers: int = 1,
) -> SpanScore:
    """Train, save `trained.pt`, and measure on the generator's development stream."""
    check_base(base)
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(recipe.schedule.seed)
    encoding = encoding_of(recipe, base)
    tagger = new_tagger(recipe, base).to(device)
    fit(tagger, recipe, base=base, data=data, out=out, seconds_max=seconds_max, workers=workers)
    torch.save({"state": tagger.trainable()}, out / TRAINED_FILE)
    notes = development_texts(recipe, data)
    score = measure(tagger, encoding, notes, recipe.recall_bias)
    print(*(f"{name} {value:.4f}" for name, value in score.metrics().items()), sep="\n", flush=True)
    return score


def texts_of(recipe: Recipe, data: Path, seed: int) -> Iterator[LabelledText]:
    """Training texts without end, from a seed."""
    if recipe.collection == "notes":
        return generate(seed, NOTES_MAX, data)
    return biomedical.stream(biomedical.read_biomedical(data).train, seed)


def development_texts(recipe: Recipe, data: Path) -> Sequence[LabelledText]:
    """What a run is measured on at its end; never the evidence of a release."""
    if recipe.collection == "notes":
        return list(generate(recipe.development.seed, recipe.development.notes, data))
    sentences = biomedical.read_biomedical(data).development[: recipe.development.notes]
    return [biomedical.text_of([sentence], spaced=True) for sentence in sentences]


def check_base(base: Path) -> None:
    """Training over another base than the published one would make an adapter that serving refuses."""
    for name, _, digest in MINILM.files():
        if not (base / name).is_file() or sha256_of_file(base / name) != digest:
            raise ModelFileRefused(
                f"{base / name} is not the published file of {MINILM.name}",
                hint=f"put {WEIGHTS_FILE} and {VOCABULARY_FILE} of {MINILM.hub_repository} there",
            )


def encoding_of(recipe: Recipe, base: Path) -> Encoding:
    """Tokenizer, labels and windows of this recipe."""
    wordpiece = WordPiece.from_vocab(base / VOCABULARY_FILE)
    return Encoding(wordpiece, recipe.labels, recipe.schedule.window_tokens, recipe.schedule.overlap_tokens)


def new_tagger(recipe: Recipe, base: Path) -> Tagger:
    """An untrained tagger in this recipe's shape."""
    head = HeadShape(FEATURE_COUNT, recipe.head.conv_width, recipe.head.hidden, class_count(len(recipe.labels)))
    adapter = recipe.adapter
    return build_tagger(
        base / WEIGHTS_FILE,
        MINILM.shape,
        head,
        rank=adapter.rank,
        alpha=adapter.alpha,
        first_layer=adapter.first_layer,
    )


def fit(
    tagger: Tagger, recipe: Recipe, *, base: Path, data: Path, out: Path, seconds_max: float, workers: int = 1
) -> None:
    """The loop: next batch, one step, now and then a line and a checkpoint."""
    schedule = recipe.schedule
    optimizer = torch.optim.AdamW(
        tagger.trainable().values(), lr=schedule.learning_rate, betas=(0.9, 0.98), weight_decay=schedule.weight_decay
    )
    place = restore(out / CHECKPOINT_FILE, tagger, optimizer)
    report = Progress(schedule.tokens, place)
    started = time.monotonic() - place.seconds
    saved_at = place.seconds
    # A continued run draws new notes: it repeats none of those it has learned from.
    stream = beside(partial(batches_of, recipe, base, data), seed=schedule.seed + place.step, workers=workers)
    unmarked = [1 + 2 * recipe.labels.index(label) + part for label in recipe.unmarked_labels for part in (0, 1)]
    tagger.train()
    for batch in stream:
        share = max(place.tokens / schedule.tokens, place.seconds / seconds_max)
        if share >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(schedule, share)
        loss = train_step(tagger, optimizer, batch, unmarked)
        seconds = time.monotonic() - started
        place = Place(place.step + 1, place.tokens + int(batch.lengths.sum()), seconds)
        report.line(place, loss)
        if seconds - saved_at > CHECKPOINT_EVERY_S:
            save(out / CHECKPOINT_FILE, tagger, optimizer, place)
            saved_at = seconds
    tagger.eval()


def batches_of(recipe: Recipe, base: Path, data: Path, seed: int) -> Iterator[Batch]:
    """Training batches without end, from a seed."""
    schedule = recipe.schedule
    rng = np.random.default_rng(seed)
    encoding = encoding_of(recipe, base)
    vocabulary = encoding.wordpiece.tokenizer.get_vocab()
    return batches(
        texts_of(recipe, data, seed),
        encoding,
        batch_tokens=schedule.batch_tokens,
        pool_notes=schedule.pool_notes,
        rng=rng,
        replaced=PieceReplacement(recipe.augmentation, recipe.labels, vocabulary, rng),
    )


def train_step(tagger: Tagger, optimizer: torch.optim.Optimizer, batch: Batch, unmarked: Sequence[int] = ()) -> float:
    """One step on one batch, in the arithmetic that this processor is fastest with; returns the loss."""
    device = device_of(tagger.parameters())
    *inputs, classes = on(device, (batch.token_ids, batch.features, batch.lengths, batch.classes))
    with autocast(device):
        logits = tagger(*inputs)
    loss = token_loss(logits.flatten(0, 1), classes.flatten(), unmarked)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(tagger.trainable().values(), GRADIENT_NORM_MAX)
    optimizer.step()
    return float(loss.detach())


def token_loss(logits: Tensor, classes: Tensor, unmarked: Sequence[int]) -> Tensor:
    """Mean cross-entropy; where the class is `UNMARKED_CLASS`, "outside" and the `unmarked` classes are all right."""
    likely = functional.log_softmax(logits, dim=1)
    known = classes >= 0
    losses = -likely[known].gather(1, classes[known][:, None]).squeeze(1)
    open_ = classes == UNMARKED_CLASS
    if unmarked and bool(open_.any()):
        losses = torch.cat((losses, -torch.logsumexp(likely[open_][:, [0, *unmarked]], dim=1)))
    return losses.mean()


def learning_rate(schedule: Schedule | AnswerSchedule, share: float) -> float:
    """Per cycle a linear warm-up, then a cosine to zero; every cycle peaks at half of the one before."""
    cycle, within = divmod(share * schedule.cycles, 1)
    peak = schedule.learning_rate * 0.5**cycle
    if within < schedule.warmup:
        return peak * within / schedule.warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (within - schedule.warmup) / (1 - schedule.warmup)))


def predict(tagger: Tagger, encoding: Encoding, text: str) -> np.ndarray:
    """Merged logits (T, classes) of a text, as serving computes them, here in float32 PyTorch."""
    tokens = encoding.wordpiece.encode(text)
    windows = plan(len(tokens), window_tokens=encoding.window_tokens, overlap_tokens=encoding.overlap_tokens)
    if not windows:
        return np.zeros((0, tagger.shape.classes), dtype=np.float32)
    batch = pad(list(examples_of(_Unlabelled(text), encoding)))
    with torch.inference_mode():
        inputs = on(device_of(tagger.parameters()), (batch.token_ids, batch.features, batch.lengths))
        logits = tagger(*inputs).cpu().numpy()
    return merge(windows, [rows[:length] for rows, length in zip(logits, batch.lengths.tolist(), strict=True)])


def spans_of(text: str, logits: np.ndarray, encoding: Encoding, recall_bias: float) -> tuple[Span, ...]:
    """Decoded spans of the model alone: no patterns, no propagation."""
    if not len(logits):
        return ()
    tokens = encoding.wordpiece.encode(text)
    return tuple(
        Span(int(tokens.starts[s.first]), int(tokens.ends[s.end - 1]), encoding.labels[s.label], s.score)
        for s in decode(logits, recall_bias)
    )


def measure(tagger: Tagger, encoding: Encoding, notes: Iterable[LabelledText], recall_bias: float) -> SpanScore:
    """Score the model alone on labelled notes."""
    tagger.eval()
    return score_spans(
        (note.text, note.spans, spans_of(note.text, predict(tagger, encoding, note.text), encoding, recall_bias))
        for note in notes
    )


@dataclass(frozen=True, slots=True)
class _Unlabelled:
    text: str
    spans: tuple[Span, ...] = ()
    unmarked: tuple[str, ...] = ()


class Progress:
    """One line every few seconds: place, loss, speed, time left. Owns the running mean of the loss."""

    def __init__(self, tokens_total: int, place: Place) -> None:
        self._total, self._first, self._last_s, self._mean = tokens_total, place, place.seconds, 0.0

    def line(self, place: Place, loss: float) -> None:
        """Take one step's loss; print, if it is time."""
        self._mean = loss if place.step == self._first.step + 1 else 0.98 * self._mean + 0.02 * loss
        if place.seconds - self._last_s < PROGRESS_EVERY_S:
            return
        self._last_s = place.seconds
        speed = (place.tokens - self._first.tokens) / max(place.seconds - self._first.seconds, 1e-9)
        left = (self._total - place.tokens) / speed / 60
        print(
            f"step {place.step}  {place.tokens:,} of {self._total:,} tokens  loss {self._mean:.4f}  "
            f"{speed:,.0f} tokens/s  {left:.0f} min left",
            file=sys.stderr,
            flush=True,
        )


def save(path: Path, tagger: Tagger | Reader, optimizer: torch.optim.Optimizer, place: Place) -> None:
    """All of it under its name, or what was there before."""
    draft = path.with_suffix(".new")
    step, tokens, seconds = place.step, place.tokens, place.seconds
    state = {"state": tagger.trainable(), "optimizer": optimizer.state_dict(), "place": (step, tokens, seconds)}
    torch.save(state, draft)
    draft.replace(path)


def restore(path: Path, tagger: Tagger | Reader, optimizer: torch.optim.Optimizer) -> Place:
    """What `save` left, if it is there; returns where the run had come to."""
    if not path.exists():
        return Place(0, 0, 0.0)
    saved = torch.load(path, weights_only=True, map_location="cpu")
    tagger.load_state_dict(saved["state"], strict=False)
    optimizer.load_state_dict(saved["optimizer"])
    return Place(*saved["place"])


if __name__ == "__main__":
    sys.exit(main())
