"""A file holds exactly the records of its span, in order, read in pages and never more than one content at a time."""

import asyncio
import io
import json

import pytest
from audit_home import an_event, opened
from audit_records import ORIGIN, TIME_MS, header_of, view_of

from appliance.audit.formats.jsonl import parse_line
from appliance.audit.formats.write import FILE_TYPES, FORMATS, PAGE_ROWS, first_seq_at, write_export
from appliance.errors import AuditLogInvalid, DecryptionFailed, UnknownOption

NOTE = f"{ORIGIN}\n{{}}\n{'A' * 43}=\n\n— key c2ln\n"


class FakeLog:
    """A log of `size` records of which the checkpoint covers `signed`; record n is committed n // 2 seconds late."""

    def __init__(self, size, signed=None):
        self.headers = [header_of(seq, time_ms=TIME_MS + seq // 2 * 1000, content=seq % 3 == 0) for seq in range(size)]
        self.signed = size if signed is None else signed
        self.pages = []
        self.contents_read = 0

    def read_page(self, first_seq, limit, *, epoch=None):
        self.pages.append(limit)
        return [(header.encode(), view_of(header)) for header in self.headers[first_seq : first_seq + limit]]

    def content(self, record_id, *, epoch=None):
        self.contents_read += 1
        seq = next(header.seq for header in self.headers if header.record_id == record_id)
        if seq == 3:
            raise DecryptionFailed("it does not open")
        return None if seq == 6 else b"content of %d" % seq

    def checkpoint(self, *, epoch=None):
        return NOTE.format(self.signed)


def written(log, format, from_ms=None, to_ms=None, *, with_content=False, progress=None):
    target = io.BytesIO()
    count = write_export(log, format, from_ms, to_ms, target, with_content, progress)
    return count, target.getvalue()


def seqs(raw):
    return [json.loads(line)["seq"] for line in raw.splitlines()[1:-1]]


def test_everything_up_to_the_checkpoint_in_pages():
    log, told = FakeLog(1203, signed=1201), []
    count, raw = written(log, "jsonl", progress=lambda *now: told.append(now))
    assert seqs(raw) == list(range(1201))
    assert (count.records, count.first_seq, count.last_seq, count.checkpoint) == (1201, 0, 1200, NOTE.format(1201))
    assert max(log.pages) <= PAGE_ROWS
    assert told == [(500, 1201), (1000, 1201), (1201, 1201)]
    assert json.loads(raw.splitlines()[0])["checkpoint"] == NOTE.format(1201)
    assert json.loads(raw.splitlines()[-1]) == {"count": 1201, "first_seq": 0, "last_seq": 1200}


@pytest.mark.parametrize(
    ("from_s", "to_s", "expected"),
    [(None, None, range(10)), (1, 3, range(2, 6)), (0.5, None, range(2, 10)), (None, 1, range(2)), (9, None, [])],
)
def test_a_span_includes_its_beginning_and_excludes_its_end(from_s, to_s, expected):
    from_ms, to_ms = (None if at is None else TIME_MS + int(at * 1000) for at in (from_s, to_s))
    count, raw = written(FakeLog(10), "jsonl", from_ms, to_ms)
    assert seqs(raw) == list(expected)
    assert count.records == len(list(expected))


def test_the_first_record_of_a_time_is_found_in_few_reads():
    log = FakeLog(20_000)
    assert first_seq_at(log, 20_000, TIME_MS + 6_000_000) == 12_000
    assert len(log.pages) <= 15


def test_contents_only_when_asked_and_what_became_of_them():
    log = FakeLog(8)
    _, raw = written(log, "jsonl")
    assert log.contents_read == 0 and b"content of" not in raw
    assert json.loads(raw.splitlines()[1])["content_state"] == "sealed"
    _, raw = written(log, "jsonl", with_content=True)
    lines = [json.loads(line) for line in raw.splitlines()[1:-1]]
    states = [line["content_state"] for line in lines]
    assert states == ["exported", "none", "none", "unreadable", "none", "none", "destroyed", "none"]
    assert lines[0]["content"] == "content of 0"


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_writes_every_record_and_an_empty_span(format):
    _, raw = written(FakeLog(3), format)
    assert all(header_of(seq).record_id.hex().encode() in raw for seq in range(3))
    count, _ = written(FakeLog(0), format)
    assert (count.records, count.first_seq) == (0, None)
    if format == "fhir-bundle":
        assert len(json.loads(raw)["entry"]) == 3
    else:
        assert raw.endswith(b"\n") and len(raw.splitlines()) == 3 + {"jsonl": 2, "fhir": 0}.get(format, 1)
    assert FILE_TYPES[format][1].startswith(".")


def test_what_cannot_be_written_is_refused_before_anything_is():
    for format, content in (("xml", False), ("cef", True), ("fhir", True), ("syslog", True)):
        target = io.BytesIO()
        with pytest.raises(UnknownOption):
            write_export(FakeLog(1), format, None, None, target, content)
        assert target.getvalue() == b""


def test_a_header_that_is_none_stops_the_export_and_names_the_record():
    log = FakeLog(3)
    log.read_page = lambda first, limit, epoch: [(b"x" * 200, view_of(log.headers[first]))]
    with pytest.raises(AuditLogInvalid, match="record 0"):
        written(log, "jsonl")


def test_a_real_log_is_exported_in_every_format_and_its_lines_match_its_receipts(home):
    async def run():
        async with opened(home) as log:
            receipts = [await log.append(an_event(number, content=b"note %d" % number)) for number in range(3)]
            count, raw = written(log, "jsonl", with_content=True)
            assert count.records == 5  # genesis and start before them
            first = json.loads(raw.splitlines()[0])
            records = [parse_line(line + b"\n", first["origin"]) for line in raw.splitlines()[1:-1]]
            assert first["checkpoint"] == log.checkpoint()
            assert [record.event for record in records[:2]] == ["genesis", "start"]
            for receipt, record in zip(receipts, records[2:], strict=True):
                assert (receipt.seq, receipt.leaf, receipt.record_id.hex()) == (
                    record.seq,
                    record.leaf,
                    record.record_id,
                )
            assert [record.content for record in records[2:]] == [b"note 0", b"note 1", b"note 2"]
            for format in FORMATS:
                _, raw = written(log, format)
                assert all(receipt.leaf.hex().encode() in raw for receipt in receipts) and b"note 1" not in raw

    asyncio.run(run())
