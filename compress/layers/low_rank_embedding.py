"""An embedding table held as a thin table and the projection that widens its rows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class LowRankEmbedding(nn.Module):
    """`row = second(table(id))` with `E ≈ table.weight @ second.weight.T`.

    This is ALBERT's factorized embedding (Lan et al. 2020, section 3.1). The table is a plain `nn.Embedding` and
    the projection a plain `nn.Linear`, so that later passes (vocabulary, width, quantization) need no special
    case; what transformers asks an embedding for (`num_embeddings`, `embedding_dim`, `padding_idx`) is read off
    them.

    Args:
        rows: number of ids.
        width: size of one embedding.
        rank: width of the table.
        padding_idx: the row that training leaves alone, if any.
    """

    def __init__(self, rows: int, width: int, rank: int, padding_idx: int | None = None) -> None:
        super().__init__()
        self.table = nn.Embedding(rows, rank, padding_idx)
        self.second = nn.Linear(rank, width, bias=False)

    @property
    def weight(self) -> Tensor:
        """The inner table's weight, which some families' initialisation asks an embedding for."""
        weight: Tensor = self.table.weight
        return weight

    @property
    def num_embeddings(self) -> int:
        """How many ids there are."""
        return self.table.num_embeddings

    @property
    def embedding_dim(self) -> int:
        """Size of one embedding."""
        return self.second.out_features

    @property
    def padding_idx(self) -> int | None:
        """The row that training leaves alone, if any."""
        return self.table.padding_idx

    @property
    def rank(self) -> int:
        """Width of the table."""
        return self.second.in_features

    def forward(self, ids: Tensor) -> Tensor:
        """Look up ids (...) int64; the result is (..., width)."""
        out: Tensor = self.second(self.table(ids))
        return out

    @torch.no_grad()
    def dense(self) -> nn.Embedding:
        """Return the plain table that gives the same: weight `table.weight @ second.weight.T`."""
        weight = self.table.weight @ self.second.weight.T
        return nn.Embedding(self.num_embeddings, self.embedding_dim, self.padding_idx, _weight=weight)

    def description(self) -> dict[str, Any]:
        """Return what `build` needs."""
        return {
            "rows": self.num_embeddings,
            "width": self.embedding_dim,
            "rank": self.rank,
            "padding": self.padding_idx,
        }

    @classmethod
    def build(cls, description: dict[str, Any]) -> LowRankEmbedding:
        """Make the module with empty weights from `description()`."""
        return cls(description["rows"], description["width"], description["rank"], description["padding"])
