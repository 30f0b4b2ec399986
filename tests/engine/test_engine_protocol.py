"""Frames and messages: what is sent arrives unchanged, what is too long or malformed is refused.

Property tests over arrays and bytes, and a real socket pair fed in pieces.
"""

import socket

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from appliance.engine import protocol
from appliance.types import Head

BYTES_MAX = 1 << 16

floats = hnp.arrays(np.float32, hnp.array_shapes(max_dims=3, max_side=5), elements=st.floats(-9, 9, width=32))


@given(floats)
def test_an_array_arrives_as_it_was_sent(values):
    assert np.array_equal(protocol.unpack_array(protocol.pack_array(values)), values)


@given(floats)
def test_an_array_in_another_memory_order_arrives_with_the_same_values(values):
    assert np.array_equal(protocol.unpack_array(protocol.pack_array(values.T)), values.T)


@given(shape=st.lists(st.integers(-3, 5), max_size=3), data=st.binary(max_size=64))
def test_an_array_whose_shape_and_bytes_disagree_is_refused(shape, data):
    array = protocol.Array(tuple(shape), data)
    fits = all(extent >= 0 for extent in shape) and 4 * int(np.prod(shape, dtype=np.int64)) == len(data)
    if fits:
        assert protocol.unpack_array(array).shape == tuple(shape)
    else:
        with pytest.raises(protocol.ProtocolError):
            protocol.unpack_array(array)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_a_message_or_a_protocol_error(body):
    for decode in (protocol.decode_command, protocol.decode_report):
        try:
            message = decode(body)
        except protocol.ProtocolError:
            continue
        assert isinstance(message, msgspec.Struct)


def test_a_report_is_no_command():
    body = protocol.encode_frame(protocol.Pong(1, 2, 3, 4), BYTES_MAX)[4:]
    with pytest.raises(protocol.ProtocolError):
        protocol.decode_command(body)


def test_a_message_over_the_bound_is_refused_before_it_is_sent():
    command = protocol.Encode(1, "key", [protocol.Sequence(bytes(BYTES_MAX), None)])
    with pytest.raises(protocol.ProtocolError, match="the most is"):
        protocol.encode_frame(command, BYTES_MAX)


def test_a_head_arrives_with_all_its_arrays():
    rng = np.random.default_rng(3)
    shapes = {"conv_weight": (3, 6, 5), "conv_bias": (5,), "out_weight": (5, 2), "out_bias": (2,)}
    head = Head("token", 2, **{name: rng.random(shape, dtype=np.float32) for name, shape in shapes.items()})
    again = protocol.unpack_head(protocol.pack_head(head))
    assert (again.kind, again.feature_count) == ("token", 2)
    assert all(np.array_equal(getattr(again, name), getattr(head, name)) for name in shapes)


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, protocol.WorkerChannel(theirs, BYTES_MAX)


def test_a_channel_returns_commands_in_order_and_none_when_nothing_waits(pair):
    ours, channel = pair
    assert channel.receive(wait=False) is None
    ours.sendall(b"".join(protocol.encode_frame(protocol.Ping(n), BYTES_MAX) for n in (1, 2)))
    assert [channel.receive(wait=True), channel.receive(wait=False)] == [protocol.Ping(1), protocol.Ping(2)]
    assert channel.receive(wait=False) is None


def test_a_channel_refuses_a_frame_longer_than_the_bound_without_reading_it(pair):
    ours, channel = pair
    ours.sendall(protocol.LENGTH.pack(BYTES_MAX + 1))
    with pytest.raises(protocol.ProtocolError, match="announces"):
        channel.receive(wait=True)


@pytest.mark.parametrize("cut", [0, 2, 4, 5])
def test_a_connection_closed_at_any_point_of_a_frame_is_the_end(pair, cut):
    ours, channel = pair
    ours.sendall(protocol.encode_frame(protocol.Ping(1), BYTES_MAX)[:cut])
    ours.close()
    with pytest.raises(EOFError):
        channel.receive(wait=True)
