"""Ranks that meet a budget of parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from compress.calibration.allocation import allocate
from compress.layers.low_rank import saves


def uniform_rank(in_features: int, out_features: int, keep: float) -> int:
    """Return the largest rank at which two factors hold at most `keep` of the matrix's weights.

    That is floor(keep * in * out / (in + out)), at least 1; from 16 up it is rounded down to a multiple of 8,
    the width that vector units and int8 kernels like.
    """
    rank = int(keep * in_features * out_features / (in_features + out_features))
    return rank - rank % 8 if rank >= 16 else max(rank, 1)


@dataclass(frozen=True)
class Matrix:
    """One linear layer for `spread_ranks`.

    Attributes:
        in_features, out_features: of the matrix.
        errors: error by rank, from 0 to min(in, out), of `compress.factorization.svd.discarded`.
        present: its rank now, where it is a pair already.
    """

    in_features: int
    out_features: int
    errors: Tensor
    present: int | None = None

    @property
    def weights(self) -> int:
        """Weights that the layer holds now."""
        if self.present is not None:
            return self.present * (self.in_features + self.out_features)
        return self.in_features * self.out_features


def spread_ranks(matrices: Mapping[str, Matrix], keep: float, place: str) -> dict[str, int | None]:
    """Spread one budget of weights over all matrices so that the errors' sum is least.

    Operations are two a weight and token, so the same ranks meet a budget of FLOPs. A matrix whose factors would
    not be smaller than it is now, or that is needed whole, stays: None.

    Args:
        matrices: by name.
        keep: share of all matrices' weights, as if none were factorized, that may be left.
        place: where to say an error is.

    Raises:
        InputError: the budget is below that of the smallest ranks.
    """
    choices = {name: _ranks(matrix) for name, matrix in matrices.items()}
    costs = [
        [rank * (m.in_features + m.out_features) for rank in choices[name]] + [m.weights]
        for name, m in matrices.items()
    ]
    errors = [[float(m.errors[rank]) for rank in choices[name]] + [0.0] for name, m in matrices.items()]
    budget = keep * sum(m.in_features * m.out_features for m in matrices.values())
    chosen = allocate(costs, errors, budget, place)
    return {
        name: choices[name][level] if level < len(choices[name]) else None
        for name, level in zip(matrices, chosen, strict=True)
    }


def _ranks(matrix: Matrix) -> Sequence[int]:
    """Return the ranks to choose from: multiples of 16 for wide matrices, of 8 or 1 for narrow ones."""
    narrow = min(matrix.in_features, matrix.out_features)
    step = 16 if narrow >= 256 else 8 if narrow >= 64 else 1
    below = matrix.present if matrix.present is not None else narrow + 1
    return [
        rank
        for rank in range(step, min(below, narrow + 1), step)
        if saves(rank, matrix.in_features, matrix.out_features)
    ]
