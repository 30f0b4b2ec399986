"""What a GGUF file says about itself, read without llama.cpp, and the memory it will need. Pure but for the reading.

    header = read_header(path)                       # ModelFileRefused: not a GGUF, truncated, not a decoder, …
    estimate(header, slots=16, context_tokens=4096, step_tokens=256).total      # bytes

llama.cpp aborts on some malformed files; whoever serves models looks here first and refuses with a reason. The format
is described in ggml's `docs/gguf.md` (versions 2 and 3, little endian).
"""

from __future__ import annotations

import stat
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from appliance.errors import ModelFileRefused

MAGIC = b"GGUF"
KEYS_MAX, TENSORS_MAX = 4096, 65_536
HEADER_BYTES_MAX, NAME_BYTES_MAX = 128 * 1024**2, 256
STRING_BYTES_MAX, ARRAY_MAX = 8 * 1024**2, 4_000_000
# Most numbers of a model are far below; these have bounds of their own.
_MOST = {"block_count": 10_000, "context_length": 16 * 1024**2, "attention.key_length": 100_000,
         "attention.value_length": 100_000}  # fmt: skip
KV_CELLS_MULTIPLE = 256  # llama.cpp rounds the length of a stream up
PROCESS_BYTES = 96 * 1024**2  # the interpreter, its libraries, the vocabulary

_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_STRING, _ARRAY = 8, 9
# Tensor types: elements of a block, its bytes.
_BLOCKS: dict[int, tuple[int, int]] = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34),
    10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292), 16: (256, 66),
    17: (256, 74), 18: (256, 98), 19: (256, 50), 20: (32, 18), 21: (256, 110), 22: (256, 82), 23: (256, 136),
    24: (1, 1), 25: (1, 2), 26: (1, 4), 27: (1, 8), 28: (1, 8), 29: (256, 56), 30: (1, 2), 34: (256, 54),
    35: (256, 66), 39: (32, 17),
}  # fmt: skip
# Encoders, encoders with a decoder, and what writes by diffusion or writes sound: they have no cache of keys and values
# as the scheduler needs it.
NO_WRITERS = frozenset(
    "bert clip cogvlm dream eurobert gemma-embedding jina-bert jina-bert-v2 jina-bert-v3 llada llada-moe llama-embed "
    "modern-bert neo-bert nomic-bert nomic-bert-moe pangu-embedded t5 t5encoder wavtokenizer-dec".split()
)


@dataclass(frozen=True, slots=True)
class ModelHeader:
    """The facts that serving needs. `parameters` counts weights; `weight_bytes` is what they take.

    `file_type`: the number under which llama.cpp knows how the file is stored, where it says so; `kind_bytes`: how many
    bytes are stored in each type of tensor, by its number.
    """

    architecture: str
    name: str
    layers: int
    states: int
    heads: int
    heads_kv: tuple[int, ...]  # of each layer
    key_length: int
    value_length: int
    inner: int
    vocabulary: int
    positions: int
    parameters: int
    weight_bytes: int
    file_bytes: int
    file_type: int | None
    kind_bytes: Mapping[int, int]
    chat_template: str | None
    licence: str | None
    author: str | None
    metadata: Mapping[str, Any]  # scalars and short texts; arrays are left out


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """Bytes. `cache` is keys and values of all slots, `compute` llama.cpp's buffers and the process itself."""

    weights: int
    cache: int
    compute: int

    @property
    def total(self) -> int:
        return self.weights + self.cache + self.compute


