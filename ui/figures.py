"""Measured figures as a specialist's card states them, made readable: names, percentages, intervals, bars. Pure.

Metrics arrive as one flat table of numbers; `accuracy_low` or `accuracy_interval_low` belongs to `accuracy`.

    figures({"recall": 0.9829, "recall_interval_low": 0.9787, "recall_interval_high": 0.987})
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ui.markup import label_name, rate

_LOWS = ("_interval_low", "_low")
_HIGHS = ("_interval_high", "_high")
# What a figure is called, and whether less of it is better. Others are called by their own name.
_TITLES: Mapping[str, tuple[str, bool]] = {
    "macro_f1": ("Macro F1", False),
    "micro_f1": ("Micro F1", False),
    "f1": ("F1", False),
    "entity_f1": ("Entity F1", False),
    "without_leak": ("Without a single leak", False),
    "over_redaction": ("Redacted in vain", True),
    "names_characters": ("Characters of names found", False),
    "names_whole": ("Names found whole", False),
    "precision_own_label": ("Precision, with the right label", False),
    "recall_own_label": ("Recall, with the right label", False),
    "calibration_error": ("Calibration error", True),
    "accuracy_answered": ("Accuracy where it answers", False),
    "always_the_commonest": ("Always the commonest label, for comparison", False),
    "accuracy_answered_and_right": ("Answered and right", False),
}
# Which figure stands on a card, the first that was measured; the second of a pair only beside it.
_HEADLINES = ("recall", "accuracy", "entity_f1", "f1", "micro_f1", "macro_f1", "exact")
_BESIDE = {"recall": "precision", "accuracy": "macro_f1", "micro_f1": "macro_f1", "f1": "exact"}
_RATE_MAX = 1.0


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure. `low` and `high` are the ends of its 95 % interval, None when none was stated.

    `start`, `length`, `from_` and `to` are the bar and the interval in per cent of its track; None when it is no rate.
    """

    name: str
    title: str
    shown: str
    interval: str
    less_is_better: bool
    length: float | None
    from_: float | None
    to: float | None


def figures(metrics: Mapping[str, Any]) -> tuple[Figure, ...]:
    """Each figure with its interval, the headline first, then in the order of their names."""
    names = [name for name in metrics if not name.endswith((*_LOWS, *_HIGHS)) or _owner(name) not in metrics]
    first = [name for name in _headline_names(metrics) if name in names]
    return tuple(_figure(name, metrics) for name in (*first, *sorted(set(names) - set(first))))


def headline(evaluations: Any) -> tuple[Mapping[str, Any] | None, tuple[Figure, ...]]:
    """The evaluation that a card shows, and one or two figures of it."""
    for evaluation in evaluations or ():
        chosen = _headline_names(evaluation["metrics"])
        if chosen:
            return evaluation, tuple(_figure(name, evaluation["metrics"]) for name in chosen)
    return None, ()


def share(title: str, value: float, low: float, high: float) -> Figure:
    """A share with its interval as a figure of that title."""
    return replace(_figure("share", {"share": value, "share_low": low, "share_high": high}), title=title)


def error_rate(name: str, title: str, metrics: Mapping[str, Any], *, of_itself: bool = False) -> Figure:
    """What is missing from a measured share, with its interval turned round; `of_itself`: the share is the error."""
    ends = {"error_low": _end(name, metrics, _LOWS), "error_high": _end(name, metrics, _HIGHS)}
    values = {"error": float(metrics[name]), **{end: value for end, value in ends.items() if value is not None}}
    if not of_itself:
        turned = {"error_low": "error_high", "error_high": "error_low"}
        values = {turned.get(end, end): 1 - value for end, value in values.items()}
    return replace(_figure("error", values), title=title)


def _headline_names(metrics: Mapping[str, Any]) -> list[str]:
    for name in _HEADLINES:
        if name in metrics:
            beside = _BESIDE.get(name)
            return [name, beside] if beside in metrics and beside else [name]
    return []


def _figure(name: str, metrics: Mapping[str, Any]) -> Figure:
    value = float(metrics[name])
    low, high = _end(name, metrics, _LOWS), _end(name, metrics, _HIGHS)
    title, less = _TITLES.get(name, (label_name(name), False))
    drawn = 0 <= value <= _RATE_MAX
    whole = drawn and low is not None and high is not None
    return Figure(
        name=name,
        title=title,
        shown=rate(value),
        interval=f"{_bare(low)} to {_bare(high)}" if low is not None and high is not None else "",
        less_is_better=less,
        length=_percent(value) if drawn else None,
        from_=_percent(low) if whole and low is not None else None,
        to=_percent(high) if whole and high is not None else None,
    )


def _owner(name: str) -> str:
    for ending in (*_LOWS, *_HIGHS):
        if name.endswith(ending):
            return name.removesuffix(ending)
    return name


def _end(name: str, metrics: Mapping[str, Any], endings: tuple[str, ...]) -> float | None:
    return next((float(metrics[name + ending]) for ending in endings if name + ending in metrics), None)


def _bare(value: float) -> str:
    return rate(value).removesuffix(" %")


def _percent(value: float) -> float:
    return round(100 * min(max(value, 0.0), 1.0), 1)
