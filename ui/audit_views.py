"""What the auditor's pages show of the API's answers, as HTML. Pure: no Gradio, no call; values through `markup.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from ui.client import Refused, SignedIn
from ui.markup import fragment
from ui.timeline import CLASSES, timeline

Answer = Mapping[str, Any]

# Reasons become part of public records, so they are words from a list and never somebody's own.
HOLD_REASONS = {"Litigation": "litigation", "Investigation": "investigation", "Regulator": "regulator"}
SHRED_REASONS = {
    "The person asked": "subject_request",
    "Court order": "court_order",
    "Recorded by mistake": "recorded_by_mistake",
}
CLASS_TITLES = {"exchange": "Questions and answers", "administration": "Administration"}
FORMATS = (
    ("bundle", "Bundle for auditverify (zip)"),
    ("jsonl", "JSON lines"),
    ("fhir", "FHIR AuditEvent R4"),
    ("cef", "CEF, for a SIEM"),
    ("tiles", "Static tlog-tiles (zip)"),
)


def standing(exposure: Answer) -> str:
    """The line on top of every audit page: quarantine, alarm, or in order."""
    quarantine = exposure.get("quarantine")
    if quarantine:
        return fragment("quarantine", reason=quarantine)
    return fragment("standing", **_exposure(exposure))


def standing_unknown(refusal: Refused) -> str:
    return fragment("standing_unknown", problem=refusal, signed_out=refusal.signed_out)


def exposure_card(exposure: Answer) -> str:
    """Everything about what is kept outside this machine."""
    sinks = [
        {**sink, "age": age(sink.get("age_s")), "behind": max(0, int(exposure["size"]) - int(sink.get("size") or 0))}
        for sink in exposure.get("sinks", ())
    ]
    return fragment("exposure", sinks=sinks, **_exposure(exposure))


def _exposure(exposure: Answer) -> dict[str, Any]:
    size, anchored = int(exposure["size"]), int(exposure.get("anchored_size") or 0)
    return {
        "alarm": bool(exposure["alarm"]),
        "never": exposure.get("age_s") is None,
        # No alarm is not yet an order: where nothing was ever kept outside, the page must not look reassuring.
        "level": "bad" if exposure["alarm"] else "warn" if exposure.get("age_s") is None else "good",
        "age": age(exposure.get("age_s")),
        "target": age(exposure.get("target_s")),
        "size": size,
        "anchored": anchored,
        "uncovered": max(0, size - anchored),
        "problems": sum(1 for sink in exposure.get("sinks", ()) if sink.get("problem")),
    }


def age(seconds: object) -> str:
    """`34 s`, `4 min`, `3 h`, `2 days`; `–` when there is none."""
    if not isinstance(seconds, int | float) or seconds < 0:
        return "–"
    for limit, unit, name in ((120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h")):
        if seconds < limit:
            return f"{round(seconds / unit)} {name}"
    return f"{round(seconds / 86_400)} days"


def search_progress(scanned: int, total: int, found: int) -> str:
    return fragment("search_progress", scanned=scanned, total=max(total, scanned), found=found)


def search_ended(found: int, scanned: int, *, complete: bool, stopped: bool = False) -> str:
    return fragment("search_ended", found=found, scanned=scanned, complete=complete, stopped=stopped)


def found_records(records: Sequence[Answer], *, running: bool) -> str:
    """The table of hits; each value narrows the search when it is pressed."""
    if not records:
        return fragment("found_none", running=running)
    return fragment("found", records=records)


def record(answer: Answer, *, exposure: Answer | None, user: SignedIn) -> str:
    """One record: envelope, content or why there is none, proof, and where the exchange goes on."""
    attributes = sorted((str(name), str(value)) for name, value in answer["attributes"].items())
    anchored = int(exposure.get("anchored_size") or 0) if exposure else None
    return fragment(
        "record",
        record=answer,
        attributes=attributes,
        content=answer.get("content"),
        destroyed=answer.get("destroyed"),
        reads_content="auditor" in user.roles,
        outside=None if anchored is None else int(answer["seq"]) < anchored,
        searches=bool({"auditor", "user"} & set(user.roles)),
    )


def activity(answer: Answer, epochs: Answer | None, *, now: datetime) -> str:
    """The plot, its legend, the gaps in words, and the same numbers as a table."""
    begun = min((str(epoch["begun_time"]) for epoch in (epochs or {}).get("data", ())), default=None)
    return fragment("activity", plot=timeline(answer, begun=begun, now=now), classes=CLASSES)


def holds(answer: Answer, user: SignedIn) -> str:
    names = {user.name, user.id}
    rows = [
        {
            **hold,
            "title": _title(str(hold["reason"])),
            "asked": hold.get("release_requested"),
            "asked_by_me": (hold.get("release_requested") or {}).get("by") in names,
            "covers": _covers(hold),
        }
        for hold in answer["data"]
    ]
    return fragment("holds", holds=rows, active=sum(1 for row in rows if not row.get("released")))


def _covers(hold: Answer) -> str:
    subjects = int(hold.get("subjects") or 0)
    words = [f"{subjects} subject{'' if subjects == 1 else 's'}"] if subjects else []
    words += [f"every record of class {name}" for name in hold.get("classes", ())]
    return ", ".join(words) or "nothing"


def hold_set(hold: Answer) -> str:
    return fragment("notice", heading="The hold is in force", text=f"Hold {hold['hold']} covers {_covers(hold)}.")


def hold_released(answer: Answer) -> str:
    if answer.get("state") == "released":
        return fragment("notice", heading="The hold is released", text="What it covered may be destroyed again.")
    return fragment(
        "notice",
        heading="The release has been asked for",
        text="The hold stays in force until a second person approves. Ask a colleague to sign in and open this page.",
    )


def retention(answer: Answer) -> str:
    rows = [{**rule, "title": CLASS_TITLES.get(rule["class"], rule["class"])} for rule in answer["classes"]]
    return fragment("retention", classes=rows)


def due(answer: Answer) -> str:
    """What a run would destroy now, and what must be typed to let it."""
    return fragment("due", classes=[rule for rule in answer["classes"] if rule["expired"]], words=due_words(answer))


def due_words(answer: Answer) -> str:
    """The names of the classes in which something is due, as a person is asked to type them."""
    return " ".join(sorted(str(rule["class"]) for rule in answer["classes"] if rule["expired"]))


def retention_ran(answer: Answer) -> str:
    return fragment("retention_ran", purged=answer["purged"], held=answer["held"])


def certificate(answer: Answer, subject: str) -> str:
    """Shown, and as text to be saved in the browser. The subject is not in the log; only the reader knows it."""
    lines = (
        "Certificate of destruction",
        "",
        f"Subject: {subject}",
        f"Contents destroyed: {answer['records']}",
        f"Time: {answer['time']}",
        f"Grade: {answer['grade']}",
        f"Backups that may hold the keys: {_backups(answer)}",
        f"Record: {answer['seq']} ({answer['record_id']})",
        "",
        str(answer["statement"]),
        "",
    )
    return fragment("certificate", certificate=answer, backups=_backups(answer), subject=subject, text=_lines(lines))


def _backups(answer: Answer) -> str:
    """How many, and until when."""
    count, expire = answer["backups"], answer["backups_expire"]
    if not count:
        return "none is recorded"
    return f"{count}, the last until {expire[:10]}" if expire else f"{count}, at least one without an end"


def erasures(answer: Answer) -> str:
    return fragment("erasures", erasures=answer["data"])


def epochs(answer: Answer) -> str:
    return fragment("epochs", epochs=sorted(answer["data"], key=lambda epoch: -int(epoch["number"])))


def receipt_checked(answer: Answer) -> str:
    return fragment("receipt_checked", good=answer["verdict"] in {"ok", "ok_with_gaps"}, answer=answer)


def _lines(lines: Sequence[str]) -> str:
    return "\n".join(lines)


def _title(code: str) -> str:
    for title, known in {**HOLD_REASONS, **SHRED_REASONS}.items():
        if known == code:
            return title
    return code
