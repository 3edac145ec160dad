"""What a student is to learn from its teachers, and how much of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from compress.distillation.objectives.base import Inside
from compress.distillation.schedule import Schedule, ends


@dataclass(frozen=True)
class Matching:
    """What a student is to match, and how much.

    Attributes:
        logits: by divergence or by squared error.
        kd_weight: the teacher's share of the loss on the answer; the labels have the rest.
        temperature: softens both distributions.
        inside: objectives inside the models; they read the first teacher.
    """

    logits: Literal["kl", "mse"] = "kl"
    kd_weight: Schedule = 0.5
    temperature: Schedule = 2.0
    inside: tuple[Inside, ...] = ()

    @property
    def labels_alone(self) -> bool:
        """Whether nothing is learned from the teachers, so that none need answer."""
        return not self.inside and not any(ends(self.kd_weight))
