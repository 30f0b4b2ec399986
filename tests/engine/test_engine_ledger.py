"""The ledger counts what waits exactly, refuses what is too much and hands every answer to its request."""

import asyncio

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.config import EngineConfig
from appliance.engine import protocol
from appliance.engine.ledger import Ledger
from appliance.errors import EngineUnavailable, QueueFull
from appliance.types import Adapter, EncodeInput, Head

PLAIN = Adapter("plain", None, None, Head("none", 0, None, None, None, None))
CONFIG = EngineConfig(queue_sequences_max=20)


def inputs(lengths: list[int]) -> list[EncodeInput]:
    return [EncodeInput(np.zeros(length, np.int32)) for length in lengths]


def outputs(count: int) -> list[protocol.Array]:
    return [protocol.pack_array(np.full(2, number, np.float32)) for number in range(count)]


@given(st.lists(st.tuples(st.booleans(), st.lists(st.integers(1, 9), min_size=1, max_size=8)), max_size=30))
def test_sequences_and_tokens_are_those_of_the_requests_that_wait_and_never_over_the_bound(steps):
    async def scenario():
        ledger, waiting = Ledger(CONFIG), []
        for leave, lengths in steps:
            if leave and waiting:
                ledger.forget(waiting.pop(0)[0])
            try:
                waiting.append((ledger.admit(PLAIN, inputs(lengths), 384), lengths))
            except QueueFull as error:
                assert error.retry_after_s > 0
                assert ledger.sequences + len(lengths) > CONFIG.queue_sequences_max
            assert ledger.sequences == sum(len(lengths) for _, lengths in waiting) <= CONFIG.queue_sequences_max
            assert ledger.tokens == sum(sum(lengths) for _, lengths in waiting)
            assert list(ledger) == [request for request, _ in waiting]

    asyncio.run(scenario())


def test_an_answer_reaches_its_request_and_no_other():
    async def scenario():
        ledger = Ledger(CONFIG)
        first, second = (ledger.admit(PLAIN, inputs([3, 4]), 384) for _ in range(2))
        assert ledger.answer(protocol.Encoded(second.number, outputs(2)))
        ledger.refuse(first.number, EngineUnavailable("no"))
        with pytest.raises(EngineUnavailable):
            await first.answer
        return await second.answer

    assert [output.tolist() for output in asyncio.run(scenario())] == [[0, 0], [1, 1]]


def test_an_answer_to_a_request_that_left_is_dropped():
    async def scenario():
        ledger = Ledger(CONFIG)
        request = ledger.admit(PLAIN, inputs([3]), 384)
        ledger.forget(request)
        return ledger.answer(protocol.Encoded(request.number, outputs(1)))

    assert asyncio.run(scenario()) is False


def test_an_answer_with_the_wrong_number_of_outputs_is_a_broken_protocol():
    async def scenario():
        ledger = Ledger(CONFIG)
        request = ledger.admit(PLAIN, inputs([3]), 384)
        with pytest.raises(protocol.ProtocolError):
            ledger.answer(protocol.Encoded(request.number, outputs(2)))

    asyncio.run(scenario())
