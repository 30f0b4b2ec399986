"""Teaching with adapters makes, in seconds, a specialist that the engine serves, and measures what it serves.

Long, because it needs PyTorch; a tiny one is trained in seconds. A BERT of two layers with
random weights stands in for the converted base; the worker that reads it is the real one.
"""

import asyncio
import hashlib

import numpy as np
import pytest

from appliance.config import EngineConfig
from appliance.specialists.file_format import read_specialist, write_specialist
from appliance.specialists.manifest import Base, Calibration, Manifest
from appliance.training.teaching.lesson import Lesson, Options, calibrated
from appliance.training.teaching.parts import Parts
from appliance.types import Task
from tests.training.tiny_base import SHAPE, VOCABULARY, write_tiny_base

pytestmark = pytest.mark.long  # needs the extra `training`, which `make test-long` installs

LABELS = ("card", "loan")
TEXTS = tuple(
    text for number in range(12) for text in (f"my card {number} is lost", f"a loan of {number}{number} please")
)


@pytest.fixture
def options(tmp_path) -> Options:
    write_tiny_base(tmp_path)
    (tmp_path / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n")
    return Options(
        bytes_max=1 << 20,
        texts_max=1000,
        vocabulary=str(tmp_path / "vocab.txt"),
        lora=True,
        lora_s=60.0,
        id="desk",
        version="1.0.0",
        base=str(tmp_path / "base.gguf"),
        base_sha256=hashlib.sha256((tmp_path / "base.gguf").read_bytes()).hexdigest(),
        runtime=str(tmp_path),
        out=str(tmp_path / "desk.gguf"),
        engine=EngineConfig(threads=1).model_dump(mode="json"),
    )


def lesson(multi_label: bool = False) -> Lesson:
    base = Base(name="tiny", weights_sha256="0" * 64, vocabulary_sha256="0" * 64)
    draft = Manifest(
        id="desk",
        version="1.0.0",
        task=Task.CLASSIFY,
        name="desk",
        summary="",
        labels=LABELS,
        base=base,
        window_tokens=32,
        multi_label=multi_label,
        licence="the site's own",
        created="2026-01-01",
    )
    targets = np.tile(np.eye(2, dtype=np.float32), (12, 1))
    return Lesson(TEXTS, targets, LABELS, Parts(np.arange(16), np.arange(16, 20), np.arange(20, 24)), draft)


@pytest.mark.parametrize("multi_label", [False, True])
def test_a_tiny_table_is_learned_with_adapters_and_answered_through_the_engine(options, tmp_path, multi_label):
    from appliance.training.teaching.lora import RANK, adapted

    told = []
    given = Options(
        **{name: getattr(options, name) for name in options.__struct_fields__} | {"multi_label": multi_label}
    )
    taught = asyncio.run(adapted(lesson(multi_label), given, lambda done, step: told.append((done, step)), SHAPE))
    assert taught.held_out_logits.argmax(axis=1).tolist() == [0, 1, 0, 1]
    assert taught.learned_from == 16 and "adapters" in taught.method
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert (tmp_path / "draft.gguf").exists()
    write_specialist(tmp_path / "desk.gguf", lesson(multi_label).draft, taught.head, taught.adapter)
    file = read_specialist(tmp_path / "desk.gguf", bytes_max=1 << 24)
    assert file.has_adapter
    assert {a.shape[0] for a, _ in taught.adapter.pairs.values()} == {RANK}
    assert any(np.abs(b).max() > 0 for _, b in taught.adapter.pairs.values())  # something was learned


def test_training_ends_in_time_and_leaves_a_head_that_works(options):
    from appliance.training.teaching.lora import adapted

    given = Options(**{name: getattr(options, name) for name in options.__struct_fields__} | {"lora_s": 1e-6})
    taught = asyncio.run(adapted(lesson(), given, lambda _done, _step: None, SHAPE))
    assert taught.held_out_logits.argmax(axis=1).tolist() == [0, 1, 0, 1]


def test_the_encoder_of_the_converted_base_computes_what_the_published_one_does(options, tmp_path):
    import torch

    from appliance.training.minilm import load_encoder
    from appliance.training.teaching.lora import encoder_of

    ids, lengths = torch.tensor([[2, 5, 9, 11, 3]]), torch.tensor([5])
    published = load_encoder(tmp_path / "model.safetensors", SHAPE)
    assert torch.allclose(encoder_of(tmp_path / "base.gguf", SHAPE)(ids, lengths), published(ids, lengths), atol=1e-5)


def test_calibration_comes_from_the_part_that_settings_are_chosen_on():
    logits = np.array([[4.0, 0.0], [0.0, 4.0]] * 2, dtype=np.float32)
    assert isinstance(calibrated(logits, lesson(), multi_label=False), Calibration)
    assert 0 < calibrated(logits, lesson(), multi_label=False).abstain_below <= 1
    assert calibrated(logits, lesson(True), multi_label=True).thresholds.keys() == set(LABELS)
