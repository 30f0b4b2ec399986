"""Which names an account and an API key may have. Pure functions.

fold("Ana.Silva")   # "ana.silva": one person, however the name is typed
"""

from __future__ import annotations

import re

from appliance.errors import InvalidRequest

USER_NAME_CHARS_MAX = 64
_USER_NAME = re.compile(r"[A-Za-z0-9._@-]{1,64}")
_KEY_NAME_CHARS_MAX = 64


def check_user_name(name: str) -> str:
    """`name`, if an account may have it. Raises `InvalidRequest`."""
    if not _USER_NAME.fullmatch(name):
        raise InvalidRequest(
            f"a user name has 1 to {USER_NAME_CHARS_MAX} characters: letters without accents, digits and . _ @ -",
            hint="for example ana.silva or ana@hospital.example",
        )
    return name


def fold(name: str) -> str:
    """The form in which names are compared. Total: what cannot be a name folds to something that matches none."""
    return name[: USER_NAME_CHARS_MAX + 1].casefold()


def check_key_name(name: str) -> str:
    """`name` without outer spaces, if an API key may have it. Raises `InvalidRequest`."""
    name = name.strip()
    if not name or len(name) > _KEY_NAME_CHARS_MAX or not name.isprintable():
        raise InvalidRequest(
            f"the name of an API key has 1 to {_KEY_NAME_CHARS_MAX} printable characters",
            hint="name the program that will use it, for example 'discharge letters'",
        )
    return name
