"""A model's answers on a data set, and their score."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from compress.display import progress
from compress.tasks.inputs import batches, encode

if TYPE_CHECKING:
    import datasets
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from compress.artifact import Artifact


@torch.inference_mode()
def predict(
    model: PreTrainedModel,
    encoded: Sequence[dict[str, list[int]]],
    tokenizer: PreTrainedTokenizerBase,
    batch_size: int = 32,
    bf16: bool = False,
    title: str = "predict",
) -> NDArray[np.float32]:
    """Return the model's logits (examples, labels) in the order of `encoded`, in eval mode.

    Args:
        model: where it is, there it runs.
        encoded: tokenized examples of `encode`.
        tokenizer: pads them.
        batch_size: examples a forward pass.
        bf16: run matrix products in bfloat16 (autocast).
        title: what the progress bar says.
    """
    device = model.device
    training = model.training
    model.eval()
    out: NDArray[np.float32] | None = None
    with progress(title, len(encoded)) as advance:
        for indices, batch in batches(encoded, tokenizer, batch_size):
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                logits = model(**{name: value.to(device) for name, value in batch.items()}).logits
            rows = logits.float().cpu().numpy()
            if out is None:
                out = np.empty((len(encoded), rows.shape[-1]), np.float32)
            out[indices] = rows
            advance(len(indices))
    model.train(training)
    return np.empty((0, 1), np.float32) if out is None else out


def evaluate(artifact: Artifact, data: datasets.Dataset, title: str = "evaluate") -> dict[str, float]:
    """Score an artifact on a split with "text" and "label" columns; see `Task.metrics`."""
    encoded = encode(data, artifact.tokenizer, artifact.task)
    logits = predict(artifact.model, encoded, artifact.tokenizer, title=title)
    return artifact.task.metrics(logits, np.asarray(data["label"]))
