"""Sentence embeddings of the student turned towards the teacher's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from compress.distillation.objectives.base import Inside, Pair
from compress.distillation.signals import Signal

if TYPE_CHECKING:
    from compress.distillation.objectives.loss import InsideLoss


class SentenceCosine(Inside):
    """Match the direction of the mean of the last layer's tokens; the tokens themselves may differ.

    Example:
        match: [{objective: sentence, weight: 0.5}]
    """

    objective: Literal["sentence"] = "sentence"

    def pairs(self, teacher_layers: int, student_layers: int) -> list[Pair]:
        """Return the pair of the last layers."""
        return [Pair(Signal("sentence", teacher_layers - 1), Signal("sentence", student_layers - 1))]

    def build(self, teacher: list[tuple[int, ...]], student: list[tuple[int, ...]]) -> InsideLoss:
        """Return the loss module with its projection."""
        from compress.distillation.objectives.cosine import MeanCosine

        return MeanCosine(teacher[0][-1], student[0][-1])
