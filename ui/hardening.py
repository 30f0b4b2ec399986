"""Makes Gradio keep to itself: no network contact, no server-side fetching, no files outside memory.

Measured against Gradio 6.31 (settings below: zero connections). Every release brings new habits, so
`close_fetching` fails closed when a function that it knows is gone, and the tripwire catches the rest: it raises
in this process whenever Python code looks up or connects to anything but this machine and the peers that the
operator configured. Native code and child processes are not under it; the unit file's network rules are.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import re
import socket
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Collection
from importlib import import_module
from itertools import islice
from pathlib import Path

logger = logging.getLogger(__name__)

MEMORY_FOLDER = Path("/dev/shm")  # noqa: S108 - wanted: what lies there never reaches a disk
_PREFIX = "cloister-ui"
_WIPE_FILES_MAX = 100_000
_LOOKUPS = frozenset({"socket.getaddrinfo", "socket.gethostbyname"})
_RESOLVE_EVERY_S = 5.0

# Read by Gradio and huggingface_hub when they are imported.
_SWITCHED_OFF = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "GRADIO_RUN_HISTORY": "False",
    "GRADIO_SSR_MODE": "False",
    "GRADIO_MCP_SERVER": "False",
    "GRADIO_SHARE": "False",
    "GRADIO_ALLOWED_PATHS": "",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
}
_UNSET = (
    "GRADIO_VIBE_MODE",
    "GRADIO_LOCAL_DEV_MODE",
    "GRADIO_PROFILING",
    "GRADIO_ROOT_PATH",
    "GRADIO_WATCH_DIRS",
    "GRADIO_NODE_PATH",
    "HF_TOKEN",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
)

# Functions through which Gradio fetches an address that a request names.
_FETCHING = (
    ("gradio.processing_utils", "async_ssrf_protected_get"),
    ("gradio.processing_utils", "async_ssrf_protected_download"),
    ("gradio.processing_utils", "ssrf_protected_download"),
    ("gradio.routes", "secure_url_stream_response"),
    ("gradio.route_utils", "secure_url_stream_response"),
)


class GradioUnsupported(RuntimeError):
    """This Gradio is not the one that the hardening was proven against."""


class EgressRefused(OSError):
    """Something in this process tried to leave the machine."""


def environment(folder: Path) -> tuple[dict[str, str], tuple[str, ...]]:
    """What to set and what to unset before Gradio is imported."""
    places = {
        "GRADIO_TEMP_DIR": str(folder),
        "GRADIO_EXAMPLES_CACHE": str(folder / "examples"),
        "MPLCONFIGDIR": str(folder / "matplotlib"),
    }
    return {**_SWITCHED_OFF, **places}, _UNSET


def set_environment(folder: Path) -> None:
    """Apply `environment`. Raises `GradioUnsupported` when Gradio was imported before it could take effect."""
    if "gradio" in sys.modules and os.environ.get("GRADIO_ANALYTICS_ENABLED") != "False":
        raise GradioUnsupported("gradio was imported before its settings were made; import it through ui/loader.py")
    values, unset = environment(folder)
    os.environ.update(values)
    for name in unset:
        os.environ.pop(name, None)


def close_fetching() -> None:
    """Replace Gradio's fetching functions by a refusal. Raises `GradioUnsupported` if one of them is not there."""
    for module_name, name in _FETCHING:
        module = import_module(module_name)
        if not callable(getattr(module, name, None)):
            raise GradioUnsupported(f"{module_name}.{name} is gone: review this release of gradio before using it")
        setattr(module, name, _refuse_fetch)


def _refuse_fetch(*_: object, **__: object) -> None:
    raise EgressRefused("fetching an address for a page is switched off")


def install_egress_tripwire(
    report: Callable[[str], None] | None = None, *, allowed_addresses: Collection[tuple[str, int]] = ()
) -> None:
    """From now on and for good, Python code of this process reaches this machine only. Idempotent.

    `allowed_addresses` are the hosts and ports that the operator configured (a SIEM, a witness): their names may be
    looked up, and what they resolve to may be connected to at that port; nothing else. Whoever is installed first
    decides: later calls cannot widen it. `report` gets the kind of attempt, never the name: a name can carry what
    must not leave.
    """
    if _Tripwire.installed:
        return
    _Tripwire.installed = True
    tell = report or (lambda attempt: logger.error("refused an attempt to leave this machine: %s", attempt))
    allowed = _AllowedAddresses(allowed_addresses)

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        target = _target(event, arguments)
        if target is None or is_this_machine(target):
            return
        lookup = event in _LOOKUPS
        if allowed.name(target) if lookup else allowed.address(arguments[1]):
            return
        tell(event)
        raise EgressRefused(f"outbound network is switched off ({event})")

    sys.addaudithook(watch)


