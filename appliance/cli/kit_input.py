"""How a command learns a recovery kit: typed, the first lines of a pipe, or from a file. Never an argument."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from appliance.audit.recovery_kit import GROUP_CHARS, GROUPS, TEXT_CHARS_MAX, parse_kit
from appliance.errors import InvalidRequest

KitFileOption = Annotated[
    Path | None, typer.Option("--kit-file", help="File with the recovery kit, as a scanner or a safe gave it.")
]
_LETTERS = GROUPS * GROUP_CHARS


def read_kit(path: Path | None = None) -> bytes:
    """The key of a kit. Raises `InvalidRequest`."""
    return parse_kit(_of_file(path) if path is not None else read_kit_text("recovery kit"))


def read_kit_text(prompt: str) -> str:
    """What somebody types, over as many lines as they like, until there are letters enough; or what a pipe says."""
    if sys.stdin.isatty():
        sys.stderr.write(f"{prompt} ({GROUPS} groups of {GROUP_CHARS}):\n")
        sys.stderr.flush()
    typed = ""
    while sum(character.isalnum() for character in typed) < _LETTERS and len(typed) <= TEXT_CHARS_MAX:
        line = sys.stdin.readline(TEXT_CHARS_MAX)
        if not line.strip():
            break
        typed += line
    return typed


def _of_file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(TEXT_CHARS_MAX + 1).decode("ascii")
    except OSError as error:
        raise InvalidRequest(f"cannot read {path}: {error.strerror}", hint="name the file with the kit") from None
    except UnicodeDecodeError:
        raise InvalidRequest(f"{path} holds no recovery kit", hint="name the file with the kit") from None
