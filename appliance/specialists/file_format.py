"""One specialist as one GGUF file: adapter, head and manifest. The format is written in this room's README.

    file = read_specialist(path, bytes_max=config.specialists.file_bytes_max)
    file.manifest.id, file.head, file.sha256
    write_specialist(path, manifest, head, AdapterWeights(alpha=32.0, pairs={"blk.0.attn_q": (a, b)}))

Reading checks everything that can be checked without the base model, so that a malformed file is refused here and
not by the process that would die of it. The same input writes the same bytes.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np

from appliance.errors import SpecialistFileInvalid
from appliance.specialists.gguf_metadata import GgufContents, TensorInfo, Value, parse_gguf
from appliance.specialists.manifest import FORMAT_VERSION, Manifest, decode_manifest, encode_manifest
from appliance.types import Head, Task

HEAD_VALUES_MAX = 16 * 1024 * 1024  # per array
RANK_MAX = 256
LAYERS_MAX = 64
_TENSOR_NAME = re.compile(r"(blk\.(\d{1,2})\.(attn_q|attn_k|attn_v|attn_output|ffn_up|ffn_down))\.weight\.lora_([ab])")
_HEAD_KINDS = ("token", "pooled", "none")
_HEAD_KIND_OF = {Task.TAG: "token", Task.CLASSIFY: "pooled", Task.ANSWER: "token", Task.EMBED: "none"}
_ANSWER_OUTPUTS = 2  # start and end


@dataclass(frozen=True, slots=True)
class AdapterWeights:
    """Low-rank pairs by layer name (`blk.0.attn_q`): a (rank, inputs) and b (outputs, rank), float16 or float32."""

    alpha: float
    pairs: Mapping[str, tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True, slots=True)
class SpecialistFile:
    """What a file holds besides the adapter's numbers, which only llama.cpp reads."""

    manifest: Manifest
    head: Head
    sha256: str
    size: int
    has_adapter: bool


def read_specialist(path: Path, *, bytes_max: int) -> SpecialistFile:
    """Read and check a file. Raises `SpecialistFileInvalid`, naming what is wrong with it."""
    try:
        with path.open("rb") as file:
            content = file.read(bytes_max + 1)
    except OSError as error:
        raise SpecialistFileInvalid(f"cannot read {path}: {error.strerror}") from None
    if len(content) > bytes_max:
        raise SpecialistFileInvalid(
            f"{path} is larger than {bytes_max} bytes", hint="raise specialists.file_bytes_max if you trust it"
        )
    return decode_specialist(content)


def decode_specialist(content: bytes) -> SpecialistFile:
    """The same from the bytes of a whole file."""
    contents = parse_gguf(content)
    metadata = contents.metadata
    for key, expected in (("general.type", "adapter"), ("adapter.type", "lora"), ("general.architecture", "bert")):
        if metadata.get(key) != expected:
            raise SpecialistFileInvalid(f"this is a GGUF file but not a specialist: {key} is not {expected!r}")
    declared = _integer(metadata, "cloister.format")
    if declared != FORMAT_VERSION:
        raise SpecialistFileInvalid(
            f"the specialist file has format {declared}, this release reads format {FORMAT_VERSION}",
            hint="install a newer release of the appliance",
        )
    manifest = decode_manifest(_text(metadata, "cloister.manifest"))
    head = _decode_head(metadata)
    _check_agreement(manifest, head)
    _check_adapter(contents)
    digest = hashlib.sha256(content).hexdigest()
    return SpecialistFile(manifest, head, digest, len(content), bool(contents.tensors))


def write_specialist(path: Path, manifest: Manifest, head: Head, adapter: AdapterWeights | None) -> None:
    """Write one file. What was written is read back and checked before this returns."""
    writer = gguf.GGUFWriter(path, "bert")
    writer.add_type("adapter")
    writer.add_name(manifest.name)
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", adapter.alpha if adapter else 1.0)
    writer.add_uint32("cloister.format", FORMAT_VERSION)
    writer.add_string("cloister.manifest", encode_manifest(manifest))
    _encode_head(writer, head)
    for name, (a, b) in sorted((adapter.pairs if adapter else {}).items()):
        writer.add_tensor(f"{name}.weight.lora_a", np.ascontiguousarray(a))
        writer.add_tensor(f"{name}.weight.lora_b", np.ascontiguousarray(b))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    decode_specialist(path.read_bytes())


def _encode_head(writer: gguf.GGUFWriter, head: Head) -> None:
    writer.add_string("cloister.head.kind", head.kind)
    writer.add_uint32("cloister.head.feature_count", head.feature_count)
    for part, weight, bias in (
        ("conv", head.conv_weight, head.conv_bias),
        ("out", head.out_weight, head.out_bias),
    ):
        if weight is not None and bias is not None:
            _add_array(writer, f"cloister.head.{part}_shape", np.array(weight.shape, dtype=np.uint32))
            _add_array(writer, f"cloister.head.{part}_weight", weight.astype(np.float32).ravel())
            _add_array(writer, f"cloister.head.{part}_bias", bias.astype(np.float32))


def _add_array(writer: gguf.GGUFWriter, key: str, values: np.ndarray) -> None:
    kind = gguf.GGUFValueType.UINT32 if values.dtype == np.uint32 else gguf.GGUFValueType.FLOAT32
    writer.add_key_value(key, values.tolist(), gguf.GGUFValueType.ARRAY, sub_type=kind)


