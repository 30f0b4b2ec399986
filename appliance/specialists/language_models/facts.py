"""What is kept of a model's file in its manifest. Whoever adds a file to the library reads it (`service/models.py`).

facts = Facts(architecture="llama", parameters=135_000_000, quantization=quantization_of(None, {8: 100}), …)
check_architecture("tiny.gguf", "llama")     # ModelFileRefused: of a later release
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
from gguf.constants import MODEL_ARCH_NAMES, GGMLQuantizationType, LlamaFileType

from appliance.errors import ModelFileRefused

ARCHITECTURES = frozenset(MODEL_ARCH_NAMES.values())


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


# Reads a model's file, or raises `ModelFileRefused`, saying what is wrong with it.
FactsReader = Callable[[Path], Facts]


def check_architecture(name: str, architecture: str) -> None:
    """Raise `ModelFileRefused` for a file of an architecture that this release does not run."""
    if architecture not in ARCHITECTURES:
        raise ModelFileRefused(
            f"the model file {name} is of the architecture {architecture!r}, which this release does not know",
            hint="choose a decoder that llama.cpp runs, such as llama, qwen3, gemma3, phi3 or granite",
        )


def quantization_of(file_type: int | None, kind_bytes: Mapping[int, int]) -> str:
    """As people name it: of the file's type, or else the type of most of its bytes."""
    if file_type in {kind.value for kind in LlamaFileType}:
        return LlamaFileType(file_type).name.removeprefix("MOSTLY_").removeprefix("ALL_")
    return GGMLQuantizationType(max(kind_bytes, key=kind_bytes.__getitem__)).name
