"""What training minimises: a scalar of the model's answer, the labels and what else is known of the batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from compress.tasks import Task
from compress.training.examples import IGNORED

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Objective(nn.Module):
    """A loss. Its own parameters, where it has any, are trained and saved along with the model's."""

    @contextmanager
    def watching(self, model: PreTrainedModel) -> Iterator[dict[str, Any]]:
        """Read inside `model` while training lasts; yield what to call it with besides its inputs."""
        yield {}

    def forward(self, logits: Tensor, labels: Tensor, targets: Mapping[str, Any], progress: float) -> Tensor:
        """Return the scalar loss.

        Args:
            logits: the model's answer, (B, L) float32.
            labels: (B,) class ids or numbers, `IGNORED` or NaN where an example has none.
            targets: the examples' other columns, as batches.
            progress: share of the training that is done, 0 to 1.
        """
        raise NotImplementedError


class TaskObjective(Objective):
    """The labels alone: cross-entropy, or squared error for regression; the mean over the examples that have one.

    Args:
        task: classification or regression.
        label_smoothing: ε in [0, 1); the label's class gets 1 − ε + ε / L of the target, each other ε / L
            (Szegedy et al. 2016, section 7).
        class_weights: (L,) float32 weights of the classes; None weighs all alike.
    """

    class_weights: Tensor | None

    def __init__(
        self, task: Task, label_smoothing: float = 0.0, class_weights: NDArray[np.float32] | None = None
    ) -> None:
        super().__init__()
        self.regression, self.label_smoothing = task.kind == "regression", label_smoothing
        weights = None if class_weights is None else torch.from_numpy(class_weights)
        self.register_buffer("class_weights", weights, persistent=False)

    def forward(
        self, logits: Tensor, labels: Tensor, targets: Mapping[str, Any] | None = None, progress: float = 0
    ) -> Tensor:
        """Return the scalar loss; 0 where no example has a label."""
        if self.regression:
            known = ~labels.isnan()
            error = (logits.squeeze(-1) - labels.nan_to_num()).square()
            return (error * known).sum() / known.sum().clamp(min=1)
        if not bool((labels != IGNORED).any()):
            return logits.sum() * 0
        return nn.functional.cross_entropy(
            logits,
            labels,
            self.class_weights,
            ignore_index=IGNORED,
            label_smoothing=self.label_smoothing,
        )
