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


def compared_tokens(answered: Tensor, labels: Tensor) -> Tensor:
    """Return (B, T) bool: where a row has labels its labelled tokens that are answered, else all that are answered.

    Args:
        answered: (B, T) bool.
        labels: (B, T) class ids.
    """
    labelled = labels != IGNORED
    return torch.where(labelled.any(-1, keepdim=True), labelled & answered, answered)


def soft_loss(
    task: Task,
    kind: Literal["kl", "mse"],
    answer: Tensor,
    teacher: Tensor,
    labels: Tensor,
    temperature: float,
) -> Tensor:
    """Return the scalar distance of the student's answer from the teacher's.

    Args:
        task: says as what answers are compared, see `Kind.compared`.
        kind: `mse` compares logits of classes or labels by squared error.
        answer: the student's, (B, L), or (B, T, L) for tokens.
        teacher: alike; for tokens NaN where the teacher answers none of the student's.
        labels: for tokens (B, T) class ids, which say what counts; see `compared_tokens`.
        temperature: of distributions.
    """
    compared = task.rules.compared
    if compared == "cosines":
        return similarity_error(answer, teacher, paired=len(answer) == 2 * len(labels))
    if answer.dim() == 3 and compared == "places":
        silent = teacher.isnan()
        # One distribution over tokens for the start and one for the end: (2 B, T).
        answer, teacher = (
            each.masked_fill(silent, -1e4).transpose(1, 2).flatten(0, 1) for each in (answer, teacher)
        )
        return soft_target_divergence(answer, teacher, temperature)
    if answer.dim() == 3:
        counts = compared_tokens(~teacher[..., 0].isnan(), labels)
        answer, teacher = answer[counts], teacher[counts]
        if not len(answer):
            return answer.sum()
    if kind == "mse" or compared == "numbers":
        return logit_error(answer, teacher, centred=compared == "classes")
    if compared == "labels":
        return binary_divergence(answer, teacher, temperature)
    return soft_target_divergence(answer, teacher, temperature)
