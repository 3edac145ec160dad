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
from compress.tasks.kind import IGNORED, Encoded, Labels
from compress.tasks.ragged import Ragged, offsets_of
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
    """Return what stands for all that a tokenizer does with a text, whatever length it was last asked to cut at."""
    if not tokenizer.is_fast:
        return repr(tokenizer)
    # Truncation and padding of the last call come first in the file, and are not the tokenizer's own.
    return str(tokenizer.backend_tokenizer.to_str()).partition('"added_tokens"')[2]


def tokenized(part: TransferPart, tokenizer: PreTrainedTokenizerBase, task: Task) -> TokenStore:
    """Return a part as a model reads it, from disk; whoever has the same tokenizer and length shares it."""
    key = hash_json(
        [part.fingerprint, vocabulary(tokenizer), tokenizer.model_input_names, task.model_dump(mode="json")]
    )
    return build_tokens(part.data, lambda chunk: task.encode(chunk, tokenizer).inputs, key[:32])


def with_unlabelled(
    labelled: Encoded, others: Sequence[TransferPart], tokenizer: PreTrainedTokenizerBase, task: Task
) -> Examples:
    """Put text without labels behind the training split; of the others those with turns come last."""
    stores = [tokenized(part, tokenizer, task) for part in others]
    sizes = [len(labelled.inputs) // labelled.parts, *(len(store) // labelled.parts for store in stores)]
    unknown = [_unknown(labelled.labels, *each) for each in zip(sizes[1:], stores, strict=True)]
    turns = [
        range(end - size, end)
        for part, size, end in zip(others, sizes[1:], list(accumulate(sizes))[1:], strict=True)
        if part.turn is not None
    ]
    inputs, labels = joined([labelled.inputs, *stores]), joined([labelled.labels, *unknown])
    return Examples(inputs, labels, labelled.parts, turns=turns)


def _unknown(like: Labels, count: int, store: TokenStore) -> Labels:
    """Return as many labels of the kind that say nothing; they are one number in memory."""
    if isinstance(like, Ragged):
        offsets = offsets_of(store.lengths)
        return Ragged(np.broadcast_to(np.int64(IGNORED), (int(offsets[-1]),)), offsets)
    nothing = np.asarray(IGNORED if like.dtype.kind == "i" else np.nan, like.dtype)
    return np.broadcast_to(nothing, (count, *like.shape[1:]))
