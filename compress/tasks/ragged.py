"""Rows of different length in one flat array, so that answers for tokens need no padding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Ragged:
    """One row an input.

    Attributes:
        values: (tokens of all inputs, …), the inputs one after the other.
        offsets: (inputs + 1,) int64; input i has `values[offsets[i]:offsets[i + 1]]`.
    """

    values: NDArray[Any]
    offsets: NDArray[np.int64]

    @classmethod
    def of(cls, rows: Sequence[NDArray[Any]]) -> Ragged:
        """Join rows (tokens, …)."""
        values = np.concatenate(rows) if rows else np.empty((0,), np.int64)
        return cls(values, offsets_of([len(row) for row in rows]))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> NDArray[Any]:
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index %= len(self)
        row: NDArray[Any] = self.values[self.offsets[index] : self.offsets[index + 1]]
        return row

    def columns(self, order: Sequence[int]) -> Ragged:
        """Return the rows with the last axis of their values in another order."""
        return Ragged(self.values[..., list(order)], self.offsets)


Labels = NDArray[Any] | Ragged  # one an example; rows of (tokens,) where each token has one


def offsets_of(lengths: ArrayLike) -> NDArray[np.int64]:
    """Return where rows of these lengths begin and end in a flat array: (rows + 1,) int64."""
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64)
