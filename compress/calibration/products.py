"""Products of tall matrices with themselves, which are symmetric: only half of each is computed."""

from __future__ import annotations

import torch
from torch import Tensor

# Columns that are multiplied with themselves and all after them at once. Narrow blocks compute less below the
# diagonal but multiply slower: of 128, 256 and 512 for 3072 columns, 128 was half as slow again as the others.
_BLOCK = 256


def working_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return what products of a model's activations are computed in: float32, or float64 for a float64 model."""
    return torch.promote_types(dtype, torch.float32)


def add_product_(total: Tensor, left: Tensor, right: Tensor) -> None:
    """Add leftᵀ right, known to be symmetric, to the blocks of `total` on and above its diagonal.

    In float32 an entry of a sum over n rows is off by n · 2⁻²⁴ · Σ_t |left_ti right_tj| at most (Higham 2002,
    section 3.1) and, as roundings go both ways, by about √n · 2⁻²⁴ of it.

    Args:
        total: (width, width), in place; see `mirror_`.
        left: (rows, width) in the dtype of `total`.
        right: the same, or with a weight a row.
    """
    for start in range(0, len(total), _BLOCK):
        stop = start + _BLOCK
        total[start:stop, start:].addmm_(left[:, start:stop].T, right[:, start:])


def mirror_(total: Tensor) -> Tensor:
    """Copy what is above the diagonal of `total` (width, width) below it, in place, and return it."""
    for start in range(0, len(total), _BLOCK):
        stop = start + _BLOCK
        square = total[start:stop, start:stop]
        square.copy_((square + square.T) / 2)
        total[stop:, start:stop] = total[start:stop, stop:].T
    return total
