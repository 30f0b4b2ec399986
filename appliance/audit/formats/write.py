"""Writes a span of the log in one of the formats, page by page.

    with open("audit.jsonl", "xb") as file:
        count = write_export(log, "jsonl", from_ms=None, to_ms=None, target=file, with_content=False)

What is exported ends at the checkpoint that was newest when it began, and carries it where the format has a place for
it. Memory is bounded by a page of records and one content. Nothing is judged: `auditverify` does that, on a bundle.
Whether somebody may export, or may see contents, and that they did, is for the caller to decide and to record, first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, Literal, Protocol, get_args

from appliance.audit.checkpoint import Checkpoint, parse_checkpoint
from appliance.audit.formats import cef, fhir, jsonl, syslog
from appliance.audit.formats.entry import ContentState, ExportedRecord, exported
from appliance.audit.header import RecordHeader
from appliance.audit.reader import RecordView
from appliance.errors import AuditLogInvalid, KeyMaterialError, UnknownOption

Format = Literal["jsonl", "fhir", "fhir-bundle", "syslog", "cef"]
FORMATS: tuple[Format, ...] = get_args(Format)
# Media type and suffix of a file.
FILE_TYPES: dict[Format, tuple[str, str]] = {
    "jsonl": ("application/x-ndjson", ".jsonl"),
    "fhir": ("application/fhir+ndjson", ".ndjson"),
    "fhir-bundle": ("application/fhir+json", ".json"),
    "syslog": ("text/plain; charset=utf-8", ".log"),
    "cef": ("text/plain; charset=utf-8", ".cef"),
}
PAGE_ROWS = 500


class ExportLog(Protocol):
    """What is read of a log."""

    def read_page(self, first_seq: int, limit: int, *, epoch: int | None = None) -> list[tuple[bytes, RecordView]]:
        """Headers and views from `first_seq` upwards, at most `limit`."""

    def content(self, record_id: bytes, *, epoch: int | None = None) -> bytes | None:
        """The content of a record; None where there is none any more."""

    def checkpoint(self, *, epoch: int | None = None) -> str:
        """The newest signed checkpoint."""


@dataclass(frozen=True, slots=True)
class ExportCount:
    """What was written. `first_seq` and `last_seq` are None where nothing was in the span."""

    records: int
    first_seq: int | None
    last_seq: int | None
    checkpoint: str


Progress = Callable[[int, int], None]  # records written, records that the span may hold at most


def write_export(
    log: ExportLog,
    format: Format,
    from_ms: int | None,
    to_ms: int | None,
    target: BinaryIO,
    with_content: bool,
    progress: Progress | None = None,
    *,
    sender: syslog.Sender | None = None,
    epoch: int | None = None,
) -> ExportCount:
    """Write the records committed from `from_ms` on and before `to_ms` (milliseconds since 1970, None: unbounded).

    `epoch` None: of the log that is written now; else of an earlier one.
    `progress` is told after every page. Raises `UnknownOption` for a format that there is not, or that takes no
    contents, before anything is written; `AuditLogInvalid` where the log cannot be read as one; and what `target` does.
    """
    if format not in FORMATS:
        raise UnknownOption(f"there is no export format {format!r}", hint=f"formats are {', '.join(FORMATS)}")
    if with_content and format != "jsonl":
        raise UnknownOption(f"{format} carries no contents", hint="export contents as jsonl")
    note = log.checkpoint(epoch=epoch)
    head = parse_checkpoint(note.partition("\n\n")[0] + "\n")
    span = _Span(log, epoch, head, (from_ms, to_ms), with_content, progress)
    for chunk in _chunks(span, format, note, sender or syslog.Sender()):
        target.write(chunk)
    return ExportCount(span.count, span.first_seq, span.last_seq, note)


def first_seq_at(log: ExportLog, size: int, from_ms: int, *, epoch: int | None = None) -> int:
    """The number of the first record committed at `from_ms` or later; `size` if there is none. Commit times ascend."""
    low, high = 0, size
    while low < high:
        middle = (low + high) // 2
        page = log.read_page(middle, 1, epoch=epoch)
        if page and _decoded(page[0][0]).t_commit_ms < from_ms:
            low = middle + 1
        else:
            high = middle
    return low


class _Span:
    """The records of one export, read as they are taken; counts them."""

    def __init__(
        self,
        log: ExportLog,
        epoch: int | None,
        head: Checkpoint,
        bounds: tuple[int | None, int | None],
        with_content: bool,
        progress: Progress | None,
    ) -> None:
        self.origin = head.origin
        self.size = head.size
        self.bounds = bounds
        self.with_content = with_content
        self.count = 0
        self.first_seq: int | None = None
        self.last_seq: int | None = None
        self._log = log
        self._epoch = epoch
        self._progress = progress

    def records(self) -> Iterator[ExportedRecord]:
        from_ms, to_ms = self.bounds
        begin = at = 0
        if from_ms is not None:
            begin = at = first_seq_at(self._log, self.size, from_ms, epoch=self._epoch)
        while at < self.size:
            page = self._log.read_page(at, min(PAGE_ROWS, self.size - at), epoch=self._epoch)
            for header, view in page:
                if view.seq >= self.size or (to_ms is not None and _decoded(header).t_commit_ms >= to_ms):
                    return
                yield self._exported(header, view)
                self.count += 1
                self.first_seq = view.seq if self.first_seq is None else self.first_seq
                self.last_seq = view.seq
            if not page:
                return
            assert page[-1][1].seq >= at, "a page begins where it was asked to"
            at = page[-1][1].seq + 1
            if self._progress is not None:
                self._progress(self.count, self.size - begin)

    def _exported(self, header: bytes, view: RecordView) -> ExportedRecord:
        content, state = self._content(view) if self.with_content and view.has_content else (None, None)
        try:
            return exported(self.origin, header, view, content=content, content_state=state)
        except ValueError:
            raise _not_a_record(view.seq) from None

    def _content(self, view: RecordView) -> tuple[bytes | None, ContentState]:
        try:
            content = self._log.content(bytes.fromhex(view.record_id), epoch=self._epoch)
        except KeyMaterialError:
            return None, "unreadable"
        return content, "destroyed" if content is None else "exported"


def _chunks(span: _Span, format: Format, note: str, sender: syslog.Sender) -> Iterator[bytes]:
    if format == "jsonl":
        yield jsonl.first_line(span.origin, note, *span.bounds, content=span.with_content)
        yield from map(jsonl.to_line, span.records())
        yield jsonl.last_line(span.count, span.first_seq, span.last_seq)
    elif format == "fhir":
        yield from map(fhir.to_line, span.records())
    elif format == "fhir-bundle":
        before, after = fhir.bundle_parts(span.origin)
        yield before
        for record in span.records():
            yield (b",\n" if span.count else b"") + fhir.bundle_entry(record)
        yield after
    else:
        last_ms = 0
        for record in span.records():
            last_ms = record.time_ms
            yield cef.to_line(record) if format == "cef" else syslog.to_line(record, sender)
        if format == "cef":
            yield cef.checkpoint_line(span.origin, note, span.size, last_ms)
        else:
            yield syslog.checkpoint_message(span.origin, note, span.size, last_ms, sender) + b"\n"


def _decoded(header: bytes) -> RecordHeader:
    try:
        return RecordHeader.decode(header)
    except ValueError:
        raise _not_a_record(None) from None


def _not_a_record(seq: int | None) -> AuditLogInvalid:
    which = "a record" if seq is None else f"record {seq}"
    return AuditLogInvalid(f"the header of {which} cannot be read", hint="verify the log with auditverify")
