"""A linear head over the frozen base's text vectors: softmax or logistic regression, fitted by L-BFGS. NumPy only.

    head = fit(vectors, classes, count=5, l2=1e-4)               # one label of many
    head = fit_targets(vectors, targets, l2=1e-4, multi_label=True)    # several at once: a sigmoid each
    logits = vectors @ head.weight + head.bias

Minimises mean cross-entropy (of several labels at once, their sum) + l2/2 * |weight|^2 over standardised inputs; the
standardisation is folded into the returned weights. Deterministic. L-BFGS with backtracking: Nocedal and Wright,
Numerical Optimization, 7.2.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

MEMORY = 8
ITERATIONS_MAX = 200
GRADIENT_SMALL = 1e-4
_SHRINK, _SUFFICIENT, _STEPS_MAX = 0.5, 1e-4, 30


@dataclass(frozen=True, slots=True)
class LinearHead:
    """`weight` (inputs, classes) and `bias` (classes,), float32; `loss` of the fitted rows."""

    weight: np.ndarray
    bias: np.ndarray
    loss: float


def fit(
    vectors: np.ndarray,
    classes: np.ndarray,
    *,
    count: int,
    l2: float,
    progress: Callable[[int, float], None] | None = None,
) -> LinearHead:
    """`vectors` (rows, inputs) float32, `classes` (rows,) from 0 to `count` - 1. `progress` hears step and loss."""
    truth = np.zeros((len(classes), count), dtype=np.float32)
    truth[np.arange(len(classes)), classes] = 1.0
    return fit_targets(vectors, truth, l2=l2, multi_label=False, progress=progress)


def fit_targets(
    vectors: np.ndarray,
    targets: np.ndarray,
    *,
    l2: float,
    multi_label: bool,
    progress: Callable[[int, float], None] | None = None,
) -> LinearHead:
    """`targets` (rows, classes) float32, 0 or 1; exactly one 1 a row unless `multi_label`."""
    mean = vectors.mean(axis=0)
    spread = vectors.std(axis=0)
    scale = np.where(spread > 1e-6, spread, 1.0).astype(np.float32)
    inputs = np.concatenate(((vectors - mean) / scale, np.ones((len(vectors), 1), np.float32)), axis=1)
    rows, count = targets.shape

    def loss_of(weight: np.ndarray) -> tuple[float, np.ndarray]:
        logits = inputs @ weight
        if multi_label:
            said = 0.5 * (1.0 + np.tanh(0.5 * logits))
            surprise = float((np.logaddexp(0.0, logits) - targets * logits).sum()) / rows
        else:
            logits -= logits.max(axis=1, keepdims=True)
            likely = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
            said = np.exp(likely)
            surprise = -float((targets * likely).sum()) / rows
        penalised = weight.copy()
        penalised[-1] = 0.0  # the bias is free
        loss = surprise + 0.5 * l2 * float((penalised**2).sum())
        return loss, inputs.T @ ((said - targets) / rows) + l2 * penalised

    weight = np.zeros((inputs.shape[1], count), dtype=np.float32)
    loss = loss_of(weight)[0]
    for step, (point, value) in enumerate(_minimised(loss_of, weight), start=1):
        weight, loss = point, value
        if progress is not None:
            progress(step, value)
    unscaled = weight[:-1] / scale[:, None]
    bias = weight[-1] - mean @ unscaled
    return LinearHead(unscaled.astype(np.float32), bias.astype(np.float32), loss)


def _minimised(
    loss_of: Callable[[np.ndarray], tuple[float, np.ndarray]], start: np.ndarray
) -> Iterator[tuple[np.ndarray, float]]:
    """Each iterate with its loss, until the gradient is small, no step helps, or enough were taken."""
    point = start
    loss, gradient = loss_of(point)
    pairs: deque[tuple[np.ndarray, np.ndarray]] = deque(maxlen=MEMORY)
    for _ in range(ITERATIONS_MAX):
        if float(np.abs(gradient).max()) < GRADIENT_SMALL:
            return
        direction = -_inverse_hessian_times(gradient, pairs)
        slope = float((direction * gradient).sum())
        if slope >= 0:
            direction, slope = -gradient, -float((gradient**2).sum())
            pairs.clear()
        step = 1.0
        for _ in range(_STEPS_MAX):
            there = point + step * direction
            loss_there, gradient_there = loss_of(there)
            if loss_there <= loss + _SUFFICIENT * step * slope:
                break
            step *= _SHRINK
        else:
            return
        moved, turned = there - point, gradient_there - gradient
        if float((moved * turned).sum()) > 1e-12:
            pairs.append((moved, turned))
        point, loss, gradient = there, loss_there, gradient_there
        yield point, loss


def _inverse_hessian_times(gradient: np.ndarray, pairs: deque[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """The two-loop recursion."""
    result = gradient.copy()
    shares = []
    for moved, turned in reversed(pairs):
        share = float((moved * result).sum()) / float((moved * turned).sum())
        result -= share * turned
        shares.append(share)
    if pairs:
        moved, turned = pairs[-1]
        result *= float((moved * turned).sum()) / float((turned * turned).sum())
    for (moved, turned), share in zip(pairs, reversed(shares), strict=True):
        result += (share - float((turned * result).sum()) / float((moved * turned).sum())) * moved
    return result
