"""What a student reads: the training split, and text of which only the teacher knows the answer."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from compress.data.token_store import TokenStore
from compress.training.examples import Column, Examples
from compress.training.tokenized import labels_of
from compress.training.tokenized import tokenized as stored

if TYPE_CHECKING:
    import datasets
    from transformers import PreTrainedTokenizerBase

    from compress.tasks import Task


@dataclass(frozen=True)
class TransferPart:
    """Some of the text, with the hash that stands for its content; without a "label" column it is unlabelled.

    Of the parts with a `turn` each epoch reads one, in this order; all others are read in every epoch.
    """

    data: datasets.Dataset
    fingerprint: str
    turn: int | None = None


@dataclass(frozen=True)
class Joined:
    """Columns of the parts one after another."""

    parts: Sequence[Any]
    sizes: Sequence[int]

    def __post_init__(self) -> None:
        object.__setattr__(self, "_starts", [0, *accumulate(self.sizes)])

    def __len__(self) -> int:
        return sum(self.sizes)

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


def tokenized(part: TransferPart, tokenizer: PreTrainedTokenizerBase, task: Task) -> TokenStore:
    """Return a part as a model reads it, from disk."""
    return stored(part.data, part.fingerprint, tokenizer, task)


def with_unlabelled(
    labelled: Examples, others: Sequence[TransferPart], tokenizer: PreTrainedTokenizerBase, task: Task
) -> Examples:
    """Put text without labels behind the training split; of the others those with turns come last."""
    if not others:
        return labelled
    stores = [tokenized(part, tokenizer, task) for part in others]
    sizes = [len(labelled), *(len(store) // labelled.parts for store in stores)]
    like = labelled.labels[0]
    labels = [labels_of(store, size, task, like) for store, size in zip(stores, sizes[1:], strict=True)]
    turns = [
        range(end - size, end)
        for part, size, end in zip(others, sizes[1:], list(accumulate(sizes))[1:], strict=True)
        if part.turn is not None
    ]
    inputs = joined([labelled.inputs, *stores])
    return Examples(inputs, joined([labelled.labels, *labels]), labelled.parts, turns=turns)
