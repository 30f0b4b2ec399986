"""Released text never holds a part of a character or of a stop text, however the bytes are cut into tokens."""

from itertools import cycle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.engine.generation.text import TextStream


def feed(data: bytes, stops=(), size=1):
    stream = TextStream(stops)
    released = [stream.feed(data[start : start + size]) for start in range(0, len(data), size)]
    return stream, released, stream.finish()


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_a_character_is_released_when_it_is_whole(size):
    text = "naïve 😀 日本 e\u0301"
    _, released, last = feed(text.encode(), size=size)
    assert "".join(released) + last == text and "\ufffd" not in "".join(released)


def test_bytes_that_are_no_character_are_replaced_and_never_wait_for_ever():
    _, released, last = feed(b"a\xffb\xe2\x82")
    assert "".join(released) == "a\ufffdb" and last == "\ufffd"


def test_a_stop_text_ends_the_answer_and_nothing_of_it_is_released():
    stream, released, last = feed(b"one STOP two", ("STOP",))
    assert ("".join(released), last, stream.stopped) == ("one ", "", "STOP")


def test_what_only_looked_like_a_stop_text_is_released_later():
    stream, released, last = feed(b"STAY STO", ("STOP",))
    assert "".join(released) == "STAY " and last == "STO" and stream.stopped is None


@pytest.mark.parametrize("size", [1, 2, 5])
def test_the_stop_text_that_is_complete_first_wins_and_of_two_the_one_that_began_first(size):
    assert feed(b"xxABC", ("BC", "AB"), size=size)[0].stopped == "AB"
    assert feed(b"xxABC", ("BC", "ABC"), size=size)[0].stopped == "ABC"


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    text=st.text(alphabet="abé😀", max_size=30),
    stops=st.lists(st.text(alphabet="abé😀", min_size=1, max_size=4), max_size=3),
    sizes=st.lists(st.integers(1, 5), min_size=1, max_size=40),
)
def test_any_cut_gives_the_text_before_the_first_stop(text, stops, sizes):
    data, stream, released = text.encode(), TextStream(stops), ""
    ends = [(text.find(stop) + len(stop), text.find(stop)) for stop in stops if stop in text]
    expected = text[: min(ends)[1]] if ends else text
    place = 0
    for size in cycle(sizes):
        if place >= len(data):
            break
        released += stream.feed(data[place : place + size])
        place += size
        assert expected.startswith(released)
    assert released + stream.finish() == expected
