"""Train a classifier from a recipe.

    python -m appliance.training.train_classifier RECIPE --data DATA --base BASE --out OUT

BASE holds `model.safetensors` and `vocab.txt`; DATA the collection that the recipe names. OUT receives `checkpoint.pt`
after every epoch (the same command continues it), at the end `trained.pt` with the calibration, and the figures on the
development part. The held-back part is never read here.

The output layer begins where softmax regression over the frozen base ends (`teaching/linear.py`), so that the adapters
need few passes: on two cores that is the difference between minutes and hours. One linear warm-up, then a cosine to
zero. Out-of-scope texts are trained towards saying nothing in particular.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from appliance.errors import ApplianceError
from appliance.specialists.base_model import MINILM, VOCABULARY_FILE, WEIGHTS_FILE
from appliance.specialists.manifest import NEGATED, Calibration
from appliance.specialists.tasks import negation
from appliance.specialists.tokenization import WordPiece
from appliance.training.arithmetic import CPU, DEVICES, autocast, device_named, device_of, on
from appliance.training.calibration import calibrate
from appliance.training.classifier import Classifier, build_classifier
from appliance.training.classifier_examples import (
    ClassifierBatch,
    ClassifierEncoding,
    ClassifierExample,
    document_of,
    epoch,
    example_of,
    hidden,
    pad,
    repeats,
    twice,
)
from appliance.training.classifier_recipe import ClassifierRecipe, read_classifier_recipe
from appliance.training.collections import read_collection
from appliance.training.collections.labelled import Collection, Labelled
from appliance.training.teaching import linear
from appliance.training.train import CHECKPOINT_FILE, GRADIENT_NORM_MAX, TRAINED_FILE, check_base

PROGRESS_EVERY_S = 10.0
EVALUATION_BATCH = 64
HEAD_SEGMENTS_MAX = 4096  # segments the first head is fitted to: a beginning, not the result
HEAD_L2 = 3e-3


@dataclass(frozen=True, slots=True)
class Trained:
    """A fitted classifier, its calibration and how it does on the development part."""

    classifier: Classifier
    calibration: Calibration
    development: dict[str, float]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Progress goes to stderr, the development figures to stdout."""
    parser = argparse.ArgumentParser(
        prog="python -m appliance.training.train_classifier", description="train a classifier"
    )
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="folder with the collections")
    parser.add_argument("--base", type=Path, required=True, help="folder with model.safetensors and vocab.txt")
    parser.add_argument("--out", type=Path, required=True, help="working folder")
    parser.add_argument("--minutes", type=float, default=120.0, help="end by then, whatever the recipe says")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", choices=DEVICES, default="cpu", help="where to compute")
    options = parser.parse_args(arguments)
    try:
        recipe = read_classifier_recipe(options.recipe).recipe
        torch.set_num_threads(options.threads)
        trained = run(
            recipe,
            data=options.data,
            base=options.base,
            out=options.out,
            seconds_max=60 * options.minutes,
            device=device_named(options.device),
        )
    except ApplianceError as error:
        print(f"appliance: error: {error}", *([f"hint: {error.hint}"] if error.hint else []), sep="\n", file=sys.stderr)
        return 1
    print(*(f"{name} {value:.4f}" for name, value in trained.development.items()), sep="\n", flush=True)
    return 0


