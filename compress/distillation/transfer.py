"""What a student reads: the training split, and text of which only the teacher knows the answer."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np

from compress.tasks.ragged import Ragged
from compress.training.examples import Column, Examples

if TYPE_CHECKING:
    import datasets
    from transformers import PreTrainedTokenizerBase

    from compress.tasks import Task


@dataclass(frozen=True)
class TransferPart:
    """Some of the text, with the hash that stands for its content; without a "label" column it is unlabelled."""

    data: datasets.Dataset
    fingerprint: str


@dataclass(frozen=True)
class Joined:
    """Columns of the parts one after another."""

    parts: Sequence[Any]
    lengths: Sequence[int]

    def __post_init__(self) -> None:
        object.__setattr__(self, "_starts", [0, *accumulate(self.lengths)])

    def __len__(self) -> int:
        return sum(self.lengths)

    def __getitem__(self, index: int) -> Any:
        starts: list[int] = self._starts  # type: ignore[attr-defined]
        part = bisect_right(starts, index) - 1
        return self.parts[part][index - starts[part]]

    def stack(self, examples: Sequence[Any]) -> Any:
        """Stack examples as the first part's column does."""
        first: Column = self.parts[0]
        return first.stack(examples)


def joined(columns: Sequence[Any]) -> Any:
    """Return one column over all parts."""
    return columns[0] if len(columns) == 1 else Joined(columns, [len(column) for column in columns])


def examples_of(parts: Sequence[TransferPart], tokenizer: PreTrainedTokenizerBase, task: Task) -> Examples:
    """Tokenize all parts; see `Examples.of`."""
    each = [Examples.of(part.data, tokenizer, task) for part in parts]
    if len(each) == 1:
        return each[0]
    ragged = [examples.labels for examples in each if isinstance(examples.labels, Ragged)]
    labels = (
        Ragged.of([rows[i] for rows in ragged for i in range(len(rows))])
        if ragged
        else np.concatenate([np.asarray(examples.labels) for examples in each])
    )
    return Examples(joined([examples.inputs for examples in each]), labels, each[0].parts)
