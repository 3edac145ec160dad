"""A model's answers on a data set, and their score."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from compress.display import progress
from compress.tasks.inputs import batches
from compress.tasks.kind import Answers, Encoded, Scores
from compress.tasks.ragged import Labels, Ragged, offsets_of
from compress.tasks.task import Task

if TYPE_CHECKING:
    import datasets
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from compress.artifact import Artifact


@torch.inference_mode()
def predict(
    model: PreTrainedModel,
    encoded: Sequence[dict[str, list[int]]],
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    batch_size: int = 32,
    bf16: bool = False,
    title: str = "predict",
    labels: Labels | None = None,
) -> Answers:
    """Return the model's answers in the order of `encoded`, in eval mode, as float32.

    Args:
        model: where it is, there it runs.
        encoded: tokenized inputs of `encode`.
        tokenizer: pads them.
        task: says what of the model's output is the answer.
        batch_size: inputs a forward pass.
        bf16: run matrix products in bfloat16 (autocast).
        title: what the progress bar says.
        labels: where they are given, only what metrics read of an answer is kept; see `Kind.condense`.

    Returns:
        (inputs, L) for whole inputs; for tokens a `Ragged` of (tokens, L) rows, without padding.
    """
    device = model.device
    training = model.training
    model.eval()
    per_token, rules = task.per_token, task.rules
    # Tokens of all inputs, one after the other; a whole input counts as one.
    offsets = offsets_of([len(row["input_ids"]) if per_token else 1 for row in encoded])
    out: NDArray[np.float32] | None = None
    with progress(title, len(encoded)) as advance:
        for indices, batch in batches(encoded, tokenizer, batch_size):
            inputs = {name: value.to(device) for name, value in batch.items()}
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                answer = task.answer(model(**inputs), inputs)
            rows = answer.float().cpu()
            rows = rows[batch["attention_mask"].bool()] if per_token else rows
            if labels is not None:
                rows = rules.condense(rows, torch.from_numpy(np.concatenate([labels[i] for i in indices])))
            if out is None:
                out = np.empty((offsets[-1], rows.shape[-1]), np.float32)
            places = np.concatenate([np.arange(offsets[i], offsets[i + 1]) for i in indices])
            out[places] = rows.numpy()
            advance(len(indices))
    model.train(training)
    if out is None:
        out = np.empty((0, 1), np.float32)
    return Ragged(out, offsets) if per_token else out


def score(
    model: PreTrainedModel,
    encoded: Encoded,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    batch_size: int = 32,
    bf16: bool = False,
    title: str = "evaluate",
) -> Scores:
    """Score a model on an encoded split; arguments as for `predict`."""
    labels = encoded.labels if task.rules.condenses else None
    answers = predict(model, encoded.inputs, tokenizer, task, batch_size, bf16, title, labels)
    return task.metrics(answers, encoded.targets)


def evaluate(artifact: Artifact, data: datasets.Dataset, title: str = "evaluate") -> Scores:
    """Score an artifact on a labelled split of its task; see `Task.metrics`."""
    encoded = artifact.task.encode(data, artifact.tokenizer)
    return score(artifact.model, encoded, artifact.tokenizer, artifact.task, title=title)
