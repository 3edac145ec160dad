"""From text to padded batches, by the model's own tokenizer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from compress.tasks.sequence import Task

if TYPE_CHECKING:
    import datasets
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase


def encode(
    data: datasets.Dataset, tokenizer: PreTrainedTokenizerBase, task: Task
) -> list[dict[str, list[int]]]:
    """Tokenize "text" (and "text_pair") without padding, cut to `task.max_length` tokens.

    Returns:
        One dict an example with `input_ids`, `attention_mask` and, where the model has them,
        `token_type_ids`.
    """
    paired = task.pair or (task.pair is None and "text_pair" in data.column_names)
    pairs = [list(data["text_pair"])] if paired else []
    encoded = tokenizer(
        list(data["text"]), *pairs, truncation=True, max_length=task.max_length, padding=False
    )
    return [dict(zip(encoded.keys(), values, strict=True)) for values in zip(*encoded.values(), strict=True)]


def by_length(encoded: Sequence[dict[str, list[int]]]) -> list[int]:
    """Return the examples' indices, longest first: little padding, and memory runs out at once or never."""
    return sorted(range(len(encoded)), key=lambda i: -len(encoded[i]["input_ids"]))


def pad(encoded: Sequence[dict[str, list[int]]], tokenizer: PreTrainedTokenizerBase) -> dict[str, Tensor]:
    """Pad examples to the longest among them: each value is int64 of shape (examples, longest)."""
    padded: Any = tokenizer.pad(list(encoded), return_tensors="pt")
    return dict(padded)


def batches(
    encoded: Sequence[dict[str, list[int]]], tokenizer: PreTrainedTokenizerBase, batch_size: int
) -> Iterator[tuple[list[int], dict[str, Tensor]]]:
    """Yield (indices, padded batch), longest examples first."""
    order = by_length(encoded)
    for start in range(0, len(order), batch_size):
        indices = order[start : start + batch_size]
        yield indices, pad([encoded[i] for i in indices], tokenizer)
