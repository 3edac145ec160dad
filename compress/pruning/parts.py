"""The parts of a model that pruning takes units from, and what a unit weighs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from compress.architectures import Attention, FeedForward, Rows, blocks
from compress.layers import LowRankLinear
from compress.layers.dense import as_linear

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

Part = Attention | FeedForward

# Fewer neurons than this share of what a part has are never left: a feed-forward part that is all but gone
# cannot be trained back.
FFN_FLOOR = 1 / 16
# FFN widths are brought to multiples of this, which vector units and int8 kernels like.
MULTIPLE = 8
_GRID = 48  # widths that are considered, at most, for one feed-forward part


def attentions_of(model: PreTrainedModel) -> list[Attention]:
    """Return the attentions that heads can be taken from, in order."""
    return [part for block in blocks(model) for part in block.attentions if not part.obstacle]


def feed_forwards_of(model: PreTrainedModel) -> list[FeedForward]:
    """Return the feed-forward parts that neurons can be taken from, in order."""
    return [part for block in blocks(model) for part in block.feed_forwards if not part.obstacle]


def parts_of(model: PreTrainedModel) -> list[Part]:
    """Return all parts that units can be taken from."""
    return [*attentions_of(model), *feed_forwards_of(model)]


def unit_width(part: Part) -> int:
    """Return how many inputs of `part.output` belong to one unit."""
    return part.unit_width if isinstance(part, Attention) else 1


def inputs_of(part: Part) -> tuple[Rows, ...]:
    """Return where the part's units come from."""
    if isinstance(part, Attention):
        return (part.query, part.key, part.value, *part.beside)
    return part.inputs


def unit_parameters(model: PreTrainedModel, part: Part) -> float:
    """Return how many weights of linear layers go with one unit, biases left out."""
    count = 0
    for rows in inputs_of(part):
        count += _inner_width(model.get_submodule(rows.module), outputs=True) * len(
            rows.of_units(range(part.units), part.units)
        )
    return count / part.units + _inner_width(model.get_submodule(part.output), outputs=False) * unit_width(
        part
    )


def levels(part: Part) -> list[int]:
    """Return the numbers of units that may be left of a part, ascending; the last is all of them."""
    if isinstance(part, Attention):
        return list(range(1, part.units + 1))
    floor = max(1, round(FFN_FLOOR * part.units))
    step = max(MULTIPLE, -(-part.units // (_GRID * MULTIPLE)) * MULTIPLE)
    grid = range(-(-floor // MULTIPLE) * MULTIPLE, part.units, step)
    return [*(grid if part.units > MULTIPLE else range(floor, part.units)), part.units]


def total_parameters(model: PreTrainedModel, parts: Iterable[Part]) -> float:
    """Return the weights of all units of `parts`."""
    return sum(unit_parameters(model, part) * part.units for part in parts)


def _inner_width(module: nn.Module, outputs: bool) -> int:
    """Return how many weights one output (or input) of a linear module has."""
    if isinstance(module, LowRankLinear):
        return module.rank
    linear = as_linear(module)
    return linear.in_features if outputs else linear.out_features
