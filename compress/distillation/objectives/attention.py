"""Attention maps of the student made like the teacher's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from compress.distillation.layer_map import LayerMap, layer_pairs
from compress.distillation.objectives.base import Inside, Pair
from compress.distillation.signals import Signal
from compress.errors import InputError

if TYPE_CHECKING:
    from compress.distillation.objectives.loss import InsideLoss


class AttentionMaps(Inside):
    """Match where each head looks; teacher and student need as many heads.

    Example:
        match: [{objective: attention, layers: last}]
    """

    objective: Literal["attention"] = "attention"
    layers: LayerMap = Field(
        "uniform", description="uniform, last, or pairs [teacher's layer, student's layer]"
    )

    def pairs(self, teacher_layers: int, student_layers: int) -> list[Pair]:
        """Return the pairs of the layer map."""
        chosen = layer_pairs(self.layers, teacher_layers, student_layers)
        return [
            Pair(Signal("attention", teacher), Signal("attention", student)) for teacher, student in chosen
        ]

    def build(self, teacher: list[tuple[int, ...]], student: list[tuple[int, ...]]) -> InsideLoss:
        """Return the loss module, which has no weights."""
        from compress.distillation.objectives.maps import MapError

        heads = [(one[1], other[1]) for one, other in zip(teacher, student, strict=True)]
        if any(one != other for one, other in heads):
            one, other = next((one, other) for one, other in heads if one != other)
            raise InputError(
                f"attention maps cannot be compared: the teacher has {one} heads, the student {other}",
                place="match",
                remedy="Match `relations` in their place, which take any number of heads.",
            )
        return MapError()
