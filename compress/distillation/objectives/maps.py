"""The distance of two models' attention maps."""

from __future__ import annotations

import torch
from torch import Tensor

from compress.distillation.objectives.loss import InsideLoss


class MapError(InsideLoss):
    """Squared error between attention distributions.

    For each pair, over heads a and over tokens i, j that are no padding

        loss = Σ_a Σ_i Σ_j (A_aij − B_aij)² / (heads · Σ_i 1)

    with A the teacher's probabilities and B the student's, so a query's error lies in [0, 2]. (Jiao et al. 2020,
    equation 7, take scores before the softmax; those are not defined alike in all families, distributions are.)
    The loss is the mean over the pairs.
    """

    def forward(self, teacher: list[Tensor], student: list[Tensor], mask: Tensor) -> Tensor:
        """Return the scalar loss of maps (B, heads, T, T) where `mask` (B, T) is true."""
        seen = (mask[:, None, :, None] & mask[:, None, None, :]).float()
        losses = []
        for wanted, given in zip(teacher, student, strict=True):
            error = ((given.float() - wanted.detach().float()).square() * seen).sum()
            losses.append(error / (wanted.shape[1] * mask.sum().clamp(min=1)))
        return torch.stack(losses).mean()
