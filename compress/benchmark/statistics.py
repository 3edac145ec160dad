"""Intervals and tests behind every claim of a report: free functions on arrays, each with its source."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Interval = tuple[float, float]
Floats = NDArray[np.float64]

CONFIDENCE = 0.95
# The range of n independent values covers their median with probability 1 - 2^(1-n): 94% from five on.
MIN_ROUNDS = 5
RESAMPLES = 2000
_SLICE = 100  # bootstrap samples held in memory at once


def wilson_interval(successes: int, trials: int, confidence: float = CONFIDENCE) -> Interval:
    """Return the score interval of a proportion, both ends in [0, 1].

    (p + z²/2n ± z √(p(1-p)/n + z²/4n²)) / (1 + z²/n). Wilson, JASA 22 (1927); recommended over the Wald
    interval by Agresti & Coull, The American Statistician 52 (1998).

    Args:
        successes: number of right answers.
        trials: number of answers, at least 1.
        confidence: coverage aimed at.
    """
    from scipy.stats import norm

    z = float(norm.ppf((1 + confidence) / 2))
    p = successes / trials
    centre = p + z * z / (2 * trials)
    half = z * math.sqrt(p * (1 - p) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


def mcnemar_exact(lost: int, won: int) -> float:
    """Return the two-sided exact p-value that two classifiers are right equally often.

    Under the null hypothesis the examples that only one of them answers right fall to either with
    probability 1/2. McNemar, Psychometrika 12 (1947), in its binomial form.

    Args:
        lost: examples that only the first answers right.
        won: examples that only the second answers right.
    """
    from scipy.stats import binomtest

    return 1.0 if lost + won == 0 else float(binomtest(won, lost + won, 0.5).pvalue)


def paired_difference_interval(lost: int, won: int, pairs: int, confidence: float = CONFIDENCE) -> Interval:
    """Return the interval of the difference of two paired proportions, second minus first.

    The Wald interval after half an observation is added to each cell of the 2×2 table. Agresti & Min,
    Statistics in Medicine 24 (2005), section 3.

    Args:
        lost: examples that only the first answers right.
        won: examples that only the second answers right.
        pairs: all examples, at least 1.
        confidence: coverage aimed at.
    """
    from scipy.stats import norm

    n = pairs + 2
    difference = (won - lost) / n
    error = math.sqrt((won + lost + 1) / n - difference**2) / math.sqrt(n)
    half = float(norm.ppf((1 + confidence) / 2)) * error
    return max(-1.0, difference - half), min(1.0, difference + half)


def paired_ratio(reference: Floats, candidate: Floats) -> tuple[float, Interval | None]:
    """Return how many times as long the reference takes, with Student's t interval over rounds.

    Runs of one round share the noise of their moment, so a round gives one value, d = ln(median of the reference's
    runs / median of the candidate's), and what hits both models of a round alike falls out. The ratio is exp(mean d),
    its interval exp(mean d ± t_{R-1} s/√R) of the R rounds ("Student", Biometrika 6, 1908; on logarithms, as ratios
    of times are multiplied, not added: Fleming & Wallace, Communications of the ACM 29, 1986).

    Args:
        reference: (rounds, runs) times of the model compared with, all above 0.
        candidate: (rounds, runs of its own) times, round by round taken beside the reference's.

    Returns:
        The ratio (above 1: the candidate is faster) and its 95% interval, None below `MIN_ROUNDS` rounds.
    """
    from scipy.stats import t

    apart = np.log(np.median(reference, axis=1) / np.median(candidate, axis=1))
    mean, rounds = float(apart.mean()), len(apart)
    if rounds < MIN_ROUNDS:
        return math.exp(mean), None
    half = float(t.ppf((1 + CONFIDENCE) / 2, rounds - 1) * apart.std(ddof=1)) / math.sqrt(rounds)
    return math.exp(mean), (math.exp(mean - half), math.exp(mean + half))


def pearson(x: Floats, y: Floats) -> Floats:
    """Return Pearson's correlation along the last axis of (…, examples) arrays; 0 where one is constant."""
    x, y = x - x.mean(-1, keepdims=True), y - y.mean(-1, keepdims=True)
    norms = np.asarray(np.sqrt((x * x).sum(-1) * (y * y).sum(-1)))
    correlation: Floats = np.divide((x * y).sum(-1), norms, out=np.zeros_like(norms), where=norms > 0)
    return correlation


def spearman(x: Floats, y: Floats) -> Floats:
    """Return Spearman's rank correlation along the last axis: Pearson's of the ranks, ties sharing theirs."""
    from scipy.stats import rankdata

    return pearson(rankdata(x, axis=-1), rankdata(y, axis=-1))


def spearman_resamples(answers: Floats, targets: Floats, seed: int, resamples: int = RESAMPLES) -> Floats:
    """Return Spearman's correlation on bootstrap samples of the examples.

    Equal seeds draw equal examples, so differences of two models' results are paired (Efron & Tibshirani,
    An Introduction to the Bootstrap, 1993, section 8.3).

    Args:
        answers: (examples,) what a model says.
        targets: (examples,) the truth.
        seed: of the resampling.
        resamples: bootstrap samples.

    Returns:
        (resamples,) correlations.
    """
    rng = np.random.default_rng(seed)
    out = np.empty(resamples)
    for start in range(0, resamples, _SLICE):
        draws = rng.integers(len(targets), size=(min(_SLICE, resamples - start), len(targets)))
        out[start : start + len(draws)] = spearman(answers[draws], targets[draws])
    return out


def ratio(counts: Floats) -> Floats:
    """Return the ratio of the sums of numerators and denominators (…, examples, 2); 0 where there is nothing."""
    above, below = np.moveaxis(counts.sum(-2), -1, 0)
    result: Floats = np.divide(above, below, out=np.zeros_like(below), where=below > 0)
    return result


def ratio_resamples(counts: Floats, seed: int, resamples: int = RESAMPLES) -> Floats:
    """Return `ratio` of counts (examples, 2) on bootstrap samples of the examples, drawn as `spearman_resamples`."""
    rng = np.random.default_rng(seed)
    out = np.empty(resamples)
    for start in range(0, resamples, _SLICE):
        draws = rng.integers(len(counts), size=(min(_SLICE, resamples - start), len(counts)))
        out[start : start + len(draws)] = ratio(counts[draws])
    return out


def percentile_interval(resampled: Floats, confidence: float = CONFIDENCE) -> Interval:
    """Return the percentile interval of bootstrap results (Efron & Tibshirani 1993, section 13.3)."""
    low, high = np.quantile(resampled, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def bootstrap_p_value(differences: Floats) -> float:
    """Return the two-sided p-value that a difference is 0, from its bootstrap results.

    2 min(#{d ≤ 0} + 1, #{d ≥ 0} + 1) / (resamples + 1), at most 1. Davison & Hinkley 1997, section 4.4 for
    the added 1.
    """
    below, above = int((differences <= 0).sum()), int((differences >= 0).sum())
    return min(1.0, 2 * (min(below, above) + 1) / (len(differences) + 1))


def ratio_of_ratios(
    above: tuple[float, Interval], below: tuple[float, Interval]
) -> tuple[float, Interval, float]:
    """Return the ratio of two independent ratios with its 95% interval, and the p-value that it is above 1.

    The interval is put together from the two given, on logarithms, by the distances of their ends: with θ = a - b,
    θ - √((a - lₐ)² + (uᵦ - b)²) and θ + √((uₐ - a)² + (b - lᵦ)²) (MOVER: Zou & Donner, Statistics in Medicine 27,
    2008, section 2). The one-sided p-value is that of the normal distribution whose 2.5% tail ends there.

    Args:
        above: the ratio above the line and its 95% interval, all above 0.
        below: that below the line.
    """
    from scipy.stats import norm

    (a, la, ua), (b, lb, ub) = (
        (math.log(value), math.log(low), math.log(high)) for value, (low, high) in (above, below)
    )
    apart = a - b
    down, up = math.hypot(a - la, ub - b), math.hypot(ua - a, b - lb)
    edge = down if apart > 0 else up
    z = float(norm.ppf((1 + CONFIDENCE) / 2)) * apart / edge if edge else math.copysign(math.inf, apart)
    p_value = 0.5 if apart == 0 else float(norm.sf(z))
    return math.exp(apart), (math.exp(apart - down), math.exp(apart + up)), p_value


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted so that the chance of any false alarm among all stays below the level.

    Step-down: the i-th smallest of m counts m - i + 1 times, none less than one before it. Holm, Scandinavian
    Journal of Statistics 6 (1979).
    """
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted
