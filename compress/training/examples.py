"""Training examples: tokenized text, labels and what else an objective wants to know of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from compress.tasks.inputs import lengths_of, pad, stack_labels

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Inputs = Sequence[dict[str, list[int]]]


class Column(Protocol):
    """Something known of each input, and how a batch of it looks."""

    def __getitem__(self, index: int, /) -> Any:
        """Return one input's."""

    def stack(self, rows: Sequence[Any], /) -> Any:
        """Return a batch's: a tensor, or whatever the objective reads."""


class Rows(Protocol):
    """Labels, one an example."""

    def __len__(self) -> int:
        """Return how many examples there are."""

    def __getitem__(self, index: int, /) -> Any:
        """Return one example's."""


class Examples(Dataset[dict[str, Any]]):
    """A training split as the model at hand reads it.

    Args:
        inputs: tokenized by the model's own tokenizer.
        labels: one an example, as the task's loss reads them: class ids, float targets, ids of tokens, …
        parts: inputs that make one example, 2 for the pairs of an embedding.
        targets: what the objective gets besides the labels, by name.
        turns: examples, the last ones, of which each epoch reads one stretch in turn; the others it always reads.
    """

    def __init__(
        self,
        inputs: Inputs,
        labels: Rows,
        parts: int = 1,
        targets: Mapping[str, Column] | None = None,
        turns: Sequence[range] = (),
    ) -> None:
        self.inputs, self.labels, self.parts, self.targets = inputs, labels, parts, dict(targets or {})
        self.turns = turns

    @property
    def lengths(self) -> NDArray[np.int32]:
        """(examples,) tokens of each example's longest input, by which batches are made."""
        longest: NDArray[np.int32] = lengths_of(self.inputs).reshape(-1, self.parts).max(-1)
        return longest

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Any]:
        places = range(index * self.parts, (index + 1) * self.parts)
        targets = {name: [column[place] for place in places] for name, column in self.targets.items()}
        return {
            "inputs": [self.inputs[place] for place in places],
            "labels": self.labels[index],
            "targets": targets,
        }


@dataclass(frozen=True)
class Collator:
    """Pads a batch. Examples of several inputs become as many rows, those of an example one after the other.

    Args:
        tokenizer: of the model that reads it.
        labels_per_token: whether labels are (tokens,) and are padded too, with -100.
        targets: the columns of the examples, which pad their own.
    """

    tokenizer: PreTrainedTokenizerBase
    labels_per_token: bool
    targets: Mapping[str, Column]

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        """Return the model's inputs with `labels` and `targets`, a dict by the columns' names."""
        inputs = pad([row for example in examples for row in example["inputs"]], self.tokenizer)
        labels = [example["labels"] for example in examples]
        targets = {
            name: column.stack([row for example in examples for row in example["targets"][name]])
            for name, column in self.targets.items()
        }
        return {**inputs, "labels": stack_labels(labels, self.labels_per_token, inputs), "targets": targets}
