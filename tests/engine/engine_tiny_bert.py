"""A random BERT written as GGUF on the spot, its LoRA adapters, and the same forward pass in numpy.

The engine's tests compare llama.cpp with this reference, so they need no download and no real weights. The
shape is a parameter: the defaults start in milliseconds.

    model = random_bert(np.random.default_rng(7))
    write_base(tmp_path / "base.gguf", model)
    states = encode(model, [2, 9, 11, 3])            # (4, 64)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np

LORA_TARGETS = ("attn_q", "attn_v", "ffn_up", "ffn_down")
_LAYER_SHAPES = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_up", "ffn_down")


@dataclass(frozen=True)
class TinyBert:
    """Weights by GGUF tensor name, torch orientation (out, in)."""

    states: int
    heads: int
    layers: int
    vocabulary: int
    positions: int
    weights: dict[str, np.ndarray]


@dataclass(frozen=True)
class Lora:
    """`delta = (alpha / rank) * b @ a` per target; a (rank, in), b (out, rank)."""

    alpha: float
    pairs: dict[str, tuple[np.ndarray, np.ndarray]]


def random_bert(
    rng: np.random.Generator,
    *,
    states: int = 64,
    heads: int = 4,
    layers: int = 2,
    inner: int = 128,
    vocabulary: int = 96,
    positions: int = 512,
) -> TinyBert:
    def normal(*shape: int) -> np.ndarray:
        return (rng.standard_normal(shape) / math.sqrt(shape[-1])).astype(np.float32)

    weights = {
        "token_embd.weight": normal(vocabulary, states) * 4,
        "position_embd.weight": normal(positions, states),
        "token_types.weight": normal(2, states),
        "token_embd_norm.weight": 1 + normal(states),
        "token_embd_norm.bias": normal(states),
    }
    for layer in range(layers):
        for name in _LAYER_SHAPES:
            outputs, inputs = inner if name == "ffn_up" else states, inner if name == "ffn_down" else states
            weights[f"blk.{layer}.{name}.weight"] = normal(outputs, inputs)
            weights[f"blk.{layer}.{name}.bias"] = normal(outputs)
        for norm in ("attn_output_norm", "layer_output_norm"):
            weights[f"blk.{layer}.{norm}.weight"] = 1 + normal(states)
            weights[f"blk.{layer}.{norm}.bias"] = normal(states)
    return TinyBert(states, heads, layers, vocabulary, positions, weights)


def random_lora(rng: np.random.Generator, model: TinyBert, *, rank: int = 4, scale: float = 1.0) -> Lora:
    pairs = {}
    for name, weight in model.weights.items():
        if any(f".{target}.weight" in name for target in LORA_TARGETS):
            outputs, inputs = weight.shape
            a = rng.standard_normal((rank, inputs)).astype(np.float32) / math.sqrt(inputs)
            pairs[name] = (a, scale * rng.standard_normal((outputs, rank)).astype(np.float32) / math.sqrt(rank))
    return Lora(alpha=float(rank), pairs=pairs)


def write_base(path: Path, model: TinyBert, kind: gguf.GGMLQuantizationType = gguf.GGMLQuantizationType.F32) -> None:
    """The architecture `bert` as llama.cpp reads it. Matrices of the layers take `kind`; the rest stays F32."""
    writer = gguf.GGUFWriter(path, "bert")
    writer.add_name("tiny")
    writer.add_context_length(model.positions)
    writer.add_embedding_length(model.states)
    writer.add_feed_forward_length(model.weights["blk.0.ffn_up.weight"].shape[0])
    writer.add_block_count(model.layers)
    writer.add_head_count(model.heads)
    writer.add_layer_norm_eps(1e-12)
    writer.add_causal_attention(False)
    writer.add_tokenizer_model("bert")
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokens = special + [f"\u2581w{n}" for n in range(model.vocabulary - len(special))]
    writer.add_token_list(tokens)
    writer.add_token_types([3] * len(special) + [1] * (model.vocabulary - len(special)))
    writer.add_token_type_count(2)
    writer.add_bos_token_id(2)
    writer.add_eos_token_id(3)
    writer.add_unk_token_id(1)
    writer.add_sep_token_id(3)
    writer.add_pad_token_id(0)
    for name, weight in model.weights.items():
        quantized = name.startswith("blk.") and weight.ndim == 2
        stored = gguf.quants.quantize(weight, kind) if quantized else weight
        raw = kind if quantized and kind != gguf.GGMLQuantizationType.F32 else None
        writer.add_tensor(name, stored, raw_dtype=raw)
    _close(writer)


def write_lora(path: Path, lora: Lora, *, architecture: str = "bert") -> None:
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", lora.alpha)
    for name, (a, b) in lora.pairs.items():
        writer.add_tensor(f"{name}.lora_a", a)
        writer.add_tensor(f"{name}.lora_b", b)
    _close(writer)


def merged(model: TinyBert, lora: Lora) -> TinyBert:
    """The model with the adapter folded into its weights."""
    weights = dict(model.weights)
    for name, (a, b) in lora.pairs.items():
        weights[name] = weights[name] + (lora.alpha / a.shape[0]) * (b @ a)
    return TinyBert(model.states, model.heads, model.layers, model.vocabulary, model.positions, weights)


def encode(model: TinyBert, token_ids: list[int]) -> np.ndarray:
    """Token states (T, states): post-norm BERT with exact gelu."""
    w = model.weights
    x = w["token_embd.weight"][token_ids] + w["position_embd.weight"][: len(token_ids)] + w["token_types.weight"][0]
    x = _norm(x, w, "token_embd_norm")
    for layer in range(model.layers):
        x = _norm(x + _attention(model, f"blk.{layer}", x), w, f"blk.{layer}.attn_output_norm")
        inner = _gelu(_linear(x, w, f"blk.{layer}.ffn_up"))
        x = _norm(x + _linear(inner, w, f"blk.{layer}.ffn_down"), w, f"blk.{layer}.layer_output_norm")
    return x


def _attention(model: TinyBert, block: str, x: np.ndarray) -> np.ndarray:
    def split(name: str) -> np.ndarray:
        return _linear(x, model.weights, f"{block}.{name}").reshape(len(x), model.heads, -1).transpose(1, 0, 2)

    query, key, value = split("attn_q"), split("attn_k"), split("attn_v")
    scores = query @ key.transpose(0, 2, 1) / math.sqrt(query.shape[-1])
    scores = np.exp(scores - scores.max(-1, keepdims=True))
    mixed = (scores / scores.sum(-1, keepdims=True)) @ value
    return _linear(mixed.transpose(1, 0, 2).reshape(len(x), -1), model.weights, f"{block}.attn_output")


def _linear(x: np.ndarray, weights: dict[str, np.ndarray], name: str) -> np.ndarray:
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def _norm(x: np.ndarray, weights: dict[str, np.ndarray], name: str) -> np.ndarray:
    centred = x - x.mean(-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-12)
    return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def _gelu(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def _close(writer: gguf.GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
