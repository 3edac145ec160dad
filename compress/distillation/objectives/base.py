"""What the objectives inside a model have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from compress.distillation.schedule import Schedule
from compress.distillation.signals import Signal

if TYPE_CHECKING:
    from compress.distillation.objectives.loss import InsideLoss


@dataclass(frozen=True)
class Pair:
    """A signal of the teacher and the one of the student that is to become like it."""

    teacher: Signal
    student: Signal


class Inside(BaseModel, ABC):
    """Options of an objective on what happens inside teacher and student; the object is what a user writes.

    Signals of tokens are compared where teacher and student have the same ones; see `compress.distillation.alignment`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    weight: Schedule = Field(1.0, description="its weight in the loss; [1, 0] goes from 1 to 0")

    @abstractmethod
    def pairs(self, teacher_layers: int, student_layers: int) -> list[Pair]:
        """Return what is compared with what.

        Raises:
            InputError: a layer is out of range.
        """

    @abstractmethod
    def build(self, teacher: list[tuple[int, ...]], student: list[tuple[int, ...]]) -> InsideLoss:
        """Return the module that computes the loss of signals in the order of `pairs`.

        Args:
            teacher: shape of a batch of each signal, (B, T, H), (B, H) or (B, heads, T, T).
            student: the same of the student's.

        Raises:
            InputError: the shapes cannot be compared.
        """