def estimate(header: ModelHeader, *, slots: int, context_tokens: int, step_tokens: int) -> MemoryEstimate:
    """What serving will take at most: half-precision keys and values of every slot, the buffers of one step."""
    cells = slots * -(-context_tokens // KV_CELLS_MULTIPLE) * KV_CELLS_MULTIPLE
    cache = cells * sum(header.heads_kv) * (header.key_length + header.value_length) * 2
    activations = step_tokens * 4 * (8 * header.states + 3 * header.inner + 2 * header.heads * header.key_length)
    masks = 6 * step_tokens * context_tokens
    logits = 2 * 4 * max(slots, 1) * 2 * header.vocabulary
    return MemoryEstimate(header.weight_bytes, cache, activations + masks + logits + PROCESS_BYTES)


def gpu_layers(header: ModelHeader, need: MemoryEstimate, free_bytes: int) -> int:
    """How many layers fit into a device with so much free memory: all (and the output) if everything does, else some.

    A tenth is left free for what cannot be foreseen.
    """
    usable = free_bytes * 9 // 10 - (need.compute - PROCESS_BYTES)
    per_layer = max(1, (need.weights + need.cache) // (header.layers + 1))
    return max(0, min(header.layers + 1, usable // per_layer))


def read_header(path: Path) -> ModelHeader:
    """Read and check the header. Raises `ModelFileRefused` naming what is wrong with which file."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait for somebody who writes
            raise ModelFileRefused(f"{path.name} is no file", hint="name a .gguf file")
        with path.open("rb") as file:
            size = path.stat().st_size
            return _read(file, size, path.name)
    except OSError as error:
        raise ModelFileRefused(
            f"cannot open the model file {path.name}: {error.strerror}", hint="check that it exists and who owns it"
        ) from None


class _Short(Exception):
    """The file ends within what it announces."""


class _Malformed(Exception):
    """The file announces what cannot be. The text says what."""

    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(what)
        self.hint = hint


def _read(file: BinaryIO, size: int, name: str) -> ModelHeader:
    if file.read(4) != MAGIC:
        raise ModelFileRefused(
            f"the model file {name} is not a GGUF file", hint="import a file whose name ends in .gguf"
        )
    try:
        (version,) = _unpack(file, "<I")
        if version not in (2, 3):
            raise _Malformed(f"has version {version} of the format, known are 2 and 3")
        tensors, keys = _unpack(file, "<QQ")
        if tensors > TENSORS_MAX or keys > KEYS_MAX:
            raise _Malformed(f"announces {tensors} tensors and {keys} keys")
        values: dict[str, Any] = {}
        counts: dict[str, int] = {}
        for _ in range(keys):
            key = _string(file, NAME_BYTES_MAX)
            if key in values:
                raise _Malformed(f"has the key {key[:64]!r} twice")
            (kind,) = _unpack(file, "<I")
            values[key] = _value(file, kind, key, counts)
        alignment = values.get("general.alignment", 32)
        if not isinstance(alignment, int) or not 1 <= alignment <= 1 << 20:
            raise _Malformed("asks for an impossible alignment")
        weights = _tensors(file, tensors, alignment)
        start = -(-file.tell() // alignment) * alignment
        if start + weights.end > size:
            raise _Short(f"it has {size} bytes and needs {start + weights.end}")
        return _facts(values, counts, weights, size)
    except _Short as short:
        raise ModelFileRefused(f"the model file {name} is truncated: {short}", hint="fetch or copy it again") from None
    except _Malformed as error:
        hint = error.hint or "fetch it again from a source you trust"
        raise ModelFileRefused(f"the model file {name} {error}", hint=hint) from None


@dataclass(frozen=True, slots=True)
class _Weights:
    """What the descriptions of the tensors come to. `end`: where the last one ends, counted from the first."""

    parameters: int
    kind_bytes: Mapping[int, int]
    end: int


def _facts(values: dict[str, Any], counts: dict[str, int], weights: _Weights, file_bytes: int) -> ModelHeader:
    architecture = _architecture(values)
    if not weights.parameters:
        raise _Malformed("holds no weights")

    def number(key: str, default: int | None = None) -> int:
        value = values.get(f"{architecture}.{key}", default)
        if isinstance(value, list):
            value = max(value, default=0)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= _MOST.get(key, 10_000_000):
            raise _Malformed(f"has no usable {architecture}.{key}")
        return value

    layers, states, heads = number("block_count"), number("embedding_length"), number("attention.head_count")
    own = values.get(f"{architecture}.attention.head_count_kv", heads)
    heads_kv = tuple(own) if isinstance(own, list) else (own,) * layers
    if len(heads_kv) != layers or any(not isinstance(count, int) or not 0 <= count <= 1 << 20 for count in heads_kv):
        raise _Malformed(f"has no usable {architecture}.attention.head_count_kv")
    vocabulary = counts.get("tokenizer.ggml.tokens") or number("vocab_size")
    template, licence = values.get("tokenizer.chat_template"), values.get("general.license")
    author = values.get("general.author") or values.get("general.organization")
    file_type = values.get("general.file_type")
    return ModelHeader(
        architecture=architecture,
        name=str(values.get("general.name", ""))[:300],
        layers=layers,
        states=states,
        heads=heads,
        heads_kv=heads_kv,
        key_length=number("attention.key_length", max(1, states // heads)),
        value_length=number("attention.value_length", max(1, states // heads)),
        inner=number("feed_forward_length", 4 * states),
        vocabulary=vocabulary,
        positions=number("context_length"),
        parameters=weights.parameters,
        weight_bytes=sum(weights.kind_bytes.values()),
        file_bytes=file_bytes,
        file_type=file_type if isinstance(file_type, int) else None,
        kind_bytes=weights.kind_bytes,
        chat_template=template if isinstance(template, str) else None,
        licence=licence if isinstance(licence, str) else None,
        author=author if isinstance(author, str) else None,
        metadata={
            key: value
            for key, value in values.items()
            if not isinstance(value, list | None) and (not isinstance(value, str) or len(value) <= 1000)
        },
    )


def _architecture(values: dict[str, Any]) -> str:
    """The architecture of a whole model that writes."""
    kind = values.get("general.type", "model")
    if kind != "model":
        what = "an adapter, which cannot generate text" if kind == "adapter" else f"of the type {str(kind)[:32]!r}"
        raise _Malformed(f"is {what}", "a specialist is installed with: appliance specialists install")
    architecture = values.get("general.architecture")
    if not isinstance(architecture, str) or not architecture.isprintable() or len(architecture) > 64:
        raise _Malformed("does not name its architecture")
    if architecture in NO_WRITERS:
        raise _Malformed(
            f"is of the architecture {architecture}, which cannot generate text",
            "choose a decoder that llama.cpp runs, such as llama, qwen3, gemma3, phi3 or granite",
        )
    if values.get("split.count", 0) not in (0, 1):
        raise _Malformed(
            "is one part of a model that was split",
            "join the parts with llama.cpp's `llama-gguf-split --merge`, or choose a file that is whole",
        )
    return architecture


def _tensors(file: BinaryIO, count: int, alignment: int) -> _Weights:
    """The descriptions of all tensors; none may lie in another."""
    parameters = end = 0
    kind_bytes: dict[int, int] = {}
    names: set[str] = set()
    for _ in range(count):
        name = _string(file, NAME_BYTES_MAX)
        (dimensions,) = _unpack(file, "<I")
        if not 1 <= dimensions <= 4:
            raise _Malformed(f"has a tensor of {dimensions} dimensions")
        shape = _unpack(file, f"<{dimensions}Q")
        kind, offset = _unpack(file, "<IQ")
        if kind not in _BLOCKS:
            raise _Malformed(f"has a tensor of the unknown type {kind}")
        elements = 1
        for extent in shape:
            elements *= extent
            if not 0 < elements <= 1 << 44:
                raise _Malformed("has a tensor of impossible size")
        block, block_bytes = _BLOCKS[kind]
        if shape[0] % block:
            raise _Malformed("has a tensor whose rows are no whole blocks")
        if name in names or offset % alignment or offset < end:
            raise _Malformed("has a tensor twice, or one that lies in another")
        names.add(name)
        taken = elements // block * block_bytes
        parameters += elements
        kind_bytes[kind] = kind_bytes.get(kind, 0) + taken
        end = offset + taken
    return _Weights(parameters, kind_bytes, end)


def _value(file: BinaryIO, kind: int, key: str, counts: dict[str, int]) -> Any:
    """A scalar, a text, a short list of numbers, or None for what nobody here needs."""
    if kind in _SCALARS:
        return _unpack(file, _SCALARS[kind])[0]
    if kind == _STRING:
        return _string(file, STRING_BYTES_MAX)
    if kind != _ARRAY:
        raise _Malformed(f"has a value of the unknown type {kind}")
    inner, count = _unpack(file, "<IQ")
    if count > ARRAY_MAX:
        raise _Malformed(f"has a list of {count} values")
    counts[key] = count
    if inner == _STRING:
        for _ in range(count):
            _skip(file, _unpack(file, "<Q")[0])
        return None
    if inner not in _SCALARS:
        raise _Malformed("has a list of lists")
    form = _SCALARS[inner][1]
    if count > 10_000:
        _skip(file, count * struct.calcsize("<" + form))
        return None
    return list(_unpack(file, f"<{count}{form}"))


def _string(file: BinaryIO, bytes_max: int) -> str:
    (length,) = _unpack(file, "<Q")
    if length > bytes_max:
        raise _Malformed(f"has a text of {length} bytes")
    return _exactly(file, length).decode(errors="replace")


def _skip(file: BinaryIO, count: int) -> None:
    if count > STRING_BYTES_MAX * 8:
        raise _Malformed(f"has a value of {count} bytes")
    _exactly(file, count)


def _unpack(file: BinaryIO, form: str) -> tuple[Any, ...]:
    return struct.unpack(form, _exactly(file, struct.calcsize(form)))


def _exactly(file: BinaryIO, count: int) -> bytes:
    if file.tell() + count > HEADER_BYTES_MAX:
        raise _Malformed(f"has a header of more than {HEADER_BYTES_MAX} bytes")
    data = file.read(count)
    if len(data) != count:
        raise _Short("it ends within its header")
    return data
