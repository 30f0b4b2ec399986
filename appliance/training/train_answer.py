"""Train a specialist that answers questions from a recipe.

    python -m appliance.training.train_answer RECIPE --data DATA --base BASE --out OUT

BASE holds `model.safetensors` and `vocab.txt`; DATA the collections of `collections/questions.py`. OUT receives
`checkpoint.pt` while the run lasts (the same command continues it), and at the end `trained.pt` with the calibration,
which `python -m appliance.training.export_answer` turns into a specialist file. The held-back part is never read here.

The schedule anneals to zero at the recipe's number of tokens, or at `--minutes`, whichever comes first.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from appliance.config import SpecialistsConfig
from appliance.errors import ApplianceError
from appliance.specialists.base_model import MINILM, VOCABULARY_FILE, WEIGHTS_FILE
from appliance.specialists.manifest import Calibration, Manifest
from appliance.specialists.tasks import answer
from appliance.specialists.tokenization import WordPiece
from appliance.training.answer_examples import AnswerBatch, answer_batches
from appliance.training.answer_recipe import AnswerRecipe, ReadAnswerRecipe, read_answer_recipe
from appliance.training.answer_scores import Judged, calibrate, metrics
from appliance.training.answerer import Reader, build_reader
from appliance.training.arithmetic import CPU, DEVICES, autocast, device_named, device_of, on
from appliance.training.beside import beside
from appliance.training.collections.questions import Question, read_questions
from appliance.training.export_answer import manifest_of
from appliance.training.train import (
    CHECKPOINT_EVERY_S,
    CHECKPOINT_FILE,
    GRADIENT_NORM_MAX,
    TRAINED_FILE,
    Place,
    Progress,
    check_base,
    learning_rate,
    restore,
    save,
)

IMPOSSIBLE = -1e4
EVALUATION_BATCH = 32


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Progress goes to stderr, the development figures to stdout."""
    parser = argparse.ArgumentParser(prog="python -m appliance.training.train_answer")
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="folder with the collections")
    parser.add_argument("--base", type=Path, required=True, help="folder with model.safetensors and vocab.txt")
    parser.add_argument("--out", type=Path, required=True, help="working folder")
    parser.add_argument("--minutes", type=float, default=120.0, help="end by then, whatever the recipe says")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", choices=DEVICES, default="cpu", help="where to compute")
    parser.add_argument("--workers", type=int, default=1, help="processes that make sequences")
    options = parser.parse_args(arguments)
    try:
        read = read_answer_recipe(options.recipe)
        torch.set_num_threads(options.threads)
        found = run(
            read,
            data=options.data,
            base=options.base,
            out=options.out,
            seconds_max=60 * options.minutes,
            device=device_named(options.device),
            workers=options.workers,
        )
    except ApplianceError as error:
        print(f"appliance: error: {error}", *([f"hint: {error.hint}"] if error.hint else []), sep="\n", file=sys.stderr)
        return 1
    print(*(f"{name} {value:.4f}" for name, value in found.items()), sep="\n", flush=True)
    return 0


def run(
    read: ReadAnswerRecipe,
    *,
    data: Path,
    base: Path,
    out: Path,
    seconds_max: float,
    device: torch.device = CPU,
    workers: int = 1,
) -> dict[str, float]:
    """Train, calibrate on the development part, and save `trained.pt`; returns the development figures."""
    check_base(base)
    out.mkdir(parents=True, exist_ok=True)
    recipe = read.recipe
    torch.manual_seed(recipe.schedule.seed)
    questions = read_questions(data)
    wordpiece = WordPiece.from_vocab(base / VOCABULARY_FILE)
    reader = new_reader(recipe, base).to(device)
    fit(reader, recipe, questions.train, wordpiece, out, seconds_max, workers)
    judged = predict(reader, questions.development, manifest_of(read, Calibration()), wordpiece)
    calibration = calibrate(judged)
    state = {name: getattr(calibration, name) for name in ("temperature", "recall_bias", "abstain_below")}
    torch.save({"state": reader.trainable(), "calibration": state}, out / TRAINED_FILE)
    return metrics(judged, calibration)


def new_reader(recipe: AnswerRecipe, base: Path) -> Reader:
    """An untrained reader in this recipe's shape."""
    adapter = recipe.adapter
    return build_reader(
        base / WEIGHTS_FILE,
        MINILM.shape,
        rank=adapter.rank,
        alpha=adapter.alpha,
        first_layer=adapter.first_layer,
        dropout=recipe.schedule.dropout,
    )


def fit(
    reader: Reader,
    recipe: AnswerRecipe,
    questions: Sequence[Question],
    wordpiece: WordPiece,
    out: Path,
    seconds_max: float,
    workers: int = 1,
) -> None:
    """The loop: next batch, one step, now and then a line and a checkpoint."""
    schedule = recipe.schedule
    optimizer = torch.optim.AdamW(
        reader.trainable().values(), lr=schedule.learning_rate, betas=(0.9, 0.98), weight_decay=schedule.weight_decay
    )
    place = restore(out / CHECKPOINT_FILE, reader, optimizer)
    report = Progress(schedule.tokens, place)
    started = time.monotonic() - place.seconds
    saved_at = place.seconds
    reader.train()
    make = partial(answer_batches, questions, wordpiece, schedule)
    for batch in beside(make, seed=schedule.seed + place.step, workers=workers):
        share = max(place.tokens / schedule.tokens, place.seconds / seconds_max)
        if share >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(schedule, share)
        loss = train_step(reader, optimizer, batch)
        seconds = time.monotonic() - started
        place = Place(place.step + 1, place.tokens + int(batch.lengths.sum()), seconds)
        report.line(place, loss)
        if seconds - saved_at > CHECKPOINT_EVERY_S:
            save(out / CHECKPOINT_FILE, reader, optimizer, place)
            saved_at = seconds
    save(out / CHECKPOINT_FILE, reader, optimizer, place)
    reader.eval()


def train_step(reader: Reader, optimizer: torch.optim.Optimizer, batch: AnswerBatch) -> float:
    """One step on one batch, in the arithmetic that this processor is fastest with; returns the loss."""
    device = device_of(reader.parameters())
    token_ids, lengths, allowed, targets = on(device, (batch.token_ids, batch.lengths, batch.allowed, batch.targets))
    with autocast(device):
        logits = reader(token_ids, lengths)
    loss = place_loss(logits, allowed, targets)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(reader.trainable().values(), GRADIENT_NORM_MAX)
    optimizer.step()
    return float(loss.detach())


def place_loss(logits: Tensor, allowed: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy of start and end among the rows where one may stand, (B, T, 2) logits, (B, 2) targets."""
    logits = logits.masked_fill(~allowed, IMPOSSIBLE)
    return functional.cross_entropy(logits.transpose(1, 2).flatten(0, 1), targets.flatten())


def predict(reader: Reader, questions: Sequence[Question], manifest: Manifest, wordpiece: WordPiece) -> list[Judged]:
    """What serving would answer before calibration, here in float32 PyTorch."""
    reader.eval()
    device = device_of(reader.parameters())
    judged = []
    with torch.inference_mode():
        for question in questions:
            case = answer.prepare(question.question, question.context, manifest, wordpiece, SpecialistsConfig())
            outputs: list[np.ndarray] = []
            for item in case.inputs:
                ids = torch.from_numpy(item.token_ids.astype(np.int64)).to(device)[None]
                outputs.append(reader(ids, torch.tensor([ids.shape[1]], device=device))[0].cpu().numpy())
            judged.append(Judged(question, answer.best_candidate(case, outputs)))
    return judged


if __name__ == "__main__":
    sys.exit(main())
