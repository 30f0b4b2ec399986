"""Finding records: by exact values through the blind index, by time, by text; how much there was when. Reads only.

    for step in search(reader, keystore, SearchQuery(actor="user:7", text="smith"), scanned_max=5_000_000):
        ...                                  # RecordView: a hit, newest first; SearchProgress: now and then, and last

An exact value is looked up by its token in every month of the range; what the index names is opened and compared, so
that a token that collides, or a record that was written without the index, changes nothing about the answer. Without
an exact value, and for text, everything in the range is opened. Time needs no index: commit times never decrease.

That somebody searched is for the caller to record, first. A text is compared in memory and written nowhere.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from appliance.audit import derived, store
from appliance.audit.header import RecordHeader
from appliance.audit.index import FIELDS, NOT_INDEXED, Field, public_token, scope_token, token
from appliance.audit.keystore import INDEX_CLASS, Keystore
from appliance.audit.reader import PAGE_ROWS, LogReader, RecordView
from appliance.audit.record import RecordClass, month_of, subject_owner
from appliance.audit.store import StoredRecord
from appliance.errors import DecryptionFailed
from appliance.storage.database import Connection

CONTENTS_A_PAGE = 32  # a content may have megabytes
COUNTED_MAX = 200_000  # records whose class is read for one picture of activity; beyond, a sample stands for them
BUCKETS_MAX = 1000
_TOKENS_MAX = 20_000


@dataclass(frozen=True, slots=True)
class SearchQuery:
    """What is sought; None: anything. Times in milliseconds UTC, `to_ms` not included. `after`: only older records."""

    from_ms: int | None = None
    to_ms: int | None = None
    actor: str | None = None
    event: str | None = None
    exchange_id: str | None = None
    specialist: str | None = None
    address: str | None = None
    subject: str | None = None
    outcome: str | None = None
    text: str | None = None
    limit: int = 100
    after: int | None = None


@dataclass(frozen=True, slots=True)
class SearchProgress:
    """How many of the records that may match were opened. The last step is `done`.

    `complete`: everything that matches was found; not if the limit or the bound on what is opened came first.
    """

    scanned: int
    total: int
    found: int = 0
    done: bool = False
    complete: bool = False


SearchStep = SearchProgress | RecordView


@dataclass(frozen=True, slots=True)
class ActivityBucket:
    """How many records were committed from `start_ms` until the next bucket."""

    start_ms: int
    exchange: int
    administration: int
    public: int


def search(reader: LogReader, keystore: Keystore, query: SearchQuery, *, scanned_max: int) -> Iterator[SearchStep]:
    """Hits newest first, with progress between them, at the end a progress that is `done`."""
    size = reader.signed_head().size
    with reader.snapshot() as connection:
        first = 0 if query.from_ms is None else seq_at(connection, query.from_ms, size)
        end = size if query.to_ms is None else seq_at(connection, query.to_ms, size)
    end = end if query.after is None else max(0, min(end, query.after))
    tokens = _tokens(keystore, query)
    total = max(0, end - first) if tokens is None else _counted(reader, tokens, first, end)
    scanned = found = 0
    text = None if query.text is None else query.text.casefold()
    for page in _pages(reader, tokens, first, end, CONTENTS_A_PAGE if text else PAGE_ROWS):
        with reader.snapshot() as connection:
            rows = store.read_records_at(connection, page, content=text is not None)
        for row in reversed(rows):
            scanned += 1
            view = reader.view(row)
            if _fits(view, query) and (text is None or _contains(reader, row, text)):
                yield view
                found += 1
            if found == query.limit or scanned == scanned_max:
                yield SearchProgress(scanned, max(total, scanned), found, done=True, complete=scanned >= total)
                return
        yield SearchProgress(scanned, max(total, scanned), found)
    yield SearchProgress(scanned, max(total, scanned), found, done=True, complete=True)


def find_records(
    reader: LogReader,
    keystore: Keystore,
    actors: Collection[str] | None,
    event: str | None,
    *,
    after: int | None,
    scanned_max: int,
) -> Iterator[RecordView]:
    """Records by one of several actors, of one event, newest first; `after`: only older ones. For lists."""
    size = reader.signed_head().size
    end = size if after is None else max(0, min(size, after))
    if actors is not None:
        asked: list[SearchQuery] = [SearchQuery(actor=actor) for actor in actors]
    else:
        asked = [SearchQuery(event=event)]
    tokens = [value for query in asked for value in _tokens(keystore, query) or ()]
    scanned = 0
    for page in _pages(reader, list(dict.fromkeys(tokens)), 0, end, PAGE_ROWS):
        with reader.snapshot() as connection:
            rows = store.read_records_at(connection, page)
        for row in reversed(rows):
            scanned += 1
            view = reader.view(row)
            if (actors is None or view.actor in actors) and event in (None, view.event):
                yield view
            if scanned == scanned_max:
                return


def seq_at(connection: Connection, moment_ms: int, size: int) -> int:
    """The first of `size` records that was committed at that moment or later; `size` when none was."""
    low, high = 0, size
    while low < high:
        middle = (low + high) // 2
        ((_, header),) = store.read_headers(connection, middle, 1)
        if RecordHeader.decode(header).t_commit_ms < moment_ms:
            low = middle + 1
        else:
            high = middle
    return low


def activity(reader: LogReader, from_ms: int, to_ms: int, buckets: int) -> list[ActivityBucket]:
    """How much was recorded when, by headers alone.

    The number of records of a bucket is exact. Their division by class is counted up to `COUNTED_MAX` records in all;
    beyond that it is estimated from as many records as that, evenly spread.
    """
    buckets = max(1, min(buckets, BUCKETS_MAX))
    size = reader.signed_head().size
    starts = [from_ms + (to_ms - from_ms) * number // buckets for number in range(buckets + 1)]
    with reader.snapshot() as connection:
        edges = [seq_at(connection, moment, size) for moment in starts]
        step = max(1, -(-(edges[-1] - edges[0]) // COUNTED_MAX))
        return [
            _bucket(connection, start, first, end, step)
            for start, first, end in zip(starts, edges, edges[1:], strict=False)
        ]


def _bucket(connection: Connection, start_ms: int, first: int, end: int, step: int) -> ActivityBucket:
    counted = derived.count_classes(connection, first, end, step)
    seen = sum(counted.values())
    exchange, administration = counted.get(RecordClass.EXCHANGE, 0), counted.get(RecordClass.ADMINISTRATION, 0)
    if seen and seen != end - first:
        exchange, administration = (round(part * (end - first) / seen) for part in (exchange, administration))
    return ActivityBucket(start_ms, exchange, administration, max(0, end - first - exchange - administration))


def _tokens(keystore: Keystore, query: SearchQuery) -> list[bytes] | None:
    """What the index is asked for: a list of which every match has at least one; None: it cannot help."""
    if query.subject is not None:
        owner = keystore.owner_id(subject_owner(query.subject))
        return [scope_token(key.scope_id) for key in keystore.scopes_of_owner(owner)]
    values = _exact(query)
    field = next((field for field in FIELDS if field in values), None)
    if field is None:
        return None
    tokens = [NOT_INDEXED]
    if field == "event":
        tokens.append(public_token(values[field]))
    for month in _months(keystore, query):
        for key in keystore.scopes_of(INDEX_CLASS, month):
            try:
                tokens.append(token(keystore.key_by_id(key.scope_id), field, values[field]))
            except DecryptionFailed:
                continue  # destroyed between the two: so is what it indexed
    return tokens if len(tokens) < _TOKENS_MAX else None


def _exact(query: SearchQuery) -> dict[Field, str]:
    values: dict[Field, str | None] = {
        "exchange": query.exchange_id,
        "address": query.address,
        "actor": query.actor,
        "specialist": query.specialist,
        "event": query.event,
    }
    return {field: value for field, value in values.items() if value}


def _months(keystore: Keystore, query: SearchQuery) -> list[int]:
    """Months of the range, and one on each side: keys go by the submitter's clock, commit times by the sequencer's."""
    first = 0 if query.from_ms is None else month_of(query.from_ms) - 1
    last = 1 << 16 if query.to_ms is None else month_of(query.to_ms) + 1
    return sorted({month for _, month in keystore.months() if first <= month <= last})


def _counted(reader: LogReader, tokens: Sequence[bytes], first: int, end: int) -> int:
    with reader.snapshot() as connection:
        return sum(derived.count_under(connection, value, first, end) for value in tokens)


def _pages(reader: LogReader, tokens: Sequence[bytes] | None, first: int, end: int, width: int) -> Iterator[list[int]]:
    """Numbers of the records to open, newest first, some at a time."""
    if tokens is None:
        for last in range(end, first, -width):
            yield list(range(max(first, last - width), last))
        return
    merged = heapq.merge(*(_seqs(reader, value, first, end) for value in tokens), reverse=True)
    distinct = _without_repeats(merged)
    while page := list(islice(distinct, width)):
        yield page


def _seqs(reader: LogReader, value: bytes, first: int, end: int) -> Iterator[int]:
    newest = end - 1
    while newest >= first:
        with reader.snapshot() as connection:
            seqs = derived.seqs_under(connection, value, newest, PAGE_ROWS, newest_first=True)
        yield from (seq for seq in seqs if seq >= first)
        if len(seqs) < PAGE_ROWS:
            return
        newest = seqs[-1] - 1


def _without_repeats(seqs: Iterator[int]) -> Iterator[int]:
    before = None
    for seq in seqs:
        if seq != before:
            yield seq
        before = seq


def _fits(view: RecordView, query: SearchQuery) -> bool:
    wanted: tuple[tuple[str | None, Callable[[], object]], ...] = (
        (query.event, lambda: view.event),
        (query.actor, lambda: view.actor),
        (query.outcome, lambda: view.outcome),
        (query.exchange_id, lambda: view.exchange_id),
        (query.specialist, lambda: view.attributes.get("specialist")),
        (query.address, lambda: view.attributes.get("address")),
    )
    return all(value is None or read() == value for value, read in wanted)


def _contains(reader: LogReader, row: StoredRecord, text: str) -> bool:
    """Whether the content, if there is one and its key is still there, has the text; case does not matter."""
    try:
        content = reader.content_of(row)
    except DecryptionFailed:
        return False
    return content is not None and text in content.decode(errors="replace").casefold()
