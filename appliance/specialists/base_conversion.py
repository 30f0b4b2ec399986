"""A BERT encoder's safetensors weights and vocabulary to one GGUF file that llama.cpp loads. Nothing is fetched here.

    shape = BertShape(layers=6, heads=12)
    convert(weights, read_vocabulary(vocabulary), Path("base.gguf"), shape, StorageType.BF16, name="all-MiniLM-L6-v2")

The layers' matrices and the word embeddings take the storage type; norms, biases and positions stay float32, as they
are a hundredth of the file and carry the most. The same input gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import gguf
import numpy as np
from gguf.quants import quantize
from safetensors import SafetensorError, safe_open

from appliance.errors import ModelFileRefused
from appliance.specialists.base_model import BertShape, StorageType

WORD_START = "\u2581"  # llama.cpp marks the first piece of a word where BERT marks the others with ##


_GGML_TYPES: Mapping[StorageType, gguf.GGMLQuantizationType] = {
    kind: gguf.GGMLQuantizationType[kind.name] for kind in StorageType
}
_FILE_TYPES: Mapping[StorageType, gguf.LlamaFileType] = {
    StorageType.F32: gguf.LlamaFileType.ALL_F32,
    StorageType.F16: gguf.LlamaFileType.MOSTLY_F16,
    StorageType.BF16: gguf.LlamaFileType.MOSTLY_BF16,
    StorageType.Q8_0: gguf.LlamaFileType.MOSTLY_Q8_0,
    StorageType.Q4_0: gguf.LlamaFileType.MOSTLY_Q4_0,
}
_EMBEDDINGS = {
    "embeddings.word_embeddings.weight": "token_embd.weight",
    "embeddings.position_embeddings.weight": "position_embd.weight",
    "embeddings.token_type_embeddings.weight": "token_types.weight",
    "embeddings.LayerNorm.weight": "token_embd_norm.weight",
    "embeddings.LayerNorm.bias": "token_embd_norm.bias",
}
# Names inside a layer: theirs to ours. Adapters of specialists use the same names.
LAYER_PARTS = {
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
}


def tensor_names(shape: BertShape) -> Iterator[tuple[str, str]]:
    """(name in the safetensors file, name in the GGUF file) of every tensor that a BERT of this shape has."""
    yield from _EMBEDDINGS.items()
    for layer in range(shape.layers):
        for theirs, ours in LAYER_PARTS.items():
            for kind in ("weight", "bias"):
                yield f"encoder.layer.{layer}.{theirs}.{kind}", f"blk.{layer}.{ours}.{kind}"


def convert(
    weights: Path, vocabulary: tuple[str, ...], target: Path, shape: BertShape, storage: StorageType, *, name: str
) -> None:
    """Write `target`. Raises `ModelFileRefused` when the weights are not those of a BERT of this shape."""
    writer = gguf.GGUFWriter(target, "bert")
    try:
        with safe_open(weights, framework="numpy") as tensors:
            _describe(writer, tensors, vocabulary, shape, storage, name)
            for theirs, ours in tensor_names(shape):
                _add(writer, ours, tensors.get_tensor(theirs).astype(np.float32), storage)
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
    except SafetensorError as error:
        raise ModelFileRefused(
            f"{weights.name} does not hold the weights of a {shape.layers}-layer BERT: {error}",
            hint="fetch the base model again",
        ) from None
    finally:
        writer.close()


def _describe(
    writer: gguf.GGUFWriter,
    tensors: safe_open,
    vocabulary: tuple[str, ...],
    shape: BertShape,
    storage: StorageType,
    name: str,
) -> None:
    words, states = tensors.get_slice("embeddings.word_embeddings.weight").get_shape()
    if words != len(vocabulary):
        raise ModelFileRefused(f"the weights know {words} tokens, the vocabulary lists {len(vocabulary)}")
    writer.add_name(name)
    writer.add_file_type(_FILE_TYPES[storage])
    writer.add_context_length(tensors.get_slice("embeddings.position_embeddings.weight").get_shape()[0])
    writer.add_embedding_length(states)
    writer.add_feed_forward_length(tensors.get_slice("encoder.layer.0.intermediate.dense.weight").get_shape()[0])
    writer.add_block_count(shape.layers)
    writer.add_head_count(shape.heads)
    writer.add_layer_norm_eps(shape.layer_norm_epsilon)
    writer.add_causal_attention(False)
    writer.add_pooling_type(gguf.PoolingType.NONE)
    writer.add_tokenizer_model("bert")
    writer.add_token_list([_piece(token) for token in vocabulary])
    writer.add_token_types([_piece_type(token) for token in vocabulary])
    writer.add_token_type_count(tensors.get_slice("embeddings.token_type_embeddings.weight").get_shape()[0])
    ids = {token: number for number, token in enumerate(vocabulary)}
    writer.add_bos_token_id(ids["[CLS]"])
    writer.add_eos_token_id(ids["[SEP]"])
    writer.add_sep_token_id(ids["[SEP]"])
    writer.add_unk_token_id(ids["[UNK]"])
    writer.add_pad_token_id(ids["[PAD]"])


def _add(writer: gguf.GGUFWriter, name: str, tensor: np.ndarray, storage: StorageType) -> None:
    matrix = tensor.ndim == 2 and name not in ("position_embd.weight", "token_types.weight")
    if matrix and storage is not StorageType.F32:
        writer.add_tensor(name, quantize(tensor, _GGML_TYPES[storage]), raw_dtype=_GGML_TYPES[storage])
    else:
        writer.add_tensor(name, tensor)


def _is_special(token: str) -> bool:
    return token.startswith("[") and token.endswith("]") and len(token) > 2


def _piece(token: str) -> str:
    if _is_special(token):
        return token
    return token[2:] if token.startswith("##") else WORD_START + token


def _piece_type(token: str) -> gguf.TokenType:
    if token.startswith("[unused"):
        return gguf.TokenType.UNUSED
    return gguf.TokenType.CONTROL if _is_special(token) else gguf.TokenType.NORMAL
