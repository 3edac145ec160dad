"""Intervals cover what they promise; tests give textbook values."""

import math

import numpy as np
import pytest
from scipy.stats import spearmanr

from compress.benchmark import statistics


def test_wilson_interval_of_81_in_263_is_newcombe_1998_table_1():
    # Newcombe, Statistics in Medicine 17 (1998), table I, method 3: 81/263 gives 0.2553 to 0.3662.
    assert statistics.wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)


def test_wilson_interval_stays_inside_0_and_1():
    low, high = statistics.wilson_interval(0, 20)
    assert low == 0
    assert high == pytest.approx(0.1611, abs=5e-5)  # Newcombe 1998, table I: 0/20
    assert statistics.wilson_interval(20, 20) == pytest.approx((1 - high, 1))


def test_mcnemar_exact_is_the_binomial_tail_twice():
    # 1 of 10 discordant pairs: 2 (C(10,0) + C(10,1)) / 2^10 = 22/1024.
    assert statistics.mcnemar_exact(9, 1) == pytest.approx(22 / 1024)
    assert statistics.mcnemar_exact(1, 9) == pytest.approx(22 / 1024)
    assert statistics.mcnemar_exact(0, 0) == 1


def test_paired_difference_interval_by_hand():
    # n* = 102; d = (12 - 6)/102; variance ((12 + 6 + 1)/102 - d²)/102.
    d = 6 / 102
    half = 1.959964 * math.sqrt((19 / 102 - d * d) / 102)
    assert statistics.paired_difference_interval(6, 12, 100) == pytest.approx((d - half, d + half))


def test_paired_ratio_by_hand():
    # The rounds give 2, 2, 2, 2, 4: mean of the binary logarithms 1.2, their deviation √0.2, t_4 2.776445.
    reference = np.array([[2, 2, 9], [4, 4, 1], [6, 6, 6], [8, 8, 8], [4, 4, 0.1]])
    candidate = np.array([[1.0], [2], [3], [4], [1]])
    half = 2.776445 * math.sqrt(0.2 / 5)
    value, interval = statistics.paired_ratio(reference, candidate)
    assert value == pytest.approx(2**1.2)
    assert interval == pytest.approx((2 ** (1.2 - half), 2 ** (1.2 + half)))


@pytest.mark.parametrize("rounds", [5, 12])
def test_ratio_interval_covers_the_true_ratio(rounds):
    # Noise of a round multiplies both models alike; runs have noise of their own. The true ratio is 2.
    rng = np.random.default_rng(0)
    covered, widths = 0, []
    for _ in range(1000):
        moment = np.exp(0.3 * rng.standard_normal((rounds, 1)))
        reference = 2 * moment * np.exp(0.05 * rng.standard_normal((rounds, 4)))
        candidate = moment * np.exp(0.05 * rng.standard_normal((rounds, 8)))
        _, interval = statistics.paired_ratio(reference, candidate)
        covered += interval[0] <= 2 <= interval[1]
        widths.append(interval[1] / interval[0])
    # 95% aimed at; three standard errors of 1,000 trials are 2.1 points.
    assert 0.93 < covered / 1000 < 0.971
    assert np.mean(widths) < 1.12  # the 30% that both share does not widen it


def test_ratio_interval_sees_noise_that_rounds_share():
    # Slow moments that hit one model's rounds only: thousands of runs, yet no more than 8 independent moments.
    rng = np.random.default_rng(1)
    candidate = np.exp(0.3 * rng.standard_normal((8, 1))) * np.ones((8, 1000))
    _, (low, high) = statistics.paired_ratio(np.ones((8, 1000)), candidate)
    assert high / low > 1.2


def test_ratio_has_no_interval_below_five_rounds():
    times = np.ones((4, 10))
    assert statistics.paired_ratio(2 * times, times) == (pytest.approx(2), None)


def test_correlations_match_scipy_and_are_0_for_a_constant():
    rng = np.random.default_rng(2)
    x, y = rng.integers(0, 9, (2, 50)).astype(float)  # with ties
    assert statistics.spearman(x, y) == pytest.approx(spearmanr(x, y).statistic)
    assert statistics.pearson(x, y) == pytest.approx(np.corrcoef(x, y)[0, 1])
    assert statistics.spearman(x, np.ones(50)) == 0


def test_bootstrap_pairs_examples_by_seed():
    rng = np.random.default_rng(3)
    x, y = rng.standard_normal((2, 80))
    same = statistics.spearman_resamples(x, y, 7) - statistics.spearman_resamples(2 * x + 1, y, 7)
    assert np.abs(same).max() == 0  # ranks are the same on every sample
    assert statistics.bootstrap_p_value(same) == 1


def test_bootstrap_tells_a_good_model_from_noise():
    rng = np.random.default_rng(4)
    truth = rng.standard_normal(300)
    good, noise = truth + 0.5 * rng.standard_normal(300), rng.standard_normal(300)
    differences = statistics.spearman_resamples(good, truth, 0) - statistics.spearman_resamples(
        noise, truth, 0
    )
    low, _ = statistics.percentile_interval(differences)
    assert low > 0
    assert statistics.bootstrap_p_value(differences) == pytest.approx(2 / 2001)  # no sample at or below 0
