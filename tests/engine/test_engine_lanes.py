"""Lanes run one batch each, at the same time, and hand back every result with its batch, refusals included."""

import threading

import numpy as np
import pytest

from appliance.engine.batching import Batch, Item
from appliance.engine.lanes import Lanes
from appliance.errors import EngineUnavailable


def batch(number: int) -> Batch:
    return Batch("key", (Item(number, 0),), 1)


@pytest.fixture
def lanes():
    lanes = Lanes(2)
    yield lanes
    lanes.close()


def fetch(lanes: Lanes) -> list:
    found = []
    while lanes.busy:
        found += lanes.finished()
    return found


def test_two_batches_run_at_the_same_time_in_different_lanes(lanes):
    both = threading.Barrier(2, timeout=60)  # breaks unless both jobs are running at once

    def job(lane):
        both.wait()
        return [np.array([lane])]

    for number in range(2):
        lanes.submit(batch(number), job)
    assert lanes.free == 0
    found = fetch(lanes)
    assert {done.batch for done in found} == {batch(0), batch(1)}
    assert {int(done.outputs[0][0]) for done in found} == {0, 1}
    assert lanes.free == 2


def test_a_refusal_comes_back_with_its_batch_and_the_lane_is_free_again(lanes):
    def job(lane):
        raise EngineUnavailable("no")

    lanes.submit(batch(7), job)
    (done,) = fetch(lanes)
    assert (done.batch, done.outputs, done.error.code) == (batch(7), [], "engine_unavailable")
    assert lanes.free == 2


def test_a_mistake_of_the_program_is_not_swallowed(lanes):
    lanes.submit(batch(1), lambda lane: [][0])
    with pytest.raises(IndexError):
        fetch(lanes)
