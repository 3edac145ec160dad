"""What a student reads: the training split, and text of which only the teacher knows the answer."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np

from compress.data.token_store import TokenStore, build_tokens
from compress.manifest import hash_json
from compress.tasks.kind import IGNORED, Labels
from compress.tasks.ragged import Ragged
from compress.training.examples import Column, Examples

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


def vocabulary(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return what stands for all that a tokenizer does with a text."""
    return tokenizer.backend_tokenizer.to_str() if tokenizer.is_fast else repr(tokenizer)


def tokenized(part: TransferPart, tokenizer: PreTrainedTokenizerBase, task: Task) -> TokenStore:
    """Return a part as a model reads it, from disk; whoever has the same tokenizer and length shares it."""
    key = hash_json(
        [part.fingerprint, vocabulary(tokenizer), tokenizer.model_input_names, task.model_dump(mode="json")]
    )
    return build_tokens(part.data, lambda chunk: task.encode(chunk, tokenizer).inputs, key[:32])


def examples_of(parts: Sequence[TransferPart], tokenizer: PreTrainedTokenizerBase, task: Task) -> Examples:
    """Tokenize all parts: the first has labels, the others have none, and those with turns come last."""
    first, *others = parts
    examples = Examples.of(first.data, tokenizer, task)
    if not others:
        return examples
    stores = [tokenized(part, tokenizer, task) for part in others]
    lengths = np.concatenate([store.lengths for store in stores])
    labels: Labels
    if isinstance(examples.labels, Ragged):
        unknown = np.full(int(lengths.sum()), IGNORED, np.int64)
        offsets = np.concatenate([examples.labels.offsets, examples.labels.offsets[-1] + np.cumsum(lengths)])
        labels = Ragged(np.concatenate([examples.labels.values, unknown]), offsets)
    else:
        nothing = IGNORED if examples.labels.dtype.kind == "i" else np.nan
        shape = (len(lengths) // examples.parts, *examples.labels.shape[1:])
        labels = np.concatenate([examples.labels, np.full(shape, nothing, examples.labels.dtype)])
    sizes = [len(examples), *(len(store) // examples.parts for store in stores)]
    ends = list(accumulate(sizes))
    turns = [
        range(end - size, end)
        for part, size, end in zip(parts, sizes, ends, strict=True)
        if part.turn is not None
    ]
    return Examples(joined([examples.inputs, *stores]), labels, examples.parts, turns=turns)
