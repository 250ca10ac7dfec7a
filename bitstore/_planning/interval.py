"""Numbers that are not known exactly: the least, the expected and the most."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["NONE", "Interval", "exactly", "of_mean", "of_others", "of_share"]

_Z = 1.959964  # of 95 %


class Interval(NamedTuple):
    """A number between two bounds, which it keeps to in 95 of 100 plans.

    Attributes
    ----------
    low, high
        The bounds.
    expected
        What is most likely.
    """

    low: float
    expected: float
    high: float

    def plus(self, other: Interval) -> Interval:
        """The sum; its bounds are the sums of the bounds, which is on the safe side."""
        return Interval(self.low + other.low, self.expected + other.expected, self.high + other.high)

    def times(self, other: Interval) -> Interval:
        """The product of two numbers that are not negative."""
        return Interval(self.low * other.low, self.expected * other.expected, self.high * other.high)

    def rest(self, whole: float = 1.0) -> Interval:
        """What is left of `whole`."""
        return Interval(max(0.0, whole - self.high), whole - self.expected, whole - self.low)

    @property
    def is_exact(self) -> bool:
        """Whether the bounds are one."""
        return self.low == self.high


NONE = Interval(0.0, 0.0, 0.0)


def exactly(value: float) -> Interval:
    """A number that is known."""
    return Interval(value, value, value)


def of_share(hits: int, sample: int, population: float = math.inf) -> Interval:
    """What part of a population has a property, which `hits` of a random `sample` have; with no sample, anything.

    The bounds are those of E. B. Wilson, "Probable inference, the law of succession, and statistical inference",
    Journal of the American Statistical Association 22 (1927), 209-212, https://doi.org/10.1080/01621459.1927.10502953,
    for 95 %. A sample that is a large part of its population counts as larger (finite population correction: W. G.
    Cochran, "Sampling Techniques", 3rd ed., 1977, section 2.6); one that is all of it is exact.
    """
    if sample <= 0:
        return Interval(0.0, 0.5, 1.0)
    share = hits / sample
    if sample >= population:
        return exactly(share)
    count = sample if math.isinf(population) else sample * (population - 1) / (population - sample)
    return _wilson(share, count)


def _wilson(share: float, count: float) -> Interval:
    square = _Z * _Z
    middle = (share + square / (2 * count)) / (1 + square / count)
    half = _Z * math.sqrt(share * (1 - share) / count + square / (4 * count * count)) / (1 + square / count)
    # The formula comes to 0 and to 1 but for the last digits.
    low, high = (0.0 if share == 0 else middle - half), (1.0 if share == 1 else middle + half)
    return Interval(max(0.0, low), share, min(1.0, high))


def of_others(hits: int, sample: int, others: float) -> Interval:
    """What part of `others` has a property, which `hits` of a `sample` have that is not of them, but like them.

    Chance acts twice, in the sample and in the others, so that the variances add up: it is `of_share` for a sample of
    `1 / (1 / sample + 1 / others)`.
    """
    if sample <= 0 or others <= 0:
        return of_share(hits, sample)
    count = sample * others / (sample + others)
    share = of_share(hits, sample)
    wide = _wilson(share.expected, count)
    return Interval(min(share.low, wide.low), share.expected, max(share.high, wide.high))


def of_mean(values: Sequence[float], population: float = math.inf) -> Interval:
    """The mean of a population of which `values` are a random sample.

    The bounds are those of the normal distribution of means for 95 %, with the correction for finite populations:
    W. G. Cochran, "Sampling Techniques", 3rd ed., 1977, sections 2.6 and 2.7. Of one value alone, anything from nothing
    to its double is taken.

    Raises
    ------
    ValueError
        There are no values.
    """
    count = len(values)
    if not count:
        raise ValueError("a mean needs values")
    mean = math.fsum(values) / count
    if count >= population:
        return exactly(mean)
    if count == 1:
        return Interval(0.0, mean, 2 * mean)
    variance = math.fsum((value - mean) ** 2 for value in values) / (count - 1)
    finite = 1.0 if math.isinf(population) else (population - count) / population
    half = _Z * math.sqrt(variance / count * finite)
    return Interval(max(0.0, mean - half), mean, mean + half)
