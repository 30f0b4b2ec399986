"""Response headers of every page, as pure functions: content security policy, hardening headers, caching.

Gradio needs inline style attributes and data: fonts; it needs no eval and no inline script beyond those of its
own document, which get a nonce (see `chrome.py`). The API answers JSON and may load nothing at all.
"""

from __future__ import annotations

from collections.abc import Iterable

Header = tuple[bytes, bytes]

PAGE_POLICY = (
    "default-src 'none'; base-uri 'self'; object-src 'none'; frame-ancestors 'none'; frame-src 'none'; "
    "form-action 'self'; script-src 'self' 'nonce-{nonce}'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; font-src 'self' data:; media-src 'none'; connect-src 'self'; worker-src 'none'; "
    "manifest-src 'none'"
)
API_POLICY = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

_COMMON: tuple[Header, ...] = (
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-dns-prefetch-control", b"off"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (
        b"permissions-policy",
        b"camera=(), microphone=(), geolocation=(), payment=(), usb=(), clipboard-read=(), clipboard-write=(self)",
    ),
)
_STRICT_TRANSPORT: Header = (b"strict-transport-security", b"max-age=31536000")
_NO_STORE: Header = (b"cache-control", b"no-store")
_IMMUTABLE: Header = (b"cache-control", b"private, max-age=31536000, immutable")
_REVALIDATE: Header = (b"cache-control", b"private, no-cache")

# Gradio allows credentials to any localhost origin; nothing here is meant for another origin.
_DROPPED_FROM_PAGES = frozenset(
    {b"access-control-allow-credentials", b"access-control-allow-origin", b"server", b"x-powered-by"}
)


def for_api(headers: Iterable[Header], *, secure: bool) -> list[Header]:
    """The API's own headers win; what it did not say is filled in."""
    kept = list(headers)
    present = {name.lower() for name, _ in kept}
    added = [*_COMMON, _NO_STORE, (b"content-security-policy", API_POLICY.encode())]
    if secure:
        added.append(_STRICT_TRANSPORT)
    return kept + [header for header in added if header[0] not in present]


def for_page(headers: Iterable[Header], *, nonce: str, caching: str, secure: bool) -> list[Header]:
    """Ours replace whatever the page's application said. `caching`: `never`, `revalidate` or `forever`."""
    ours: list[Header] = [*_COMMON, (b"content-security-policy", PAGE_POLICY.format(nonce=nonce).encode())]
    ours.append({"never": _NO_STORE, "revalidate": _REVALIDATE, "forever": _IMMUTABLE}[caching])
    if secure:
        ours.append(_STRICT_TRANSPORT)
    replaced = _DROPPED_FROM_PAGES | {name for name, _ in ours}
    return [(name, value) for name, value in headers if name.lower() not in replaced] + ours
