"""Batches made in processes beside the training, so that the device never waits for text.

    for batch in beside(lambda seed: batches(texts(seed)), seed=1, workers=2):

`make` gives batches without end from a seed; every worker has a seed of its own, so none repeats another's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from torch.utils.data import DataLoader, IterableDataset, get_worker_info

T = TypeVar("T")
BATCHES_AHEAD = 16
SEEDS_APART = 10_000_019  # more than any run has steps


def beside(make: Callable[[int], Iterator[T]], *, seed: int, workers: int) -> Iterable[T]:
    """Batches of `workers` processes in turn."""
    return DataLoader(_Stream(make, seed), batch_size=None, num_workers=workers, prefetch_factor=BATCHES_AHEAD)


class _Stream(IterableDataset[T]):
    def __init__(self, make: Callable[[int], Iterator[T]], seed: int) -> None:
        super().__init__()
        self._make, self._seed = make, seed

    def __iter__(self) -> Iterator[T]:
        worker = get_worker_info()
        return self._make(self._seed + (worker.id if worker else 0) * SEEDS_APART)
