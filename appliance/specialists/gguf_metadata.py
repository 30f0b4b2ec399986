"""Reads the header of a GGUF file that may be hostile: metadata values and tensor descriptions, not the weights.

    contents = parse_gguf(path.read_bytes())
    contents.metadata["general.type"], contents.tensors[0].name

Of specialists' files: adapters and small bases. A model that writes is read by the engine, `generation/model_file.py`.
Every count and length is checked against what is left of the file before anything is read or allocated, so time and
memory are bounded by the file's size. Everything that is wrong raises `SpecialistFileInvalid`, naming it.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass

import numpy as np

from appliance.errors import SpecialistFileInvalid

MAGIC = b"GGUF"
VERSION = 3
ALIGNMENT = 32
KEYS_MAX = 1024
TENSORS_MAX = 4096
NAME_BYTES_MAX = 256
STRING_BYTES_MAX = 1024 * 1024
STRINGS_PER_ARRAY_MAX = 65_536
DIMENSIONS_MAX = 4


# Adapters are stored in one of two types: by number, (name, values in a block, bytes of a block).
_KINDS = {0: ("f32", 1, 4), 1: ("f16", 1, 2)}

Value = int | float | bool | str | np.ndarray | tuple[str, ...]

_BOOL, _STRING, _ARRAY = 7, 8, 9
_SCALARS = {0: "<u1", 1: "<i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4", 10: "<u8", 11: "<i8", 12: "<f8"}


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One tensor: shape in row-major order (the reverse of GGUF's), `content[start:stop]` are its bytes."""

    name: str
    shape: tuple[int, ...]
    kind: str
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class GgufContents:
    """Metadata by key, and the tensors in the order of the file."""

    metadata: dict[str, Value]
    tensors: tuple[TensorInfo, ...]


def parse_gguf(content: bytes) -> GgufContents:
    """Read the header of the file with this content. Raises `SpecialistFileInvalid`."""
    cursor = _Cursor(content)
    if cursor.take(4, "the magic number") != MAGIC:
        raise SpecialistFileInvalid("this is not a GGUF file", hint="choose a specialist file, ending in .gguf")
    version = cursor.integer("<I", "the version")
    if version != VERSION:
        raise SpecialistFileInvalid(f"GGUF version {version} is not supported, only version {VERSION}")
    tensor_count = cursor.integer("<Q", "the number of tensors")
    key_count = cursor.integer("<Q", "the number of keys")
    if tensor_count > TENSORS_MAX or key_count > KEYS_MAX:
        raise SpecialistFileInvalid(f"the file claims {key_count} keys and {tensor_count} tensors, more than allowed")
    metadata: dict[str, Value] = {}
    for _ in range(key_count):
        key = cursor.string(NAME_BYTES_MAX, "a key")
        if key in metadata:
            raise SpecialistFileInvalid(f"the key {key!r} occurs twice")
        metadata[key] = _value(cursor, key)
    if metadata.get("general.alignment", ALIGNMENT) != ALIGNMENT:
        raise SpecialistFileInvalid(f"the file is not aligned to {ALIGNMENT} bytes")
    described = [_describe(cursor) for _ in range(tensor_count)]
    return GgufContents(metadata, _place(described, cursor.position, len(content)))


class _Cursor:
    """A position in the file. Owns nothing else; every step is checked against what is left."""

    def __init__(self, content: bytes) -> None:
        self._content = memoryview(content)
        self.position = 0

    def left(self) -> int:
        return len(self._content) - self.position

    def take(self, size: int, what: str) -> memoryview:
        if size > self.left():
            raise SpecialistFileInvalid(f"the file ends in the middle of {what}", hint="copy or download it again")
        start = self.position
        self.position += size
        return self._content[start : self.position]

    def integer(self, layout: str, what: str) -> int:
        (value,) = struct.unpack(layout, self.take(struct.calcsize(layout), what))
        assert isinstance(value, int)
        return value

    def string(self, bytes_max: int, what: str) -> str:
        size = self.integer("<Q", what)
        if size > bytes_max:
            raise SpecialistFileInvalid(f"{what} is {size} bytes long, more than {bytes_max}")
        try:
            return str(self.take(size, what), "utf-8")
        except UnicodeDecodeError:
            raise SpecialistFileInvalid(f"{what} is not UTF-8") from None


