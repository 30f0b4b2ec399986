"""What the pages about people show of the API's answers, as HTML. Pure; every value goes through `markup.py`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from ui.client import SignedIn
from ui.markup import fragment

Answer = Mapping[str, Any]

# What may be given to a person, and in a word what it is for.
ROLES: Mapping[str, tuple[str, str]] = {
    "user": ("User", "works with specialists and models, and reads their own records"),
    "auditor": ("Auditor", "reads and exports everybody's records, and does nothing else here"),
    "admin": ("Administrator", "runs the site: accounts, specialists, policies, keeping and destroying"),
}
# What a program may be let do, of what its owner may.
SCOPES: Mapping[str, str] = {
    "specialist.run": "Ask specialists and models",
    "specialist.list": "See which there are",
    "audit.read_own": "Read its owner's records",
    "audit.verify": "Have the log verified",
}


def people(answer: Answer, user: SignedIn) -> str:
    """Every account with what it may do and what may be done with it."""
    accounts = [
        {
            **account,
            "does": "; ".join(_role(role) for role in account["roles"]),
            "mine": account["name"] == user.name,
            "actor": f"user:{account['id']}",
        }
        for account in answer["data"]
    ]
    return fragment("people", accounts=accounts)


def api_keys(answer: Answer, *, whose: bool, now: datetime) -> str:
    """Keys of programs, what they may do and until when; `whose`: of several people."""
    keys = [{**key, "over": datetime.fromisoformat(str(key["expires"])) <= now} for key in answer["data"]]
    keys.sort(key=lambda key: bool(key["revoked"] or key["over"]))
    return fragment("api_keys", keys=keys, whose=whose)


def key_made(answer: Answer) -> str:
    """A new key, the only time it is shown."""
    return fragment("key_made", name=answer["name"], secret=answer["secret"])


def _role(role: str) -> str:
    title, does = ROLES.get(role, (role, ""))
    return f"{title}: {does}" if does else title
