"""What surrounds a Gradio page: header, navigation, sign-out, and the nonce that lets its own scripts run.

Gradio writes its document itself, so the guard hands the finished document to `Chrome.dress`, which puts our
header into it as server HTML. It is on screen before any script has run.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass

from ui.client import SignedIn
from ui.markup import page
from ui.policy import PAGES
from ui.settings import UiSettings


@dataclass(frozen=True, slots=True)
class NavigationEntry:
    """One page. `roles` says to whom it is useful, so that nobody is led to a closed door; the API decides."""

    name: str
    title: str
    path: str
    roles: frozenset[str]


@dataclass(frozen=True, slots=True)
class NavigationGroup:
    """Entries under one heading."""

    title: str
    entries: tuple[NavigationEntry, ...]


NAVIGATION = (
    NavigationGroup("Work", (NavigationEntry("deidentify", "De-identify", PAGES["deidentify"], frozenset({"user"})),)),
    NavigationGroup(
        "Oversight",
        (NavigationEntry("audit", "Audit log", PAGES["audit"], frozenset({"user", "auditor", "admin"})),),
    ),
)


def navigation_for(user: SignedIn) -> tuple[NavigationGroup, ...]:
    """The groups that hold something for this user."""
    groups = (
        NavigationGroup(group.title, tuple(entry for entry in group.entries if entry.roles & set(user.roles)))
        for group in NAVIGATION
    )
    return tuple(group for group in groups if group.entries)


def landing_path(user: SignedIn) -> str:
    """Where signing in leads."""
    groups = navigation_for(user)
    return groups[0].entries[0].path if groups else PAGES["audit"]


_SCRIPT = re.compile(rb"<script(?=[\s>])")
# Addresses of other sites, icons and descriptions of somebody else's product.
_FOREIGN = re.compile(rb'<meta\s+(?:property="og:|name="twitter:)[^>]*>|<link rel="manifest"[^>]*>')
_RESIZER = re.compile(rb"<script>\s*\(\(\) => \{\s*const root =.*?\}\)\(\);\s*</script>", re.DOTALL)
_TITLE_END = re.compile(rb"</head>")
_BODY = re.compile(rb"<body\b[^>]*>")
_OWN_TITLE = b'control_page_title="true"'  # each of our pages has its own title


def new_nonce() -> str:
    return secrets.token_urlsafe(18)


class DocumentUnexpected(RuntimeError):
    """Gradio's document no longer looks as this module knows it; the page is not shown half-dressed."""


@dataclass(frozen=True, slots=True)
class Chrome:
    """Dresses documents for one site."""

    settings: UiSettings

    def dress(self, document: bytes, *, nonce: str, path: str, user: SignedIn) -> bytes:
        """The document with its nonce, our style sheet and script, and our header. One `<body>`, one `</head>`."""
        current = path.rstrip("/")
        titles = {entry.path: entry.title for group in NAVIGATION for entry in group.entries}
        document = _FOREIGN.sub(b"", _RESIZER.sub(b"", document)).replace(_OWN_TITLE, b"")
        head = page("head", title=titles.get(current, "Page")).encode()
        shell = page(
            "shell",
            site=self.settings.site_name,
            version=self.settings.version,
            user=user,
            home=landing_path(user),
            navigation=navigation_for(user),
            current=current,
        ).encode()
        document, heads = _TITLE_END.subn(lambda _: head + b"</head>", document)
        document, bodies = _BODY.subn(lambda _: b'<body class="shell">' + shell, document)
        if (heads, bodies) != (1, 1):
            raise DocumentUnexpected("the page that Gradio wrote has an unknown form; its version is not supported")
        return _SCRIPT.sub(b'<script nonce="%s"' % nonce.encode(), document)
