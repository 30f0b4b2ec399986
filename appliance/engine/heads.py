"""Task heads over token states, in numpy. Training applies the same formula in torch; a test compares the two.

With x = [token states, features] of one sequence (T rows), width W and zero padding on both sides:

    h[t]   = gelu(conv_bias + sum_k x[t + k - W//2] @ conv_weight[k])     gelu: the tanh approximation
    token  logits[t] = h[t] @ out_weight + out_bias                       (T, labels)
    pooled logits    = mean_t(h[t]) @ out_weight + out_bias               (labels,)
    none   mean_t(states[t])                                              (states,)

Without a convolution h is x itself. Rows of special tokens take part like any other, with zero features. The whole
batch goes through each matrix product at once: sequences are laid out in one array with W//2 zero rows between them.

    head = Head("token", 0, None, None, np.eye(4, 2, dtype=np.float32), np.zeros(2, np.float32))
    apply_head(head, np.ones((5, 4), np.float32), [2, 3], None)      # two arrays: (2, 2) and (3, 2)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from appliance.errors import SpecialistFileInvalid
from appliance.types import Head

_GELU_SCALE = np.float32(0.7978845608028654)  # sqrt(2 / pi)
_GELU_CUBE = np.float32(0.044715)
WIDTH_MAX = 31


def check_head(head: Head, states: int) -> None:
    """Raise `SpecialistFileInvalid` unless every array fits the base model and the others and is finite."""
    rows = states + head.feature_count
    if head.kind == "none":
        if any(part is not None for part in (head.conv_weight, head.conv_bias, head.out_weight, head.out_bias)):
            raise _invalid("a head of kind 'none' carries arrays")
        return
    if head.out_weight is None or head.out_bias is None or head.out_weight.ndim != 2 or head.out_bias.ndim != 1:
        raise _invalid("the head has no output matrix")
    if (head.conv_weight is None) != (head.conv_bias is None):
        raise _invalid("the head has half a convolution")
    if head.conv_weight is not None and head.conv_bias is not None:
        if head.conv_weight.ndim != 3 or head.conv_weight.shape[1] != rows:
            raise _invalid(f"its convolution has shape {head.conv_weight.shape}, the base model needs {rows} inputs")
        if not 1 <= head.conv_weight.shape[0] <= WIDTH_MAX:
            raise _invalid(f"its convolution is {head.conv_weight.shape[0]} wide, 1 to {WIDTH_MAX} are possible")
        if head.conv_bias.shape != (head.conv_weight.shape[2],):
            raise _invalid("the convolution's weight and bias disagree")
        rows = head.conv_weight.shape[2]
    if head.out_weight.shape[0] != rows or head.out_weight.shape[1:] != head.out_bias.shape:
        raise _invalid(f"its output matrix has shape {head.out_weight.shape}, {rows} inputs are needed")
    for part in (head.conv_weight, head.conv_bias, head.out_weight, head.out_bias):
        if part is not None and not np.isfinite(part).all():
            raise _invalid("it holds values that are not numbers")


def label_count(head: Head, states: int) -> int:
    """Columns of an output: labels, or states for a head of kind `none`."""
    return states if head.out_bias is None else int(head.out_bias.shape[0])


def apply_head(head: Head, states: np.ndarray, lengths: Sequence[int], features: np.ndarray | None) -> list[np.ndarray]:
    """Outputs per sequence; `states` (sum of lengths, S) and `features` (sum of lengths, F) are laid end to end."""
    assert states.shape[0] == sum(lengths) and min(lengths) > 0
    assert (features is None) == (head.feature_count == 0)
    starts = np.concatenate(([0], np.cumsum(lengths)))[:-1]
    if head.kind == "none":
        return list(_means(states, starts, lengths))
    assert head.out_weight is not None and head.out_bias is not None
    inputs = states if features is None else np.concatenate((states, features), axis=1)
    hidden = inputs if head.conv_weight is None else _convolve(head, inputs, starts, lengths)
    if head.kind == "pooled":
        return list(_means(hidden, starts, lengths) @ head.out_weight + head.out_bias)
    logits = hidden @ head.out_weight + head.out_bias
    return np.split(logits, starts[1:])


def _convolve(head: Head, inputs: np.ndarray, starts: np.ndarray, lengths: Sequence[int]) -> np.ndarray:
    assert head.conv_weight is not None and head.conv_bias is not None
    width = head.conv_weight.shape[0]
    gap = width // 2
    # Row of each token in the spaced layout: its own row, one gap before every sequence up to its own.
    place = np.arange(len(inputs)) + gap * np.repeat(np.arange(1, len(starts) + 1), lengths)
    spaced = np.zeros((len(inputs) + gap * (len(starts) + 1), inputs.shape[1]), dtype=np.float32)
    spaced[place] = inputs
    rows = len(spaced) - width + 1
    hidden = spaced[0:rows] @ head.conv_weight[0]
    for shift in range(1, width):
        hidden += spaced[shift : shift + rows] @ head.conv_weight[shift]
    # Row r of `hidden` saw spaced[r : r + width], that is, it is centred on spaced[r + gap].
    return _gelu(hidden[place - gap] + head.conv_bias)


def _gelu(values: np.ndarray) -> np.ndarray:
    inner = values * values
    inner *= values
    inner *= _GELU_CUBE
    inner += values
    inner *= _GELU_SCALE
    np.tanh(inner, out=inner)
    inner += np.float32(1)
    inner *= values
    inner *= np.float32(0.5)
    return inner


def _means(rows: np.ndarray, starts: np.ndarray, lengths: Sequence[int]) -> np.ndarray:
    return np.add.reduceat(rows, starts, axis=0) / np.asarray(lengths, dtype=np.float32)[:, None]


def _invalid(reason: str) -> SpecialistFileInvalid:
    return SpecialistFileInvalid(
        f"the specialist's head cannot be used: {reason}", hint="install the file again from its source"
    )
