"""Try to leave the machine in every way a program has, and say what the kernel answered. A program of its own.

    python -I probe.py [--timeout SECONDS]        # JSON: {"attempts": [{"kind", "result", "why"}]}

`refused`: the kernel said no at once, and not a byte was sent. `left`: it was sent, whether or not anybody answered; a
connection that times out has left. Addresses are of documentation networks (RFC 5737, RFC 3849), which no router
forwards, and of the metadata service of clouds; names end in `.invalid` (RFC 2606). So nobody is reached where nothing
is locked. Standard library only; imports nothing of the product.
"""

from __future__ import annotations

import argparse
import ctypes
import errno
import ipaddress
import json
import os
import re
import secrets
import select
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

PUBLIC_4, PUBLIC_6, METADATA = "192.0.2.1", "2001:db8::1", "169.254.169.254"
RESOLVERS_MAX = 4
_RESOLV_CONF = Path("/etc/resolv.conf")
_REFUSALS = frozenset(
    {errno.EPERM, errno.EACCES, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL}
    | {errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT, errno.EINVAL}
)
# A router may say no as well, after the packet left; the kernel itself answers within this.
_AT_ONCE_S = 0.2
_NOT_AT_ONCE = ", not at once"
_TRIES = 3

_LATE = ("EACCES, not at once", "EPERM, not at once")

Verdict = tuple[bool, str]  # refused, why


def attempts(timeout_s: float) -> list[dict[str, str]]:
    """Every kind, one after the other; each takes at most `timeout_s`."""
    kinds: list[tuple[str, Callable[[], Verdict]]] = [
        ("tcp", lambda: tcp(PUBLIC_4, 443, timeout_s)),
        ("udp", lambda: udp(PUBLIC_4, 443)),
        ("tcp6", lambda: tcp(PUBLIC_6, 443, timeout_s)),
        ("udp6", lambda: udp(PUBLIC_6, 443)),
        ("dns", lambda: dns(timeout_s)),
        ("metadata", lambda: tcp(METADATA, 80, timeout_s)),
        ("subprocess", lambda: child(timeout_s)),
        ("native", lambda: native(PUBLIC_4, 443, timeout_s)),
    ]
    found = []
    for kind, attempt in kinds:
        refused, why = settled(attempt)
        found.append({"kind": kind, "result": "refused" if refused else "left", "why": why})
    return judged_together(found)


def settled(attempt: Callable[[], Verdict]) -> Verdict:
    """What an attempt says at once, or at last: a busy machine is late now and then, a router is late every time."""
    for _ in range(_TRIES):
        refused, why = attempt()
        if not why.endswith(_NOT_AT_ONCE):
            break
    return refused, why


def judged_together(found: list[dict[str, str]]) -> list[dict[str, str]]:
    """IPv6 takes a firewall's refusal of a connection note at the second try only, a second later.

    Such a late one is believed where datagrams to that address and connections by IPv4 were refused at once: who
    closes those to this user and leaves that open has a rule for it alone.
    """
    by_kind = {one["kind"]: one for one in found}
    late = by_kind["tcp6"]
    at_once = all(by_kind[kind]["result"] == "refused" for kind in ("tcp", "udp6"))
    if at_once and late["why"] in _LATE:
        late.update(result="refused", why=late["why"] + ", as its datagrams are at once")
    return found


def tcp(host: str, port: int, timeout_s: float) -> Verdict:
    """A connection."""
    began = time.monotonic()
    try:
        with socket.socket(_family(host), socket.SOCK_STREAM) as handle:
            handle.settimeout(timeout_s)
            handle.connect((host, port))
    except TimeoutError:
        return False, "nobody answered"
    except OSError as error:
        return _judged(error.errno, began)
    return False, "connected"


def udp(host: str, port: int, payload: bytes = b"x") -> Verdict:
    """A datagram."""
    began = time.monotonic()
    try:
        with socket.socket(_family(host), socket.SOCK_DGRAM) as handle:
            handle.sendto(payload, (host, port))
    except OSError as error:
        return _judged(error.errno, began)
    return False, "sent"


