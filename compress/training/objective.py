"""What training minimises: a scalar of the model's answer, the labels and what else is known of the batch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from compress.data.balance import class_weights
from compress.tasks import Task
from compress.tasks.kind import IGNORED, class_loss
from compress.tasks.ragged import Ragged

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from compress.training.config import TrainingPass
    from compress.training.examples import Rows


# Among the targets where several parts make a step: of each of these how much this part has, as a share of what a part
# has on average. The mean of the parts' losses, each times its share, is the loss of the whole.
SHARES = "shares"
LABELS, EXAMPLES, TOKENS = "labels", "examples", "tokens"


def share_of(targets: Mapping[str, Any], name: str) -> float:
    """Return what this part's mean over `name` counts beside those of a step's other parts; 1 where it is alone."""
    share: float = targets.get(SHARES, {}).get(name, 1.0)
    return share


def labelled(labels: Tensor) -> int:
    """Return how many of a batch's labels are known."""
    known = ~labels.isnan() if labels.is_floating_point() else labels != IGNORED
    return int(known.sum())


class Objective(nn.Module, ABC):
    """A loss. Its own parameters, where it has any, are trained and saved along with the model's."""

    @contextmanager
    def watching(self, model: PreTrainedModel) -> Iterator[dict[str, Any]]:
        """Read inside `model` while training lasts; yield what to call it with besides its inputs."""
        yield {}

    def counts(self, labels: Tensor, targets: Mapping[str, Any]) -> dict[str, int]:
        """Return how many things of a part of a step its means are over, by the names that `SHARES` has."""
        return {LABELS: labelled(labels), EXAMPLES: len(labels)}

    @abstractmethod
    def forward(self, answer: Tensor, labels: Tensor, targets: Mapping[str, Any], progress: float) -> Tensor:
        """Return the scalar loss.

        Args:
            answer: the model's, as `Task.answer` has it: (B, L), or (B, T, L) for tokens, float32.
            labels: as `Task.loss` reads them, -100 or NaN where there is none.
            targets: the examples' other columns, as batches.
            progress: share of the training that is done, 0 to 1.
        """


def label_objective(task: Task, options: TrainingPass, labels: Rows) -> TaskObjective:
    """Return the labels' loss as a pass's options want it.

    Args:
        task: what is answered.
        options: `label_smoothing` and `class_balance`.
        labels: of the training split, class ids where the classes are to be balanced.
    """
    weights = None
    if options.class_balance is not None:
        ids = labels.values if isinstance(labels, Ragged) else np.asarray(labels)
        weights = torch.from_numpy(class_weights(ids[ids >= 0], len(task.labels), options.class_balance))
    return TaskObjective(task, options.label_smoothing, weights)


class TaskObjective(Objective):
    """The labels alone, by the task's own loss.

    Args:
        task: what is answered.
        label_smoothing: ε in [0, 1), for tasks whose labels are classes; see `class_loss`.
        class_weights: (L,) float32, for the same; None weighs all alike.
    """

    class_weights: Tensor | None

    def __init__(self, task: Task, label_smoothing: float = 0.0, class_weights: Tensor | None = None) -> None:
        super().__init__()
        self.task, self.label_smoothing = task, label_smoothing
        self.register_buffer("class_weights", class_weights, persistent=False)

    def forward(
        self, answer: Tensor, labels: Tensor, targets: Mapping[str, Any] | None = None, progress: float = 0
    ) -> Tensor:
        """Return the scalar loss; 0 where nothing has a label.

        It is a mean over labels, so that parts of a step count by how many labels they have.
        """
        share = share_of(targets or {}, LABELS)
        if self.label_smoothing or self.class_weights is not None:
            return share * class_loss(answer, labels, self.label_smoothing, self.class_weights)
        return share * self.task.loss(answer, labels)
