"""The divergence of two models' self-attention relations."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from compress.distillation.objectives.loss import InsideLoss


class RelationDivergence(InsideLoss):
    """Relations of vectors with their own kind, compared as distributions (Wang et al. 2021, equations 3 to 6).

    Queries (and so keys, values) of all heads are joined and split anew into A relation heads of width d, so the
    two models may differ in heads and width. With R = softmax(V Vᵀ / √d) over the tokens that are no padding

        loss = 1/A · Σ_a mean over tokens t of KL(R_teacher,a,t ‖ R_student,a,t)

    The loss is the mean over the pairs.

    Args:
        heads: A.
    """

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.heads = heads

    def forward(self, teacher: list[Tensor], student: list[Tensor], mask: Tensor) -> Tensor:
        """Return the scalar loss of vectors (B, T, D) and (B, T, E) where `mask` (B, T) is true."""
        rows = mask[:, None, :].expand(-1, self.heads, -1)  # (B, A, T)
        losses = []
        for wanted, given in zip(teacher, student, strict=True):
            target = self._relations(wanted.detach(), mask)
            answer = self._relations(given, mask)
            divergence = (target.exp() * (target - answer)).masked_fill(~mask[:, None, None, :], 0).sum(-1)
            losses.append((divergence * rows).sum() / rows.sum().clamp(min=1))
        return torch.stack(losses).mean()

    def _relations(self, vectors: Tensor, mask: Tensor) -> Tensor:
        """Return log R (B, A, T, T) in float32."""
        batch, length, width = vectors.shape
        split = vectors.float().view(batch, length, self.heads, width // self.heads).transpose(1, 2)
        scores = split @ split.transpose(-1, -2) / math.sqrt(width // self.heads)
        # A finite floor, so that rows without any token stay finite too.
        return scores.masked_fill(~mask[:, None, None, :], -1e4).log_softmax(-1)
