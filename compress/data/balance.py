"""Weights that make rare classes count as much as frequent ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def class_weights(labels: NDArray[np.int64], classes: int, beta: float = 1.0) -> NDArray[np.float32]:
    """Return what each class counts, (classes,) float32; the mean over the examples is 1.

    With n examples of a class

        weight ∝ (1 − β) / (1 − βⁿ)

    the inverse of its effective number (Cui et al. 2019, equations 2 and 11). β = 1 is the limit 1 / n, inverse
    frequency, with which every class counts alike; β = 0 gives all 1. A class without examples counts 0.

    Args:
        labels: (examples,) class ids from 0, at least one.
        classes: how many there are.
        beta: β in [0, 1].
    """
    counts = np.bincount(labels, minlength=classes).astype(np.float64)
    seen = np.maximum(counts, 1)
    weights = np.where(counts > 0, 1 / seen if beta == 1 else (1 - beta) / (1 - beta**seen), 0)
    balanced: NDArray[np.float32] = (weights * counts.sum() / (weights * counts).sum()).astype(np.float32)
    return balanced
