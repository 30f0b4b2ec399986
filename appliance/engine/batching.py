"""Which waiting sequences run together next. Pure: no clock, no I/O, no model; the same events give the same plan.

    backlog = Backlog(Shape(tokens_max=256, sequences_max=64))
    backlog.add(request_id=1, key="phi", lengths=[30, 200, 90])
    backlog.next_batch()      # Batch(key="phi", items=(Item(1, 0), Item(1, 1)))

Four rules.

*Fair order.* Every sequence gets a tag when it arrives: the tokens its own request has before it, counted from the
tag being served at that moment (self-clocked fair queueing). Lower tags run first. Equal requests are served first
come, first served; a long document cannot keep a one-line text waiting for more than about one batch per request in
front of it.

*One adapter per batch.* The lowest tag decides the adapter; others of that adapter fill the batch in tag order.

*A lane stays with its adapter* for up to `STAY` further batches, although another's tag is lower: an adapter that was
just switched in has to be fetched from memory, which costs a tenth of a batch when every batch does it. Then the lowest
tag is served, whosever it is, so no adapter starves.

*Packing.* A batch holds at most `tokens_max` tokens, because attention runs over the whole micro-batch, and no more
than its share when several lanes are free, because one lane should not carry what two could. A sequence that does not
fit into the room left is passed over and a shorter one behind it takes the room (first fit), within `LOOKAHEAD`
candidates. A sequence that is longer than `tokens_max` runs alone.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

TOKENS_MIN = 64  # a smaller batch costs as much as this one
LOOKAHEAD = 128  # candidates of one adapter that one plan looks at; bounds its cost, not fairness
STAY = 3  # batches of a lane out of turn; what waits for another adapter waits as many batches longer


@dataclass(frozen=True, slots=True)
class Shape:
    """Bounds of one batch."""

    tokens_max: int
    sequences_max: int


@dataclass(frozen=True, slots=True)
class Item:
    """One sequence of one request."""

    request_id: int
    index: int


@dataclass(frozen=True, slots=True, order=True)
class Waiting:
    """A sequence in the backlog. Sorting is by tag, then by arrival."""

    tag: int
    arrival: int
    key: str = field(compare=False)
    tokens: int = field(compare=False)
    item: Item = field(compare=False)


@dataclass(frozen=True, slots=True)
class Batch:
    """What runs next: one adapter, some sequences."""

    key: str
    items: tuple[Item, ...]
    tokens: int


def choose(waiting: Sequence[Waiting], lead: Waiting, shape: Shape) -> tuple[Waiting, ...]:
    """The members of the next batch; `waiting` is sorted, and `lead` is the first of its adapter in it."""
    chosen = [lead]
    room = shape.tokens_max - lead.tokens
    seen = 0
    for candidate in waiting:
        if room <= 0 or len(chosen) == shape.sequences_max or seen == LOOKAHEAD:
            break
        if candidate.key != lead.key or candidate is lead:
            continue
        seen += 1
        if candidate.tokens <= room:
            chosen.append(candidate)
            room -= candidate.tokens
    return tuple(chosen)


class Backlog:
    """The waiting sequences, owned by the worker's loop; not safe to share between threads."""

    def __init__(self, shape: Shape) -> None:
        assert shape.tokens_max > 0 and shape.sequences_max > 0
        self._shape = shape
        self._waiting: list[Waiting] = []
        self._tokens = 0
        self._served_tag = 0
        self._arrivals = 0
        self._stays: dict[int, tuple[str, int]] = {}  # of each lane: its adapter, and how many batches out of turn

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, request_id: int, key: str, lengths: Sequence[int]) -> None:
        """Queue all sequences of one request, in order; a length counts tokens and is at least 1."""
        tag = self._served_tag
        for index, tokens in enumerate(lengths):
            assert tokens > 0
            insort(self._waiting, Waiting(tag, self._arrivals, key, tokens, Item(request_id, index)))
            self._arrivals += 1
            tag += tokens
            self._tokens += tokens

    def cancel(self, request_id: int) -> int:
        """Forget what is left of a request; returns how many sequences that were."""
        before = len(self._waiting)
        self._waiting = [entry for entry in self._waiting if entry.item.request_id != request_id]
        self._tokens = sum(entry.tokens for entry in self._waiting)
        return before - len(self._waiting)

    def next_batch(self, free_lanes: int = 1, lane: int = 0) -> Batch | None:
        """Take the next batch out of the backlog, for `lane`, one of those that are free. None when nothing waits."""
        assert free_lanes > 0
        if not self._waiting:
            return None
        share = max(TOKENS_MIN, -(-self._tokens // free_lanes))
        shape = replace(self._shape, tokens_max=min(self._shape.tokens_max, share))
        chosen = choose(self._waiting, self._lead(lane), shape)
        assert self._waiting[0].tag >= self._served_tag
        self._served_tag = self._waiting[0].tag
        taken = {entry.arrival for entry in chosen}
        self._waiting = [entry for entry in self._waiting if entry.arrival not in taken]
        batch = Batch(chosen[0].key, tuple(entry.item for entry in chosen), sum(entry.tokens for entry in chosen))
        self._tokens -= batch.tokens
        return batch

    def _lead(self, lane: int) -> Waiting:
        """Whose turn it is; or, for a while, what needs the adapter that the lane has in already."""
        first = self._waiting[0]
        key, out_of_turn = self._stays.get(lane, (first.key, 0))
        if key != first.key and out_of_turn < STAY:
            for entry in self._waiting:
                if entry.key == key:
                    self._stays[lane] = key, out_of_turn + 1
                    return entry
        self._stays[lane] = first.key, 0
        return first
