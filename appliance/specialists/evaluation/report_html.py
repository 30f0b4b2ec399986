"""The report of an evaluation as one HTML file: no script, no font, no image, no address of anywhere. Pure.

    html = report_html(report)

Plots are inline SVG: bars with intervals, F1 by label, the reliability diagram, the confusion matrix. Everything that
comes from data (labels, names) is escaped. Colours follow the reader's light or dark setting; figures are text as well.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape

from appliance.specialists.evaluation.judge import Confusion, Figure, Judgement, Report, SwappedNames
from appliance.specialists.metrics.classification import Bin
from appliance.specialists.metrics.intervals import Difference

FIGURE_NAMES = {
    "accuracy": "accuracy",
    "macro_f1": "macro-F1",
    "micro_f1": "micro-F1",
    "exact": "exact match",
    "calibration_error": "calibration error",
    "answered": "answered",
    "accuracy_answered": "accuracy of what was answered",
    "out_of_scope_recall": "out of scope, declined",
    "span_precision": "span precision",
    "span_recall": "span recall",
    "span_f1": "span F1",
    "span_macro_f1": "span macro-F1",
    "character_precision": "character precision",
    "character_recall": "character recall",
    "character_f1": "character F1",
    "items_without_miss": "texts without a miss",
    "f1": "F1",
    "f1_answerable": "F1 of answerable questions",
    "sentence_hit": "right sentence",
    "abstention": "rightly answered or declined",
}
LABELS_SHOWN = 60
CONFUSION_LABELS_MAX = 30
_STYLE = """
:root{color-scheme:light dark;--ink:#1c2430;--soft:#5b6676;--line:#d5dbe3;--page:#fff;--panel:#f5f7fa;
--one:#1f6feb;--two:#c2571a}
@media(prefers-color-scheme:dark){:root{--ink:#e6eaf0;--soft:#a0abba;--line:#37414f;--page:#12161c;--panel:#1a2028;
--one:#6ea8fe;--two:#f0a36b}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:15px/1.5 system-ui,sans-serif}
main{max-width:62rem;margin:0 auto;padding:2rem 1.25rem 4rem}
h1{font-size:1.6rem;margin:0}
h2{font-size:1.15rem;margin:2.2rem 0 .6rem}
p{margin:.3rem 0 .8rem;max-width:46rem}
.soft{color:var(--soft)}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{text-align:left;padding:.3rem .7rem .3rem 0;border-bottom:1px solid var(--line);vertical-align:top}
td.n,th.n{text-align:right}
.plot{overflow-x:auto;background:var(--panel);border-radius:8px;padding:1rem;margin:.6rem 0}
svg{display:block;max-width:100%;height:auto}
svg text{fill:var(--ink);font:12px system-ui,sans-serif}
svg .soft{fill:var(--soft)}
.axis{stroke:var(--line)}
.one{fill:var(--one)}
.two{fill:var(--two)}
.whisker{stroke:var(--ink);stroke-width:1.5}
.scroll{overflow-x:auto}
code{font:12px ui-monospace,monospace;overflow-wrap:anywhere}
"""


def report_html(report: Report) -> str:
    """The whole file."""
    names = " against ".join(_name(one) for one in report.judgements)
    parts = [
        f"<h1>{escape(names)}</h1>",
        f'<p class="soft">{report.items} labelled items · task {escape(report.task)} · {escape(report.created)} · '
        f"{escape(report.machine)}<br>data SHA-256 <code>{escape(report.data_sha256)}</code></p>",
        "<p>Figures with 95 % intervals, from drawing the items again 1,000 times (seed "
        f"{report.seed}). An item that could not be read or was refused counts as wrong.</p>",
        _figures(report),
        _costs(report),
    ]
    for number, judgement in enumerate(report.judgements):
        parts += _details(judgement, ("one", "two")[number % 2], many=len(report.judgements) > 1)
    if report.swapped is not None:
        parts.append(_swapped(report.swapped))
    body = "\n".join(parts)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(names)}</title><style>{_STYLE}</style></head>\n<body><main>\n{body}\n</main></body></html>\n"
    )


def shown(value: float) -> str:
    """A share with three digits; a dash where there is none.

    >>> shown(0.98765), shown(float("nan"))
    ('0.988', '–')
    """
    return "–" if math.isnan(value) else f"{value:.3f}"


def shown_figure(figure: Figure) -> str:
    """A figure and its interval."""
    if math.isnan(figure.value):
        return "–"
    return f"{shown(figure.value)} [{shown(figure.interval[0])}, {shown(figure.interval[1])}]"


def shown_difference(difference: Difference) -> str:
    """A difference, its interval, and a star where chance does not explain it."""
    if math.isnan(difference.value):
        return "–"
    low, high = difference.interval
    return f"{difference.value:+.3f} [{low:+.3f}, {high:+.3f}]{' *' if difference.beyond_chance else ''}"


def _name(judgement: Judgement) -> str:
    contender = judgement.contender
    return f"{contender.name} {contender.version}".strip()


def _figures(report: Report) -> str:
    shared = [_name(one) for one in report.judgements]
    compared = len(shared) > 1
    heads = ["", *shared, *(["difference"] if compared else [])]
    rows = []
    for name in dict.fromkeys(name for one in report.judgements for name in one.figures):
        cells = [shown_figure(one.figures[name]) if name in one.figures else "–" for one in report.judgements]
        if compared:
            cells.append(shown_difference(report.differences[name]) if name in report.differences else "–")
        rows.append([FIGURE_NAMES.get(name, name), *cells])
    note = (
        '<p class="soft">* the interval of the difference, on the same items, leaves zero out</p>' if compared else ""
    )
    return f"<h2>Figures</h2>{_table(heads, rows)}{note}{_figure_plot(report)}"


def _costs(report: Report) -> str:
    rows = [
        [
            _name(one),
            f"{one.latency.p50_ms:g}",
            f"{one.latency.p95_ms:g}",
            f"{one.latency.p99_ms:g}",
            f"{one.latency.seconds_per_1000:g}",
            str(one.failed),
        ]
        for one in report.judgements
    ]
    heads = ["", "p50 ms", "p95 ms", "p99 ms", "seconds per 1,000 documents", "not readable"]
    return f"<h2>Latency and cost</h2><p class='soft'>One item at a time on this machine.</p>{_table(heads, rows)}"


def _details(judgement: Judgement, colour: str, *, many: bool) -> list[str]:
    suffix = f" · {escape(_name(judgement))}" if many else ""
    parts = []
    if judgement.labels:
        parts.append(
            f"<h2>By label{suffix}</h2>{_label_bars(judgement.labels, colour)}{_label_table(judgement.labels)}"
        )
    if judgement.reliability:
        parts.append(
            f"<h2>Reliability{suffix}</h2><p class='soft'>Of what was said with this score, so much was right; on the "
            f"diagonal a score means what it says.</p>{_reliability(judgement.reliability, colour)}"
        )
    if judgement.confusion is not None:
        parts.append(f"<h2>Confusion{suffix}</h2>{_confusion(judgement.confusion, colour)}")
    return parts


def _label_table(labels: dict[str, dict[str, float]]) -> str:
    columns = list(dict.fromkeys(name for values in labels.values() for name in values))
    rows = [
        [label, *(f"{values[name]:g}" if name == "items" else shown(values[name]) for name in columns)]
        for label, values in labels.items()
    ]
    return _table(["label", *(name.replace("_", " ") for name in columns)], rows)


def _swapped(swapped: SwappedNames) -> str:
    rows = [
        [group.origin, str(group.names), shown_figure(Figure(group.recall, group.interval))] for group in swapped.groups
    ]
    verdict = "a gap beyond chance" if swapped.p_value < 0.05 else "no gap beyond chance"
    bars = [(group.origin, group.recall, group.interval) for group in swapped.groups]
    return (
        f"<h2>Names of other origins</h2><p>The same {swapped.texts} texts with names of each origin: recall of whole "
        f"names. {verdict.capitalize()} (p = {swapped.p_value:.3f}, permutation test within texts).</p>"
        f"{_plot(_bars(bars, 'one'), 'recall of names by origin')}{_table(['origin', 'names', 'recall'], rows)}"
    )


# Plots.


def _figure_plot(report: Report) -> str:
    bars: list[tuple[str, float, tuple[float, float], str]] = []
    for name in report.judgements[0].figures:
        for number, one in enumerate(report.judgements):
            figure = one.figures.get(name)
            if figure is not None and not math.isnan(figure.value):
                label = FIGURE_NAMES.get(name, name) if number == 0 else ""
                bars.append((label, figure.value, figure.interval, ("one", "two")[number % 2]))
    rows = [(label, value, interval) for label, value, interval, _ in bars]
    return _plot(_bars(rows, [colour for *_, colour in bars]), "figures with intervals")


def _label_bars(labels: dict[str, dict[str, float]], colour: str) -> str:
    ranked = sorted(labels.items(), key=lambda pair: -pair[1]["items"])[:LABELS_SHOWN]
    bars = [(label, values["f1"], (values["f1"], values["f1"])) for label, values in ranked]
    left = len(labels) - len(ranked)
    more = f"<p class='soft'>The {LABELS_SHOWN} most frequent labels; {left} more in the table.</p>" if left > 0 else ""
    return f"{_plot(_bars(bars, colour), 'F1 by label')}{more}"


def _bars(rows: Sequence[tuple[str, float, tuple[float, float]]], colours: str | Sequence[str]) -> str:
    """Horizontal bars from 0 to 1 with whiskers where the interval has a width."""
    left, width, step = 230, 430, 22
    parts = [
        f'<line class="axis" x1="{left + width * tick}" x2="{left + width * tick}" y1="0" y2="{step * len(rows)}"/>'
        f'<text class="soft" x="{left + width * tick}" y="{step * len(rows) + 15}" text-anchor="middle">{tick:g}</text>'
        for tick in (0, 0.25, 0.5, 0.75, 1)
    ]
    for number, (label, value, (low, high)) in enumerate(rows):
        y = number * step
        known = 0.0 if math.isnan(value) else min(max(value, 0.0), 1.0)
        colour = colours if isinstance(colours, str) else colours[number]
        parts.append(f'<text x="{left - 8}" y="{y + 15}" text-anchor="end">{escape(_short(label))}</text>')
        size = f'width="{width * known:.1f}" height="{step - 8}" opacity=".8"'
        parts.append(f'<rect class="{colour}" x="{left}" y="{y + 4}" {size}/>')
        if not math.isnan(low) and high > low:
            ends = left + width * max(low, 0), left + width * min(high, 1)
            parts.append(f'<line class="whisker" x1="{ends[0]:.1f}" x2="{ends[1]:.1f}" y1="{y + 11}" y2="{y + 11}"/>')
        parts.append(f'<text x="{left + width + 10}" y="{y + 15}">{shown(value)}</text>')
    return _svg(left + width + 60, step * len(rows) + 22, parts)


def _reliability(bins: Iterable[Bin], colour: str) -> str:
    size, edge = 300, 54
    middle, bottom = 10 + size / 2, 10 + size
    parts = [
        f'<rect x="{edge}" y="10" width="{size}" height="{size}" fill="none" class="axis"/>',
        f'<line class="axis" x1="{edge}" y1="{bottom}" x2="{edge + size}" y2="10" stroke-dasharray="4 4"/>',
        f'<text class="soft" x="{edge + size / 2}" y="{size + 42}" text-anchor="middle">score</text>',
        f'<text class="soft" x="14" y="{middle}" text-anchor="middle" transform="rotate(-90 14 {middle})">'
        "share that is right</text>",
    ]
    for tick in (0, 0.5, 1):
        across, up = edge + size * tick, 14 + size * (1 - tick)
        parts.append(f'<text class="soft" x="{across}" y="{size + 26}" text-anchor="middle">{tick:g}</text>')
        parts.append(f'<text class="soft" x="{edge - 6}" y="{up}" text-anchor="end">{tick:g}</text>')
    places = [(edge + size * one.score, 10 + size * (1 - one.right), one) for one in bins]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in places)
    parts.append(f'<polyline points="{line}" fill="none" stroke="var(--{colour})" stroke-width="2"/>')
    for x, y, one in places:
        title = f"score {one.score:.2f}, right {one.right:.2f}, {one.items} items"
        radius = 3 + min(7.0, math.sqrt(one.items) / 4)
        parts.append(
            f'<circle class="{colour}" cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}"><title>{title}</title></circle>'
        )
    return _plot(_svg(size + edge + 20, size + 52, parts), "reliability diagram")


def _confusion(confusion: Confusion, colour: str) -> str:
    """Labels that take part in a confusion first, when there are too many to draw."""
    counts, labels = confusion.counts, confusion.labels
    size = len(labels)

    def weight(row: int) -> int:
        return sum(counts[row][other] + counts[other][row] for other in range(size) if other != row)

    occurs = [row for row in range(size) if any(counts[row]) or any(line[row] for line in counts)]
    kept = sorted(sorted(occurs, key=weight, reverse=True)[:CONFUSION_LABELS_MAX])
    left = len(occurs) - len(kept)
    more = f"<p class='soft'>The {len(kept)} labels with most confusions of {len(occurs)}.</p>" if left > 0 else ""
    cell, edge = 24, 190
    parts = []
    for y, row in enumerate(kept):
        total = sum(counts[row]) or 1
        name, place = labels[row] or "(out of scope)", edge + y * cell + 16
        turned = f'x="{place}" y="{edge - 6}" transform="rotate(-90 {place} {edge - 6})"'
        parts.append(f'<text x="{edge - 6}" y="{place}" text-anchor="end">{escape(_short(name, 26))}</text>')
        parts.append(f"<text {turned}>{escape(_short(labels[row] or '(no answer)', 26))}</text>")
        for x, other in enumerate(kept):
            count, left_edge = counts[row][other], edge + x * cell
            title = escape(f"{name} said to be {labels[other] or '(no answer)'}: {count}")
            square = f'x="{left_edge}" y="{edge + y * cell}" width="{cell - 1}" height="{cell - 1}"'
            shade = f"{0.04 + 0.9 * count / total:.2f}"
            parts.append(f'<rect class="{colour}" {square} opacity="{shade}"><title>{title}</title></rect>')
            if count:
                parts.append(f'<text x="{left_edge + cell / 2}" y="{place}" text-anchor="middle">{count}</text>')
    side = edge + cell * len(kept) + 10
    return f"<p class='soft'>Rows: true; columns: said.</p>{more}{_plot(_svg(side, side, parts), 'confusion matrix')}"


def _plot(svg: str, title: str) -> str:
    described = svg.replace("<svg ", f'<svg role="img" aria-label="{escape(title)}" ', 1)
    return f'<div class="plot">{described}</div>'


def _svg(width: float, height: float, parts: Iterable[str]) -> str:
    return f'<svg viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}">{"".join(parts)}</svg>'


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = _row("th", heads)
    body = "".join(_row("td", row) for row in rows)
    return f'<div class="scroll"><table><thead>{head}</thead><tbody>{body}</tbody></table></div>'


def _row(cell: str, texts: Sequence[str]) -> str:
    numbers = ' class="n"'
    cells = (f"<{cell}{numbers if place else ''}>{escape(text)}</{cell}>" for place, text in enumerate(texts))
    return f"<tr>{''.join(cells)}</tr>"


def _short(text: str, chars_max: int = 30) -> str:
    return text if len(text) <= chars_max else text[: chars_max - 1] + "…"
