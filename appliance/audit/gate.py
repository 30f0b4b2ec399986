"""The release gate: a value that leaves the appliance carries the receipt of the record that covers it.

    receipt = await audit.append(closing_event)   # durable and signed when this returns
    return release(answer, receipt)               # the only way to a `Released`

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
        if not isinstance(self.receipt, Receipt):
            raise TypeError("nothing is released without the receipt of its record")
        if not self.receipt.checkpoint or not 0 <= self.receipt.seq < self.receipt.size:
            raise ValueError("the receipt does not cover its own record")


def release(value: T, receipt: Receipt) -> Released[T]:
    """Hand out `value`, recorded under `receipt`."""
    return Released(value, receipt)
