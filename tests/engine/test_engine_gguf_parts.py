"""A file taken apart and put together again is the same to a reader; what is left out is gone; what is no GGUF says so.

The reader to compare with is the `gguf` library; test_engine_llama_encoder.py shows that llama.cpp reads the results.
"""

import numpy as np
import pytest
from engine_tiny_bert import random_bert, random_lora, write_base, write_lora
from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter
from gguf.quants import quantize
from hypothesis import given
from hypothesis import strategies as st

from appliance.engine.gguf_parts import MalformedGguf, WordRows, adapter_only, merged_base, read_parts, write_parts
from appliance.errors import SpecialistFileInvalid

MODEL = random_bert(np.random.default_rng(3))
LORA = random_lora(np.random.default_rng(4), MODEL)


def parts_of(path):
    return read_parts(memoryview(path.read_bytes()))


def tensors_of(path):
    return {tensor.name: (tensor.tensor_type, np.array(tensor.data)) for tensor in GGUFReader(path).tensors}


def test_written_parts_are_what_was_read(tmp_path):
    write_base(tmp_path / "base.gguf", MODEL, GGMLQuantizationType.Q8_0)
    parts = parts_of(tmp_path / "base.gguf")
    (tmp_path / "again.gguf").write_bytes(write_parts(parts.metadata, parts.tensors))
    before, after = tensors_of(tmp_path / "base.gguf"), tensors_of(tmp_path / "again.gguf")
    assert before.keys() == after.keys()
    assert all(before[name][0] == after[name][0] and np.array_equal(before[name][1], after[name][1]) for name in before)
    fields = GGUFReader(tmp_path / "again.gguf").fields
    assert fields["bert.block_count"].contents() == 2
    assert fields["tokenizer.ggml.tokens"].contents()[:2] == ["[PAD]", "[UNK]"]


def test_an_adapter_alone_has_its_tensors_and_nothing_of_ours(tmp_path):
    writer = GGUFWriter(tmp_path / "own.gguf", "bert")
    writer.add_string("adapter.type", "lora")
    writer.add_string("cloister.manifest", "{}")
    writer.add_array("cloister.head.out_weight", [0.5] * 4000)
    writer.add_tensor("blk.0.attn_q.weight.lora_a", np.eye(4, dtype=np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    content = bytes(adapter_only(parts_of(tmp_path / "own.gguf")))
    assert b"cloister" not in content and len(content) < 1000
    assert read_parts(memoryview(content)).tensors[0].matrix().tolist() == np.eye(4).tolist()


@pytest.mark.parametrize(("kind", "within"), [("F32", 1e-6), ("F16", 2e-3), ("BF16", 2e-2)])
def test_a_merged_matrix_is_the_base_and_its_correction_to_the_nearest_value_of_the_type(tmp_path, kind, within):
    write_base(tmp_path / "base.gguf", MODEL, GGMLQuantizationType[kind])
    write_lora(tmp_path / "lora.gguf", LORA)
    base = parts_of(tmp_path / "base.gguf")
    merged = read_parts(memoryview(merged_base(base, parts_of(tmp_path / "lora.gguf"))))
    before = {tensor.name: tensor for tensor in base.tensors}
    for tensor in merged.tensors:
        if tensor.name in LORA.pairs:
            a, b = LORA.pairs[tensor.name]
            exact = before[tensor.name].matrix() + LORA.alpha / len(a) * (b @ a)
            assert np.abs(tensor.matrix() - exact).max() <= within * np.abs(exact).max()
            if kind == "BF16":
                raw = quantize(exact, GGMLQuantizationType.BF16).view(np.uint16).astype(np.uint32) << 16
                assert np.array_equal(tensor.matrix(), raw.view(np.float32))
        elif tensor.name != "token_embd.weight":
            assert bytes(tensor.data) == bytes(before[tensor.name].data)
    words = np.array([5, 0, 5], dtype=np.int32)
    assert np.array_equal(WordRows(base).of(words), MODEL.weights["token_embd.weight"][words])


def test_a_base_in_another_type_is_not_merged(tmp_path):
    write_base(tmp_path / "base.gguf", MODEL, GGMLQuantizationType.Q8_0)
    write_lora(tmp_path / "lora.gguf", LORA)
    assert merged_base(parts_of(tmp_path / "base.gguf"), parts_of(tmp_path / "lora.gguf")) is None


def test_corrections_that_are_no_numbers_are_refused(tmp_path):
    write_base(tmp_path / "base.gguf", MODEL)
    write_lora(tmp_path / "lora.gguf", random_lora(np.random.default_rng(4), MODEL, scale=float("inf")))
    with pytest.raises(SpecialistFileInvalid, match="not numbers"):
        merged_base(parts_of(tmp_path / "base.gguf"), parts_of(tmp_path / "lora.gguf"))


@given(data=st.data())
def test_a_file_with_anything_cut_or_changed_is_read_or_refused_and_nothing_else(data, tmp_path_factory):
    whole = _whole(tmp_path_factory)
    stop = data.draw(st.integers(0, len(whole)))
    changed = bytearray(whole[:stop])
    for place in data.draw(st.lists(st.integers(0, min(2000, len(whole) - 1)), max_size=4)):
        if place < len(changed):
            changed[place] = data.draw(st.integers(0, 255))
    try:
        parts = read_parts(memoryview(bytes(changed)))
    except MalformedGguf:
        return
    assert sum(len(tensor.data) for tensor in parts.tensors) <= len(changed) * max(1, len(parts.tensors))


def _whole(factory, known=[]):  # noqa: B006  # written once
    if not known:
        path = factory.mktemp("parts") / "lora.gguf"
        write_lora(path, LORA)
        known.append(path.read_bytes())
    return known[0]
