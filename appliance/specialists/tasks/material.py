"""Which parts of a request a specialist takes: everything it needs, nothing it would ignore. Pure.

    check_material(material, manifest)       # InvalidRequest, naming the field

| Task | Parts |
|---|---|
| `tag`, `embed` | `text` |
| `classify` | `text`, and what the manifest's `context_name` says; or `sentences` |
| `answer` | `question`, `context` |

A part that was sent and is not taken is refused, because an answer that ignores it would look as if it did not.
"""

from __future__ import annotations

from appliance.errors import InvalidRequest
from appliance.specialists.manifest import Manifest
from appliance.types import Material, Task


def check_material(material: Material, manifest: Manifest) -> None:
    """Refuse what does not fit the specialist's task. Whether an `about` is missing is the task's to say."""
    needed = fields_needed(manifest)
    allowed = {*needed, manifest.context_name} if manifest.context_name else set(needed)
    sent = _sent(material)
    for name in sent:
        if name not in allowed:
            raise InvalidRequest(f"{manifest.id} takes no {name!r}", hint=f"send {_listed(needed)} alone")
    for name in needed:
        if name not in sent:
            raise InvalidRequest(f"{manifest.id} needs {name!r}", hint=f"send {_listed(needed)}")


def takes(material: Material, manifest: Manifest) -> bool:
    """Whether a specialist could work on exactly these parts."""
    try:
        check_material(material, manifest)
    except InvalidRequest:
        return False
    return True


def fields_needed(manifest: Manifest) -> tuple[str, ...]:
    """The fields without which a specialist cannot answer, but for an `about`."""
    if manifest.task is Task.ANSWER:
        return ("question", "context")
    return ("sentences",) if manifest.unit == "sentence" else ("text",)


def _sent(material: Material) -> tuple[str, ...]:
    parts = {
        "text": material.text,
        "sentences": material.sentences,
        "question": material.question,
        "context": material.context,
    }
    return tuple(name for name, value in parts.items() if value is not None) + tuple(name for name, _ in material.about)


def _listed(names: tuple[str, ...]) -> str:
    return " and ".join(f"`{name}`" for name in names)
