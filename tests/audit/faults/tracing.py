"""System calls of one child under `strace`: counted, recorded with their data, or made to fail or to kill.

    calls = traced_calls(zygote, experiment, KINDS)              # Counter: pwrite64 19, fdatasync 11, …
    run = inject(zygote, experiment, "pwrite64:error=EIO", 7)    # the seventh pwrite64 fails

Only calls that touch the files of the log are counted and touched (`strace -P`): what the interpreter does beside them
differs from run to run, these do not.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import subprocess
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.audit.faults.driver import ACKNOWLEDGED
from tests.audit.faults.zygote import WAIT_S, Zygote

WRITES = ("write", "pwrite64", "writev", "ftruncate", "fallocate", "fsync", "fdatasync")
NAMES = ("openat", "unlink", "unlinkat", "rename", "renameat", "renameat2", "mkdir", "close")
READS = ("read", "pread64", "lseek", "fcntl", "fstat", "newfstatat", "statx", "mmap", "munmap", "flock")
TALK = ("sendto", "sendmsg", "recvfrom", "recvmsg", "epoll_wait", "epoll_pwait", "accept4", "bind", "listen")
_NAME = re.compile(r"^(\w+)\(", re.MULTILINE)
_CALL = re.compile(r"^(\w+)\((\d+)<([^>]*)>")

Acknowledged = tuple[dict[bytes, int], str | None]


@dataclass(frozen=True)
class Experiment:
    """What a child runs: a function of `driver.py`.

    Its first argument is a file for acknowledgements; with a `conversation`, a socket whose other end that one gets.
    """

    function: str
    arguments: tuple[Any, ...]
    paths: tuple[Path, ...]  # the files of the log
    folder: Path  # where acknowledgements and traces go
    conversation: Callable[[socket.socket], Acknowledged] | None = None


@dataclass(frozen=True)
class Run:
    """How a child ended, and what it had acknowledged by then: record id to number, and the newest signed note."""

    status: int
    places: dict[bytes, int]
    note: str | None
    trace: str


def paths_of(folder: Path) -> tuple[Path, ...]:
    """Every file that the log has, or makes, in its folder, and the folder itself."""
    names = ("log.db", "log.db-wal", "log.db-shm", "log.db-journal", "signer.json", "signer.json.new", "reserve")
    found = {folder / name for name in names} | {path for path in folder.rglob("*") if path.is_file()}
    return (folder, *sorted(found))


def run_alone(zygote: Zygote, experiment: Experiment) -> Run:
    """The experiment with nobody watching."""
    return _run(zygote, experiment, None)


def traced_calls(zygote: Zygote, experiment: Experiment, kinds: Sequence[str]) -> Counter[str]:
    """How often each system call occurs on the log's files; calls of `TALK` are counted wherever they go."""
    return Counter(_NAME.findall(_run(zygote, experiment, [*_paths(experiment, kinds), _trace(kinds)]).trace))


def record(zygote: Zygote, experiment: Experiment, kinds: Sequence[str]) -> Run:
    """The experiment with every call of these kinds and all its data in `trace`."""
    return _run(zygote, experiment, ["-xx", "-s", "1000000", "-a0", _trace(kinds)])


def inject(zygote: Zygote, experiment: Experiment, fault: str, occurrence: int) -> Run:
    """The experiment with one fault: `fault` is `name:signal=KILL` or `name:error=EIO`."""
    name, _, what = fault.partition(":")
    kinds = (name,) if name in TALK else tuple(dict.fromkeys((*WRITES, name)))
    options = ["-y", "-a0", *_paths(experiment, kinds), _trace(kinds)]
    return _run(zygote, experiment, [*options, f"--inject={name}:{what}:when={occurrence}"])


def occurrences_of(calls: Counter[str], kinds: Sequence[str]) -> list[tuple[str, int]]:
    """Every single call: `("fsync", 1)`, `("fsync", 2)`, …"""
    return [(kind, n + 1) for kind in kinds for n in range(calls[kind])]


def was_harmless(trace: str) -> bool:
    """Whether the call that was made to fail had nothing to write that no other file holds.

    True for the main database, whose pages are all in the write-ahead log until it was synced, for a write-ahead log
    that was synced already, and for the names in a folder that was synced already (all are made when the log opens).
    True for the reserve as well, which holds nothing. What a file still owes to the disk follows from the calls before.
    """
    owed: set[str] = set()
    synced: set[str] = set()
    for line in trace.splitlines():
        call = _CALL.match(line)
        if call is None:
            continue
        name, _, path = call.groups()
        if "(INJECTED)" in line:
            if name == "fsync" and not path.endswith("/log.db"):
                return path in synced and path not in owed
            return path.endswith(("/log.db", "/reserve"))
        if name in ("fsync", "fdatasync"):
            owed.discard(path)
            synced.add(path)
        else:
            owed.add(path)
    return False


def evenly(occurrences: Sequence[tuple[str, int]], count: int) -> list[tuple[str, int]]:
    """`count` of them, spread over the whole list."""
    if len(occurrences) <= count:
        return list(occurrences)
    return [occurrences[i * len(occurrences) // count] for i in range(count)]


@contextmanager
def attached(pid: int, options: Sequence[str], trace: Path):
    """A tracer on a process that waits; it is ready when the block begins and gone when it ends."""
    command = ["strace", "-p", str(pid), "-o", str(trace), *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as tracer:
        try:
            said = []
            for line in tracer.stderr:
                said.append(line)
                if "attached" in line:
                    break
            else:
                raise AssertionError(f"strace cannot trace: {''.join(said)}")
            yield
            tracer.communicate(timeout=WAIT_S)
        finally:
            tracer.kill()


def _paths(experiment: Experiment, kinds: Sequence[str]) -> list[str]:
    if set(kinds) <= set(TALK):
        return []
    return [word for path in experiment.paths for word in ("-P", str(path))]


def _trace(kinds: Sequence[str]) -> str:
    return "--trace=" + ",".join(f"?{kind}" for kind in kinds)  # the question mark allows names unknown here


def _run(zygote: Zygote, experiment: Experiment, options: list[str] | None) -> Run:
    trace = experiment.folder / "trace"
    trace.write_text("")
    with contextlib.ExitStack() as open_now:
        if experiment.conversation is None:
            ours = open_now.enter_context((experiment.folder / "acknowledged").open("w+b", buffering=0))
            child = zygote.fork(experiment.function, *experiment.arguments, descriptors=(ours.fileno(),))
        else:
            ours, theirs = socket.socketpair()
            open_now.enter_context(ours)
            with theirs:
                child = zygote.fork(experiment.function, *experiment.arguments, descriptors=(theirs.fileno(),))
        with contextlib.nullcontext() if options is None else attached(child.pid, options, trace):
            child.go()
            if experiment.conversation is not None:
                ours.settimeout(WAIT_S)
                places, note = experiment.conversation(ours)
                ours.close()
            status = child.wait()
        if experiment.conversation is None:
            ours.seek(0)
            places, note = read_acknowledgements(ours.read())
    return Run(status, places, note, trace.read_text())


def read_acknowledgements(written: bytes) -> Acknowledged:
    """What the lines of a driver acknowledge; a line without its end was never received."""
    places: dict[bytes, int] = {}
    note = None
    for line in written.split(b"\n")[:-1]:
        body = json.loads(line.removeprefix(ACKNOWLEDGED))
        places |= {bytes.fromhex(name): seq for name, seq in body["places"].items()}
        note = body["note"]
    return places, note
