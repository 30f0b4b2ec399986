"""Threads that run batches while the worker's loop goes on listening. One lane, one thread, one batch at a time.

    lanes = Lanes(2)
    lanes.submit(batch, lambda lane: backend.encode(lane, ...))     # only while lanes.free > 0
    select.select([lanes.fileno()], [], [])                         # readable when something is finished
    lanes.finished()                                                # [Finished(batch, outputs, error)]

The job gets the number of its lane. What it raises on purpose comes back as `error`; anything else is a mistake of
the program and comes out of `finished`, which ends the worker.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from appliance.engine.batching import Batch
from appliance.errors import ApplianceError

Job = Callable[[int], list[np.ndarray]]


@dataclass(frozen=True, slots=True)
class Finished:
    """A batch that ran: outputs in the order of its items, or why there are none."""

    batch: Batch
    outputs: list[np.ndarray]
    error: ApplianceError | None


class Lanes:
    """Owned by the worker's loop: only that thread calls these methods."""

    def __init__(self, count: int) -> None:
        assert count > 0
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="lane")
        self._idle = list(range(count))
        self._running: dict[Future[list[np.ndarray]], tuple[int, Batch]] = {}
        self._wake_read, self._wake_write = os.pipe()  # a pipe, because the worker may make no sockets

    @property
    def free(self) -> int:
        """How many batches may be submitted now."""
        return len(self._idle)

    @property
    def next(self) -> int:
        """The lane that the next batch will run in. Call only while any is free."""
        return self._idle[-1]

    @property
    def busy(self) -> bool:
        """Whether any batch is running or waits to be fetched."""
        return bool(self._running)

    def fileno(self) -> int:
        """Readable when a batch is finished."""
        return self._wake_read

    def submit(self, batch: Batch, job: Job) -> None:
        """Run `job` in a free lane."""
        lane = self._idle.pop()
        future = self._threads.submit(job, lane)
        self._running[future] = lane, batch
        future.add_done_callback(self._wake)

    def finished(self) -> list[Finished]:
        """Take what is finished; waits for one if nothing is. Call only while `busy`."""
        assert self.busy
        # One byte per finished batch, written after the future is done: as many are taken as bytes were read, so
        # that none is left in the pipe to wake the loop for nothing.
        count = len(os.read(self._wake_read, 4096))
        done = [future for future in self._running if future.done()]
        assert len(done) >= count
        return [self._take(future) for future in done[:count]]

    def close(self) -> None:
        """Wait for what runs and end the threads."""
        self._threads.shutdown()
        os.close(self._wake_read)
        os.close(self._wake_write)

    def _wake(self, _future: Future[list[np.ndarray]]) -> None:
        os.write(self._wake_write, b"\0")

    def _take(self, future: Future[list[np.ndarray]]) -> Finished:
        lane, batch = self._running.pop(future)
        self._idle.append(lane)
        try:
            return Finished(batch, future.result(), None)
        except ApplianceError as error:
            return Finished(batch, [], error)