def run(
    recipe: ClassifierRecipe, *, data: Path, base: Path, out: Path, seconds_max: float, device: torch.device = CPU
) -> Trained:
    """Train, calibrate on the development part, and save `trained.pt`."""
    check_base(base)
    out.mkdir(parents=True, exist_ok=True)
    collection = read_collection(recipe.collection, data)
    encoding = encoding_of(recipe, collection, WordPiece.from_vocab(base / VOCABULARY_FILE))
    classifier = new_classifier(recipe, collection, base).to(device)
    examples = examples_of(collection.train, recipe, encoding)
    if recipe.schedule.epochs > 1:
        examples = with_states(classifier, examples)
    if not (out / CHECKPOINT_FILE).exists():
        some = some_of(examples, HEAD_SEGMENTS_MAX, np.random.default_rng(recipe.schedule.seed))
        begin_head(classifier, some, multi_label=recipe.multi_label)
    fit(classifier, recipe, examples, encoding.wordpiece, out, seconds_max)
    examples = examples_of(collection.development, recipe, encoding)
    logits = predict(classifier, examples)
    if recipe.post == "negation":  # served with the rules, therefore calibrated with them
        column = collection.labels.index(NEGATED)
        logits[:, column] += [negation.opinion(text.text, text.context) for text in collection.development]
    targets = np.concatenate([example.targets for example in examples])
    calibration, figures = calibrate(
        logits,
        targets,
        collection.labels,
        multi_label=recipe.multi_label,
        in_scope_share=recipe.abstention.in_scope_share,
    )
    state = {"state": classifier.trainable(), "labels": list(collection.labels), "calibration": _plain(calibration)}
    torch.save(state, out / TRAINED_FILE)
    return Trained(classifier, calibration, figures)


def encoding_of(recipe: ClassifierRecipe, collection: Collection, wordpiece: WordPiece) -> ClassifierEncoding:
    """Tokenizer, labels and targets of this recipe."""
    schedule = recipe.schedule
    return ClassifierEncoding(
        wordpiece,
        collection.labels,
        schedule.window_tokens,
        recipe.multi_label,
        schedule.label_smoothing,
    )


def new_classifier(recipe: ClassifierRecipe, collection: Collection, base: Path) -> Classifier:
    """An untrained classifier in this recipe's shape."""
    torch.manual_seed(recipe.schedule.seed)
    return build_classifier(
        base / WEIGHTS_FILE,
        MINILM.shape,
        labels=len(collection.labels),
        rank=recipe.adapter.rank,
        alpha=recipe.adapter.alpha,
        dropout=recipe.schedule.dropout,
        first_layer=recipe.adapter.first_layer,
    )


def examples_of(
    labelled: Sequence[Labelled], recipe: ClassifierRecipe, encoding: ClassifierEncoding
) -> list[ClassifierExample]:
    """One sequence for each text, or the sentences of each document in as few sequences as hold them."""
    if recipe.unit == "text":
        return [example_of(text, encoding) for text in labelled]
    documents: dict[str, list[Labelled]] = {}
    for sentence in labelled:
        documents.setdefault(sentence.group, []).append(sentence)
    return [example for sentences in documents.values() for example in document_of(sentences, encoding)]


def some_of(
    examples: Sequence[ClassifierExample], segments_max: int, rng: np.random.Generator
) -> list[ClassifierExample]:
    """Examples at random, until they have `segments_max` segments."""
    order = rng.permutation(len(examples)).tolist()
    before = np.cumsum([0] + [len(examples[place].targets) for place in order[:-1]])
    return [examples[place] for place, count in zip(order, before.tolist(), strict=True) if count < segments_max]


def with_states(classifier: Classifier, examples: Sequence[ClassifierExample]) -> list[ClassifierExample]:
    """The examples with what enters the first trained layer: it is the same in every epoch (768 bytes a token)."""
    if not classifier.first_layer:
        return list(examples)
    device = device_of(classifier.parameters())
    found = list(examples)
    for places, batch in _by_length(examples):
        states = classifier.below(*on(device, (batch.token_ids, batch.lengths))).cpu().numpy()
        for row, place in enumerate(places):
            rows = states[row, : batch.lengths[row]].astype(np.float16)
            found[place] = dataclasses.replace(examples[place], states=rows)
    return found


def begin_head(classifier: Classifier, examples: Sequence[ClassifierExample], *, multi_label: bool) -> None:
    """Set the output layer to the regression over the base as it is: softmax, or for several labels logistic each."""
    vectors, targets = [], []
    device = device_of(classifier.parameters())
    classifier.eval()
    with torch.inference_mode():
        for _, batch in _by_length(examples):
            vectors.append(classifier.means(*_tensors(batch, device)).cpu().numpy())
            targets.append(batch.targets)
    weight, bias = first_head(np.concatenate(vectors), np.concatenate(targets), multi_label=multi_label)
    with torch.no_grad():
        classifier.out.weight.copy_(torch.from_numpy(weight.T))
        classifier.out.bias.copy_(torch.from_numpy(bias))


