"""The echo backend is deterministic, tells adapters and positions apart and batches like any backend."""

from pathlib import Path

import numpy as np

from appliance.engine.echo import EchoEncoder, echo_states

IDS = np.array([2, 9, 9, 3], dtype=np.int32)


def test_states_depend_on_token_position_and_adapter_and_on_nothing_else():
    states = echo_states(IDS, "a")
    assert states.shape == (4, 384) and states.dtype == np.float32
    assert np.array_equal(states, echo_states(IDS.copy(), "a"))
    assert not np.allclose(states[1], states[2])
    assert not np.allclose(states, echo_states(IDS, None)) and not np.allclose(states, echo_states(IDS, "b"))


def test_a_batch_is_its_sequences_end_to_end():
    encoder = EchoEncoder()
    encoder.load_adapter("a", Path("any"))
    assert np.array_equal(encoder.encode(0, "a", [IDS, IDS[:2]])[4:], echo_states(IDS[:2], "a"))
    encoder.unload_adapter("a")
