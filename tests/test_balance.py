"""Weights by class counts, against hand-computed values."""

import numpy as np
import pytest

from compress.data.balance import example_weights

LABELS = np.array([0, 0, 0, 1, 3, 0])  # 4 of class 0, one of 1 and 3, none of 2


def test_inverse_frequency_makes_classes_count_alike():
    weights = example_weights(LABELS)
    # 1/n is 1/4 and 1; the sum over examples is 4 · 1/4 + 1 + 1 = 3, the mean 1/2: weights 1/2 and 2.
    assert weights.dtype == np.float32
    np.testing.assert_array_equal(weights, np.float32([0.5, 0.5, 0.5, 2, 2, 0.5]))


def test_effective_numbers():
    # β = 1/2: (1 - β) / (1 - βⁿ) is 0.5 / 0.9375 = 8/15 for n = 4 and 1 for n = 1; mean (4 · 8/15 + 2) / 6 = 31/45.
    expected = [24 / 31] * 3 + [45 / 31] * 2 + [24 / 31]
    np.testing.assert_allclose(example_weights(LABELS, 0.5), expected, rtol=1e-6)


@pytest.mark.parametrize(("beta", "like"), [(0, 1e-9), (1, 1 - 1e-8)])
def test_the_ends_are_limits(beta, like):
    np.testing.assert_allclose(example_weights(LABELS, beta), example_weights(LABELS, like), rtol=1e-6)


def test_the_mean_is_one():
    labels = np.random.default_rng(0).integers(0, 9, 5_000) ** 2 // 10
    for beta in (0, 0.9, 0.999, 1):
        assert example_weights(labels, beta).mean() == pytest.approx(1, abs=1e-5)