def _value(cursor: _Cursor, key: str) -> Value:
    kind = cursor.integer("<I", key)
    if kind == _STRING:
        return cursor.string(STRING_BYTES_MAX, key)
    if kind == _ARRAY:
        return _array(cursor, key)
    if kind == _BOOL:
        return _boolean(cursor.take(1, key)[0], key)
    if kind not in _SCALARS:
        raise SpecialistFileInvalid(f"the value of {key!r} has the unknown type {kind}")
    layout = np.dtype(_SCALARS[kind])
    return np.frombuffer(cursor.take(layout.itemsize, key), dtype=layout)[0].item()


def _boolean(byte: int, key: str) -> bool:
    if byte > 1:
        raise SpecialistFileInvalid(f"the value of {key!r} is neither true nor false")
    return byte == 1


def _array(cursor: _Cursor, key: str) -> Value:
    kind = cursor.integer("<I", key)
    count = cursor.integer("<Q", key)
    if kind == _STRING:
        if count > STRINGS_PER_ARRAY_MAX:
            raise SpecialistFileInvalid(f"{key!r} has {count} strings, more than {STRINGS_PER_ARRAY_MAX}")
        return tuple(cursor.string(STRING_BYTES_MAX, key) for _ in range(count))
    if kind == _BOOL:
        return np.array([_boolean(byte, key) for byte in cursor.take(count, key)])
    if kind not in _SCALARS:  # arrays of arrays have no use here
        raise SpecialistFileInvalid(f"the array {key!r} has elements of type {kind}, which is not supported")
    layout = np.dtype(_SCALARS[kind])
    return np.frombuffer(cursor.take(count * layout.itemsize, key), dtype=layout)


@dataclass(frozen=True, slots=True)
class _Described:
    name: str
    shape: tuple[int, ...]
    kind: str
    offset: int
    size: int


def _describe(cursor: _Cursor) -> _Described:
    name = cursor.string(NAME_BYTES_MAX, "a tensor's name")
    what = f"the tensor {name!r}"
    dimensions = cursor.integer("<I", what)
    if not 1 <= dimensions <= DIMENSIONS_MAX:
        raise SpecialistFileInvalid(f"{what} has {dimensions} dimensions")
    lengths = [cursor.integer("<Q", what) for _ in range(dimensions)]
    number = cursor.integer("<I", what)
    if number not in _KINDS:
        raise SpecialistFileInvalid(f"{what} is stored in the type {number}, which such files do not use")
    kind, block_values, block_bytes = _KINDS[number]
    values = math.prod(lengths)  # Python integers do not overflow, which is the point of doing it here
    if values == 0:
        raise SpecialistFileInvalid(f"{what} is empty")
    if lengths[0] % block_values:
        raise SpecialistFileInvalid(f"{what} has rows of {lengths[0]} values, which {kind} cannot store")
    size = values // block_values * block_bytes
    return _Described(name, tuple(reversed(lengths)), kind, cursor.integer("<Q", what), size)


def _place(described: list[_Described], header_end: int, file_size: int) -> tuple[TensorInfo, ...]:
    """Where the tensors lie; they must follow the header, be aligned, and neither overlap nor leave the file."""
    data_start = -(-header_end // ALIGNMENT) * ALIGNMENT
    free_from = data_start
    placed = []
    names: set[str] = set()
    for tensor in described:
        start = data_start + tensor.offset
        stop = start + tensor.size
        if tensor.name in names:
            raise SpecialistFileInvalid(f"the tensor {tensor.name!r} occurs twice")
        if tensor.offset % ALIGNMENT or start < free_from:
            raise SpecialistFileInvalid(f"the tensor {tensor.name!r} overlaps another or is not aligned")
        if stop > file_size:
            raise SpecialistFileInvalid(
                f"the file ends in the middle of the tensor {tensor.name!r}", hint="copy or download it again"
            )
        names.add(tensor.name)
        free_from = stop
        placed.append(TensorInfo(tensor.name, tensor.shape, tensor.kind, start, stop))
    return tuple(placed)
