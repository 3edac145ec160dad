"""Ranks that meet a budget of parameters."""

from __future__ import annotations


def uniform_rank(in_features: int, out_features: int, keep: float) -> int:
    """Return the largest rank at which two factors hold at most `keep` of the matrix's weights.

    That is floor(keep * in * out / (in + out)), at least 1; from 16 up it is rounded down to a multiple of 8,
    the width that vector units and int8 kernels like.
    """
    rank = int(keep * in_features * out_features / (in_features + out_features))
    return rank - rank % 8 if rank >= 16 else max(rank, 1)
