"""Weights that make rare classes count as much as frequent ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def example_weights(labels: NDArray[np.int64], beta: float = 1.0) -> NDArray[np.float32]:
    """Return a weight for each example that depends on how many share its class; their mean is 1.

    With n examples of a class

        weight ∝ (1 − β) / (1 − βⁿ)

    the inverse of its effective number (Cui et al. 2019, "Class-balanced loss based on effective number of samples",
    equations 2 and 11). β = 1 is the limit 1 / n, inverse frequency, with which every class counts alike; β = 0 gives
    every example 1. Normalised by the mean over the examples, so that a mean loss keeps its size.

    Args:
        labels: (examples,) class ids from 0, at least one.
        beta: β in [0, 1].
    """
    counts = np.bincount(labels)[labels].astype(np.float64)
    weights = 1 / counts if beta == 1 else (1 - beta) / (1 - beta**counts)
    balanced: NDArray[np.float32] = (weights / weights.mean()).astype(np.float32)
    return balanced
