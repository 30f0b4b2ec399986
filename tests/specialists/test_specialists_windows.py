"""Guaranteed here: windows cover every token, each token's row is taken exactly once and from a window in which it
has context on both sides. Shown for any count and size with Hypothesis."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.specialists.tokenization import Tokens
from appliance.specialists.windows import cut, merge, plan

shapes = st.tuples(st.integers(0, 3000), st.integers(16, 512), st.integers(0, 10))


def tokens_of(count: int) -> Tokens:
    positions = np.arange(count, dtype=np.int32)
    return Tokens(positions + 100, positions, positions + 1)


@given(shapes)
def test_kept_rows_are_every_token_once_in_order(shape: tuple[int, int, int]) -> None:
    count, window_tokens, overlap = shape
    windows = plan(count, window_tokens=window_tokens, overlap_tokens=overlap)
    inputs = [cut(window, tokens_of(count), None, cls_id=1, sep_id=2) for window in windows]
    assert all(len(item.token_ids) <= window_tokens for item in inputs)
    outputs = [item.token_ids[:, None] for item in inputs]  # an encoder that returns its input
    assert merge(windows, outputs)[:, 0].tolist() == list(range(100, 100 + count)) if count else not windows


@given(shapes)
def test_a_kept_row_has_half_the_overlap_as_context_except_at_the_ends(shape: tuple[int, int, int]) -> None:
    count, window_tokens, overlap = shape
    for window in plan(count, window_tokens=window_tokens, overlap_tokens=overlap):
        assert window.start == 0 or window.keep_start - window.start >= overlap // 2
        assert window.stop == count or window.stop - window.keep_stop >= overlap // 2


@given(shapes)
def test_windows_are_as_few_and_as_short_as_their_overlap_allows(shape: tuple[int, int, int]) -> None:
    count, window_tokens, overlap = shape
    windows = plan(count, window_tokens=window_tokens, overlap_tokens=overlap)
    content = window_tokens - 2
    read = sum(window.stop - window.start for window in windows)
    assert read < count + overlap * max(len(windows) - 1, 0) + max(len(windows), 1)
    fewer = len(windows) - 1
    assert fewer < 1 or fewer * content - (fewer - 1) * overlap < count


def test_features_travel_with_their_tokens_and_special_tokens_have_none() -> None:
    features = np.arange(1, 7, dtype=np.float32)[:, None]
    (window,) = plan(6, window_tokens=16, overlap_tokens=4)
    item = cut(window, tokens_of(6), features, cls_id=1, sep_id=2)
    assert item.token_ids.tolist() == [1, 100, 101, 102, 103, 104, 105, 2]
    assert item.token_ids.dtype == np.int32
    assert item.features is not None
    assert item.features[:, 0].tolist() == [0, 1, 2, 3, 4, 5, 6, 0]


def test_an_overlap_as_long_as_the_window_is_refused() -> None:
    with pytest.raises(ValueError, match="overlap"):
        plan(100, window_tokens=16, overlap_tokens=14)


def test_outputs_of_another_plan_are_refused() -> None:
    windows = plan(6, window_tokens=16, overlap_tokens=4)
    with pytest.raises(ValueError, match="rows"):
        merge(windows, [np.zeros((7, 3), dtype=np.float32)])
