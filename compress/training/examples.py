"""Training examples: tokenized text, labels and what else an objective wants to know of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from compress.tasks import Task
from compress.tasks.inputs import encode, pad

if TYPE_CHECKING:
    import datasets
    from transformers import PreTrainedTokenizerBase

Encoded = Sequence[dict[str, list[int]]]
IGNORED = -100  # the class id of an example without a label; NaN where labels are numbers


class Column(Protocol):
    """Something known of each example, and how a batch of it looks."""

    def __getitem__(self, index: int, /) -> Any:
        """Return one example's."""

    def stack(self, examples: Sequence[Any], /) -> Any:
        """Return a batch's: a tensor, or a dict of tensors."""


class Examples(Dataset[dict[str, Any]]):
    """A split as the model at hand reads it.

    Args:
        encoded: tokenized by the model's own tokenizer.
        labels: (examples,) class ids or float targets, `IGNORED` or NaN where there is none.
        targets: what the objective gets besides the labels, by name.
    """

    def __init__(
        self, encoded: Encoded, labels: NDArray[Any], targets: Mapping[str, Column] | None = None
    ) -> None:
        self.encoded, self.labels, self.targets = encoded, labels, dict(targets or {})

    @classmethod
    def of(cls, data: datasets.Dataset, tokenizer: PreTrainedTokenizerBase, task: Task) -> Examples:
        """Tokenize a split with "text" and, for pairs, "text_pair"; without "label" no example has one."""
        kind, nothing = (np.int64, IGNORED) if task.kind == "classification" else (np.float32, np.nan)
        labels = data["label"] if "label" in data.column_names else [nothing] * len(data)
        return cls(encode(data, tokenizer, task), np.asarray(labels, dtype=kind))

    @property
    def lengths(self) -> list[int]:
        """Tokens of each example, by which batches are made."""
        return [len(example["input_ids"]) for example in self.encoded]

    def __len__(self) -> int:
        return len(self.encoded)

    def __getitem__(self, index: int) -> dict[str, Any]:
        targets = {name: column[index] for name, column in self.targets.items()}
        return {**self.encoded[index], "labels": self.labels[index], "targets": targets}


@dataclass(frozen=True)
class Collator:
    """Pads a batch.

    Args:
        tokenizer: of the model that reads it.
        targets: the columns of the examples, which pad their own.
    """

    tokenizer: PreTrainedTokenizerBase
    targets: Mapping[str, Column]

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        """Return the model's inputs with `labels` (B,) and `targets`, a dict by the columns' names."""
        labels = torch.as_tensor(np.stack([row.pop("labels") for row in examples]))
        rows = [row.pop("targets") for row in examples]
        targets = {
            name: column.stack([row[name] for row in rows])
            for name, column in self.targets.items()
            if name in rows[0]
        }
        return {**pad(examples, self.tokenizer), "labels": labels, "targets": targets}
