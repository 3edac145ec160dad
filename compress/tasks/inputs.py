"""From text to padded batches, by the model's own tokenizer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from compress.tasks.spans import InputSpans, spans_of
from compress.tasks.task import Task

if TYPE_CHECKING:
    import datasets
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase


def encode(
    data: datasets.Dataset, tokenizer: PreTrainedTokenizerBase, task: Task
) -> list[dict[str, list[int]]]:
    """Tokenize a split without padding, cut to `task.max_length` tokens; the labels are left aside.

    Returns:
        One dict an input with `input_ids`, `attention_mask` and, where the model has them,
        `token_type_ids`. Pairs of an embedding and long contexts of a question make several inputs an example.
    """
    return task.encode(data, tokenizer).inputs


def encode_text(
    data: datasets.Dataset, tokenizer: PreTrainedTokenizerBase, task: Task
) -> list[dict[str, list[int]]]:
    """Tokenize "text" (and "text_pair") as one input each."""
    return rows_of(tokenizer(*_texts(data, task), truncation=True, max_length=task.max_length, padding=False))


def text_spans(data: datasets.Dataset, tokenizer: PreTrainedTokenizerBase, task: Task) -> list[InputSpans]:
    """Return where the tokens of `encode_text` stand in the texts."""
    texts = _texts(data, task)
    encoded = tokenizer(
        *texts, truncation=True, max_length=task.max_length, padding=False, return_offsets_mapping=True
    )
    return [
        InputSpans(row, spans_of(encoded, row, encoded.sequence_ids(row), read))
        for row, read in enumerate(zip(*texts, strict=True))
    ]


def is_paired(data: datasets.Dataset, task: Task) -> bool:
    """Say whether the task reads two texts of each row."""
    return "text_pair" in data.column_names if task.pair is None else task.pair


def _texts(data: datasets.Dataset, task: Task) -> list[list[str]]:
    return [list(data[name]) for name in ("text", *(["text_pair"] if is_paired(data, task) else []))]


def rows_of(encoded: Any, names: Sequence[str] | None = None) -> list[dict[str, list[int]]]:
    """Turn a tokenizer's columns, or those of `names`, into a dict for each row."""
    keys = [name for name in encoded if names is None or name in names]
    return [dict(zip(keys, row, strict=True)) for row in zip(*(encoded[key] for key in keys), strict=True)]


def lengths_of(encoded: Iterable[dict[str, list[int]]]) -> NDArray[np.int32]:
    """Return the tokens of each input, (inputs,) int32."""
    return np.fromiter((len(row["input_ids"]) for row in encoded), np.int32)


def by_length(encoded: Iterable[dict[str, list[int]]]) -> NDArray[np.int64]:
    """Return the inputs' indices, longest first: little padding, and memory runs out at once or never."""
    return np.argsort(-lengths_of(encoded), kind="stable")


def pad(encoded: Sequence[dict[str, list[int]]], tokenizer: PreTrainedTokenizerBase) -> dict[str, Tensor]:
    """Pad examples to the longest among them: each value is int64 of shape (examples, longest)."""
    padded: Any = tokenizer.pad(list(encoded), return_tensors="pt")
    return dict(padded)


def stack_labels(labels: Sequence[NDArray[Any]], per_token: bool, inputs: dict[str, Tensor]) -> Tensor:
    """Make one tensor of the labels of padded examples.

    Args:
        labels: of each example: a scalar, a vector of floats of a fixed length, int64 places of tokens, or, for
            tokens, (tokens,) int64.
        per_token: whether they are for tokens, and get -100 where the example is padded, on either side.
        inputs: the padded examples.
    """
    if not per_token:
        stacked = torch.as_tensor(np.stack(labels))
        if stacked.dim() == 2 and not stacked.is_floating_point():  # places, which padding in front moves
            stacked = torch.where(stacked < 0, stacked, stacked + inputs["attention_mask"].argmax(1)[:, None])
        return stacked
    mask = inputs["attention_mask"].bool()
    padded = torch.full(mask.shape, -100)
    padded[mask] = torch.from_numpy(np.concatenate(labels))
    return padded


def batches(
    encoded: Sequence[dict[str, list[int]]], tokenizer: PreTrainedTokenizerBase, batch_size: int
) -> Iterator[tuple[list[int], dict[str, Tensor]]]:
    """Yield (indices, padded batch), longest examples first."""
    order = by_length(encoded)
    for start in range(0, len(order), batch_size):
        indices = order[start : start + batch_size].tolist()
        yield indices, pad([encoded[i] for i in indices], tokenizer)
