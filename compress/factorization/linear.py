"""One linear layer in, two thin ones out."""

from __future__ import annotations

import torch
from torch import nn

from compress.factorization.gram import InputMoments
from compress.factorization.svd import truncate_svd
from compress.layers import LowRankLinear


@torch.no_grad()
def factorized(linear: nn.Linear, rank: int, moments: InputMoments | None = None) -> LowRankLinear:
    """Return the best low-rank stand-in for `linear`, by itself or for the inputs that `moments` records.

    Where there is a bias b, the mean input μ is taken out first: with W' fitted to the covariance of the
    inputs and b' = b + (W - W') μ, the squared output error summed over the recorded inputs is the least that
    any W' of this rank with any b' can have.

    Args:
        linear: weight (out, in), bias (out,) or None.
        rank: from 1 to min(in, out).
        moments: inputs of `linear`; None weighs all directions alike and leaves the bias.
    """
    has_bias = linear.bias is not None
    gram = None if moments is None else moments.covariance if has_bias else moments.gram
    first, second = truncate_svd(linear.weight, rank, gram)
    pair = LowRankLinear(linear.in_features, linear.out_features, rank, has_bias).to(linear.weight)
    pair.first.weight.copy_(first)
    pair.second.weight.copy_(second)
    if has_bias:
        pair.second.bias.copy_(linear.bias)
        if moments is not None:
            lost = linear.weight.double() - second.double() @ first.double()
            pair.second.bias.add_((lost @ moments.mean).to(linear.bias.dtype))
    return pair.train(linear.training)
