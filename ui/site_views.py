"""What the site page shows of the API's answers, as HTML. Pure: no Gradio, no call; values through `markup.py`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from ui.audit_views import age
from ui.markup import fragment

Answer = Mapping[str, Any]

_TITLES = {"egress": "Nothing leaves", "backup": "Backup", "recovery kit": "Recovery kit", "certificate": "Certificate"}
_STATES = {"ok": ("✓", "In order", "good"), "warn": ("!", "See to it", "warn"), "fail": ("!", "Not in order", "bad")}
_WAYS_MAX = 32


def protection(answer: Answer, *, now: datetime) -> str:
    """Ages of what is done now and then, what the site says of itself, and each way out that was tried."""
    egress = answer.get("egress") or {}
    checks = [
        {**check, "title": _TITLES.get(str(check["name"]), check["name"]), "shown": _STATES[check["state"]]}
        for check in answer["checks"]
    ]
    return fragment(
        "protection",
        ages=(
            ("Time since a byte could leave", _closed(egress, now)),
            ("Last tried", _ago(egress, now)),
            ("Last backup", _ago(answer.get("backup") or {}, now)),
            ("Last rehearsed restore", _ago(answer.get("drill") or {}, now)),
        ),
        checks=checks,
        ways=sorted((egress.get("ways") or {}).items())[:_WAYS_MAX],
        time=egress.get("time"),
        fingerprint=(answer.get("certificate") or {}).get("fingerprint"),
    )


def capacity(answer: Answer) -> str:
    """For each model how many are served at once and how fast, or how to measure it."""
    return fragment("capacity", models=answer["data"])


def _closed(egress: Answer, now: datetime) -> str:
    if not egress:
        return "never tried"
    if egress["verdict"] == "open":
        return "a way is open"
    since = egress.get("blocked_since")
    return "not known" if since is None else _since(since, now)


def _ago(done: Answer, now: datetime) -> str:
    if not done:
        return "never"
    return f"{'' if done.get('succeeded', True) else 'failed '}{_since(done['time'], now)} ago"


def _since(time: object, now: datetime) -> str:
    """How long ago; a clock that was set back makes no negative age."""
    return age(max(0.0, (now - datetime.fromisoformat(str(time))).total_seconds()))
