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
    from transformers import PretrainedConfig

    from compress.tasks import Task

Order = list[int] | slice  # where a teacher keeps each of the student's labels; all of them as they come


class Rows(Protocol):
    """Logits of examples: (L,), or (T, L) where every token has its own."""

    def __getitem__(self, index: int, /) -> Tensor:
        """Return one example's."""


@dataclass(frozen=True)
class Mean:
    """The weighted mean of what several teachers say.

    That of logits; a softmax turns it into the geometric mean of their distributions (Hinton, Vinyals, Dean 2015,
    section 1). Vectors, which have no directions in common, stand side by side, each times the root of its weight: the
    cosine of two such is the weighted mean of the teachers' cosines.

    Args:
        orders: for each teacher, where it keeps each of the student's labels.
        weights: of the teachers; they add up to 1.
        vectors: whether they say vectors of length 1.
    """

    orders: Sequence[Order]
    weights: Sequence[float]
    vectors: bool = False

    def __call__(self, answers: Sequence[Tensor]) -> Tensor:
        """Return (…, L) of each teacher's (…, L); NaN where any of them says nothing."""
        if self.vectors:
            return torch.cat([w**0.5 * each for w, each in zip(self.weights, answers, strict=True)], -1)
        parts = zip(self.weights, answers, self.orders, strict=True)
        first, *others = (w * each.float()[..., order] for w, each, order in parts)
        return sum(others, first)


@dataclass(frozen=True)
class Ensemble:
    """Several teachers' answers as one column of the examples.

    Args:
        members: one for each teacher.
        mean: what they say together.
        side: on which the student's tokens are padded.
    """

    members: Sequence[Rows]
    mean: Mean
    side: str = "right"

    def __getitem__(self, index: int) -> Tensor:
        return self.mean([rows[index] for rows in self.members])

    def stack(self, examples: Sequence[Tensor]) -> Tensor:
        """Stack examples, padded with NaN where they are of tokens."""
        if examples[0].dim() == 1:
            return torch.stack(list(examples))
        return torch.nn.utils.rnn.pad_sequence(list(examples), True, torch.nan, self.side)


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


def require_same_words(teacher: PretrainedConfig, student: PretrainedConfig, who: str) -> None:
    """Refuse a teacher of masked words with more or fewer of them than the student has.

    Their tokenizers may be the same, and the one's table longer than it need be.

    Raises:
        InputError: the vocabularies differ in size.
    """
    if teacher.vocab_size != student.vocab_size:
        raise InputError(
            f"the teacher answers {teacher.vocab_size:,} numbers for a word, the student {student.vocab_size:,}",
            place=who,
            remedy="Take a student with the teacher's tokenizer and vocab_size, such as teacher:3.",
        )


def weights_of(scores: Sequence[float]) -> list[float]:
    """Return weights, which add up to 1, of teachers by their dev scores in [0, 1]: the odds of being right."""
    odds = [max(score, 1e-3) / max(1 - score, 1e-3) for score in scores]
    return [each / sum(odds) for each in odds]
