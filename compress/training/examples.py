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
from compress.tasks.inputs import encode, pad

if TYPE_CHECKING:
    import datasets
    from transformers import PreTrainedTokenizerBase

Encoded = Sequence[dict[str, list[int]]]


class Examples(Dataset[dict[str, Any]]):
    """A split as the model at hand reads it.

    Args:
        encoded: tokenized by the model's own tokenizer.
        labels: (examples,) class ids or float targets.
        teacher_logits: (examples, labels) float32, where a teacher answered beforehand.
        teacher_encoded: tokenized by the teacher's tokenizer, where it answers during training.
    """

    def __init__(
        self,
        encoded: Encoded,
        labels: NDArray[Any],
        teacher_logits: NDArray[np.float32] | None = None,
        teacher_encoded: Encoded | None = None,
    ) -> None:
        self.encoded, self.labels = encoded, labels
        self.teacher_logits, self.teacher_encoded = teacher_logits, teacher_encoded

    @classmethod
    def of(cls, data: datasets.Dataset, tokenizer: PreTrainedTokenizerBase, task: Task) -> Examples:
        """Tokenize a split with "text", "label" and, for pairs, "text_pair"."""
        kind = np.int64 if task.kind == "classification" else np.float32
        return cls(encode(data, tokenizer, task), np.asarray(data["label"], dtype=kind))

    def __len__(self) -> int:
        return len(self.encoded)

    def __getitem__(self, index: int) -> dict[str, Any]:
        example: dict[str, Any] = {**self.encoded[index], "labels": self.labels[index]}
        if self.teacher_logits is not None:
            example["teacher_logits"] = self.teacher_logits[index]
        if self.teacher_encoded is not None:
            example["teacher_inputs"] = self.teacher_encoded[index]
        return example


@dataclass(frozen=True)
class Collator:
    """Pads a batch; the teacher's inputs, where given, by the teacher's own tokenizer."""

    tokenizer: PreTrainedTokenizerBase
    teacher_tokenizer: PreTrainedTokenizerBase | None = None

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        """Return the student's inputs with `labels` and `teacher_logits` or `teacher_inputs`."""
        batch: dict[str, Any] = {"labels": torch.as_tensor(np.stack([row.pop("labels") for row in examples]))}
        if "teacher_logits" in examples[0]:
            rows = np.stack([row.pop("teacher_logits") for row in examples])
            batch["teacher_logits"] = torch.from_numpy(rows)
        if self.teacher_tokenizer is not None and "teacher_inputs" in examples[0]:
            teacher: dict[str, Tensor] = pad(
                [row.pop("teacher_inputs") for row in examples], self.teacher_tokenizer
            )
            batch["teacher_inputs"] = teacher
        return {**pad(examples, self.tokenizer), **batch}