class _Tripwire:
    installed = False  # an audit hook cannot be removed, so this is a fact about the process


class _AllowedAddresses:
    """The configured peers, and the addresses that they resolved to.

    A connection names an address and no host, so a host is looked up here once more when an unknown address is
    seen: at its first connection and when its address changed, not more often than every `_RESOLVE_EVERY_S`.
    """

    def __init__(self, addresses: Collection[tuple[str, int]]) -> None:
        self._hosts = {(_plain_host(host), port) for host, port in addresses}
        self._resolved = {(host, port) for host, port in self._hosts if _is_address(host)}
        self._next_s = 0.0

    def name(self, host: object) -> bool:
        """Whether this host may be looked up."""
        text = host.decode("ascii", "replace") if isinstance(host, bytes) else str(host)
        return any(text.lower() == allowed for allowed, _ in self._hosts)

    def address(self, address: object) -> bool:
        """Whether this address, as a socket takes it, may be connected to."""
        if not isinstance(address, tuple) or len(address) < 2 or not self._hosts:
            return False
        wanted = (str(address[0]).partition("%")[0].lower(), address[1])
        if wanted in self._resolved or wanted in self._hosts:
            return True
        if all(port != wanted[1] for _, port in self._hosts) or time.monotonic() < self._next_s:
            return False
        self._next_s = time.monotonic() + _RESOLVE_EVERY_S
        self._resolve()
        return wanted in self._resolved

    def _resolve(self) -> None:
        for host, port in self._hosts:
            if _is_address(host):
                continue
            try:
                found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            except OSError:
                continue
            self._resolved |= {(str(place[0]).partition("%")[0].lower(), port) for *_, place in found}


def _plain_host(host: str) -> str:
    """Lower case, an address as sockets write it."""
    bare = host.strip("[]").lower()
    return str(ipaddress.ip_address(bare)) if _is_address(bare) else bare


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _target(event: str, arguments: tuple[object, ...]) -> object | None:
    """The host that an audit event is about; None when it is about no host (a unix socket, another event)."""
    if event in _LOOKUPS:
        return arguments[0]
    if event in {"socket.connect", "socket.sendto", "socket.sendmsg"}:
        address = arguments[1]
        return address[0] if isinstance(address, tuple) and address else None
    return None


def is_this_machine(host: object) -> bool:
    """Loopback addresses and their usual names. An empty host means every interface of this machine."""
    name = host.decode("ascii", "replace") if isinstance(host, bytes) else str(host)
    if name in {"", "localhost"}:
        return True
    try:
        address = ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def make_temp_folder(parent: Path = MEMORY_FOLDER) -> Path:
    """A fresh folder of this process, mode 0700, in memory where the system has such a place.

    Folders that processes of this user left behind when they were killed are wiped and removed.
    """
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        parent = Path(tempfile.gettempdir())
    for left_behind in parent.glob(f"{_PREFIX}-*-*"):
        found = re.fullmatch(rf"{_PREFIX}-(\d+)-\w+", left_behind.name)
        if found and _is_our_folder(left_behind) and not _is_alive(int(found[1])):
            remove_folder(left_behind)
    return Path(tempfile.mkdtemp(prefix=f"{_PREFIX}-{os.getpid()}-", dir=parent))


def wipe(folder: Path, *, older_than_s: float = 0.0) -> int:
    """Remove files in `folder` that were not touched for that long; returns how many. Follows no link."""
    removed = 0
    limit = time.time() - older_than_s
    # Others take away what they put there meanwhile: `os.walk` goes on, and what is deepest comes first.
    inside = (Path(at, name) for at, folders, names in os.walk(folder, topdown=False) for name in (*names, *folders))
    for path in islice(inside, _WIPE_FILES_MAX):
        try:
            if path.is_dir() and not path.is_symlink():
                path.rmdir()  # fails while something is in it
            elif path.lstat().st_mtime <= limit:
                path.unlink()
                removed += 1
        except OSError:
            continue
    return removed


def remove_folder(folder: Path) -> None:
    """Wipe it and take it away."""
    wipe(folder)
    try:
        folder.rmdir()
    except OSError as error:
        logger.warning("the temporary folder %s is still there: %s", folder, error.strerror)


def _is_our_folder(path: Path) -> bool:
    """A folder of this user, and no link to one. Another process that starts may take it away at any moment."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
