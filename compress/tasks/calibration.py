"""A few training examples as batches, for passes that look at what a model does on real data."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from compress.tasks.inputs import batches, encode

if TYPE_CHECKING:
    import datasets
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

    from compress.tasks.sequence import Task


def calibration_batches(
    data: datasets.Dataset,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    samples: int,
    seed: int,
    device: torch.device | str = "cpu",
    batch_size: int = 32,
) -> list[tuple[dict[str, Tensor], Tensor]]:
    """Draw `samples` rows without replacement and return (padded batch, labels (examples,)) on `device`.

    Args:
        data: a split with "text" and "label" columns; the whole of it where it is smaller.
        tokenizer: the model's own.
        task: says whether texts come in pairs and how long they may be.
        samples: examples to draw.
        seed: decides which.
        device: where the tensors go.
        batch_size: examples a batch.
    """
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))
    drawn = data.select(order[:samples].tolist())
    labels = torch.tensor(list(drawn["label"]))
    return [
        ({name: value.to(device) for name, value in batch.items()}, labels[indices].to(device))
        for indices, batch in batches(encode(drawn, tokenizer, task), tokenizer, batch_size)
    ]
