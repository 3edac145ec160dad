"""Several teachers speak as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from compress.errors import InputError
from compress.tasks.labels import match_labels

if TYPE_CHECKING:
    from compress.tasks import Task

Order = list[int] | slice  # where a teacher keeps each of the student's labels; all of them as they come


class Rows(Protocol):
    """Logits of examples: (L,), or (T, L) where every token has its own."""

    def __getitem__(self, index: int, /) -> Tensor:
        """Return one example's."""


@dataclass(frozen=True)
class Ensemble:
    """The weighted mean of several teachers' logits.

    A softmax turns it into the geometric mean of their distributions (Hinton, Vinyals, Dean 2015, section 1).

    Args:
        members: one for each teacher.
        orders: for each teacher, where it keeps each of the student's labels.
        weights: of the teachers; they add up to 1.
    """

    members: Sequence[Rows]
    orders: Sequence[Order]
    weights: Sequence[float]

    def __getitem__(self, index: int) -> Tensor:
        parts = zip(self.members, self.orders, self.weights, strict=True)
        return sum((w * rows[index].float()[..., order] for rows, order, w in parts), torch.zeros(()))

    def stack(self, examples: Sequence[Tensor]) -> Tensor:
        """Stack examples, padded with zeros where they are of tokens."""
        if examples[0].dim() == 1:
            return torch.stack(list(examples))
        return torch.nn.utils.rnn.pad_sequence(list(examples), batch_first=True)


def order_of(teacher: Task, student: Task, who: str) -> Order:
    """Return where a teacher keeps each of the student's labels.

    Args:
        teacher: what it answers.
        student: what is to be answered.
        who: the teacher, for messages.

    Raises:
        InputError: they have different tasks or labels.
    """
    if teacher.kind != student.kind:
        raise InputError(
            f"the teacher's task is {teacher.kind}, the student's {student.kind}",
            place=who,
            remedy="Give a teacher that was trained for the student's task.",
        )
    return match_labels(teacher.labels, student.labels, who) if student.labels else slice(None)


def weights_of(scores: Sequence[float]) -> list[float]:
    """Return weights, which add up to 1, of teachers by their dev scores in [0, 1]: the odds of being right."""
    odds = [max(score, 1e-3) / max(1 - score, 1e-3) for score in scores]
    return [each / sum(odds) for each in odds]