def first_head(vectors: np.ndarray, targets: np.ndarray, *, multi_label: bool) -> tuple[np.ndarray, np.ndarray]:
    """Weight (S, labels) and bias (labels,) of the regression; texts without a label take no part in a softmax."""
    labels = targets.shape[1]
    if not multi_label:
        known = targets.max(axis=1) > 1.5 / labels
        head = linear.fit(vectors[known], targets[known].argmax(axis=1), count=labels, l2=HEAD_L2)
        return head.weight, head.bias
    heads = [
        linear.fit(vectors, (targets[:, label] > 0.5).astype(np.int64), count=2, l2=HEAD_L2) for label in range(labels)
    ]
    weight = np.stack([head.weight[:, 1] - head.weight[:, 0] for head in heads], axis=1)
    return weight, np.array([head.bias[1] - head.bias[0] for head in heads], dtype=np.float32)


def fit(
    classifier: Classifier,
    recipe: ClassifierRecipe,
    examples: Sequence[ClassifierExample],
    wordpiece: WordPiece,
    out: Path,
    seconds_max: float = math.inf,
    progress: Callable[[float], None] = lambda _share: None,
) -> None:
    """All epochs, continuing after the last that was finished; annealed by `seconds_max` if that comes first."""
    schedule = recipe.schedule
    optimizer = torch.optim.AdamW(
        classifier.trainable().values(),
        lr=schedule.learning_rate,
        betas=(0.9, 0.98),
        weight_decay=schedule.weight_decay,
    )
    shown = repeats(examples, schedule.rare_below, np.random.default_rng(0)) if schedule.rare_below else examples
    steps = schedule.epochs * math.ceil(len(shown) / schedule.batch)
    special = (wordpiece.cls_id, wordpiece.sep_id)
    first, step, seconds = _restore(out / CHECKPOINT_FILE, classifier, optimizer)
    started = time.monotonic() - seconds
    report = _Progress(steps, step)
    share = 0.0
    classifier.train()
    for number in range(first, schedule.epochs):
        torch.manual_seed(schedule.seed + number)
        rng = np.random.default_rng((schedule.seed, number))
        for batch in epoch(examples, batch_size=schedule.batch, rng=rng, rare_below=schedule.rare_below):
            share = max(step / steps, (time.monotonic() - started) / seconds_max)
            if share >= 1:
                break
            progress(share)
            for group in optimizer.param_groups:
                group["lr"] = schedule.learning_rate * rate_at(share, schedule.warmup)
            passed = twice(batch) if schedule.consistency else batch
            if schedule.masked:
                passed = hidden(passed, schedule.masked, special, wordpiece.mask_id, rng)
            report.line(step, train_step(classifier, optimizer, passed, recipe))
            step += 1
        _save(out / CHECKPOINT_FILE, classifier, optimizer, (number + 1, step, time.monotonic() - started))
        if share >= 1:
            break
    classifier.eval()


def train_step(
    classifier: Classifier, optimizer: torch.optim.Optimizer, batch: ClassifierBatch, recipe: ClassifierRecipe
) -> float:
    """One step on one batch, in the arithmetic that this processor is fastest with; returns the loss."""
    device = device_of(classifier.parameters())
    (targets,), inputs = on(device, (batch.targets,)), _tensors(batch, device)
    with autocast(device):
        logits = classifier(*inputs).float()
        loss = _loss(logits, targets, recipe.multi_label)
        if recipe.schedule.consistency:
            # Another dropout, the same opinion (R-Drop, Liang et al. 2021): the second half is the first once more.
            loss = loss + recipe.schedule.consistency * _disagreement(logits, recipe.multi_label)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(classifier.trainable().values(), GRADIENT_NORM_MAX)
    optimizer.step()
    return float(loss.detach())


