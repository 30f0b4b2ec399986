"""A GGUF file taken apart in memory and put together again: entries and tensors as they lie, nothing interpreted.

    parts = read_parts(memoryview(content))          # MalformedGguf for what is none
    content = write_parts(parts.metadata, parts.tensors)

What llama.cpp is to read of a file need not be all of the file: `adapter_only` leaves out head and manifest of a
specialist, which the library would read, convert and throw away; `merged_base` adds an adapter's low-rank
corrections to the base's matrices, so that serving it needs no arithmetic of its own.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from appliance.errors import SpecialistFileInvalid

_MAGIC, _VERSION, _ALIGNMENT = b"GGUF", 3, 32
_COUNT_MAX, _DIMENSIONS_MAX = 1 << 20, 4
_UINT32, _STRING, _ARRAY = 4, 8, 9
_SCALAR_BYTES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
F32, F16, BF16 = 0, 1, 30  # tensor types of ggml
_ITEM_BYTES = {F32: 4, F16: 2, BF16: 2}
_OWN_KEYS = "cloister."
_KEPT_KEYS = ("general.architecture", "tokenizer.ggml.token_type_count")


class MalformedGguf(Exception):
    """What is no GGUF file, or one that ends too early. Stays inside the room: llama.cpp then says what it thinks."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """`shape` as ggml has it, the fastest dimension first; `data` may end with padding."""

    name: str
    shape: tuple[int, ...]
    kind: int
    data: memoryview | bytes

    def matrix(self) -> np.ndarray | None:
        """Rows in float32; None where the type is none of F32, F16 and BF16, or it is no matrix, or not all there."""
        size = _ITEM_BYTES.get(self.kind)
        if size is None or len(self.shape) != 2:
            return None
        columns, rows = self.shape
        data = memoryview(self.data)[: size * columns * rows]
        if len(data) != size * columns * rows:
            return None
        if self.kind == BF16:
            raw = np.frombuffer(data, dtype="<u2").astype(np.uint32) << 16
            return raw.view(np.float32).reshape(rows, columns)
        values = np.frombuffer(data, dtype="<f4" if self.kind == F32 else "<f2")
        return values.reshape(rows, columns).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Parts:
    """Entries by key: type and value, as bytes. Tensors in the order of the file."""

    metadata: Mapping[str, bytes]
    tensors: tuple[Tensor, ...]


def read_parts(content: memoryview) -> Parts:
    """Views into `content`, which must stay. Costs no more than the header's size. Raises `MalformedGguf`."""
    reader = _Reader(content)
    if bytes(reader.take(4)) != _MAGIC or reader.number("<I") != _VERSION:
        raise MalformedGguf
    tensors, entries = reader.number("<Q"), reader.number("<Q")
    if max(tensors, entries) > _COUNT_MAX:
        raise MalformedGguf
    metadata = {}
    for _ in range(entries):
        key = reader.string()
        start = reader.place
        reader.skip_value(reader.number("<I"))
        metadata[key] = bytes(content[start : reader.place])
    described = [_describe(reader) for _ in range(tensors)]
    alignment = metadata.get("general.alignment")
    step = struct.unpack("<I", alignment[4:8])[0] if alignment and len(alignment) == 8 else _ALIGNMENT
    if step == 0:
        raise MalformedGguf
    first = -(-reader.place // step) * step
    stops = sorted({offset for *_, offset in described} | {max(0, len(content) - first)})
    following = dict(pairwise(stops))
    found = []
    for name, shape, kind, offset in described:
        if offset not in following:
            raise MalformedGguf
        found.append(Tensor(name, shape, kind, content[first + offset : first + following[offset]]))
    return Parts(metadata, tuple(found))


def write_parts(metadata: Mapping[str, bytes], tensors: Sequence[Tensor]) -> mmap.mmap:
    """A file with exactly these. In a mapping of its own: memory that the system has back when it is closed."""
    header = bytearray(_MAGIC + struct.pack("<IQQ", _VERSION, len(tensors), len(metadata)))
    for key, value in metadata.items():
        header += _string(key) + value
    offset, places = 0, []
    for tensor in tensors:
        header += _string(tensor.name) + struct.pack("<I", len(tensor.shape))
        header += struct.pack(f"<{len(tensor.shape)}Q", *tensor.shape) + struct.pack("<IQ", tensor.kind, offset)
        places.append(offset)
        offset += -(-len(tensor.data) // _ALIGNMENT) * _ALIGNMENT
    first = -(-len(header) // _ALIGNMENT) * _ALIGNMENT
    content = mmap.mmap(-1, first + max(offset, 1))
    content[: len(header)] = bytes(header)
    for tensor, place in zip(tensors, places, strict=True):
        content[first + place : first + place + len(tensor.data)] = tensor.data
    return content


def adapter_only(parts: Parts) -> mmap.mmap:
    """A specialist's file without what llama.cpp has no use for."""
    kept = {key: value for key, value in parts.metadata.items() if not key.startswith(_OWN_KEYS)}
    return write_parts({key: value for key, value in kept.items() if key != "general.alignment"}, parts.tensors)


def merged_base(base: Parts, adapter: Parts) -> mmap.mmap | None:
    """The base's layers with the adapter in them, as a model that takes embeddings instead of token ids.

    Its vocabulary is one row of zeros: `word_rows` of the base is shared. None where the base is stored in a type that
    is not computed with here. Raises `SpecialistFileInvalid` for an adapter of another base.
    """
    pairs = {tensor.name: tensor for tensor in adapter.tensors}
    alpha = adapter.metadata.get("adapter.lora.alpha", b"")
    architecture = base.metadata.get("general.architecture", b"")[12:].decode("utf-8", "replace")
    if len(alpha) != 8 or not pairs:
        return None
    scale = struct.unpack("<f", alpha[4:])[0]
    tensors = []
    for tensor in base.tensors:
        if tensor.name == _WORDS:
            tensor = Tensor(_WORDS, (tensor.shape[0], 1), F32, bytes(4 * tensor.shape[0]))
        elif f"{tensor.name}.lora_a" in pairs or f"{tensor.name}.lora_b" in pairs:
            halves = pairs.pop(f"{tensor.name}.lora_a", None), pairs.pop(f"{tensor.name}.lora_b", None)
            values = _corrected(tensor, *halves, scale)
            if values is None:
                return None
            tensor = Tensor(tensor.name, tensor.shape, tensor.kind, values)
        tensors.append(tensor)
    if pairs:
        raise _other_base(next(iter(pairs)))
    prefix = f"{architecture}."
    metadata = {key: value for key, value in base.metadata.items() if key in _KEPT_KEYS or key.startswith(prefix)}
    metadata["tokenizer.ggml.model"] = struct.pack("<I", _STRING) + _string("none")
    metadata[f"{prefix}vocab_size"] = struct.pack("<II", _UINT32, 1)
    return write_parts(metadata, tensors)


class WordRows:
    """The base's word embeddings, read row by row from its file: what a merged base takes in place of ids."""

    def __init__(self, base: Parts) -> None:
        words = next(tensor for tensor in base.tensors if tensor.name == _WORDS)
        columns, rows = words.shape
        self._layout = {F32: "<f4", F16: "<f2", BF16: "<u2"}[words.kind]
        size = _ITEM_BYTES[words.kind] * columns * rows
        self._rows = np.frombuffer(memoryview(words.data)[:size], dtype=self._layout).reshape(rows, columns)

    def of(self, token_ids: np.ndarray) -> np.ndarray:
        """(T, states) float32."""
        rows = self._rows[token_ids]
        if self._layout == "<u2":
            return (rows.astype(np.uint32) << 16).view(np.float32)
        return rows.astype(np.float32)


_WORDS = "token_embd.weight"


def _corrected(weight: Tensor, a: Tensor | None, b: Tensor | None, scale: float) -> bytes | None:
    """`weight + scale / rank * b a` in the type of the weight."""
    base = weight.matrix()
    if a is None or b is None or base is None:
        return None
    left, right = b.matrix(), a.matrix()
    if left is None or right is None:
        return None
    if left.shape[1] != right.shape[0] or (left.shape[0], right.shape[1]) != base.shape:
        raise _other_base(weight.name)
    with np.errstate(all="ignore"):  # what comes out of it is looked at
        base += np.float32(scale / right.shape[0]) * (left @ right)
    if not np.isfinite(base).all():
        raise SpecialistFileInvalid(
            "the specialist's adapter makes weights that are not numbers", hint="install the file again from its source"
        )
    if weight.kind == F32:
        return base.tobytes()
    if weight.kind == F16:
        return base.astype("<f2").tobytes()
    bits = base.view(np.uint32)
    # Round to nearest, ties to even: half of what is cut off is added first, and one less where the rest is even.
    return ((bits + np.uint32(0x7FFF) + ((bits >> 16) & np.uint32(1))) >> 16).astype("<u2").tobytes()


def _other_base(name: str) -> SpecialistFileInvalid:
    return SpecialistFileInvalid(
        f"the specialist's adapter does not fit {name[:80]!r} of the base: it is made for another base model",
        hint="ask for a file that was made for this base",
    )


def _describe(reader: _Reader) -> tuple[str, tuple[int, ...], int, int]:
    name = reader.string()
    dimensions = reader.number("<I")
    if not 1 <= dimensions <= _DIMENSIONS_MAX:
        raise MalformedGguf
    shape = tuple(reader.number("<Q") for _ in range(dimensions))
    return name, shape, reader.number("<I"), reader.number("<Q")


def _string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


class _Reader:
    """A place in the content that only moves forward, never past its end."""

    def __init__(self, content: memoryview) -> None:
        self._content, self.place = content, 0

    def take(self, size: int) -> memoryview:
        if size > len(self._content) - self.place:
            raise MalformedGguf
        self.place += size
        return self._content[self.place - size : self.place]

    def number(self, layout: str) -> int:
        return int(struct.unpack(layout, self.take(struct.calcsize(layout)))[0])

    def string(self) -> str:
        try:
            return bytes(self.take(self.number("<Q"))).decode()
        except UnicodeDecodeError:
            raise MalformedGguf from None

    def skip_value(self, kind: int) -> None:
        if kind == _STRING:
            self.take(self.number("<Q"))
        elif kind != _ARRAY:
            self.take(self._size_of(kind))
        else:
            inner, count = self.number("<I"), self.number("<Q")
            if inner != _STRING:
                self.take(count * self._size_of(inner))
                return
            if count > _COUNT_MAX:
                raise MalformedGguf
            for _ in range(count):
                self.take(self.number("<Q"))

    def _size_of(self, kind: int) -> int:
        if kind not in _SCALAR_BYTES:
            raise MalformedGguf
        return _SCALAR_BYTES[kind]
