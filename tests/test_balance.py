"""Weights by class."""

import numpy as np
import pytest

from compress.data.balance import class_weights


def test_inverse_frequency_worked_by_hand():
    # 3 of class 0, 1 of class 1, none of class 2: 1/3 and 1, whose mean over the examples is (3 · 1/3 + 1) / 4 = 1/2.
    weights = class_weights(np.array([0, 0, 0, 1]), 3)
    assert weights.dtype == np.float32
    np.testing.assert_allclose(weights, [2 / 3, 2, 0], rtol=1e-6)


def test_effective_numbers_worked_by_hand():
    # β = ½: (1 − ½) / (1 − ½³) = 4/7 and 1; their mean over the examples is (3 · 4/7 + 1) / 4 = 19/28.
    weights = class_weights(np.array([0, 0, 0, 1]), 2, beta=0.5)
    np.testing.assert_allclose(weights, [4 / 7 * 28 / 19, 28 / 19], rtol=1e-6)


@pytest.mark.parametrize("beta", [0.0, 0.9, 1.0])
def test_the_mean_over_the_examples_is_one(beta):
    labels = np.array([0] * 90 + [1] * 9 + [2])
    assert class_weights(labels, 3, beta)[labels].mean() == pytest.approx(1, rel=1e-6)
    if beta == 0:
        np.testing.assert_allclose(class_weights(labels, 3, beta), 1)
