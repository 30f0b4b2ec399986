"""What the header of a model's GGUF file says of it, checked, and the memory that running it needs.

    facts = read_facts(path)                     # raises ModelFileRefused: not a GGUF, truncated, not one that writes
    memory_needed(facts, context_tokens=4096, sequences=4).total_bytes

Reads no more than a header can be: a file of 40 GB costs what its header costs. The weights are not looked at; the
file's hash vouches for them.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from gguf.constants import MODEL_ARCH_NAMES, LlamaFileType

from appliance.errors import ModelFileRefused, SpecialistFileInvalid
from appliance.specialists.gguf_metadata import MODEL_RULES, Counted, GgufContents, Value, parse_gguf

# Architectures of llama.cpp that read and do not write, or write sound and images.
_NO_WRITERS = frozenset(
    "bert clip cogvlm dream eurobert gemma-embedding jina-bert-v2 jina-bert-v3 llada llada-moe llama-embed modern-bert "
    "neo-bert nomic-bert nomic-bert-moe pangu-embedded t5 t5encoder wavtokenizer-dec".split()
)
WRITERS = frozenset(MODEL_ARCH_NAMES.values()) - _NO_WRITERS
TEXT_CHARS_MAX = 300
HEADER_BYTES_MAX = 128 * 1024 * 1024
CONTEXT_TOKENS_MAX = 16 * 1024 * 1024
_CACHE_BYTES_PER_VALUE = 2  # keys and values are kept as float16
_COMPUTE_BYTES_MIN = 64 * 1024 * 1024
_MICROBATCH_TOKENS = 512


class Facts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One model as its file describes it. Sizes in bytes, context in tokens; empty texts: the file does not say."""

    architecture: str
    name: str = ""
    parameters: int
    quantization: str
    file_bytes: int
    weights_bytes: int
    context_tokens: int
    layers: int
    embedding: int
    vocabulary: int
    cache_values_per_token: int  # keys and values of all layers
    chat_template: bool = False
    licence: str = ""
    author: str = ""


@dataclass(frozen=True, slots=True)
class Memory:
    """An estimate, in bytes: the weights, the keys and values of every sequence, and room to compute."""

    weights_bytes: int
    cache_bytes: int
    compute_bytes: int

    @property
    def total_bytes(self) -> int:
        """All of it."""
        return self.weights_bytes + self.cache_bytes + self.compute_bytes


