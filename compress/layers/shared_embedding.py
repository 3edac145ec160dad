"""An embedding table in which several ids read one row."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class SharedEmbedding(nn.Module):
    """`row = table(row_of[id])`: as many ids as before, fewer rows.

    The table is a plain `nn.Embedding`, or whatever a later pass makes of it. What transformers asks an embedding
    for is read off the two; `padding_idx` is a row of `weight`, which some families set to zero when they build.

    Args:
        ids: number of ids.
        rows: number of rows.
        width: size of one embedding.
        padding_idx: the row of padding, if any; training leaves it alone.
    """

    row_of: Tensor  # (ids,) int32

    def __init__(self, ids: int, rows: int, width: int, padding_idx: int | None = None) -> None:
        super().__init__()
        self.table = nn.Embedding(rows, width, padding_idx)
        self.register_buffer("row_of", torch.zeros(ids, dtype=torch.int32))

    @property
    def weight(self) -> Tensor:
        """The inner table's weight, which some families' initialisation asks an embedding for."""
        weight: Tensor = self.table.weight
        return weight

    @property
    def num_embeddings(self) -> int:
        """How many ids there are."""
        return len(self.row_of)

    @property
    def embedding_dim(self) -> int:
        """Size of one embedding."""
        return self.table.embedding_dim

    @property
    def padding_idx(self) -> int | None:
        """The row that training leaves alone, if any."""
        return self.table.padding_idx

    def forward(self, ids: Tensor) -> Tensor:
        """Look up ids (...) int64; the result is (..., width)."""
        out: Tensor = self.table(self.row_of[ids])
        return out

    @classmethod
    @torch.no_grad()
    def of(cls, table: nn.Embedding, kept: Tensor, row_of: Tensor) -> SharedEmbedding:
        """Return a table of the rows `kept` (rows,) int64, in which id i reads row `row_of[i]` (ids,) of them."""
        shared = cls(len(row_of), len(kept), table.embedding_dim).to(table.weight)
        shared.table = with_rows(table, kept)
        shared.row_of.copy_(row_of)
        return shared.train(table.training)

    def description(self) -> dict[str, Any]:
        """Return what `build` needs."""
        return {
            "ids": self.num_embeddings,
            "rows": self.table.num_embeddings,
            "width": self.embedding_dim,
            "padding": self.padding_idx,
        }

    @classmethod
    def build(cls, description: dict[str, Any]) -> SharedEmbedding:
        """Make the module with empty weights from `description()`."""
        return cls(description["ids"], description["rows"], description["width"], description["padding"])


@torch.no_grad()
def with_rows(table: nn.Embedding, kept: Tensor) -> nn.Embedding:
    """Return a table of the rows `kept` (rows,) int64 of another; its row of padding stays one."""
    padding = None if table.padding_idx is None else (kept == table.padding_idx).nonzero().flatten().tolist()
    fewer = nn.Embedding(
        len(kept), table.embedding_dim, padding[0] if padding else None, _weight=table.weight[kept]
    )
    return fewer.requires_grad_(table.weight.requires_grad).train(table.training)