def _decode_head(metadata: Mapping[str, Value]) -> Head:
    kind = _text(metadata, "cloister.head.kind")
    if kind not in _HEAD_KINDS:
        raise SpecialistFileInvalid(f"the head has the unknown kind {kind[:40]!r}")
    feature_count = _integer(metadata, "cloister.head.feature_count")
    if not 0 <= feature_count <= 4096:
        raise SpecialistFileInvalid(f"the head claims {feature_count} word-shape inputs")
    conv_weight, conv_bias = _decode_layer(metadata, "conv", dimensions=3)
    out_weight, out_bias = _decode_layer(metadata, "out", dimensions=2)
    if (out_weight is None) != (kind == "none"):
        raise SpecialistFileInvalid(f"a head of kind {kind} and its output layer do not agree")
    if conv_weight is not None and out_weight is not None and conv_weight.shape[2] != out_weight.shape[0]:
        raise SpecialistFileInvalid("the head's convolution and output layer do not fit together")
    if conv_weight is not None and (kind != "token" or conv_weight.shape[0] % 2 == 0):
        raise SpecialistFileInvalid("the head's convolution has an even width or stands before a pooled output")
    return Head(kind, feature_count, conv_weight, conv_bias, out_weight, out_bias)  # type: ignore[arg-type]


def _decode_layer(
    metadata: Mapping[str, Value], part: str, *, dimensions: int
) -> tuple[np.ndarray, np.ndarray] | tuple[None, None]:
    """Weight and bias of one layer of the head, or neither."""
    keys = [f"cloister.head.{part}_{name}" for name in ("shape", "weight", "bias")]
    if not any(key in metadata for key in keys):
        return None, None
    shape = tuple(_numbers(metadata, keys[0], np.dtype("<u4"), values_max=dimensions).tolist())
    weight, bias = (_numbers(metadata, key, np.dtype("<f4"), values_max=HEAD_VALUES_MAX) for key in keys[1:])
    values = 1
    for length in shape:
        values *= length
    if len(shape) != dimensions or not values or values != weight.shape[0] or bias.shape[0] != shape[-1]:
        raise SpecialistFileInvalid(f"the shape of the head's {part} layer does not match its numbers")
    return weight.reshape(shape), bias


def _numbers(metadata: Mapping[str, Value], key: str, layout: np.dtype, *, values_max: int) -> np.ndarray:
    """An array as native, aligned, finite numbers."""
    value = metadata.get(key)
    if not isinstance(value, np.ndarray) or value.dtype != layout:
        raise SpecialistFileInvalid(f"{key} is missing or not an array of {layout.name}")
    if value.shape[0] > values_max:
        raise SpecialistFileInvalid(f"{key} has {value.shape[0]} values, more than {values_max}")
    if not np.isfinite(value).all():
        raise SpecialistFileInvalid(f"{key} has values that are not finite")
    return np.array(value, dtype=layout.newbyteorder("="))


def _text(metadata: Mapping[str, Value], key: str) -> str:
    value = metadata.get(key)
    if not isinstance(value, str):
        raise SpecialistFileInvalid(f"{key} is missing or not a string")
    return value


def _integer(metadata: Mapping[str, Value], key: str) -> int:
    value = metadata.get(key)
    if not isinstance(value, int) or isinstance(value, bool):
        raise SpecialistFileInvalid(f"{key} is missing or not a whole number")
    return value


def _check_agreement(manifest: Manifest, head: Head) -> None:
    """The manifest speaks about this head: its kind, its outputs, its word shapes."""
    # Sentences of one document are labelled token by token and averaged afterwards.
    expected_kind = "token" if manifest.unit == "sentence" else _HEAD_KIND_OF[manifest.task]
    if head.kind != expected_kind:
        raise SpecialistFileInvalid(f"a {manifest.task} specialist cannot have a head of kind {head.kind}")
    if (head.feature_count > 0) != (manifest.feature_version > 0):
        raise SpecialistFileInvalid("the manifest and the head disagree about word-shape inputs")
    if head.out_weight is not None:
        expected = _outputs_of(manifest)
        if head.out_weight.shape[1] != expected:
            labels = len(manifest.labels)
            whose = f"its {labels} labels need" if labels else "the start and the end of an answer need"
            raise SpecialistFileInvalid(f"the head has {head.out_weight.shape[1]} outputs, {whose} {expected}")


def _outputs_of(manifest: Manifest) -> int:
    if manifest.task is Task.ANSWER:
        return _ANSWER_OUTPUTS
    return len(manifest.labels) * 2 + 1 if manifest.task is Task.TAG else len(manifest.labels)


def _check_adapter(contents: GgufContents) -> None:
    """Every tensor is half of a low-rank pair of a layer that exists in a BERT."""
    alpha = contents.metadata.get("adapter.lora.alpha")
    if not isinstance(alpha, float) or not 0 < alpha < 1e6:
        raise SpecialistFileInvalid("adapter.lora.alpha is missing or not a positive number")
    pairs: dict[str, dict[str, TensorInfo]] = {}
    for tensor in contents.tensors:
        match = _TENSOR_NAME.fullmatch(tensor.name)
        if match is None or int(match[2]) >= LAYERS_MAX:
            raise SpecialistFileInvalid(f"the tensor {tensor.name!r} does not belong into a specialist file")
        pairs.setdefault(match[1], {})[match[4]] = tensor
    for name, pair in pairs.items():
        if set(pair) != {"a", "b"}:
            raise SpecialistFileInvalid(f"the adapter of {name} has one half only")
        a, b = pair["a"].shape, pair["b"].shape
        if len(a) != 2 or len(b) != 2 or a[0] != b[1] or a[0] > RANK_MAX:
            raise SpecialistFileInvalid(f"the two halves of the adapter of {name} do not fit together")
