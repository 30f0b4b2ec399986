"""Takes from the calling process what a worker never needs: the network, other programs, core dumps, orphanhood.

    verdict = isolate(parent=os.getppid())
    verdict.methods        # ("network namespace", "seccomp filter")

Two independent walls, both wherever possible. A network namespace of its own, empty but for a loopback that is down:
nothing can be reached. A seccomp filter that answers EPERM to making or using sockets, to io_uring (which makes
sockets without the socket call), to starting programs and to reading other processes. Where neither exists (other
systems, unusual kernels) a Python audit hook refuses sockets; it binds Python only, and the verdict says so.

The socket to the server is open already and stays usable. Call before any thread exists: namespaces are per thread.

A GPU's driver makes threads, a socket and memory that counts as files before it computes. It may do so between the two
walls (`between`): in the empty network namespace, and before the filter falls upon all threads.
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import signal
import struct
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass

_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 1, 4, 38
_SECCOMP = {"x86_64": 317, "aarch64": 277}  # the system call's number
_SECCOMP_SET_MODE_FILTER, _SECCOMP_FILTER_FLAG_TSYNC = 1, 1
_ALLOW, _KILL, _EPERM = 0x7FFF0000, 0x80000000, 0x00050000 | 1
_LOAD, _JUMP_IF_EQUAL, _JUMP_IF_AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06  # BPF: word at offset, jumps, return
_OFFSET_NUMBER, _OFFSET_ARCHITECTURE = 0, 4  # in struct seccomp_data
_X32_BIT = 0x40000000  # the x32 ABI of x86-64 numbers its calls from here: a way around a filter that forgets it

# Refused calls by machine: socket, socketpair, connect, accept, accept4, bind, listen; execve, execveat; ptrace,
# process_vm_readv, process_vm_writev; io_uring_setup, bpf, perf_event_open, userfaultfd.
_ARCHITECTURES: dict[str, tuple[int, tuple[int, ...]]] = {
    "x86_64": (0xC000003E, (41, 53, 42, 43, 288, 49, 50, 59, 322, 101, 310, 311, 425, 321, 298, 323)),
    "aarch64": (0xC00000B7, (198, 199, 203, 202, 242, 200, 201, 221, 281, 117, 270, 271, 425, 280, 241, 282)),
}


@dataclass(frozen=True, slots=True)
class IsolationVerdict:
    """Which walls stand. `kernel` is False when only the audit hook does."""

    methods: tuple[str, ...]
    kernel: bool

    def __str__(self) -> str:
        return "no network: " + " + ".join(self.methods)


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]


def isolate(
    parent: int, keep_descriptors: Iterable[int] = (), between: Callable[[], None] | None = None
) -> IsolationVerdict:
    """Apply every wall this system offers and say which; ends the process if `parent` is gone already."""
    close_descriptors(keep_descriptors)
    forbid_traces()
    methods = []
    if enter_network_namespace():
        methods.append("network namespace")
    if between is not None:
        between()
    forbid_writing()
    if filter_system_calls():
        methods.append("seccomp filter")
    kernel = bool(methods)
    if not kernel:
        refuse_sockets_in_python()
        methods.append("Python audit hook only")
    die_with_parent(parent)  # last: a change of credentials, as a user namespace makes it, clears the signal
    return IsolationVerdict(tuple(methods), kernel)


def close_descriptors(keep: Iterable[int]) -> None:
    """Close everything but the standard three and `keep`."""
    start = 3
    for descriptor in sorted(set(keep)):
        os.closerange(start, descriptor)
        start = descriptor + 1
    os.closerange(start, resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def forbid_traces() -> None:
    """No core dump, no debugger of the same user: memory holds what people typed."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _prctl(_PR_SET_DUMPABLE, 0)


def forbid_writing() -> None:
    """No file is written."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write gets an error instead


def enter_network_namespace() -> bool:
    """Move into a new, empty network namespace: with privilege directly, without it inside a user namespace."""
    library = _libc()
    if not hasattr(library, "unshare"):
        return False
    identity = os.getuid(), os.getgid()
    if library.unshare(_CLONE_NEWNET) == 0:
        return True
    if library.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) != 0:
        return False
    _map_identity(*identity)
    return True


def filter_system_calls() -> bool:
    """Install the seccomp filter for every thread there is; False where this system or machine has none."""
    known = _ARCHITECTURES.get(platform.machine())
    if known is None or not sys.platform.startswith("linux"):
        return False
    if _prctl(_PR_SET_NO_NEW_PRIVS, 1) != 0:
        return False
    code = seccomp_program(*known)
    held = ctypes.create_string_buffer(code, len(code))
    program = _Program(len(code) // 8, ctypes.addressof(held))
    # Not by prctl, which knows the calling thread alone.
    mode, all_threads = ctypes.c_ulong(_SECCOMP_SET_MODE_FILTER), ctypes.c_ulong(_SECCOMP_FILTER_FLAG_TSYNC)
    number = ctypes.c_long(_SECCOMP[platform.machine()])
    return int(_libc().syscall(number, mode, all_threads, ctypes.byref(program))) == 0


def seccomp_program(architecture: int, refused: tuple[int, ...]) -> bytes:
    """The filter: foreign architecture dies, x32 and the refused calls get EPERM, the rest passes."""
    lines = [
        (_LOAD, 0, 0, _OFFSET_ARCHITECTURE),
        (_JUMP_IF_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _OFFSET_NUMBER),
        (_JUMP_IF_AT_LEAST, len(refused) + 1, 0, _X32_BIT),
    ]
    # Each test that matches jumps over the tests left and over the line that allows.
    lines += [(_JUMP_IF_EQUAL, len(refused) - place, 0, number) for place, number in enumerate(refused)]
    lines += [(_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _EPERM)]
    return b"".join(struct.pack("=HBBI", *line) for line in lines)


def refuse_sockets_in_python() -> None:
    """The weakest wall: binds Python code, not libraries."""

    def hook(event: str, _arguments: object) -> None:
        if event.startswith("socket.") or event in ("subprocess.Popen", "os.exec", "os.posix_spawn", "os.system"):
            raise PermissionError(1, "a worker has no network and starts no programs")

    sys.addaudithook(hook)


def die_with_parent(parent: int) -> None:
    """Be killed when the server goes; where the kernel cannot do that, the closed socket ends the worker."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it went before the line above
        raise SystemExit(0)


def _map_identity(user: int, group: int) -> None:
    """Keep the own user and group inside the user namespace; without it files still open, only names are lost."""
    for name, line in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
        try:
            descriptor = os.open(f"/proc/self/{name}", os.O_WRONLY)
        except OSError:
            continue
        try:
            os.write(descriptor, line.encode())
        except OSError:
            pass
        finally:
            os.close(descriptor)


def _prctl(option: int, *arguments: int) -> int:
    library = _libc()
    if not hasattr(library, "prctl"):
        return -1
    padded = [ctypes.c_ulong(argument) for argument in (*arguments, 0, 0, 0, 0)[:4]]
    return int(library.prctl(ctypes.c_int(option), *padded))


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
