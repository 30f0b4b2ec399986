"""The API's answers as HTML to draw. Pure: no Gradio, no call; every value goes through `markup.py`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from ui.client import Refused
from ui.markup import fragment, kind_class, label_name, marked_text

Answer = Mapping[str, Any]

# The stand-alone verifier accepts with these codes; every other one names what is wrong.
_ACCEPTED = {0: "The audit log verifies", 2: "The audit log verifies, with authorised gaps"}


class Deidentified(NamedTuple):
    """What the De-identify page shows: a problem, or a result in four parts."""

    problem: str
    marked: str
    redacted: str
    summary: str
    receipt: str


def problem(refusal: Refused) -> str:
    """The API's message and hint, as returned. Without a session the page goes to sign-in by itself."""
    return fragment("problem", problem=refusal, signed_out=refusal.signed_out)


def nothing_yet() -> Deidentified:
    return Deidentified("", fragment("marked_empty"), "", fragment("summary_empty"), "")


def deidentify_refused(refusal: Refused) -> Deidentified:
    """No old result stays beside a refusal: it could be taken for the answer."""
    return nothing_yet()._replace(problem=problem(refusal))


def deidentified(text: str, answer: Answer) -> Deidentified:
    """`text` is what was sent; the spans of `answer` are offsets into it."""
    spans = answer["spans"]
    return Deidentified(
        problem="",
        marked=fragment("marked", marked=marked_text(text, spans), found=len(spans)),
        redacted=str(answer["text"]),
        summary=_summary(text, answer),
        receipt=fragment("receipt", receipt=answer["receipt"], specialist=answer["specialist"]),
    )


def records(page: Answer, *, number: int, epoch: int | None = None) -> str:
    return fragment("records", records=page["data"], number=number, epoch=epoch)


def no_records() -> str:
    """In place of the table after a refusal, which says why."""
    return fragment("records", records=(), number=1, epoch=None)


def checkpoint(answer: Answer) -> str:
    return fragment("checkpoint", checkpoint=answer)


def verdict(answer: Answer) -> str:
    """Accepted only for the codes that say so: an unknown code is a refusal."""
    code = int(answer["exit_code"])
    return fragment(
        "verdict",
        accepted=code in _ACCEPTED,
        heading=_ACCEPTED.get(code, "The audit log does NOT verify"),
        code=code,
        name=str(answer["verdict"]),
        records=int(answer["records"]),
        first_bad_seq=answer.get("first_bad_seq"),
        messages=[str(message) for message in answer.get("messages", ())],
    )


def _summary(text: str, answer: Answer) -> str:
    hidden = sum(int(span["end"]) - int(span["start"]) for span in answer["spans"])
    counts = sorted(answer["counts"].items(), key=lambda item: (-item[1], item[0]))
    return fragment(
        "summary",
        found=len(answer["spans"]),
        kinds=len(counts),
        kept=f"{100 * (len(text) - hidden) / len(text):.0f} %" if text else "–",
        time=_duration(float(answer["elapsed_ms"])),
        counts=[(label_name(label), kind_class(label), count) for label, count in counts],
        warnings=list(answer.get("warnings") or ()),
    )


def _duration(milliseconds: float) -> str:
    if milliseconds < 1000:
        return f"{max(1, round(milliseconds))} ms"
    return f"{milliseconds / 1000:.1f} s"
