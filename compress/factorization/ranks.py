"""Ranks that meet a budget of parameters or of time."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from compress.calibration.allocation import allocate
from compress.errors import InputError
from compress.factorization.linears import Size
from compress.layers.low_rank import saves

# What a layer costs, in any measure: weights, milliseconds.
Cost = Callable[[Size], float]


def uniform_rank(in_features: int, out_features: int, keep: float) -> int:
    """Return the largest rank at which two factors hold at most `keep` of the matrix's weights.

    That is floor(keep * in * out / (in + out)), at least 1; from 16 up it is rounded down to a multiple of 8,
    the width that vector units and int8 kernels like.
    """
    rank = int(keep * in_features * out_features / (in_features + out_features))
    return rank - rank % 8 if rank >= 16 else max(rank, 1)


@dataclass(frozen=True)
class Matrix:
    """One linear layer to give a rank.

    Attributes:
        in_features, out_features: of the matrix.
        errors: error by rank, from 0 to min(in, out), of `compress.factorization.svd.discarded`.
        present: its rank now, where it is a pair already.
        one_token: whether the exported model computes it for one token.
    """

    in_features: int
    out_features: int
    errors: Tensor
    present: int | None = None
    one_token: bool = False

    def size(self, rank: int | None) -> Size:
        """Return what the layer is as a pair of `rank`; None: as it is now."""
        rank = self.present if rank is None else rank
        return Size(self.in_features, self.out_features, rank, self.one_token)


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
    choices = {name: [*_ranks(matrix), None] for name, matrix in matrices.items()}
    budget = keep * sum(matrix.size(None).dense_weights for matrix in matrices.values())
    return _spread(matrices, choices, lambda size: size.weights, budget, place)


def spread_time(
    matrices: Mapping[str, Matrix], cost: Cost, speedup: float, fixed: float, place: str
) -> dict[str, int | None]:
    """Spread one budget of time over all matrices so that the errors' sum is least.

    A matrix that no rank makes faster than it is now, or that is needed whole, stays: None.

    Args:
        matrices: by name.
        cost: milliseconds of a matrix, whole or as a pair.
        speedup: what the time of the model as it is now is to be divided by.
        fixed: milliseconds of all that is not in `matrices`.
        place: where to say an error is.

    Raises:
        InputError: not even the fastest ranks are fast enough; the remedy names the speed-up they give.
    """
    present = {name: cost(matrix.size(None)) for name, matrix in matrices.items()}
    choices: dict[str, list[int | None]] = {
        name: [*(rank for rank in _ranks(m) if cost(m.size(rank)) < present[name]), None]
        for name, m in matrices.items()
    }
    total = fixed + sum(present.values())
    least = fixed + sum(min(cost(m.size(rank)) for rank in choices[name]) for name, m in matrices.items())
    if least >= total:
        raise InputError(
            "no layer gets faster at any rank on this machine",
            place=place,
            remedy="Give keep, the share of weights, in place of a speedup: the model gets smaller.",
        )
    if least > total / speedup:
        raise InputError(
            f"the speed-up cannot be met: at the smallest ranks the model takes {least:.3g} ms of the "
            f"{total / speedup:.3g} ms allowed",
            place=place,
            # Rounded down, so that what is named can be had.
            remedy=f"At most {math.floor(100 * total / least) / 100:.2f} times is to be had by factorization alone.",
        )
    return _spread(matrices, choices, cost, total / speedup - fixed, place)


def _spread(
    matrices: Mapping[str, Matrix],
    choices: Mapping[str, Sequence[int | None]],
    cost: Cost,
    budget: float,
    place: str,
) -> dict[str, int | None]:
    costs = [[cost(m.size(rank)) for rank in choices[name]] for name, m in matrices.items()]
    errors = [
        [0.0 if rank is None else float(m.errors[rank]) for rank in choices[name]]
        for name, m in matrices.items()
    ]
    chosen = allocate(costs, errors, budget, place)
    return {name: choices[name][level] for name, level in zip(matrices, chosen, strict=True)}


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
