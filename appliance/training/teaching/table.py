"""A table of labelled texts as people have it: which column is which, and what is wrong with it. Decides nothing.

    table = read_table(content, bytes_max=50 * 2**20)        # columns, rows, encoding, findings
    columns = guess_columns(table)                           # for a person to confirm
    examples, findings = examples_of(table, columns)

Everything that a person should know before a specialist learns from it becomes a `Finding`: nothing is dropped in
silence. Findings carry counts and line numbers, never the texts themselves.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from appliance.errors import InputEmpty, InputNotText, InputTooLong, InvalidRequest
from appliance.training.collections.labelled import normalised

ROWS_MAX = 500_000
COLUMNS_MAX = 200
CLASSES_MAX = 1000
TEXT_CHARS_MAX = 20_000
LABEL_CHARS_MAX = 200
LINES_SHOWN = 5
_DELIMITERS = ",;\t|"
_SAMPLED_ROWS = 2000
_BLOCK_BYTES = 64 * 1024
_TEXT_NAMES = frozenset(
    "text message content body note narrative question query utterance sentence description".split()
)
_LABEL_NAMES = frozenset("label class category intent target product topic sentiment tag queue".split())

Severity = Literal["note", "warning", "refusal"]
csv.field_size_limit(1024 * 1024)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing about the table. `lines`: the first few places (1 is the header)."""

    code: str
    severity: Severity
    message: str
    count: int = 0
    lines: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Table:
    """Header and rows as text. `lines[i]` is the line of the file in which row i ends."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    lines: tuple[int, ...]
    encoding: str
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class Columns:
    """Which column holds the text and which the label, by position."""

    text: int
    label: int


@dataclass(frozen=True, slots=True)
class Example:
    """One labelled text that may be learned from. `line`: where it stood first.

    `label` of a table with several labels a row: all of them, sorted, with the separator between.
    """

    text: str
    label: str
    line: int = 0


def read_table(content: bytes, *, bytes_max: int) -> Table:
    """Raises `InputTooLong`, `InputEmpty`, `InputNotText` or `InvalidRequest` for what is no table."""
    if len(content) > bytes_max:
        raise InputTooLong(
            f"the file has {len(content) // 2**20} MiB; at most {bytes_max // 2**20} MiB are read",
            hint="take a sample of its rows: 10,000 texts are plenty",
        )
    if not content.strip():
        raise InputEmpty("the file is empty", hint="it needs a header line and one text and label a row")
    text, encoding, findings = decode(content)
    if "\0" in text:
        raise _not_text()
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter_of(text), strict=True)
    rows: list[tuple[str, ...]] = []
    lines: list[int] = []
    uneven: list[int] = []
    try:
        header = tuple(name.strip() for name in next(row for row in reader if any(cell.strip() for cell in row)))
        for row in reader:
            if not any(cell.strip() for cell in row):
                continue
            if len(row) != len(header):
                uneven.append(reader.line_num)
                continue
            if len(rows) == ROWS_MAX:
                raise InputTooLong(f"the table has more than {ROWS_MAX} rows", hint="take a sample of its rows")
            rows.append(tuple(row))
            lines.append(reader.line_num)
    except (csv.Error, StopIteration) as error:
        raise InvalidRequest(
            f"line {reader.line_num} of the table cannot be read: {error}",
            hint="quote cells that hold the delimiter or a line break, and double the quotes inside them",
        ) from None
    if not 2 <= len(header) <= COLUMNS_MAX:
        raise InvalidRequest(
            f"the table has {len(header)} columns", hint="it needs at least a column of texts and one of labels"
        )
    if not rows:
        raise InputEmpty("the table has a header and no rows", hint="put one text and its label in each row")
    if uneven:
        message = f"{len(uneven)} rows do not have {len(header)} cells and were left out"
        findings.append(Finding("uneven_rows", "warning", message, len(uneven), tuple(uneven[:LINES_SHOWN])))
    return Table(header, tuple(rows), tuple(lines), encoding, tuple(findings))


def decode(content: bytes) -> tuple[str, str, list[Finding]]:
    """The text, its encoding, and what is odd about it. Two encodings in one file are told, and both are read."""
    for encoding, mark in (("utf-8-sig", b"\xef\xbb\xbf"), ("utf-16", b"\xff\xfe"), ("utf-16", b"\xfe\xff")):
        if content.startswith(mark):
            try:
                return content.decode(encoding), encoding, []
            except UnicodeDecodeError:
                break
    if b"\0" in content[:_BLOCK_BYTES]:
        raise _not_text()
    try:
        return content.decode(), "utf-8", []
    except UnicodeDecodeError:
        pass
    lines, odd, utf8 = [], [], 0
    for number, line in enumerate(content.removeprefix(codecs.BOM_UTF8).split(b"\n"), start=1):
        try:
            lines.append(line.decode())
            utf8 += not line.isascii()
        except UnicodeDecodeError:
            odd.append(number)
            lines.append(line.decode("cp1252", errors="replace"))
    if not utf8:
        message = "the file is not UTF-8; it was read as Windows-1252"
        return "\n".join(lines), "cp1252", [Finding("not_utf8", "note", message, len(odd), tuple(odd[:LINES_SHOWN]))]
    message = (
        f"the file mixes encodings: {utf8} lines are UTF-8 and {len(odd)} are not; those were read as Windows-1252"
    )
    finding = Finding("mixed_encodings", "warning", message, len(odd), tuple(odd[:LINES_SHOWN]))
    return "\n".join(lines), "mixed", [finding]


def guess_columns(table: Table) -> Columns:
    """By their names, else the column of the longest texts and that of the fewest values. Raises `InvalidRequest`."""
    names = [name.casefold() for name in table.columns]
    sample = table.rows[:_SAMPLED_ROWS]
    length = [sum(len(row[place]) for row in sample) / len(sample) for place in range(len(names))]
    values = [len({row[place] for row in sample}) for place in range(len(names))]
    text = _named(names, _TEXT_NAMES)
    if text is None:
        text = max(range(len(names)), key=lambda place: length[place])
    label = _named(names, _LABEL_NAMES)
    if label is None or label == text:
        # A label repeats; a number of the row does not.
        others = [place for place in range(len(names)) if place != text and values[place] > 1]
        repeated = [place for place in others if values[place] <= max(2, len(sample) // 2)]
        if not repeated:
            raise InvalidRequest(
                "no column looks like labels: none has values that repeat", hint="name the columns of text and label"
            )
        label = min(repeated, key=lambda place: values[place])
    # A person confirms columns by their names, and a name means the first that bears it: so must a guess.
    return Columns(*(table.columns.index(table.columns[place]) for place in (text, label)))


def examples_of(
    table: Table, columns: Columns, *, separator: str = ""
) -> tuple[tuple[Example, ...], tuple[Finding, ...]]:
    """The rows to learn from, each text once, and what was found. A finding of severity `refusal` ends the matter.

    `separator`: what stands between the labels of a row that may carry several.
    """
    found: dict[str, Counter[str]] = defaultdict(Counter)
    first: dict[str, tuple[str, int]] = {}
    empty: list[int] = []
    long: list[int] = []
    repeated = 0
    for row, line in zip(table.rows, table.lines, strict=True):
        text, label = row[columns.text].strip(), " ".join(row[columns.label].split())
        if separator:
            label = separator.join(labels_in(label, separator))
        key = normalised(text)
        if not key or not label:
            empty.append(line)
        elif len(text) > TEXT_CHARS_MAX or len(label) > LABEL_CHARS_MAX:
            long.append(line)
        else:
            repeated += key in first
            first.setdefault(key, (text, line))
            found[key][label] += 1
    findings = [*table.findings, *_column_findings(table, columns)]
    _note(findings, "empty_cells", "warning", empty, "rows have no text or no label and were left out")
    bounds = f"a text of more than {TEXT_CHARS_MAX} or a label of more than {LABEL_CHARS_MAX} characters"
    _note(findings, "too_long", "warning", long, f"rows have {bounds} and were left out")
    contradicting = [first[key][1] for key, labels in found.items() if len(labels) > 1]
    text = "texts carry different labels in different rows and were left out: decide which is right"
    _note(findings, "contradictions", "warning", contradicting, text)
    if repeated:
        findings.append(
            Finding("duplicates", "note", f"{repeated} rows repeat a text; each text counts once", repeated)
        )
    examples = tuple(Example(*_unpacked(first[key], labels)) for key, labels in found.items() if len(labels) == 1)
    return examples, (*findings, *_class_findings(examples, separator))


def labels_in(cell: str, separator: str) -> tuple[str, ...]:
    """The labels of one cell, each once, sorted.

    >>> labels_in("fees; card ;fees", ";")
    ('card', 'fees')
    """
    if not separator:
        return (cell,)
    return tuple(sorted({part.strip() for part in cell.split(separator)} - {""}))


def _unpacked(first: tuple[str, int], labels: Counter[str]) -> tuple[str, str, int]:
    return first[0], next(iter(labels)), first[1]


def _column_findings(table: Table, columns: Columns) -> list[Finding]:
    """A name cannot say which of several columns is meant, so whoever confirms it is told which one is read."""
    findings = []
    for place in (columns.text, columns.label):
        name, count = table.columns[place], table.columns.count(table.columns[place])
        if count > 1:
            message = (
                f"{count} columns are called {name[:64]!r}: the first of them is read; give each a name of its own"
            )
            findings.append(Finding("columns_alike", "warning", message, count, (1,)))
    return findings


def _class_findings(examples: Sequence[Example], separator: str) -> list[Finding]:
    sizes = Counter(label for example in examples for label in labels_in(example.label, separator))
    findings = []
    if len(sizes) < 2:
        message = f"the table has {len(sizes)} label{'' if len(sizes) == 1 else 's'}: nothing can be told apart"
        findings.append(Finding("one_class", "refusal", message, len(sizes)))
    if len(sizes) > CLASSES_MAX:
        message = f"the table has {len(sizes)} labels, more than {CLASSES_MAX}: is this the right column?"
        findings.append(Finding("too_many_classes", "refusal", message, len(sizes)))
    single = sum(count == 1 for count in sizes.values())
    if single:
        message = f"{single} labels have a single text: they are learned, and nobody can say how well"
        findings.append(Finding("single_example", "warning", message, single))
    folded = Counter(label.casefold() for label in sizes)
    alike = sum(count > 1 for count in folded.values())
    if alike:
        message = f"{alike} labels differ from another in upper and lower case only: they are kept apart"
        findings.append(Finding("labels_alike", "warning", message, alike))
    if sizes and max(sizes.values()) > 20 * min(count for count in sizes.values()) and len(sizes) > 1:
        message = "one label has more than twenty times the texts of another: the rare ones will be found less often"
        findings.append(Finding("imbalance", "note", message, max(sizes.values())))
    return findings


def _note(findings: list[Finding], code: str, severity: Severity, lines: list[int], what: str) -> None:
    if lines:
        findings.append(Finding(code, severity, f"{len(lines)} {what}", len(lines), tuple(lines[:LINES_SHOWN])))


def _named(names: Sequence[str], wanted: frozenset[str]) -> int | None:
    return next((place for place, name in enumerate(names) if name in wanted), None)


def _not_text() -> InputNotText:
    return InputNotText(
        "the file is not a text file: it has NUL bytes", hint="save the spreadsheet as CSV, encoded as UTF-8"
    )


def _delimiter_of(text: str) -> str:
    """The delimiter that stands in the header most often; a line ends as on any system."""
    header = re.split(r"[\r\n]", text.lstrip(), maxsplit=1)[0]
    return max(_DELIMITERS, key=header.count)
