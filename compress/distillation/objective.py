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
from compress.distillation.readers import TEACHER_INPUTS
from compress.distillation.schedule import Schedule, value_at
from compress.distillation.signals import Signal, attention_maps, record
from compress.distillation.soft import compared_tokens, soft_loss
from compress.training.objective import EXAMPLES, Objective, share_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from compress.tasks import Task

ANSWER = "answer"  # the teachers', by the student's labels and tokens; a column of the examples
ANSWERED, ALIGNED = "answered", "aligned"  # what the means of soft targets and of tokens' signals are over


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
        with attention_maps(model, wanted) as options, record(model, wanted, True) as self.inside:
            yield options

    def counts(self, labels: Tensor, targets: Mapping[str, Any]) -> dict[str, int]:
        """Return how many labels, examples, answers of teachers, and tokens whose signals are compared, a part has."""
        found = super().counts(labels, targets)
        by_token = self.task.per_token and self.task.rules.compared != "places"
        found[ANSWERED] = int(_answered(labels, targets).sum()) if by_token else len(labels)
        if SAME in targets:
            found[ALIGNED] = int((targets[SAME] != NOWHERE).sum())
        return found

    def forward(self, answer: Tensor, labels: Tensor, targets: Mapping[str, Any], progress: float) -> Tensor:
        """Return the scalar loss; `targets` holds the teachers' answer and the first one's signals, see `Teachers`."""
        weight = value_at(self.kd_weight, progress)
        temperature = value_at(self.temperature, progress)
        soft = soft_loss(self.task, self.kind, answer, targets[ANSWER], labels, temperature)
        soft = share_of(targets, ANSWERED) * soft
        loss: Tensor = weight * soft + (1 - weight) * self.hard(answer, labels, targets, progress)
        for part in self.parts:
            matched = part.loss(*compared(part, targets, self.inside))
            share = share_of(targets, ALIGNED if part.pairs[0].teacher.rows else EXAMPLES)
            loss = loss + share * value_at(part.options.weight, progress) * matched
        return loss


def _answered(labels: Tensor, targets: Mapping[str, Any]) -> Tensor:
    """Return (B, T) bool: the tokens that soft targets are compared at, known before live teachers have answered."""
    if ANSWER in targets:
        return compared_tokens(~targets[ANSWER][..., 0].isnan(), labels)
    places = [positions[..., 0] != NOWHERE for _, positions in targets[TEACHER_INPUTS]]
    return compared_tokens(torch.stack(places).all(0), labels)


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