def predict(classifier: Classifier, examples: Sequence[ClassifierExample]) -> np.ndarray:
    """Logits (segments, labels) in float32 PyTorch, in the order of the examples."""
    classifier.eval()
    device = device_of(classifier.parameters())
    found: list[np.ndarray] = [np.zeros(0)] * len(examples)
    with torch.inference_mode():
        for places, batch in _by_length(examples):
            logits = classifier(*_tensors(batch, device)).cpu().numpy()
            stops = np.cumsum([len(examples[place].targets) for place in places])[:-1]
            for place, part in zip(places, np.split(logits, stops), strict=True):
                found[place] = part
    return np.concatenate(found)


def rate_at(share: float, warmup: float) -> float:
    """The learning rate as a share of its peak: a linear warm-up, then a cosine to zero."""
    if share < warmup:
        return share / warmup
    return 0.5 * (1 + math.cos(math.pi * (share - warmup) / (1 - warmup)))


def _loss(logits: Tensor, targets: Tensor, multi_label: bool) -> Tensor:
    if multi_label:
        return functional.binary_cross_entropy_with_logits(logits, targets)
    return functional.cross_entropy(logits, targets)


def _disagreement(logits: Tensor, multi_label: bool) -> Tensor:
    """Symmetric Kullback-Leibler divergence of the halves, mean over segments; of independent labels, over them too."""
    one, other = logits.chunk(2)
    if multi_label:
        return ((torch.sigmoid(one) - torch.sigmoid(other)) * (one - other)).mean() / 2
    first, second = functional.log_softmax(one, dim=1), functional.log_softmax(other, dim=1)
    there = functional.kl_div(first, second, log_target=True, reduction="batchmean")
    return (there + functional.kl_div(second, first, log_target=True, reduction="batchmean")) / 2


def _tensors(batch: ClassifierBatch, device: torch.device) -> tuple[Tensor, ...]:
    arrays = (batch.token_ids, batch.lengths, batch.segments)
    return on(device, arrays if batch.states is None else (*arrays, batch.states))


def _by_length(examples: Sequence[ClassifierExample]) -> Iterator[tuple[list[int], ClassifierBatch]]:
    """Batches of similar length, each with the places its examples have in the list."""
    order = sorted(range(len(examples)), key=lambda place: len(examples[place].token_ids))
    for first in range(0, len(order), EVALUATION_BATCH):
        places = order[first : first + EVALUATION_BATCH]
        yield places, pad([examples[place] for place in places])


class _Progress:
    """One line every few seconds: step, loss, time left. Owns the running mean of the loss."""

    def __init__(self, steps: int, first: int) -> None:
        self._steps, self._first, self._mean = steps, first, 0.0
        self._started = self._last = time.monotonic()

    def line(self, step: int, loss: float) -> None:
        self._mean = loss if step == self._first else 0.98 * self._mean + 0.02 * loss
        now = time.monotonic()
        if now - self._last < PROGRESS_EVERY_S:
            return
        self._last = now
        left = (now - self._started) / (step - self._first + 1) * (self._steps - step) / 60
        print(f"step {step} of {self._steps}  loss {self._mean:.4f}  {left:.0f} min left", file=sys.stderr, flush=True)


def _plain(calibration: Calibration) -> dict[str, object]:
    return {
        "temperature": calibration.temperature,
        "abstain_below": calibration.abstain_below,
        "thresholds": dict(calibration.thresholds),
    }


def _save(path: Path, classifier: Classifier, optimizer: torch.optim.Optimizer, place: tuple[int, int, float]) -> None:
    draft = path.with_suffix(".new")
    torch.save({"state": classifier.trainable(), "optimizer": optimizer.state_dict(), "place": place}, draft)
    draft.replace(path)


def _restore(path: Path, classifier: Classifier, optimizer: torch.optim.Optimizer) -> tuple[int, int, float]:
    if not path.exists():
        return 0, 0, 0.0
    saved = torch.load(path, weights_only=True, map_location="cpu")
    classifier.load_state_dict(saved["state"], strict=False)
    optimizer.load_state_dict(saved["optimizer"])
    epochs_done, step, seconds = saved["place"]
    return epochs_done, step, seconds


if __name__ == "__main__":
    sys.exit(main())
