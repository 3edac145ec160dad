"""Hidden states and embeddings of the student made like the teacher's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from compress.distillation.layer_map import LayerMap, layer_pairs
from compress.distillation.objectives.base import Inside, Pair
from compress.distillation.signals import Signal

if TYPE_CHECKING:
    from compress.distillation.objectives.loss import InsideLoss


class HiddenStates(Inside):
    """Match the outputs of layers.

    Example:
        match: [{objective: hidden, layers: uniform, weight: 1}]
    """

    objective: Literal["hidden"] = "hidden"
    layers: LayerMap = Field(
        "uniform", description="uniform, last, or pairs [teacher's layer, student's layer]"
    )

    def pairs(self, teacher_layers: int, student_layers: int) -> list[Pair]:
        """Return the pairs of the layer map."""
        chosen = layer_pairs(self.layers, teacher_layers, student_layers)
        return [Pair(Signal("hidden", teacher), Signal("hidden", student)) for teacher, student in chosen]

    def build(self, teacher: list[tuple[int, ...]], student: list[tuple[int, ...]]) -> InsideLoss:
        """Return the loss module with its projections."""
        from compress.distillation.objectives.projected import ProjectedStates

        return ProjectedStates([shape[-1] for shape in teacher], [shape[-1] for shape in student])


class Embedding(Inside):
    """Match what the first layer reads.

    Example:
        match: [{objective: embedding}]
    """

    objective: Literal["embedding"] = "embedding"

    def pairs(self, teacher_layers: int, student_layers: int) -> list[Pair]:
        """Return the one pair there is."""
        return [Pair(Signal("embedding"), Signal("embedding"))]

    def build(self, teacher: list[tuple[int, ...]], student: list[tuple[int, ...]]) -> InsideLoss:
        """Return the loss module with its projection."""
        from compress.distillation.objectives.projected import ProjectedStates

        return ProjectedStates([shape[-1] for shape in teacher], [shape[-1] for shape in student])
