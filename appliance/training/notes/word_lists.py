"""The word lists that lie beside this module: vocabulary, names by origin, places, templates.

Owns: reading them. Each is read once per process, when first asked for, never at import.

>>> "Foley catheter" in vocabulary()["device"]
True
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files


def _lines(name: str) -> list[str]:
    text = (files("appliance.training.notes") / name).read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line.strip() and not line.startswith("# ")]


@lru_cache(maxsize=4)
def sections(name: str) -> Mapping[str, tuple[str, ...]]:
    """Lines under each `[section]` of a list."""
    found: dict[str, list[str]] = {}
    section = ""
    for line in _lines(name):
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1]
            found.setdefault(section, [])
        else:
            found[section].append(line.replace("\\n", "\n").replace("\\t", "\t"))
    return {key: tuple(lines) for key, lines in found.items()}


@lru_cache(maxsize=4)
def _words(name: str) -> Mapping[str, tuple[str, ...]]:
    return {
        key: tuple(word.strip() for line in lines for word in line.split(";") if word.strip())
        for key, lines in sections(name).items()
    }


def vocabulary() -> Mapping[str, tuple[str, ...]]:
    """Words that identify nobody, by slot."""
    return _words("vocabulary.txt")


def romanised_names() -> Mapping[str, tuple[str, ...]]:
    """`"korean first"` and the like to names."""
    return _words("names_romanised.txt")


def place_words() -> Mapping[str, tuple[str, ...]]:
    """Parts of street, facility and employer names."""
    return _words("places.txt")


def templates() -> Mapping[str, tuple[str, ...]]:
    """Sentence and line templates by section."""
    return sections("templates.txt")


def queries() -> Mapping[str, tuple[str, ...]]:
    """Templates of short questions by section."""
    return sections("queries.txt")
