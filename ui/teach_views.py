"""What the Teach page shows of the API's answers, as HTML: the check of a table, progress, the report. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ui.client import Refused
from ui.figures import figures
from ui.markup import fragment

Answer = Mapping[str, Any]

# How a job stands, in words; a state that is not here is one of the steps under way.
OVER = {"done", "failed", "cancelled", "submitted"}
_SEVERITIES = ("refusal", "warning", "note")
_LABELS_SHOWN = 40
_MATRIX_MAX = 12  # a wider table of counts cannot be read; the confusions it holds are then listed
_CONFUSIONS_SHOWN = 12
_SHADES = 4


def table_of(carried: str | None) -> Answer:
    """What the upload answered, as the browser carried it here. Raises `Refused` for a refusal and for no answer."""
    try:
        body = json.loads(carried or "")
    except (ValueError, RecursionError):
        body = None
    if isinstance(body, dict) and isinstance(error := body.get("error"), dict):
        hint = error.get("hint")
        raise Refused(400, str(error.get("code")), str(error.get("message")), str(hint) if hint else None)
    if not isinstance(body, dict) or not isinstance(body.get("table"), str):
        raise Refused(502, "unreadable_answer", "the table could not be checked", "choose the file once more")
    return body


def checked(table: Answer, *, several: bool) -> str:
    """The columns to confirm, how many rows of each label, and what is wrong with the table.

    `several`: it was read as one in which a row may carry several labels.
    """
    labels = sorted(table.get("labels") or (), key=lambda label: -int(label["rows"]))
    most = max((int(label["rows"]) for label in labels), default=1)
    return fragment(
        "table_checked",
        table=table,
        columns=[str(column) for column in table.get("columns") or ()],
        labels=[
            (label["label"], int(label["rows"]), 100 * int(label["rows"]) / most) for label in labels[:_LABELS_SHOWN]
        ],
        more=max(0, len(labels) - _LABELS_SHOWN),
        count=len(labels),
        problems=_problems(table.get("problems")),
        ready=bool(table.get("ready")),
        several=several,
    )


def progress(job: Answer) -> str:
    done = float(job.get("progress") or 0)
    return fragment(
        "teach_progress", job=job, percent=round(100 * min(max(done, 0.0), 1.0)), step=str(job.get("step") or "")
    )


def report(job: Answer) -> str:
    """How good the new specialist is on rows it has not seen; or why there is none."""
    found = job.get("report") or {}
    per_label = [_label_row(row) for row in found.get("per_label") or ()]
    labels, counts = _confusion(found)
    return fragment(
        "teach_report",
        job=job,
        failed=job["state"] not in {"done", "submitted"},
        submitted=job["state"] == "submitted",
        problem=job.get("error"),
        figures=figures(_flat({**(found.get("metrics") or {}), "calibration_error": found.get("calibration_error")})),
        held_out=found.get("items"),
        per_label=sorted(per_label, key=lambda row: (row["score"], row["label"])),
        matrix=_matrix(labels, counts) if 0 < len(labels) <= _MATRIX_MAX else (),
        labels=labels,
        confusions=_confusions(labels, counts),
        problems=_problems(found.get("problems")),
    )


def submitted(answer: Answer) -> str:
    return fragment("teach_submitted", version=answer)


def _problems(problems: Any) -> list[dict[str, Any]]:
    """The words of each and the first places in the file where it holds; what ends the matter first."""
    order = sorted(problems or (), key=lambda problem: _SEVERITIES.index(problem["severity"]))
    return [
        {
            "message": problem["message"],
            "severity": problem["severity"],
            "where": f"(line {', '.join(map(str, problem['lines']))})" if problem["lines"] else "",
        }
        for problem in order
    ]


def _label_row(row: Answer) -> dict[str, Any]:
    flat = _flat(row)
    return {
        "label": row["label"],
        "score": flat["f1"],
        "precision": flat["precision"],
        "recall": flat["recall"],
        "items": row["items"],
    }


def _flat(metrics: Answer) -> dict[str, float]:
    """`{"accuracy": {"value": .9, "low": .8, "high": .95}}` as the flat table that cards have."""
    flat: dict[str, float] = {}
    for name, value in metrics.items():
        if isinstance(value, Mapping):
            flat[name] = float(value["value"])
            flat |= {f"{name}_{end}": float(value[end]) for end in ("low", "high") if value.get(end) is not None}
        elif isinstance(value, int | float):
            flat[name] = float(value)
    return flat


def _confusion(found: Answer) -> tuple[list[str], list[list[int]]]:
    confusion = found.get("confusion") or {}
    labels = [str(label) for label in confusion.get("labels") or ()]
    return labels, [[int(count) for count in row] for row in confusion.get("counts") or ()]


def _matrix(labels: Sequence[str], counts: Sequence[Sequence[int]]) -> list[dict[str, Any]]:
    """Rows are what was right, columns what was said; the shade is the share of the row."""
    rows = []
    for label, row in zip(labels, counts, strict=False):
        whole = max(1, sum(row))
        cells = [(count, -(-_SHADES * count // whole), said == label) for said, count in zip(labels, row, strict=False)]
        rows.append({"label": label, "cells": cells})
    return rows


def _confusions(labels: Sequence[str], counts: Sequence[Sequence[int]]) -> list[tuple[str, str, int]]:
    pairs = [
        (right, said, count)
        for right, row in zip(labels, counts, strict=False)
        for said, count in zip(labels, row, strict=False)
        if said != right and count
    ]
    return sorted(pairs, key=lambda pair: -pair[2])[:_CONFUSIONS_SHOWN]
