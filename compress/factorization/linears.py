"""The linear layers that are factorized, and their sizes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import nn

from compress.architectures import blocks
from compress.layers import LowRankLinear
from compress.layers.dense import as_linear

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Size:
    """Of one linear layer.

    Attributes:
        in_features, out_features: of the matrix, whole or as a product.
        rank: of a pair; None for a whole matrix.
        one_token: whether the exported model computes it for one token.
    """

    in_features: int
    out_features: int
    rank: int | None = None
    one_token: bool = False

    @classmethod
    def of(cls, module: nn.Module, one_token: bool = False) -> Size:
        """Read a linear module of any kind; see `as_linear` for errors."""
        rank = module.rank if isinstance(module, LowRankLinear) else None
        whole = module if isinstance(module, LowRankLinear) else as_linear(module)
        return cls(whole.in_features, whole.out_features, rank, one_token)

    @property
    def dense_weights(self) -> int:
        """Weights of the whole matrix."""
        return self.in_features * self.out_features

    @property
    def weights(self) -> int:
        """Weights that are held."""
        if self.rank is None:
            return self.dense_weights
        return self.rank * (self.in_features + self.out_features)


def linears_of(model: PreTrainedModel) -> list[str]:
    """Return the linear layers of all attention and feed-forward parts, in the order they run."""
    names: dict[str, None] = {}
    for block in blocks(model):
        for attention in block.attentions:
            for rows in (attention.query, attention.key, attention.value):
                names[rows.module] = None
            names[attention.output] = None
        for feed_forward in block.feed_forwards:
            for rows in feed_forward.inputs:
                names[rows.module] = None
            names[feed_forward.output] = None
    return list(names)
