"""A model file is understood or refused before llama.cpp sees it; what it will need is known before it is loaded.

Real files written by the `gguf` library, cut, and edited byte by byte.
"""

import struct
from dataclasses import replace

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.engine.generation.model_file import _BLOCKS, PROCESS_BYTES, estimate, gpu_layers, read_header
from appliance.errors import ModelFileRefused
from benchmarks.random_decoder import CHAT_TEMPLATE, TINY, write_decoder, write_decoder_lora


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "tiny.gguf"
    write_decoder(path, TINY, seed=7)
    return path


def test_the_header_says_what_the_file_was_written_with(file):
    header = read_header(file)
    assert (header.architecture, header.name, header.layers, header.states) == ("llama", "random", 2, 64)
    assert (header.heads, header.heads_kv, header.key_length, header.value_length) == (4, (2, 2), 16, 16)
    assert (header.inner, header.vocabulary, header.positions) == (128, 512, 2048)
    assert header.chat_template == CHAT_TEMPLATE
    tensors = gguf.GGUFReader(file).tensors
    assert header.parameters == sum(int(tensor.n_elements) for tensor in tensors)
    assert header.weight_bytes == sum(int(tensor.n_bytes) for tensor in tensors)


def test_the_sizes_of_tensor_types_are_the_library_s():
    known = {int(kind): sizes for kind, sizes in gguf.GGML_QUANT_SIZES.items()}
    assert {kind: known[kind] for kind in _BLOCKS} == _BLOCKS


def test_the_estimate_is_weights_keys_values_and_buffers(file):
    header = read_header(file)
    need = estimate(header, slots=8, context_tokens=1000, step_tokens=64)
    assert need.weights == header.weight_bytes
    assert need.cache == 8 * 1024 * 2 * 2 * (16 + 16) * 2  # cells in multiples of 256, layers, heads, both, bytes
    assert need.total == need.weights + need.cache + need.compute > PROCESS_BYTES
    assert estimate(header, slots=16, context_tokens=1000, step_tokens=64).cache == 2 * need.cache


def test_as_many_layers_go_to_a_device_as_fit(file):
    header = read_header(file)
    need = estimate(header, slots=8, context_tokens=1000, step_tokens=64)
    counts = [gpu_layers(header, need, free) for free in (0, need.total // 2, 100 * need.total)]
    assert counts[0] == 0 and counts[-1] == header.layers + 1
    assert counts == sorted(counts)


@pytest.mark.parametrize("kept", [0, 3, 4, 20, 100, 5000, -1, -100_000])
def test_a_truncated_file_is_refused_wherever_it_was_cut(file, tmp_path, kept):
    whole = file.read_bytes()
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(whole[:kept])
    with pytest.raises(ModelFileRefused, match=r"cut.gguf is (truncated|not a GGUF)"):
        read_header(cut)


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_every_cut_is_refused_and_every_addition_is_read(file, tmp_path_factory, data):
    whole = file.read_bytes()
    cut = tmp_path_factory.getbasetemp() / "drawn.gguf"
    header = whole.rindex(b"blk.1.") + 64  # the cuts that matter lie in it
    kept = data.draw(st.integers(0, header) | st.integers(0, len(whole) - 1))
    cut.write_bytes(whole[:kept])
    with pytest.raises(ModelFileRefused):
        read_header(cut)
    cut.write_bytes(whole + b"\0" * data.draw(st.integers(0, 100)))
    assert replace(read_header(cut), file_bytes=0) == replace(read_header(file), file_bytes=0)


def test_tensors_that_lie_in_one_another_and_keys_that_are_there_twice_are_refused(file, tmp_path):
    whole, changed = file.read_bytes(), tmp_path / "changed.gguf"
    name = b"blk.1.ffn_up.weight"
    changed.write_bytes(whole.replace(name, b"blk.0.ffn_up.weight"))
    with pytest.raises(ModelFileRefused, match="twice"):
        read_header(changed)
    place = whole.index(name) + len(name) + 4 + 2 * 8 + 4
    changed.write_bytes(whole[:place] + struct.pack("<Q", 32) + whole[place + 8 :])
    with pytest.raises(ModelFileRefused, match="lies in another"):
        read_header(changed)
    key = struct.pack("<Q", 1) + b"k" + struct.pack("<IB", 0, 7)
    changed.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 1, 2) + key + key)
    with pytest.raises(ModelFileRefused, match="key 'k' twice"):
        read_header(changed)


def test_header_is_read_up_to_a_bound(tmp_path):
    path = tmp_path / "endless.gguf"
    begun = b"GGUF" + struct.pack("<IQQ", 3, 1, 1) + struct.pack("<Q", 1) + b"k" + struct.pack("<IIQ", 9, 8, 3_000_000)
    with path.open("wb") as out:
        out.write(begun + (struct.pack("<Q", 8 * 1024**2 - 8) + b"\0" * 8))
        out.truncate(1 << 30)  # holes: a gigabyte of nothing
    with pytest.raises(ModelFileRefused):
        read_header(path)


def test_every_byte_of_the_header_may_be_wrong(file, tmp_path):
    whole = bytearray(file.read_bytes())
    rng = np.random.default_rng(3)
    broken = tmp_path / "broken.gguf"
    outcomes = set()
    for place in [*range(24), *rng.integers(24, 16_000, 40)]:
        for value in (0x00, 0xFF, whole[place] ^ 0x10):
            changed = bytearray(whole)
            changed[place] = value
            broken.write_bytes(changed)
            try:
                outcomes.add(read_header(broken).architecture[:1] != "")
            except ModelFileRefused as refusal:
                outcomes.add(refusal.code)
    assert "model_file_refused" in outcomes


def test_what_is_no_decoder_is_refused(tmp_path):
    write_decoder(tmp_path / "encoder.gguf", TINY, seed=1, architecture="bert")
    with pytest.raises(ModelFileRefused, match="architecture bert, which cannot generate"):
        read_header(tmp_path / "encoder.gguf")
    write_decoder_lora(tmp_path / "lora.gguf", TINY, seed=1)
    with pytest.raises(ModelFileRefused, match="an adapter"):
        read_header(tmp_path / "lora.gguf")
    (tmp_path / "text.gguf").write_text("weights")
    with pytest.raises(ModelFileRefused, match="not a GGUF"):
        read_header(tmp_path / "text.gguf")
    with pytest.raises(ModelFileRefused, match="cannot open"):
        read_header(tmp_path / "missing.gguf")
