"""Training examples: tokenized text, labels and what a teacher said of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from compress.tasks import Task
from compress.tasks.inputs import pad, stack_labels
from compress.tasks.kind import Labels

if TYPE_CHECKING:
    import datasets
    from transformers import PreTrainedTokenizerBase

Encoded = Sequence[dict[str, list[int]]]


class Examples(Dataset[dict[str, Any]]):
    """A split as the model at hand reads it.

    Args:
        encoded: tokenized by the model's own tokenizer.
        labels: one an example, as the task's loss reads them: class ids, float targets, ids of tokens, …
        teacher_logits: (examples, labels) float32, where a teacher answered beforehand.
        teacher_encoded: tokenized by the teacher's tokenizer, where it answers during training.
        parts: inputs that make one example, 2 for the pairs of an embedding.
        targets: what the task's metrics read.
    """

    def __init__(
        self,
        encoded: Encoded,
        labels: Labels,
        teacher_logits: NDArray[np.float32] | None = None,
        teacher_encoded: Encoded | None = None,
        parts: int = 1,
        targets: Any = None,
    ) -> None:
        self.encoded, self.labels = encoded, labels
        self.teacher_logits, self.teacher_encoded = teacher_logits, teacher_encoded
        self.parts, self.targets = parts, targets

    @classmethod
    def of(cls, data: datasets.Dataset, tokenizer: PreTrainedTokenizerBase, task: Task) -> Examples:
        """Tokenize a split of the task's data."""
        encoded = task.encode(data, tokenizer)
        return cls(encoded.inputs, encoded.labels, parts=encoded.parts, targets=encoded.targets)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Any]:
        start = index * self.parts
        example: dict[str, Any] = {**self.encoded[start], "labels": self.labels[index]}
        if self.parts > 1:
            example["others"] = self.encoded[start + 1 : start + self.parts]
        if self.teacher_logits is not None:
            example["teacher_logits"] = self.teacher_logits[index]
        if self.teacher_encoded is not None:
            example["teacher_inputs"] = self.teacher_encoded[index]
        return example


@dataclass(frozen=True)
class Collator:
    """Pads a batch; the teacher's inputs, where given, by the teacher's own tokenizer.

    Examples of several inputs become as many rows, those of an example one after the other.

    Attributes:
        tokenizer: the student's.
        teacher_tokenizer: of a teacher that answers during training.
        per_token: whether labels are (tokens,) and are padded too, with -100.
    """

    tokenizer: PreTrainedTokenizerBase
    teacher_tokenizer: PreTrainedTokenizerBase | None = None
    per_token: bool = False

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        """Return the student's inputs with `labels` and `teacher_logits` or `teacher_inputs`."""
        labels = [row.pop("labels") for row in examples]
        batch: dict[str, Any] = {}
        if "teacher_logits" in examples[0]:
            answers = np.stack([row.pop("teacher_logits") for row in examples])
            batch["teacher_logits"] = torch.from_numpy(answers)
        if self.teacher_tokenizer is not None and "teacher_inputs" in examples[0]:
            teacher: dict[str, Tensor] = pad(
                [row.pop("teacher_inputs") for row in examples], self.teacher_tokenizer
            )
            batch["teacher_inputs"] = teacher
        rows = [row for example in examples for row in (example, *example.pop("others", ()))]
        inputs = pad(rows, self.tokenizer)
        return {**inputs, "labels": stack_labels(labels, self.per_token, inputs), **batch}
