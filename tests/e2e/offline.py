"""Run a command where nothing but this machine exists, and count every attempt to reach anything else.

    python tests/e2e/offline.py COUNTS.json COMMAND…      # started inside `unshare --net`, see `run_offline`

A fresh network namespace has a loopback and no route. The kernel counts what it could not route, and datagrams that
nobody on the loopback wanted, which is what a look-up of a name becomes where the resolver is a local one. The counts
belong to the namespace, so they see native code and every child process, and nobody else's traffic.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
from pathlib import Path

_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1


def run_offline(
    folder: Path, *command: str, timeout_s: float = 500
) -> tuple[subprocess.CompletedProcess, dict[str, int]]:
    """The finished command and its attempts to leave the machine, by protocol."""
    counts = folder / "attempts.json"
    namespace = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--net"]
    assert shutil.which("unshare"), "the test needs unshare (package util-linux)"
    words = [*namespace, sys.executable, str(Path(__file__)), str(counts), *command]
    done = subprocess.run(words, capture_output=True, text=True, timeout=timeout_s, check=False)
    assert counts.exists(), f"no network namespace could be made here: {done.stderr}"
    return done, json.loads(counts.read_text())


def main(counts: Path, command: list[str]) -> int:
    raise_loopback()
    before = attempts()
    status = subprocess.run(command, check=False).returncode
    counts.write_text(json.dumps({name: count - before[name] for name, count in attempts().items()}))
    return status


def raise_loopback() -> None:
    """What `ip link set lo up` does."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        request = struct.pack("16sh22x", b"lo", 0)
        (flags,) = struct.unpack_from("h", fcntl.ioctl(handle, _SIOCGIFFLAGS, request), 16)
        fcntl.ioctl(handle, _SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", flags | _IFF_UP))


def attempts() -> dict[str, int]:
    """The kernel's counters of this namespace."""
    version_4: dict[str, int] = {}
    lines = Path("/proc/self/net/snmp").read_text().splitlines()
    for names, values in zip(lines[::2], lines[1::2], strict=True):
        protocol = names.split(":")[0]
        numbers = map(int, values.split()[1:])
        version_4 |= {f"{protocol}{name}": number for name, number in zip(names.split()[1:], numbers, strict=True)}
    version_6 = {}
    if Path("/proc/self/net/snmp6").exists():
        rows = (line.split() for line in Path("/proc/self/net/snmp6").read_text().splitlines())
        version_6 = {name: int(value) for name, value in rows}
    return {
        "no route (IPv4)": version_4["IpOutNoRoutes"],
        "no route (IPv6)": version_6.get("Ip6OutNoRoutes", 0),
        "unwanted datagrams": version_4["UdpNoPorts"] + version_6.get("Udp6NoPorts", 0),
    }


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
