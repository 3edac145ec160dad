"""What the losses inside the models have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn


class InsideLoss(nn.Module, ABC):
    """Compares a list of the teacher's signals with a list of the student's, pair by pair."""

    @abstractmethod
    def forward(self, teacher: list[Tensor], student: list[Tensor], mask: Tensor) -> Tensor:
        """Return a scalar; no gradient reaches the teacher.

        Args:
            teacher: (B, T, H), (B, H) or (B, heads, T, T), by the student's tokens.
            student: the same, of the student's width.
            mask: (B, T) bool, the tokens that count; empty where signals are of whole sentences.
        """

    def fit(self, teacher: list[Tensor], student: list[Tensor], mask: Tensor) -> None:
        """Begin with the parameters that fit these signals best; nothing to do for a loss without any."""
