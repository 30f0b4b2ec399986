"""Padding hides lengths in few sizes, costs at most an eighth beyond 16 KiB, and has one reading.

The sizes are a frozen format: they are pinned here by value, not by the code that makes them.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.crypto.padding import pad, padded_length, unpad
from appliance.errors import DecryptionFailed

SIZES = [
    *(256, 1024, 2048, 4096, 8192, 16384),
    *(18432, 20736, 23328, 26244, 29524, 33214, 37365, 42035, 47289, 53200, 59850, 67331),
]


@given(st.binary(max_size=70_000))
def test_what_was_padded_comes_back(value):
    padded = pad(value)
    assert unpad(padded) == value
    assert len(padded) == padded_length(len(value)) > len(value)


def test_the_sizes_are_those_of_the_format():
    assert sorted({padded_length(length) for length in range(67_000)}) == SIZES
    for size in SIZES[:-1]:
        assert (padded_length(size - 1), padded_length(size) > size) == (size, True)


@given(st.integers(16_384, 2**40))
def test_a_large_value_grows_by_at_most_an_eighth(length):
    assert length < padded_length(length) <= length + length // 8 + 1


@pytest.mark.parametrize(
    "padded",
    [
        b"",
        bytes(256),
        b"\x80" + bytes(254),
        b"\x80" + bytes(256),
        b"\x80" + bytes(1023),  # fits a smaller size, so `pad` does not make it
        b"text\x80" + bytes(250) + b"\x01",
    ],
)
def test_padding_that_pad_does_not_make_is_refused(padded):
    with pytest.raises(DecryptionFailed):
        unpad(padded)


@given(st.binary(max_size=600))
def test_what_unpads_pads_to_the_same_bytes(noise):
    try:
        value = unpad(noise)
    except DecryptionFailed:
        return
    assert pad(value) == noise
