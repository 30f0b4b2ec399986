"""llama.cpp computes what BERT says: token states equal a numpy reference, alone or in any company, with any adapter.

A tiny random model and two random adapters are written on the spot. The library keeps attention in half precision,
hence the tolerance.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from engine_tiny_bert import encode, merged, random_bert, random_lora, write_base, write_lora
from gguf import GGMLQuantizationType

from appliance.engine.llama_encoder import LlamaEncoder
from appliance.errors import ModelFileRefused, SpecialistFileInvalid

TOLERANCE = 0.01
MODEL = random_bert(np.random.default_rng(7))
LORAS = {name: random_lora(np.random.default_rng(seed), MODEL) for seed, name in enumerate("ab")}
RNG = np.random.default_rng(5)
SEQUENCES = [RNG.integers(5, 96, length).astype(np.int32) for length in (3, 1, 64, 17, 130)]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    write_base(folder / "base.gguf", MODEL)
    for name, lora in LORAS.items():
        write_lora(folder / f"{name}.gguf", lora)
    return folder


@pytest.fixture(scope="module")
def encoder(files):
    encoder = LlamaEncoder.open(files / "base.gguf", lanes=2, microbatch_tokens=256, sequences_max=8)
    for name in LORAS:
        encoder.load_adapter(name, files / f"{name}.gguf")
    return encoder


def expected(adapter, sequence):
    return encode(MODEL if adapter is None else merged(MODEL, LORAS[adapter]), list(sequence))


def split(states, sequences):
    return np.split(states.copy(), np.cumsum([len(sequence) for sequence in sequences])[:-1])


def test_the_facts_are_the_model_s(encoder):
    assert (encoder.facts.states, encoder.facts.positions, encoder.facts.vocabulary) == (64, 512, 96)
    assert encoder.facts.device.startswith(("CPU", "GPU"))


@pytest.mark.parametrize("adapter", [None, "a", "b"])
def test_states_equal_the_reference_with_the_adapter_merged(encoder, adapter):
    states = split(encoder.encode(0, adapter, SEQUENCES), SEQUENCES)
    for sequence, found in zip(SEQUENCES, states, strict=True):
        assert np.abs(found - expected(adapter, sequence)).max() < TOLERANCE


def test_a_sequence_has_the_same_states_alone_and_in_a_mixed_batch(encoder):
    together = split(encoder.encode(0, "a", SEQUENCES), SEQUENCES)
    for sequence, found in zip(SEQUENCES, together, strict=True):
        assert np.abs(found - encoder.encode(0, "a", [sequence])).max() < TOLERANCE


def test_adapters_do_not_leak_between_batches(encoder):
    for adapter in ("a", None, "b", "a", "b", None):
        found = encoder.encode(0, adapter, SEQUENCES[:1])
        assert np.abs(found - expected(adapter, SEQUENCES[0])).max() < TOLERANCE
    assert np.abs(expected("a", SEQUENCES[0]) - expected("b", SEQUENCES[0])).max() > 100 * TOLERANCE


@pytest.mark.parametrize("kind", [GGMLQuantizationType.F32, GGMLQuantizationType.F16, GGMLQuantizationType.BF16])
def test_a_merged_adapter_gives_the_states_of_the_switched_one(kind, tmp_path):
    write_base(tmp_path / "base.gguf", MODEL, kind)
    for name, lora in LORAS.items():
        write_lora(tmp_path / f"{name}.gguf", lora)
    encoder = LlamaEncoder.open(tmp_path / "base.gguf", lanes=2, microbatch_tokens=256, sequences_max=8)
    encoder.load_adapter("a", tmp_path / "a.gguf", merge=True)
    encoder.load_adapter("switched", tmp_path / "a.gguf")
    encoder.load_adapter("b", tmp_path / "b.gguf")
    for adapter in ("a", "b", "a", None, "switched"):
        states = split(encoder.encode(1, adapter, SEQUENCES), SEQUENCES)
        wanted = "a" if adapter == "switched" else adapter
        tolerance = TOLERANCE if kind is GGMLQuantizationType.F32 else 5 * TOLERANCE
        for sequence, found in zip(SEQUENCES, states, strict=True):
            assert np.abs(found - expected(wanted, sequence)).max() < tolerance


def test_a_merged_adapter_is_unloaded_and_may_come_back(files):
    encoder = LlamaEncoder.open(files / "base.gguf", lanes=2, microbatch_tokens=64, sequences_max=8)
    for _ in range(2):
        encoder.load_adapter("a", files / "a.gguf", merge=True)
        assert np.abs(encoder.encode(0, "a", SEQUENCES[:1]) - expected("a", SEQUENCES[0])).max() < TOLERANCE
        encoder.unload_adapter("a")
    assert np.abs(encoder.encode(0, None, SEQUENCES[:1]) - expected(None, SEQUENCES[0])).max() < TOLERANCE


def test_a_base_that_is_not_computed_with_gets_the_adapter_switched(tmp_path, files):
    write_base(tmp_path / "base.gguf", MODEL, GGMLQuantizationType.Q8_0)
    encoder = LlamaEncoder.open(tmp_path / "base.gguf", lanes=1, microbatch_tokens=64, sequences_max=8)
    encoder.load_adapter("a", files / "a.gguf", merge=True)
    found = encoder.encode(0, "a", SEQUENCES[:1])
    assert np.abs(found - expected("a", SEQUENCES[0])).max() < 0.2


def test_lanes_compute_at_the_same_time_with_different_adapters(encoder):
    def ten_times(lane, adapter):
        return [encoder.encode(lane, adapter, SEQUENCES[:1]).copy() for _ in range(10)]

    with ThreadPoolExecutor(2) as threads:
        answers = [threads.submit(ten_times, lane, adapter) for lane, adapter in ((0, "a"), (1, "b"))]
    for answer, adapter in zip(answers, "ab", strict=True):
        assert all(np.abs(found - expected(adapter, SEQUENCES[0])).max() < TOLERANCE for found in answer.result())


def test_a_sequence_may_be_as_long_as_the_model_allows(encoder):
    sequence = RNG.integers(5, 96, 512).astype(np.int32)
    assert np.abs(encoder.encode(0, None, [sequence]) - expected(None, sequence)).max() < TOLERANCE


def test_an_unloaded_adapter_is_gone_even_if_it_was_the_last_one_used(files):
    encoder = LlamaEncoder.open(files / "base.gguf", lanes=2, microbatch_tokens=64, sequences_max=8)
    encoder.load_adapter("a", files / "a.gguf")
    encoder.encode(0, "a", SEQUENCES[:1])
    encoder.unload_adapter("a")
    encoder.unload_adapter("a")
    assert np.abs(encoder.encode(0, None, SEQUENCES[:1]) - expected(None, SEQUENCES[0])).max() < TOLERANCE
    encoder.load_adapter("a", files / "a.gguf")


def test_a_file_that_is_no_model_is_refused(tmp_path):
    (tmp_path / "base.gguf").write_bytes(b"not a model" * 100)
    with pytest.raises(ModelFileRefused, match="cannot load the base model"):
        LlamaEncoder.open(tmp_path / "base.gguf", lanes=2, microbatch_tokens=64, sequences_max=8)


def test_a_truncated_adapter_is_refused_with_the_library_s_reason(files, encoder, tmp_path):
    whole = (files / "a.gguf").read_bytes()
    (tmp_path / "cut.gguf").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SpecialistFileInvalid, match="not within the file bounds"):
        encoder.load_adapter("cut", tmp_path / "cut.gguf")


@pytest.mark.parametrize("merge", [False, True])
def test_an_adapter_for_another_base_is_refused(encoder, tmp_path, merge):
    for number, changes in enumerate(({"states": 32}, {"layers": 3})):
        other = random_bert(np.random.default_rng(1), **changes)
        write_lora(tmp_path / f"{number}.gguf", random_lora(np.random.default_rng(1), other))
        with pytest.raises(SpecialistFileInvalid, match=r"another base model|base model \(hint|wrong base model"):
            encoder.load_adapter("other", tmp_path / f"{number}.gguf", merge=merge)
