"""A few training examples as batches, for passes that look at what a model does on real data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from compress.errors import InputError
from compress.tasks import Task
from compress.tasks.inputs import batches, stack_labels

if TYPE_CHECKING:
    import datasets
    from transformers import PreTrainedTokenizerBase

    from compress.artifact import Artifact
    from compress.data import TextData

# Logits (examples, outputs) and labels to each example's loss (examples,).
Loss = Callable[[Tensor, Tensor], Tensor]

# What one forward pass over the whole set may hold, padding included: 256 texts of 256 tokens.
TOKENS_AT_ONCE = 1 << 16


@dataclass(frozen=True)
class Calibration:
    """The same examples twice, longest first.

    Attributes:
        batches: padded batches of 32 with their labels as the task's loss reads them.
        whole: all of them as one padded batch.
    """

    batches: list[tuple[dict[str, Tensor], Tensor]]
    whole: dict[str, Tensor]

    @property
    def inputs(self) -> list[dict[str, Tensor]]:
        """The batches without labels."""
        return [batch for batch, _ in self.batches]

    @property
    def examples(self) -> int:
        """How many there are."""
        return len(self.whole["input_ids"])


def calibration(
    artifact: Artifact, data: TextData, samples: int, seed: int, device: torch.device | str = "cpu"
) -> Calibration:
    """Draw training examples for `artifact`, fewer where their texts are very long.

    Args:
        artifact: gives tokenizer and task; a model without a task reads what the data has.
        data: its training split is drawn from.
        samples: examples to draw; all there are where that is less.
        seed: decides which.
        device: where the tensors go.

    Raises:
        InputError: the split is empty, or the tokenizer's ids are beyond the model's embeddings.
    """
    task = artifact.manifest.task
    if task is None:
        task = Task(kind=data.kind, labels=data.labels, pair=data.pair)
    else:
        data = data.aligned(task)
    split, tokenizer = data.train, artifact.tokenizer
    if len(split) == 0:
        raise InputError(
            "there is no training example to calibrate on",
            place="data",
            remedy="Give data with a training split.",
        )
    (whole, _), *_ = calibration_batches(split, tokenizer, task, samples, seed, device, batch_size=samples)
    fitting = max(TOKENS_AT_ONCE // whole["input_ids"].shape[1], 1)
    if len(whole["input_ids"]) > fitting:
        samples = fitting
        (whole, _), *_ = calibration_batches(
            split, tokenizer, task, samples, seed, device, batch_size=samples
        )
    rows = getattr(artifact.model.get_input_embeddings(), "num_embeddings", None)
    if rows is not None:
        check_ids(whole["input_ids"], rows)
    return Calibration(calibration_batches(split, tokenizer, task, samples, seed, device), whole)


def check_ids(ids: Tensor, rows: int) -> None:
    """Refuse token ids beyond an embedding of so many rows, as another model's tokenizer gives."""
    if int(ids.max()) >= rows:
        raise InputError(
            f"the tokenizer gives id {int(ids.max())}, but the model has {rows} embeddings",
            place="model",
            remedy="Tokenizer and model do not belong together; use the folder that the model came in.",
        )


def example_losses(task: Task) -> Loss:
    """Return the task's loss of every example by itself, (examples,)."""
    return lambda logits, labels: torch.stack(
        [task.loss(row[None], label[None]) for row, label in zip(logits, labels, strict=True)]
    )


def calibration_batches(
    data: datasets.Dataset,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    samples: int,
    seed: int,
    device: torch.device | str = "cpu",
    batch_size: int = 32,
) -> list[tuple[dict[str, Tensor], Tensor]]:
    """Draw `samples` rows without replacement and return (padded batch, labels) on `device`.

    Where several inputs make an example, each comes with the example's label.

    Args:
        data: a split of the task's data; the whole of it where it is smaller.
        tokenizer: the model's own.
        task: says whether texts come in pairs and how long they may be.
        samples: examples to draw.
        seed: decides which.
        device: where the tensors go.
        batch_size: examples a batch.
    """
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))
    encoded = task.encode(data.select(order[:samples].tolist()), tokenizer)
    result = []
    for indices, batch in batches(encoded.inputs, tokenizer, batch_size):
        labels = stack_labels(
            [encoded.labels[i // encoded.parts] for i in indices], task.labels_per_token, batch
        )
        result.append(({name: value.to(device) for name, value in batch.items()}, labels.to(device)))
    return result
