"""What surrounds a Gradio page: header, navigation, sign-out, and the nonce that lets its own scripts run.

Gradio writes its document itself, so the guard hands the finished document to `Chrome.dress`, which puts our
header into it as server HTML. It is on screen before any script has run.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass

from ui.client import SignedIn
from ui.markup import inert, page
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


_EVERYBODY = frozenset({"user", "auditor", "admin"})
_OVERSEERS = frozenset({"auditor", "admin"})
_TEACHERS = frozenset({"user", "admin"})

NAVIGATION = (
    NavigationGroup(
        "Work",
        (
            NavigationEntry("ask", "Ask", PAGES["ask"], frozenset({"user"})),
            NavigationEntry("assistant", "Assistant", PAGES["assistant"], frozenset({"user"})),
            NavigationEntry("deidentify", "De-identify", PAGES["deidentify"], frozenset({"user"})),
            NavigationEntry("specialists", "Specialists", PAGES["specialists"], _EVERYBODY),
            NavigationEntry("teach", "Teach", PAGES["teach"], _TEACHERS),
        ),
    ),
    NavigationGroup(
        "Oversight",
        (
            NavigationEntry("audit", "Audit log", PAGES["audit"], _EVERYBODY),
            NavigationEntry("search", "Search", PAGES["audit-search"], frozenset({"user", "auditor"})),
            NavigationEntry("activity", "Activity", PAGES["audit-activity"], _OVERSEERS),
            NavigationEntry("proof", "Proof and export", PAGES["audit-proof"], _EVERYBODY),
            NavigationEntry("identifiers", "Identifiers", PAGES["identifiers"], _OVERSEERS),
            NavigationEntry("people", "People", PAGES["people"], frozenset({"admin"})),
            NavigationEntry("site", "This site", PAGES["site"], _OVERSEERS),
        ),
    ),
    NavigationGroup(
        "Keeping and destroying",
        (
            NavigationEntry("holds", "Legal holds", PAGES["audit-holds"], _OVERSEERS),
            NavigationEntry("retention", "Retention", PAGES["audit-retention"], _OVERSEERS),
            NavigationEntry("erasure", "Erasure", PAGES["audit-erasure"], _OVERSEERS),
        ),
    ),
)


# Lines on a grid of 20 by 20, drawn by the style sheet.
_ICONS = {
    "deidentify": "M10 2.5l6 2.2v4.6c0 3.9-2.5 6.7-6 8.2-3.5-1.5-6-4.3-6-8.2V4.7zM7.4 9.9l1.9 1.9 3.4-3.7",
    "ask": "M3.5 4.5h13v8.5H9.5L6 16v-3H3.5z",
    "assistant": "M10 3a7 6.4 0 1 1 0 12.8q-1.2 0-2.3-.3L4 17.2l1-3.3A6.2 6.2 0 0 1 10 3zM7 8h6M7 11h4",
    "specialists": "M3.5 3.5h5.2v5.2H3.5zM11.3 3.5h5.2v5.2h-5.2zM3.5 11.3h5.2v5.2H3.5zM11.3 11.3h5.2v5.2h-5.2z",
    "teach": "M10 4L2.5 7.5 10 11l7.5-3.5zM5.5 9.2v4c2.8 2.2 6.2 2.2 9 0v-4M17.5 7.5v4.5",
    "audit": "M4.5 3h11v14h-11zM7.5 7h5M7.5 10h5M7.5 13h3",
    "search": "M8.8 3.5a5.3 5.3 0 1 1 0 10.6a5.3 5.3 0 0 1 0-10.6zM12.7 12.7l4 4",
    "activity": "M3 16.5h14M5 14v-4M8.3 14V5M11.7 14V8M15 14v-3",
    "proof": "M6.2 9.5a3.8 3.8 0 1 1 7.6 0M4.5 9.5h11v7h-11zM10 12v2.2",
    "identifiers": "M3 5h14v10H3zM7 7.5a1.7 1.7 0 1 1 0 3.4a1.7 1.7 0 0 1 0-3.4zM5 13q2-2 4 0M12 9h3M12 12h3",
    "people": "M7 4a2.6 2.6 0 1 1 0 5.2A2.6 2.6 0 0 1 7 4zM3 16q0-4 4-4t4 4M13 5a2 2 0 1 1 0 4M14 12q4 0 4 4",
    "site": "M3 9.2L10 3.5l7 5.7M5 8v8.5h10V8M8.3 16.5v-4.5h3.4v4.5",
    "holds": "M10 3v13.5M6 16.5h8M4 6l6-1.5L16 6M4 6l-2 5h4zM16 6l-2 5h4z",
    "retention": "M10 3a7 7 0 1 1 0 14a7 7 0 0 1 0-14zM10 6v4.2l2.8 1.8",
    "erasure": "M4 6h12M8 6V4h4v2M5.5 6l.8 11h7.4l.8-11M8.5 9v5M11.5 9v5",
}


def navigation_for(user: SignedIn) -> tuple[NavigationGroup, ...]:
    """The groups that hold something for this user."""
    groups = (
        NavigationGroup(group.title, tuple(entry for entry in group.entries if entry.roles & set(user.roles)))
        for group in NAVIGATION
    )
    return tuple(group for group in groups if group.entries)


def landing_path(user: SignedIn) -> str:
    """Where signing in leads: to the work of those who have some, to the log for everybody else."""
    return PAGES["deidentify" if "user" in user.roles else "audit"]


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
        titles[PAGES["account"]] = "My account"
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
            account=PAGES["account"],
            icons=_ICONS,
        ).encode()
        document, heads = _TITLE_END.subn(lambda _: head + b"</head>", document)
        # Roles only hide what would be refused; the API decides.
        body = f'<body class="shell" data-roles="{inert(" ".join(user.roles))}">'.encode()
        document, bodies = _BODY.subn(lambda _: body + shell, document)
        if (heads, bodies) != (1, 1):
            raise DocumentUnexpected("the page that Gradio wrote has an unknown form; its version is not supported")
        return _SCRIPT.sub(b'<script nonce="%s"' % nonce.encode(), document)
