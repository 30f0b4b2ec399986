"""A decoder of the llama architecture with random weights, written as GGUF on the spot: real shapes without a download.

The engine's tests use small ones, the benchmark of generation those in the shapes of well-known small assistants.

    write_decoder(Path("tiny.gguf"), TINY, seed=7)

The vocabulary is SentencePiece's: three control tokens, one token per byte, printable characters, some words, and
fillers up to the wanted size. So every text can be tokenised, and every byte can be generated.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np

BOS, EOS = 1, 2
FIRST_BYTE = 3
WORDS = ("the", "of", "patient", "note", "is", "a", "no", "yes", "pain", "and", "in", "with")
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}[{{ message.role }}] {{ message.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)


@dataclass(frozen=True)
class Shape:
    """`heads_kv` below `heads` is grouped-query attention. `vocabulary` counts tokens, `positions` the context.

    `tied`: the output matrix is the embedding, as small assistants have it.
    """

    states: int
    heads: int
    heads_kv: int
    layers: int
    inner: int
    vocabulary: int
    positions: int
    tied: bool = False


TINY = Shape(states=64, heads=4, heads_kv=2, layers=2, inner=128, vocabulary=512, positions=2048)
SHAPES = {
    "135M": Shape(states=576, heads=9, heads_kv=3, layers=30, inner=1536, vocabulary=49152, positions=8192, tied=True),
    "500M": Shape(
        states=896, heads=14, heads_kv=2, layers=24, inner=4864, vocabulary=151936, positions=8192, tied=True
    ),
}


def write_decoder(
    path: Path,
    shape: Shape,
    *,
    seed: int,
    kind: gguf.GGMLQuantizationType = gguf.GGMLQuantizationType.F32,
    architecture: str = "llama",
    chat_template: str | None = CHAT_TEMPLATE,
    control: Sequence[str] = (),
    defined: Sequence[str] = (),
) -> None:
    """Write the file. `kind` F32 or Q4_0 is that of every matrix; norms stay F32.

    `control`, `defined`: names of further tokens that steer a model, and of those that are found in every text.
    """
    rng = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_name("random")
    writer.add_context_length(shape.positions)
    writer.add_embedding_length(shape.states)
    writer.add_feed_forward_length(shape.inner)
    writer.add_block_count(shape.layers)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.heads_kv)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(shape.states // shape.heads)
    writer.add_vocab_size(shape.vocabulary)
    _add_vocabulary(writer, shape.vocabulary, control, defined)
    if chat_template is not None:
        writer.add_chat_template(chat_template)
    head = shape.states // shape.heads
    matrices = {"token_embd.weight": (shape.vocabulary, shape.states)}
    if not shape.tied:
        matrices["output.weight"] = (shape.vocabulary, shape.states)
    for layer in range(shape.layers):
        block = f"blk.{layer}"
        writer.add_tensor(f"{block}.attn_norm.weight", np.ones(shape.states, np.float32))
        writer.add_tensor(f"{block}.ffn_norm.weight", np.ones(shape.states, np.float32))
        matrices |= {
            f"{block}.attn_q.weight": (shape.states, shape.states),
            f"{block}.attn_k.weight": (shape.heads_kv * head, shape.states),
            f"{block}.attn_v.weight": (shape.heads_kv * head, shape.states),
            f"{block}.attn_output.weight": (shape.states, shape.states),
            f"{block}.ffn_gate.weight": (shape.inner, shape.states),
            f"{block}.ffn_up.weight": (shape.inner, shape.states),
            f"{block}.ffn_down.weight": (shape.states, shape.inner),
        }
    writer.add_tensor("output_norm.weight", np.ones(shape.states, np.float32))
    for name, (outputs, inputs) in matrices.items():
        if kind == gguf.GGMLQuantizationType.Q4_0:
            writer.add_tensor(name, _random_q4_0(rng, outputs, inputs), raw_dtype=kind)
        else:
            values = rng.standard_normal((outputs, inputs), dtype=np.float32) / np.float32(math.sqrt(inputs))
            writer.add_tensor(name, values * np.float32(2.0 if name == "output.weight" else 1.0))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_decoder_lora(
    path: Path, shape: Shape, *, seed: int, rank: int = 4, scale: float = 2.0, kind: type = np.float32
) -> None:
    """A random adapter on two matrices of every layer. `kind` other than float32 is for tests of bad files."""
    rng = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", float(rank))
    for layer in range(shape.layers):
        for name, outputs, inputs in (
            ("attn_q", shape.states, shape.states),
            ("ffn_down", shape.states, shape.inner),
        ):
            a = rng.standard_normal((rank, inputs), dtype=np.float32) / np.float32(math.sqrt(inputs))
            b = rng.standard_normal((outputs, rank), dtype=np.float32) * np.float32(scale / math.sqrt(rank))
            writer.add_tensor(f"blk.{layer}.{name}.weight.lora_a", a.astype(kind))
            writer.add_tensor(f"blk.{layer}.{name}.weight.lora_b", b.astype(kind))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_vocabulary(
    writer: gguf.GGUFWriter, size: int, control: Sequence[str] = (), defined: Sequence[str] = ()
) -> None:
    tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    types = [2, 3, 3] + [6] * 256
    characters = ["\u2581"] + [chr(code) for code in range(33, 127)]
    words = [f"\u2581{word}" for word in WORDS]
    tokens += characters + words
    types += [1] * (len(tokens) - len(types)) + [3] * len(control) + [4] * len(defined)
    tokens += [*control, *defined]
    assert len(tokens) <= size
    tokens += [f"\u2581w{number}" for number in range(size - len(tokens))]
    types += [1] * (size - len(types))
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_scores([-float(number) for number in range(size)])
    writer.add_token_types(types)
    writer.add_bos_token_id(BOS)
    writer.add_eos_token_id(EOS)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(True)
    writer.add_add_space_prefix(False)


def _random_q4_0(rng: np.random.Generator, outputs: int, inputs: int) -> np.ndarray:
    """Rows of blocks of 32: a half-precision scale and 32 nibbles, value (nibble - 8) * scale, deviation 1/sqrt(in)."""
    blocks = inputs // 32
    raw = np.empty((outputs, blocks, 18), dtype=np.uint8)
    raw[:, :, :2] = np.frombuffer(np.float16(1 / (4.6 * math.sqrt(inputs))).tobytes(), dtype=np.uint8)
    raw[:, :, 2:] = rng.integers(0, 256, (outputs, blocks, 16), dtype=np.uint8)
    return raw.reshape(outputs, blocks * 18)
