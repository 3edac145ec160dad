"""A linear layer held as the product of two thin ones."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def saves(rank: int, in_features: int, out_features: int) -> bool:
    """Say whether two factors of `rank` hold fewer weights than the matrix (out, in) itself."""
    return rank * (in_features + out_features) < in_features * out_features


class LowRankLinear(nn.Module):
    """`y = second(first(x))` with `W ≈ second.weight @ first.weight`.

    Both factors are plain `nn.Linear`, so that later passes (pruning, quantization) need no special case.

    Args:
        in_features: width of `x`, shape (..., in_features).
        out_features: width of the result, shape (..., out_features).
        rank: width between the factors.
        bias: whether `second` adds a bias.
    """

    def __init__(self, in_features: int, out_features: int, rank: int, bias: bool) -> None:
        super().__init__()
        self.in_features, self.out_features, self.rank = in_features, out_features, rank
        self.first = nn.Linear(in_features, rank, bias=False)
        self.second = nn.Linear(rank, out_features, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Apply both factors: (..., in_features) to (..., out_features)."""
        out: Tensor = self.second(self.first(x))
        return out

    @property
    def weight(self) -> Tensor:
        """The first factor's weight: T5 asks a projection for its dtype, ModernBERT initialises it by name."""
        return self.first.weight

    @torch.no_grad()
    def dense(self) -> nn.Linear:
        """Return the plain linear layer that computes the same: weight `second.weight @ first.weight`."""
        linear = nn.Linear(
            self.in_features,
            self.out_features,
            bias=self.second.bias is not None,
            device=self.second.weight.device,
            dtype=self.second.weight.dtype,
        )
        linear.weight.copy_(self.second.weight @ self.first.weight)
        if self.second.bias is not None:
            linear.bias.copy_(self.second.bias)
        return linear

    def description(self) -> dict[str, Any]:
        """Return what `build` needs."""
        return {
            "in": self.in_features,
            "out": self.out_features,
            "rank": self.rank,
            "bias": self.second.bias is not None,
        }

    @classmethod
    def build(cls, description: dict[str, Any]) -> LowRankLinear:
        """Make the module with empty weights from `description()`."""
        return cls(description["in"], description["out"], description["rank"], description["bias"])
