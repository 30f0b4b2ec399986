"""The release gate: a value that leaves the appliance carries the receipt of the record that covers it.

    receipt = await audit.append(closing_event)   # durable and signed when this returns
    return release(answer, receipt)               # the only way to a `Released`
    piece = release_window(text, receipt, after=piece)    # of a stream: one record for each piece, in order

`api` and `cli` accept answers as `Released[...]` only. A code path that forgets to record has no receipt to pass,
so it does not type-check, and it fails here at run time before a byte is written.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from appliance.types import Receipt

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Released(Generic[T]):
    """`value` may be shown: the log holds the record that covers it, and `receipt` proves it."""

    value: T
    receipt: Receipt

    def __post_init__(self) -> None:
        _require_cover(self.receipt)


def release(value: T, receipt: Receipt) -> Released[T]:
    """Hand out `value`, recorded under `receipt`."""
    return Released(value, receipt)


@dataclass(frozen=True, slots=True)
class ReleasedWindow(Generic[T]):
    """One piece of a streamed answer: the log holds the record that covers it. `index` counts from 0."""

    value: T
    receipt: Receipt
    index: int

    def __post_init__(self) -> None:
        _require_cover(self.receipt)
        if self.index < 0:
            raise ValueError("pieces of a stream are counted from 0")


def release_window(value: T, receipt: Receipt, *, after: ReleasedWindow[T] | None) -> ReleasedWindow[T]:
    """Hand out the next piece of a stream, recorded under `receipt`; `after` is the piece before it, None at first.

    What was released of a stream is at every moment a part of what was recorded of it: a piece goes out with the
    receipt of a record of its own, which the log holds behind that of the piece before.
    """
    if after is not None and receipt.seq <= after.receipt.seq:
        raise ValueError("the receipt belongs to an earlier piece of the stream")
    return ReleasedWindow(value, receipt, 0 if after is None else after.index + 1)


def _require_cover(receipt: Receipt) -> None:
    if not isinstance(receipt, Receipt):
        raise TypeError("nothing is released without the receipt of its record")
    if not receipt.checkpoint or not 0 <= receipt.seq < receipt.size:
        raise ValueError("the receipt does not cover its own record")
