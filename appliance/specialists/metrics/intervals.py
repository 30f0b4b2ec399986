"""How sure a figure is: intervals of shares, of any figure by drawing the items again, and tests of gaps. Pure.

    wilson(47, 50)                                       # 95 % interval of a share
    bootstrap(measure, items=500)                        # name -> Interval of every figure that `measure` gives
    paired_differences(mine, theirs, items=500)          # of the same items: difference, interval, whether it is chance
    gap_p_value({"Korean": [(1, 1), …], …})              # does a share differ between groups of people?

A `measure` takes weights (items,): how often each item counts, all ones for the figure itself. Everything is seeded.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

CONFIDENCE_Z = 1.959964
RESAMPLES = 1000
PERMUTATIONS = 2000
Interval = tuple[float, float]
# From how often each item counts to figures by name. A figure that does not exist then (nothing to find) is nan.
Measure = Callable[[np.ndarray], Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class Difference:
    """One figure of two contenders on the same items: `value` is mine minus theirs, with its 95 % interval."""

    mine: float
    theirs: float
    value: float
    interval: Interval

    @property
    def beyond_chance(self) -> bool:
        """Whether the interval leaves zero out."""
        return self.interval[0] > 0 or self.interval[1] < 0


def wilson(successes: int, trials: int) -> Interval:
    """95 % interval of a share; does not leave [0, 1], not even at its ends (Wilson 1927).

    >>> tuple(round(end, 3) for end in wilson(8, 10))
    (0.49, 0.943)
    """
    if trials == 0:
        return 0.0, 1.0
    share, z2 = successes / trials, CONFIDENCE_Z**2
    middle = (share + z2 / (2 * trials)) / (1 + z2 / trials)
    half = CONFIDENCE_Z * math.sqrt(share * (1 - share) / trials + z2 / (4 * trials**2)) / (1 + z2 / trials)
    return max(0.0, middle - half), min(1.0, middle + half)


def resampled_weights(items: int, *, seed: int = 0, resamples: int = RESAMPLES) -> Iterator[np.ndarray]:
    """How often each item is drawn when as many are drawn again with repetition, `resamples` times."""
    rng = np.random.default_rng(seed)
    for _ in range(resamples):
        yield np.bincount(rng.integers(items, size=items), minlength=items)


def bootstrap(measure: Measure, items: int, *, seed: int = 0, resamples: int = RESAMPLES) -> dict[str, Interval]:
    """95 % interval of every figure (percentile bootstrap, Efron 1979). `items` is at least 1."""
    drawn: dict[str, list[float]] = {}
    for weights in resampled_weights(items, seed=seed, resamples=resamples):
        for name, value in measure(weights).items():
            drawn.setdefault(name, []).append(value)
    return {name: _middle(values) for name, values in drawn.items()}


def paired_differences(
    mine: Measure, theirs: Measure, items: int, *, seed: int = 0, resamples: int = RESAMPLES
) -> dict[str, Difference]:
    """Of every figure that both have: both are drawn with the same items, so that hard items are hard for both."""
    ones = np.ones(items, dtype=np.int64)
    here, there = mine(ones), theirs(ones)
    shared = [name for name in here if name in there]
    drawn: dict[str, list[float]] = {name: [] for name in shared}
    for weights in resampled_weights(items, seed=seed, resamples=resamples):
        left, right = mine(weights), theirs(weights)
        for name in shared:
            drawn[name].append(left[name] - right[name])
    return {
        name: Difference(here[name], there[name], here[name] - there[name], _middle(drawn[name])) for name in shared
    }


def gap_p_value(groups: Mapping[str, Sequence[tuple[int, int]]], seed: int = 0) -> float:
    """Chance of a gap between groups at least this large if groups made no difference: a permutation test.

    A group is one (found, all) per person. People are moved between the groups whole, because the mentions of one
    name are found or missed together; the measure of the gap is Pearson's chi-square.
    """
    members = [np.full(len(group), number) for number, group in enumerate(groups.values())]
    people = np.array([person for group in groups.values() for person in group], dtype=float).reshape(-1, 2)
    return _permuted(people, np.concatenate(members), len(groups), None, seed)


def paired_gap_p_value(groups: Mapping[str, Sequence[tuple[int, int]]], seed: int = 0) -> float:
    """The same where the groups have the same texts in the same order: each text's outcomes change places among the
    groups, so that a text that is hard in every group says nothing of a gap.
    """
    texts = len(next(iter(groups.values()), ()))
    assert all(len(group) == texts for group in groups.values()), "paired groups have the same texts"
    members = np.repeat(np.arange(len(groups)), texts)
    people = np.array([person for group in groups.values() for person in group], dtype=float).reshape(-1, 2)
    return _permuted(people, members, len(groups), texts, seed)


def _permuted(people: np.ndarray, member: np.ndarray, count: int, texts: int | None, seed: int) -> float:
    everything = people[:, 1].sum()
    share = people[:, 0].sum() / everything if everything else 1.0
    if share in (0.0, 1.0):
        return 1.0

    def chi_square(order: np.ndarray) -> float:
        found = np.bincount(member, people[order, 0], minlength=count)
        expected = np.bincount(member, people[order, 1], minlength=count) * share
        kept = expected > 0
        return float((np.square(found - expected)[kept] / (expected[kept] * (1 - share))).sum())

    rng, order = np.random.default_rng(seed), np.arange(len(people))

    def shuffled() -> np.ndarray:
        if texts is None:
            return rng.permutation(order)
        return rng.permuted(order.reshape(count, texts), axis=0).reshape(-1)

    observed = chi_square(order) - 1e-9
    at_least = sum(chi_square(shuffled()) >= observed for _ in range(PERMUTATIONS))
    return (at_least + 1) / (PERMUTATIONS + 1)


def _middle(values: Sequence[float]) -> Interval:
    """The middle 95 % of those that exist; (nan, nan) where none does."""
    known = np.array([value for value in values if not math.isnan(value)])
    if not len(known):
        return math.nan, math.nan
    return float(np.quantile(known, 0.025)), float(np.quantile(known, 0.975))
