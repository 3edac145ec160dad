"""The angle between two models' sentence embeddings."""

from __future__ import annotations

import torch
from torch import Tensor

from compress.distillation.objectives.loss import InsideLoss
from compress.distillation.objectives.projected import fit, projections


class MeanCosine(InsideLoss):
    """One minus the cosine of sentence embeddings (Sanh et al. 2019, section 3, take it of hidden states).

        loss = mean over the batch of 1 − cos(W s + b, e)

    with e the teacher's mean over its last layer's tokens, s the student's. W and b are learned where the widths
    differ and the identity where they do not.

    Args:
        teacher: width of e.
        student: width of s.
    """

    def __init__(self, teacher: int, student: int) -> None:
        super().__init__()
        self.projections = projections([teacher], [student])

    def forward(self, teacher: list[Tensor], student: list[Tensor], mask: Tensor) -> Tensor:
        """Return the scalar loss of embeddings (B, H) and (B, D); `mask` is not read."""
        given = self.projections[0](student[0].float())
        return 1 - torch.cosine_similarity(given, teacher[0].detach().float(), dim=-1).mean()

    def fit(self, teacher: list[Tensor], student: list[Tensor], mask: Tensor) -> None:
        """Begin with the projection that fits these sentences best."""
        fit(self.projections, teacher, student)
