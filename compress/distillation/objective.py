"""The whole loss of a distillation: the teacher's logits, the labels, and what is matched inside."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from compress.distillation.alignment import take
from compress.distillation.counterparts import NOWHERE, SAME
from compress.distillation.objectives.base import Inside, Pair
from compress.distillation.objectives.loss import InsideLoss
from compress.distillation.schedule import Schedule, value_at
from compress.distillation.signals import Signal, attention_maps, record
from compress.distillation.soft import soft_loss
from compress.training.objective import Objective

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from compress.tasks import Task

ANSWER = "answer"  # the teachers', by the student's labels and tokens; a column of the examples


@dataclass(frozen=True)
class Part:
    """One objective inside the models, ready to be computed."""

    options: Inside
    pairs: Sequence[Pair]
    loss: InsideLoss


class DistillationObjective(Objective):
    """Soft targets beside the labels and what is matched inside.

        loss = w · soft(teacher, student) + (1 − w) · hard(labels, student) + Σ_k w_k · inside_k

    Soft is `soft_loss`. An example without a label takes part in all but the hard term, whose mean is over the others.

    Args:
        task: what is answered.
        hard: the labels' loss.
        logits: `kl` or `mse`.
        kd_weight: w.
        temperature: T of `kl`.
        parts: the objectives inside.
    """

    def __init__(
        self,
        task: Task,
        hard: Objective,
        logits: Literal["kl", "mse"] = "kl",
        kd_weight: Schedule = 0.5,
        temperature: Schedule = 2.0,
        parts: Sequence[Part] = (),
    ) -> None:
        super().__init__()
        self.task, self.hard, self.kind = task, hard, logits
        self.kd_weight, self.temperature, self.parts = kd_weight, temperature, tuple(parts)
        self.losses = nn.ModuleList(part.loss for part in parts)
        self.inside: Mapping[Signal, Tensor] = {}

    @contextmanager
    def watching(self, model: PreTrainedModel) -> Iterator[dict[str, Any]]:
        """Record the student's side of every pair while training lasts."""
        wanted = {pair.student for part in self.parts for pair in part.pairs}
        with attention_maps(model, wanted) as options, record(model, wanted) as self.inside:
            yield options

    def forward(self, answer: Tensor, labels: Tensor, targets: Mapping[str, Any], progress: float) -> Tensor:
        """Return the scalar loss; `targets` holds the teachers' answer and the first one's signals, see `Teachers`."""
        weight = value_at(self.kd_weight, progress)
        temperature = value_at(self.temperature, progress)
        soft = soft_loss(self.task, self.kind, answer, targets[ANSWER], labels, temperature)
        loss: Tensor = weight * soft + (1 - weight) * self.hard(answer, labels, targets, progress)
        for part in self.parts:
            matched = part.loss(*compared(part, targets, self.inside))
            loss = loss + value_at(part.options.weight, progress) * matched
        return loss


def compared(
    part: Part, targets: Mapping[str, Any], inside: Mapping[Signal, Tensor]
) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """Return what a part's loss is called with: the teacher's tensors, the student's, and which tokens count.

    Args:
        part: says which signals.
        targets: the teacher's signals by name, (B, T, H) and so on, in its own tokens, and `SAME`.
        inside: the student's signals, in its tokens.
    """
    positions: Tensor | None = targets.get(SAME)
    teacher = []
    for pair in part.pairs:
        value = targets[str(pair.teacher)]
        if pair.teacher.rows:
            assert positions is not None
            value = take(value, positions, pair.teacher.rows)
        teacher.append(value)
    student = [inside[pair.student] for pair in part.pairs]
    return teacher, student, torch.empty(0, dtype=torch.bool) if positions is None else positions != NOWHERE
