"""Text to HTML that stays text. Owner of the template environment; every fragment the pages draw comes from here.

Gradio's Markdown component draws our HTML, so a note passes a Markdown parser in the browser. Three rules keep
hostile text inert there, and all three hold for every value without the template asking for it:

1. every value put into a template goes through `inert`, which leaves only letters, digits, spaces and a few harmless
   signs as they are and writes everything else as a numeric character reference, line ends included;
2. a fragment is one line that begins with a block element: to Markdown that is one HTML block, parsed no further;
3. direction overrides and other invisible controls are shown as a visible code, so that no text can disguise itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

# Everything that HTML, Markdown, TeX or an autolinker could act on lies outside this set.
_NOT_PLAIN = re.compile(r"[^0-9A-Za-z ,;\u00a0-\uffff\U00010000-\U0010ffff]")
_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
    "|[\ud800-\udfff]"
)
_LINE_END = re.compile(r"\r\n?")


def inert(value: object) -> Markup:
    """`value` as text that no parser between here and the screen can read as anything else."""
    if isinstance(value, Markup):
        return value
    text = _LINE_END.sub("\n", str(value))
    text = _CONTROL.sub(lambda match: f"\u27e8U+{ord(match[0]):04X}\u27e9", text)
    return Markup(_NOT_PLAIN.sub(lambda match: f"&#{ord(match[0])};", text))  # noqa: S704 - this is the escaping


def _spaced(number: object) -> str:
    return f"{number:,}".replace(",", "\u202f") if isinstance(number, int) else str(number)


def _moment(value: object) -> str:
    """An ISO time as the API gives it, readable; anything else unchanged."""
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError:
        return str(value)
    zone = moment.strftime("%Z")
    return f"{moment.day} {moment:%b %Y, %H:%M:%S}{' ' + zone if zone else ''}"


def _instant(value: object) -> str:
    """An ISO time as UTC, for a column of times."""
    try:
        return datetime.fromisoformat(str(value)).astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
    except ValueError:
        return str(value)


def _day(value: object) -> str:
    """The day of an ISO time or date, readable; anything else unchanged."""
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError:
        return str(value)
    return f"{moment.day} {moment:%b %Y}"


def rate(value: float) -> str:
    """`98.3 %`; a number that is no rate as it is."""
    return f"{100 * value:.1f} %" if 0 <= value <= 1 else f"{value:,.1f}".replace(",", "\u202f")


def _who(record: Mapping[str, Any]) -> str:
    """Who the actor of a record is, to stand behind the id; empty for the appliance and its machine's operators."""
    if record["actor_gone"]:
        return " · no longer here"
    name = record["actor_name"]
    return f" · {name}" if name else ""


def _person(step: Mapping[str, Any]) -> str:
    """Who took a step: the name, and the id that the log has; the id alone where no account has it."""
    return f"{step['by_name']} ({step['by']})" if step["by_name"] else str(step["by"])


def _spelled(message: object) -> str:
    """The class of a message: a sentence gets a capital letter, a name in quotes or a command stays as it is typed."""
    begins = str(message)
    return "sentence" if begins[:1].isalpha() and not begins.startswith("appliance ") else "verbatim"


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("ui", "templates"),
        autoescape=True,
        finalize=inert,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters["spaced"] = _spaced
    environment.filters["moment"] = _moment
    environment.filters["instant"] = _instant
    environment.filters["day"] = _day
    environment.filters["rate"] = rate
    environment.filters["who"] = _who
    environment.filters["person"] = _person
    environment.filters["label"] = label_name
    environment.filters["kind"] = kind_class
    environment.filters["spelled"] = _spelled
    environment.filters["admitted"] = lambda code: _ADMITTED.get(str(code), str(code))
    return environment


_TEMPLATE_LINE_END = re.compile(r"\s*\n\s*")


def page(name: str, /, **values: object) -> str:
    """A whole document of `templates/`."""
    return _TEMPLATES.get_template(f"{name}.html").render(values)


def fragment(name: str, /, **values: object) -> str:
    """A piece of `templates/fragments/`, on one line. Values hold no line ends by then, so none of theirs is lost."""
    html = _TEMPLATES.get_template(f"fragments/{name}.html").render(values).strip()
    return _TEMPLATE_LINE_END.sub(" ", html)


def marked_text(text: str, spans: Iterable[Mapping[str, Any]]) -> Markup:
    """`text` with every span in a `<mark>` that carries its label. Offsets count code points, end exclusive.

    Spans that overlap an earlier one, or lie outside the text, are not drawn: a display never changes the text.
    """
    parts: list[str] = []
    done = 0
    for span in sorted(spans, key=lambda span: (int(span["start"]), -int(span["end"]))):
        start, end, label = int(span["start"]), int(span["end"]), str(span["label"])
        if not done <= start < end <= len(text):
            continue
        parts.append(inert(text[done:start]))
        parts.append(
            f'<mark class="{kind_class(label)}">{inert(text[start:end])}'
            f'<span class="kind">{inert(label_name(label))}</span></mark>'
        )
        done = end
    parts.append(inert(text[done:]))
    return Markup("".join(parts))  # noqa: S704 - every part is inert or written here


# One tint per family of identifiers, so that a reviewer learns them; colour is never the only sign.
_KINDS: Mapping[str, str] = {
    "NAME": "name",
    "DATE": "date",
    "AGE": "age",
    "LOCATION": "place",
    "ORGANIZATION": "organization",
    "PHONE": "contact",
    "FAX": "contact",
    "EMAIL": "contact",
    "URL": "contact",
    "IP": "contact",
    "IP_ADDRESS": "contact",
    "SSN": "number",
    "MRN": "number",
    "HEALTH_PLAN": "number",
    "ACCOUNT": "number",
    "LICENSE": "number",
    "VEHICLE": "number",
    "DEVICE": "number",
    "BIOMETRIC": "number",
}


def kind_class(label: str) -> str:
    """`kind-name`, `kind-date`, …; a label of another specialist is `kind-other`."""
    return f"kind-{_KINDS.get(label.upper(), 'other')}"


_ACRONYMS = {"MRN", "SSN", "ID", "URL", "IP", "DOB", "ZIP"}


def label_name(label: str) -> str:
    """`MEDICAL_RECORD` to `Medical record`; acronyms stay."""
    words = re.split(r"[_\s-]+", label.strip()) or [label]
    shown = [word.upper() if word.upper() in _ACRONYMS else word.lower() for word in words]
    return " ".join([shown[0] if shown[0].isupper() else shown[0].capitalize(), *shown[1:]])


# Why a version was let in, where no trusted key signed it.
_ADMITTED = {
    "bundled": "came with this release",
    "taught": "taught on this server",
    "decision": "an administrator let it in",
    "administrator": "an administrator let it in",
}
_TEMPLATES = _environment()
