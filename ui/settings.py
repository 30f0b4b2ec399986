"""What the pages need to know, given as one value by whoever starts the server. Nothing here reads a file."""

from __future__ import annotations

from dataclasses import dataclass

LOOPBACK_HOSTS = frozenset({"127.0.0.1", "localhost", "::1"})


@dataclass(frozen=True, slots=True)
class UiSettings:
    """`allowed_hosts` are names without a port, IPv6 without brackets; a request for any other host is refused."""

    site_name: str = "This site"
    version: str = ""
    allowed_hosts: frozenset[str] = LOOPBACK_HOSTS
    session_cookie: str = "sid"  # with TLS: "__Host-sid"
    secure: bool = False  # served over TLS: announce it for the future, too (HSTS)
    text_chars_max: int = 200_000
    body_bytes_max: int = 4 * 1024 * 1024  # JSON escapes make a note of text_chars_max characters this large
    upload_bytes_max: int = 64 * 1024 * 1024  # of any file; the API has a limit for each kind, which it names
    page_size: int = 25
    session_check_s: float = 2.0  # how long an answer "this session is valid" may be used again
    sessions_max: int = 4096  # bound of every table kept per session or per tab
    tab_idle_s: float = 8 * 3600.0  # a browser tab unused for this long loses its claim
    runs_at_once: int = 8  # callbacks of one kind that run at the same time
    runs_waiting_max: int = 64
    egress_tripwire: bool = True  # process-wide and for good: switch off only where tests share the process
    allowed_addresses: frozenset[tuple[str, int]] = frozenset()  # configured hosts and ports that the tripwire lets by
