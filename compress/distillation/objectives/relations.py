"""Self-attention relations of the student made like the teacher's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field, PositiveInt

from compress.distillation.layer_map import LayerMap, layer_pairs
from compress.distillation.objectives.base import Inside, Pair
from compress.distillation.signals import Kind, Signal
from compress.errors import InputError

if TYPE_CHECKING:
    from compress.distillation.objectives.loss import InsideLoss


class Relations(Inside):
    """Match how tokens relate to one another in queries, keys and values (Wang et al. 2021, MiniLMv2).

    Example:
        match: [{objective: relations, layers: last, heads: 24}]
    """

    objective: Literal["relations"] = "relations"
    layers: LayerMap = Field("last", description="uniform, last, or pairs [teacher's layer, student's layer]")
    heads: PositiveInt | None = Field(
        None, description="relation heads; left out: the most, up to 48, that divide both widths"
    )
    of: tuple[Literal["query", "key", "value"], ...] = Field(
        ("query", "key", "value"), min_length=1, description="whose relations"
    )

    def pairs(self, teacher_layers: int, student_layers: int) -> list[Pair]:
        """Return, for each pair of layers, a pair for each of `of`."""
        chosen = layer_pairs(self.layers, teacher_layers, student_layers)
        kinds: tuple[Kind, ...] = self.of
        return [Pair(Signal(k, teacher), Signal(k, student)) for teacher, student in chosen for k in kinds]

    def build(self, teacher: list[tuple[int, ...]], student: list[tuple[int, ...]]) -> InsideLoss:
        """Return the loss module, which has no weights."""
        from compress.distillation.objectives.relation_divergence import RelationDivergence

        widths = [shape[-1] for shape in (*teacher, *student)]
        heads = self.heads or max(n for n in range(1, 49) if all(width % n == 0 for width in widths))
        for width in widths:
            if width % heads:
                raise InputError(
                    f"{heads} relation heads do not divide a width of {width}",
                    place="match",
                    remedy="Leave heads out, or give a common divisor of the two models' widths.",
                )
        return RelationDivergence(heads)