def dns(timeout_s: float) -> Verdict:
    """A name, asked of every resolver that is configured: one on this machine would carry it out for us."""
    name = f"{secrets.token_hex(8)}.invalid"
    for resolver in resolvers():
        refused, why = _ask(resolver, name, timeout_s)
        if not refused:
            return False, f"resolver {resolver}: {why}"
    return True, "no resolver can be asked"


def resolvers(path: Path = _RESOLV_CONF) -> list[str]:
    """The name servers that programs of this machine ask, and the usual local one."""
    try:
        named = re.findall(r"^nameserver\s+([0-9A-Fa-f:.]+)\s*$", path.read_text(errors="replace"), re.MULTILINE)
    except OSError:
        named = []
    good = [address for address in named if _is_address(address)]
    return list(dict.fromkeys([*good[:RESOLVERS_MAX], "127.0.0.53"]))


def child(timeout_s: float) -> Verdict:
    """A program that this one starts."""
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import probe; "
    code += f"print(*probe.tcp({PUBLIC_4!r}, 443, {timeout_s}), sep='|')"
    try:
        words = [sys.executable, "-I", "-c", code]
        done = subprocess.run(words, capture_output=True, text=True, timeout=timeout_s + 30, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return True, f"no program can be started: {type(error).__name__}"
    refused, _, why = done.stdout.strip().partition("|")
    return (False, "the program ended without a word, which proves nothing") if not why else (refused == "True", why)


def native(host: str, port: int, timeout_s: float) -> Verdict:
    """The C library itself, which no hook of Python sees."""
    began = time.monotonic()
    libc = ctypes.CDLL(None, use_errno=True)
    handle = libc.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK, 0)
    if handle < 0:
        return _judged(ctypes.get_errno(), began)
    try:
        address = struct.pack("=H", socket.AF_INET) + struct.pack("!H", port) + socket.inet_aton(host) + bytes(8)
        if libc.connect(handle, address, len(address)) == 0:
            return False, "connected"
        if ctypes.get_errno() != errno.EINPROGRESS:
            return _judged(ctypes.get_errno(), began)
        _, ready, _ = select.select([], [handle], [], timeout_s)
        if not ready:
            return False, "nobody answered"
        with socket.socket(fileno=os.dup(handle)) as taken:
            code = taken.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        return (False, "connected") if code == 0 else _judged(code, began)
    finally:
        libc.close(handle)


def _ask(resolver: str, name: str, timeout_s: float) -> Verdict:
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    question = secrets.token_bytes(2) + b"\x01\x00\x00\x01" + bytes(6) + labels + b"\x00\x00\x01\x00\x01"
    began = time.monotonic()
    try:
        with socket.socket(_family(resolver), socket.SOCK_DGRAM) as handle:
            handle.settimeout(timeout_s)
            handle.connect((resolver, 53))
            handle.send(question)
            try:
                handle.recv(512)
            except TimeoutError:
                local = ipaddress.ip_address(resolver).is_loopback
                return local, "nobody answered on this machine" if local else "sent, nobody answered"
            except ConnectionRefusedError:
                # From this machine it says that there is no resolver; from another one, that the question got there.
                return ipaddress.ip_address(resolver).is_loopback, "no resolver there"
    except OSError as error:
        return _judged(error.errno, began)
    return False, "it answered"


def _judged(code: int | None, began: float) -> Verdict:
    name = errno.errorcode.get(code or 0, str(code))
    at_once = time.monotonic() - began <= _AT_ONCE_S
    return code in _REFUSALS and at_once, name if at_once else name + _NOT_AT_ONCE


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what was found; exit status 1 if anything left."""
    parser = argparse.ArgumentParser(prog="probe", allow_abbrev=False)
    parser.add_argument("--timeout", type=float, default=1.5)
    found = attempts(parser.parse_args(arguments).timeout)
    sys.stdout.write(json.dumps({"attempts": found}) + "\n")
    return int(any(one["result"] == "left" for one in found))


if __name__ == "__main__":
    sys.exit(main())
