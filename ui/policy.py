"""What may be asked of this server at all: hosts, paths, methods and origins. Pure functions, default deny.

Everything that is not named here answers 404, also what a newer Gradio may add. The routes of Gradio that are left
out on purpose: uploads and file reading (notes are read in the browser, tables and specialists go to the API), the
fetching proxy, deep links that write a page's content to disk, cancel by event id, logins of its own, monitoring, API
documents.
"""

from __future__ import annotations

import re
from enum import Enum
from urllib.parse import urlsplit

MOUNT = "/app"
# The last part of each page's path, and the path.
PAGES = {
    name: f"{MOUNT}/{name}"
    for name in (
        "ask",
        "assistant",
        "deidentify",
        "specialists",
        "teach",
        "audit",
        "audit-search",
        "audit-activity",
        "audit-proof",
        "audit-holds",
        "audit-retention",
        "audit-erasure",
        "site",
        "identifiers",
        "people",
        "account",
    )
}
SAFE_METHODS = frozenset({"GET", "HEAD"})

_API = re.compile(r"/(v1(/|$)|healthz$|readyz$|metrics$|openapi\.json$)")
_PUBLIC = re.compile(r"/(|login|logout|setup|favicon\.ico|ui/status|ui/static/[a-z0-9._-]+)")
_DOWNLOAD = re.compile(
    r"/(receipts/[0-9a-f]{1,64}|checkpoint|audit/export|specialists/[a-z0-9-]{1,64}/[0-9A-Za-z.+-]{1,64}/file)"
)
_PAGE = re.compile(rf"{MOUNT}/({'|'.join(PAGES)})/?")
_ASSET = re.compile(rf"{MOUNT}/((assets|static)/[A-Za-z0-9_./-]+|theme\.css)")
# Method and path of each Gradio route that the pages use, always with the tab's name.
_GRADIO = re.compile(
    rf"GET {MOUNT}/gradio_api/(queue/data|heartbeat/[A-Za-z0-9_-]+)"
    rf"|POST {MOUNT}/gradio_api/queue/join"
)
UPLOAD_TABLE, UPLOAD_SPECIALIST = "/teaching/tables", "/specialists/files"
_UPLOADS = frozenset({UPLOAD_TABLE, UPLOAD_SPECIALIST})
_METHODS = {"/login": {"GET", "HEAD", "POST"}, "/setup": {"GET", "HEAD", "POST"}, "/logout": {"POST"}}


class Area(Enum):
    """Which rules a request falls under."""

    API = "api"  # passed on as it is; it has its own rules
    PUBLIC = "public"  # sign-in, setup, our static files: no session needed
    DOWNLOAD = "download"  # ours, for a signed-in visitor
    UPLOAD = "upload"  # a file of a signed-in visitor, passed on to the API piece by piece
    PAGE = "page"  # a Gradio page, dressed in our header and navigation
    ASSET = "asset"  # Gradio's scripts and styles: cacheable, no content
    GRADIO = "gradio"  # Gradio's calls, bound to the tab's owner


def area_of(method: str, path: str) -> Area | None:
    """None: there is nothing here."""
    if _API.match(path):
        return Area.API
    if ".." in path or "//" in path or "\\" in path:
        return None
    if _PUBLIC.fullmatch(path):
        return Area.PUBLIC if method in _METHODS.get(path, SAFE_METHODS) else None
    if _GRADIO.fullmatch(f"{method} {path}"):
        return Area.GRADIO
    if method == "POST" and path in _UPLOADS:
        return Area.UPLOAD
    if method not in SAFE_METHODS:
        return None
    for pattern, area in ((_DOWNLOAD, Area.DOWNLOAD), (_PAGE, Area.PAGE), (_ASSET, Area.ASSET)):
        if pattern.fullmatch(path):
            return area
    return None


def host_name(authority: str) -> str:
    """`Example.org:8443` to `example.org`, `[::1]:8443` to `::1`; empty when it is not a host."""
    try:
        return (urlsplit(f"//{authority}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def same_origin(headers: dict[bytes, str]) -> bool:
    """True when a browser says that this page's own origin sent the request.

    Browsers of this decade send Sec-Fetch-Site, which script cannot set. Older ones send Origin with every POST.
    A request with neither is not from a page of ours.
    """
    site = headers.get(b"sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    origin = headers.get(b"origin", "")
    scheme, separator, authority = origin.partition("://")
    return bool(separator) and scheme in {"http", "https"} and authority == headers.get(b"host")
