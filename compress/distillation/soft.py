"""What it means for a student to answer like its teacher, by kind of task."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from compress.distillation.objectives.soft_targets import (
    binary_divergence,
    logit_error,
    similarity_error,
    soft_target_divergence,
)
from compress.tasks import Task
from compress.tasks.kind import IGNORED


def soft_loss(
    task: Task,
    kind: Literal["kl", "mse"],
    answer: Tensor,
    teacher: Tensor,
    labels: Tensor,
    aligned: Tensor | None,
    temperature: float,
) -> Tensor:
    """Return the scalar distance of the student's answer from the teacher's.

    Args:
        task: says as what answers are compared, see `Kind.compared`.
        kind: `mse` compares logits of classes or labels by squared error.
        answer: the student's, (B, L), or (B, T, L) for tokens.
        teacher: alike, by the student's tokens.
        labels: for tokens (B, T) class ids: where a row has any, its labelled tokens count, else all that are aligned.
        aligned: (B, T, 1), or (B, T, L) where every answer has places of its own, bool: which of the student's tokens
            the teacher answers too; None for whole sentences.
        temperature: of distributions.
    """
    compared = task.rules.compared
    if compared == "cosines":
        return similarity_error(answer, teacher, paired=len(answer) == 2 * len(labels))
    if aligned is not None and compared == "places":
        # One distribution over tokens for the start and one for the end: (2 B, T).
        answer, teacher = (
            each.masked_fill(~aligned, -1e4).transpose(1, 2).flatten(0, 1) for each in (answer, teacher)
        )
        return soft_target_divergence(answer, teacher, temperature)
    if aligned is not None:
        aligned, labelled = aligned[..., 0], labels != IGNORED
        counts = torch.where(labelled.any(-1, keepdim=True), labelled & aligned, aligned)
        answer, teacher = answer[counts], teacher[counts]
        if not len(answer):
            return answer.sum()
    if kind == "mse" or compared == "numbers":
        return logit_error(answer, teacher, centred=compared == "classes")
    if compared == "labels":
        return binary_divergence(answer, teacher, temperature)
    return soft_target_divergence(answer, teacher, temperature)
