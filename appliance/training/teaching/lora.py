"""Teaching with adapters: the base's upper layers learn the table's texts too. Needs the extra `training` (PyTorch).

    taught = await adapted(lesson, options, progress)

The encoder is read from the converted base that serves, so no published weights need to be kept. What it can do is
measured through the worker that will serve it: the draft is written, loaded, and asked the texts that were held out.
"""

from __future__ import annotations

from pathlib import Path

import gguf
import torch

from appliance.config import EngineConfig, SpecialistsConfig
from appliance.engine.machine import usable_cores
from appliance.specialists.base_model import MINILM, BertShape
from appliance.specialists.file_format import read_specialist, write_specialist
from appliance.specialists.tokenization import WordPiece
from appliance.training.classifier import Classifier
from appliance.training.classifier_examples import ClassifierEncoding, example_of
from appliance.training.classifier_recipe import ClassifierAdapter, ClassifierRecipe, ClassifierSchedule
from appliance.training.collections.labelled import Labelled
from appliance.training.export_classifier import adapter_of
from appliance.training.lora import add_adapters
from appliance.training.minilm import Encoder
from appliance.training.recipe import Card
from appliance.training.teaching.lesson import Lesson, Options, Progress, Taught, calibrated
from appliance.training.teaching.vectors import embedding
from appliance.training.train_classifier import begin_head, fit, with_states
from appliance.types import Adapter

RANK, ALPHA = 16, 32.0  # a multiple of 16: llama.cpp multiplies other ranks a third slower
LAYERS_ADAPTED = 3  # the upper ones: what lies below is computed once
EPOCHS, SEED = 6, 1
BATCH, BATCH_SMALL, SMALL = 32, 8, 1000  # a small table is learned in smaller steps, for there are few
LEARNING_RATE, DROPOUT, SMOOTHING = 1e-3, 0.1, 0.1


async def adapted(lesson: Lesson, options: Options, progress: Progress, shape: BertShape = MINILM.shape) -> Taught:
    """Train, write a draft into `options.runtime`, calibrate and answer the held-out texts through the engine."""
    progress(0.05, "training adapters")
    classifier = trained(lesson, options, progress, shape)
    head, weights = classifier.numpy_head("pooled"), adapter_of(classifier, ALPHA)
    draft = Path(options.runtime) / "draft.gguf"
    write_specialist(draft, lesson.draft, head, weights)
    file = read_specialist(draft, bytes_max=SpecialistsConfig().file_bytes_max)
    adapter = Adapter(file.sha256, draft, file.sha256, file.head)
    engine, place = EngineConfig(**options.engine), (Path(options.base), options.base_sha256, Path(options.vocabulary))
    chosen, held_out = lesson.parts.choose.tolist(), lesson.parts.held_out.tolist()
    async with embedding(engine, *place, Path(options.runtime), adapter) as logits_of:
        texts = [lesson.texts[at] for at in (*chosen, *held_out)]
        logits = await logits_of(texts, lesson.draft, lambda done: progress(0.85 + 0.1 * done, "reading the texts"))
    calibration = calibrated(logits[: len(chosen)], lesson, options.multi_label)
    method = f"adapters of rank {RANK} in the upper {LAYERS_ADAPTED} layers and a linear head"
    return Taught(head, weights, calibration, logits[len(chosen) :], len(lesson.parts.fit), method)


def trained(lesson: Lesson, options: Options, progress: Progress, shape: BertShape) -> Classifier:
    """A classifier fitted to the lesson's first part, in at most `options.lora_s`."""
    torch.manual_seed(SEED)
    torch.set_num_threads(usable_cores())
    wordpiece = WordPiece.from_vocab(Path(options.vocabulary))
    first_layer = max(0, shape.layers - LAYERS_ADAPTED)
    encoder = encoder_of(Path(options.base), shape)
    adapters = add_adapters(encoder, RANK, ALPHA, first_layer)
    classifier = Classifier(encoder, adapters, len(lesson.labels), DROPOUT, first_layer)
    recipe = recipe_of(lesson, options, len(lesson.parts.fit), first_layer)
    schedule = recipe.schedule
    encoding = ClassifierEncoding(
        wordpiece, lesson.labels, schedule.window_tokens, options.multi_label, schedule.label_smoothing
    )
    rows = [
        Labelled(lesson.texts[at], tuple(lesson.labels[column] for column in lesson.targets[at].nonzero()[0]))
        for at in lesson.parts.fit.tolist()
    ]
    examples = with_states(classifier, [example_of(row, encoding) for row in rows])
    begin_head(classifier, examples, multi_label=options.multi_label)

    told = 0.0

    def step(share: float) -> None:
        nonlocal told
        if share >= told:
            told = share + 0.01
            progress(0.1 + 0.75 * share, "training adapters")

    fit(classifier, recipe, examples, wordpiece, Path(options.runtime), options.lora_s, step)
    return classifier


def recipe_of(lesson: Lesson, options: Options, rows: int, first_layer: int) -> ClassifierRecipe:
    """The recipe that every table gets."""
    draft = lesson.draft
    return ClassifierRecipe(
        id=draft.id,
        version=draft.version,
        task="classify",
        collection="table",
        multi_label=options.multi_label,
        card=Card(
            name=draft.name,
            summary=draft.summary,
            intended_use=draft.intended_use,
            limits=draft.limits,
            licence=draft.licence,
        ),
        adapter=ClassifierAdapter(rank=RANK, alpha=ALPHA, first_layer=first_layer),
        schedule=ClassifierSchedule(
            seed=SEED,
            epochs=EPOCHS,
            batch=BATCH if rows >= SMALL else BATCH_SMALL,
            window_tokens=draft.window_tokens,
            learning_rate=LEARNING_RATE,
            dropout=DROPOUT,
            label_smoothing=0.0 if options.multi_label else SMOOTHING,
        ),
        sources=draft.sources,
    )


def encoder_of(base: Path, shape: BertShape) -> Encoder:
    """The frozen encoder from the converted base, whose tensors have the names of its modules."""
    tensors = {
        tensor.name: torch.from_numpy(gguf.quants.dequantize(tensor.data, tensor.tensor_type).copy())
        for tensor in gguf.GGUFReader(base).tensors
    }
    words, states = tensors["token_embd.weight"].shape
    positions, types = tensors["position_embd.weight"].shape[0], tensors["token_types.weight"].shape[0]
    encoder = Encoder(words, positions, types, states, tensors["blk.0.ffn_up.weight"].shape[0], shape)
    encoder.load_state_dict(tensors)
    return encoder.requires_grad_(False)