def read_facts(path: Path) -> Facts:
    """The facts of the model file at `path`. Raises `ModelFileRefused`, saying what is wrong with it."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            # Not through a memory map: a file that somebody cuts meanwhile would end the process.
            start = file.read(HEADER_BYTES_MAX)
        return facts_of(parse_gguf(start, MODEL_RULES, file_bytes=size), size)
    except SpecialistFileInvalid as error:
        raise ModelFileRefused(
            f"{path.name} cannot be used: {error.message}",
            hint="choose a complete .gguf file, or copy it again",
        ) from None
    except OSError as error:
        raise ModelFileRefused(
            f"cannot read {path}: {error.strerror}", hint="check that the file exists and its mode"
        ) from None


def facts_of(contents: GgufContents, file_bytes: int) -> Facts:
    """What a parsed header says. Raises `ModelFileRefused` for a file that is no model that writes."""
    metadata = contents.metadata
    if metadata.get("general.type", "model") != "model":
        raise ModelFileRefused(
            f"the file is of the type {_text(metadata, 'general.type')!r}, not a model",
            hint="a specialist is installed with: appliance specialists install",
        )
    architecture = _text(metadata, "general.architecture")
    if architecture not in WRITERS:
        raise ModelFileRefused(
            f"the architecture {architecture!r} does not write text, or this release does not know it",
            hint="choose a decoder that llama.cpp runs, such as llama, qwen3, gemma3, phi3 or granite",
        )
    if not _is_whole(metadata):
        raise ModelFileRefused(
            "the file is one part of a model that was split",
            hint="join the parts with llama.cpp's `llama-gguf-split --merge`, or choose a file that is whole",
        )
    if not contents.tensors:
        raise ModelFileRefused("the file holds no weights", hint="choose a complete .gguf file")
    layers = _number(metadata, f"{architecture}.block_count", 1, 10_000)
    embedding = _number(metadata, f"{architecture}.embedding_length", 1, 1_000_000)
    weights = sum(tensor.stop - tensor.start for tensor in contents.tensors)
    return Facts(
        architecture=architecture,
        name=_text(metadata, "general.name"),
        parameters=sum(int(np.prod(tensor.shape, dtype=object)) for tensor in contents.tensors),
        quantization=_quantization(contents),
        file_bytes=file_bytes,
        weights_bytes=weights,
        context_tokens=_number(metadata, f"{architecture}.context_length", 1, CONTEXT_TOKENS_MAX),
        layers=layers,
        embedding=embedding,
        vocabulary=_vocabulary(metadata, architecture),
        cache_values_per_token=_cache_values(metadata, architecture, layers, embedding),
        chat_template=bool(_text(metadata, "tokenizer.chat_template")),
        licence=_text(metadata, "general.license"),
        author=_text(metadata, "general.author") or _text(metadata, "general.organization"),
    )


def memory_needed(facts: Facts, *, context_tokens: int, sequences: int) -> Memory:
    """What running it takes, with `sequences` of `context_tokens` each; an estimate from above for most models.

    Keys and values: 2 bytes times `cache_values_per_token` times all tokens (llama.cpp, float16). Room to compute: the
    logits and a few activations of one micro-batch in float32.
    """
    cache = _CACHE_BYTES_PER_VALUE * facts.cache_values_per_token * context_tokens * sequences
    compute = 4 * _MICROBATCH_TOKENS * (facts.vocabulary + 16 * facts.embedding)
    return Memory(facts.weights_bytes, cache, max(compute, _COMPUTE_BYTES_MIN))


def _is_whole(metadata: dict[str, Value]) -> bool:
    count = metadata.get("split.count", 0)
    return isinstance(count, int) and count in (0, 1)


def _quantization(contents: GgufContents) -> str:
    """As people name it: of the file's type, or else the type of most of its bytes."""
    number = contents.metadata.get("general.file_type")
    if isinstance(number, int) and number in {kind.value for kind in LlamaFileType}:
        return LlamaFileType(number).name.removeprefix("MOSTLY_").removeprefix("ALL_")
    sizes: dict[str, int] = {}
    for tensor in contents.tensors:
        sizes[tensor.kind] = sizes.get(tensor.kind, 0) + tensor.stop - tensor.start
    return max(sizes, key=sizes.__getitem__).upper()


def _vocabulary(metadata: dict[str, Value], architecture: str) -> int:
    tokens = metadata.get("tokenizer.ggml.tokens")
    if isinstance(tokens, Counted):
        return tokens.count
    return _number(metadata, f"{architecture}.vocab_size", 1, 10_000_000)


def _cache_values(metadata: dict[str, Value], architecture: str, layers: int, embedding: int) -> int:
    """Values of keys and values that one token leaves in all layers. Heads may differ by layer."""
    heads = _per_layer(metadata, f"{architecture}.attention.head_count", layers, None)
    shared = _per_layer(metadata, f"{architecture}.attention.head_count_kv", layers, heads)
    width = embedding // max(max(heads), 1)
    key = _number(metadata, f"{architecture}.attention.key_length", 1, 100_000, width)
    value = _number(metadata, f"{architecture}.attention.value_length", 1, 100_000, width)
    return sum(shared) * (key + value)


def _per_layer(metadata: dict[str, Value], key: str, layers: int, default: list[int] | None) -> list[int]:
    found = metadata.get(key)
    if found is None and default is not None:
        return default
    if isinstance(found, np.ndarray) and found.dtype.kind in "iu" and len(found) == layers:
        values = [int(value) for value in found]
    elif isinstance(found, int):
        values = [found] * layers
    else:
        raise ModelFileRefused(f"the file does not say {key!r} in a way that can be understood")
    if not all(0 <= value <= 100_000 for value in values):
        raise ModelFileRefused(f"the file gives {key!r} a value that no model has")
    return values


def _number(metadata: dict[str, Value], key: str, least: int, most: int, default: int | None = None) -> int:
    value = metadata.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool):
        raise ModelFileRefused(f"the file does not say {key!r}", hint="choose a complete .gguf file")
    if not least <= value <= most:
        raise ModelFileRefused(f"the file gives {key!r} the value {value}; {least} to {most} make sense")
    return value


def _text(metadata: dict[str, Value], key: str) -> str:
    value = metadata.get(key)
    return value[:TEXT_CHARS_MAX] if isinstance(value, str) else ""
