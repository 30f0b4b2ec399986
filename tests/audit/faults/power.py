"""A disk that forgets: what is left of a folder when the power goes in the middle of a recorded run.

    operations = parse(run.trace, folder)               # what the writer did, from `strace -xx`
    disk = Disk(contents of the folder before)
    for operation in operations[:moment]: disk.apply(operation)
    files = disk.after_power_cut(random.Random(seed))   # name -> bytes

The rules are those that POSIX promises and no more: what `fsync` covered is there. Everything else, each 512-byte
sector of each write, each change of a length, each new, renamed or removed name, is there or not, independently. A
sector is written whole or not at all. No file system is as bad as that, and some are as bad in one respect.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.audit.faults.driver import ACKNOWLEDGED

SECTOR = 512
KINDS = (
    *("openat", "close", "read", "write", "pwrite64", "lseek", "ftruncate", "fallocate"),
    *("fsync", "fdatasync", "unlink", "unlinkat", "rename", "renameat", "renameat2"),
)
# Calls that would change files in a way this model does not know: a run with one of them is no evidence.
UNKNOWN = ("pwritev", "pwritev2", "writev", "sync_file_range", "copy_file_range", "link", "linkat", "truncate")
_LINE = re.compile(r"^(\w+)\((.*)\) = (-?\d+)")
_STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')


@dataclass(frozen=True)
class Operation:
    """One thing that was done to the disk, or said: `kind` is a method of `Disk`, or `acknowledge`."""

    kind: str
    name: str = ""
    offset: int = 0
    data: bytes = b""


@dataclass
class _File:
    """Content as a program sees it, as the disk certainly has it, and what lies between."""

    live: bytearray = field(default_factory=bytearray)
    durable: bytearray = field(default_factory=bytearray)
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)  # (offset, data) or (length, None)


class Disk:
    """One folder on a disk whose cache is lost when the power goes."""

    def __init__(self, contents: Mapping[str, bytes]) -> None:
        self._names = {name: _File(bytearray(data), bytearray(data)) for name, data in contents.items()}
        self._durable = dict(self._names)
        self._changes: list[tuple[str, _File | None]] = []  # of the folder since it was synced

    def apply(self, operation: Operation) -> None:
        """Do what was done."""
        if operation.kind != "acknowledge":
            getattr(self, operation.kind)(operation)

    def create(self, operation: Operation) -> None:
        """A new name for a new, empty file."""
        if operation.name not in self._names:
            self._set(operation.name, _File())

    def write(self, operation: Operation) -> None:
        """Bytes at an offset."""
        file = self._names[operation.name]
        file.pending.append((operation.offset, operation.data))
        _put(file.live, operation.offset, operation.data)

    def truncate(self, operation: Operation) -> None:
        """Another length, which is in `offset`."""
        file = self._names[operation.name]
        file.pending.append((operation.offset, None))
        _resize(file.live, operation.offset)

    def sync(self, operation: Operation) -> None:
        """What a file holds is on the disk; its name is not thereby."""
        file = self._names[operation.name]
        file.durable = bytearray(file.live)
        file.pending.clear()

    def sync_folder(self, _: Operation) -> None:
        """The names are on the disk."""
        self._durable = dict(self._names)
        self._changes.clear()

    def unlink(self, operation: Operation) -> None:
        """A name less."""
        self._set(operation.name, None)

    def rename(self, operation: Operation) -> None:
        """`name` becomes `data`."""
        self._set(operation.data.decode(), self._names[operation.name])
        self._set(operation.name, None)

    def length(self, name: str) -> int:
        """How long a file is, as a program sees it."""
        return len(self._names[name].live)

    def after_power_cut(self, chance: random.Random) -> dict[str, bytes]:
        """What is there when the machine starts again."""
        kept = chance.choice((0.0, 0.1, 0.5, 0.9, 1.0))  # most of a cache, or hardly any of it
        names = dict(self._durable)
        for name, file in self._changes:
            if chance.random() < kept:
                names[name] = file
        return {name: _torn(file, chance, kept) for name, file in names.items() if file is not None}

    def _set(self, name: str, file: _File | None) -> None:
        self._changes.append((name, file))
        if file is None:
            del self._names[name]
        else:
            self._names[name] = file


def _torn(file: _File, chance: random.Random, kept: float) -> bytes:
    content = bytearray(file.durable)
    for offset, data in file.pending:
        if data is None:
            if chance.random() < kept:
                _resize(content, offset)
            continue
        # The length may have reached the disk without the bytes: then they read as zeros.
        if chance.random() < kept and len(content) < offset + len(data):
            _resize(content, offset + len(data))
        for begin, piece in _sectors(offset, data):
            if chance.random() < kept:
                _put(content, begin, piece)
    return bytes(content)


def _sectors(offset: int, data: bytes) -> Iterator[tuple[int, bytes]]:
    begin = offset
    while begin < offset + len(data):
        end = min((begin // SECTOR + 1) * SECTOR, offset + len(data))
        yield begin, data[begin - offset : end - offset]
        begin = end


def _put(content: bytearray, offset: int, data: bytes) -> None:
    if len(content) < offset:
        _resize(content, offset)
    content[offset : offset + len(data)] = data


def _resize(content: bytearray, length: int) -> None:
    if length < len(content):
        del content[length:]
    else:
        content.extend(bytes(length - len(content)))


def parse(trace: str, folder: Path) -> list[Operation]:
    """The operations on `folder` and the acknowledgements, in order, from a trace of one process of one thread."""
    return list(_Parser(folder).operations(trace))


class _Parser:
    """Knows which descriptor is which file and how far it was written; follows the trace line by line."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: dict[int, str] = {}  # names in the folder; "" is the folder itself
        self._positions: dict[int, int] = {}
        self._lengths: dict[str, int] = {path.name: path.stat().st_size for path in folder.iterdir()}

    def operations(self, trace: str) -> Iterator[Operation]:
        for line in trace.splitlines():
            assert "<unfinished" not in line, "a process of several threads cannot be replayed"
            match = _LINE.match(line)
            if match is None or int(match[3]) < 0:
                continue
            assert match[1] not in UNKNOWN, f"the replay does not know {match[1]}"
            strings = [bytes.fromhex(text.replace("\\x", "")) for text in _STRING.findall(match[2])]
            yield from self._call(match[1], match[2], strings, int(match[3]))

    def _call(self, name: str, arguments: str, strings: list[bytes], result: int) -> Iterator[Operation]:
        if name == "openat":
            yield from self._openat(arguments, self._name(strings[0]), result)
        elif name in ("unlink", "unlinkat"):
            if (removed := self._name(strings[0])) is not None:
                self._lengths.pop(removed, None)
                yield Operation("unlink", removed)
        elif name.startswith("rename"):
            source, target = (self._name(text) for text in strings)
            if source is not None and target is not None:
                self._lengths[target] = self._lengths.pop(source)
                yield Operation("rename", source, data=target.encode())
        elif (descriptor := int(arguments.split(",")[0])) in self._open:
            yield from self._on(name, descriptor, arguments, strings, result)
        elif name == "write" and strings and strings[0].startswith(ACKNOWLEDGED):
            yield Operation("acknowledge", data=strings[0])

    def _openat(self, arguments: str, opened: str | None, descriptor: int) -> Iterator[Operation]:
        self._open.pop(descriptor, None)
        if opened is None:
            return
        self._open[descriptor], self._positions[descriptor] = opened, 0
        if "O_CREAT" in arguments and opened not in self._lengths and "O_TMPFILE" not in arguments:
            self._lengths[opened] = 0
            yield Operation("create", opened)
        elif "O_TRUNC" in arguments:
            self._lengths[opened] = 0
            yield Operation("truncate", opened, 0)

    def _on(self, call: str, descriptor: int, arguments: str, strings: list[bytes], result: int) -> Iterator[Operation]:
        name = self._open[descriptor]
        numbers = [int(word) for word in re.findall(r", (\d+)(?=,|$)", arguments)]
        if call == "close":
            del self._open[descriptor]
        elif call in ("fsync", "fdatasync"):
            yield Operation("sync", name) if name else Operation("sync_folder")
        elif call in ("ftruncate", "fallocate"):
            length = numbers[0] if call == "ftruncate" else max(self._lengths[name], sum(numbers[-2:]))
            self._lengths[name] = length
            yield Operation("truncate", name, length)
        elif call in ("read", "lseek"):
            self._positions[descriptor] = result if call == "lseek" else self._positions[descriptor] + result
        elif call in ("write", "pwrite64"):
            offset = numbers[-1] if call == "pwrite64" else self._positions[descriptor]
            if call == "write":
                self._positions[descriptor] += result
            self._lengths[name] = max(self._lengths[name], offset + result)
            yield Operation("write", name, offset, strings[0][:result])

    def _name(self, path: bytes) -> str | None:
        """A name in the folder, "" for the folder, None for what lies elsewhere. Shared memory is no file to keep."""
        found = Path(path.decode())
        if found == self._folder:
            return ""
        return found.name if found.parent == self._folder and not found.name.endswith("-shm") else None
