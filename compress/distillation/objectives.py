"""What a student is asked to match. Pure modules: tensors in, a scalar out."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from compress.tasks import Task
from compress.training.trainer import TaskObjective


class SoftTargetObjective(nn.Module):
    """Soft targets of a teacher beside the labels (Hinton, Vinyals, Dean 2015, section 2).

    For classification

        loss = w · T² · KL(p_teacher ‖ p_student) + (1 − w) · CE(student, labels)

    with `p = softmax(logits / T)`, `KL = Σ_classes p_teacher · (log p_teacher − log p_student)`, both terms
    the mean over the batch. T² keeps the soft gradients' size independent of T. For regression there are no
    classes and the first term is the squared error against the teacher's answer, without T.

    Args:
        task: classification or regression.
        kd_weight: w in [0, 1].
        temperature: T > 0.
    """

    def __init__(self, task: Task, kd_weight: float, temperature: float) -> None:
        super().__init__()
        self.hard = TaskObjective(task)
        self.kd_weight, self.temperature = kd_weight, temperature

    def forward(self, logits: Tensor, labels: Tensor, teacher_logits: Tensor | None) -> Tensor:
        """Return the scalar loss.

        Args:
            logits: the student's, (B, L) float32.
            labels: (B,) int64, or float32 for regression.
            teacher_logits: (B, L) float32 in the student's label order; no gradient reaches them.
        """
        assert teacher_logits is not None
        hard: Tensor = self.hard(logits, labels)
        soft = self.soft(logits, teacher_logits.detach())
        return self.kd_weight * soft + (1 - self.kd_weight) * hard

    def soft(self, logits: Tensor, teacher_logits: Tensor) -> Tensor:
        """Return the teacher's term, T² included, before its weight."""
        if self.hard.regression:
            return nn.functional.mse_loss(logits, teacher_logits)
        t = self.temperature
        student = torch.log_softmax(logits / t, -1)
        teacher = torch.log_softmax(teacher_logits / t, -1)
        return t * t * nn.functional.kl_div(student, teacher, reduction="batchmean", log_target=True)
