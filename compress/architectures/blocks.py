"""What a model's transformer layers are made of, in the terms that pruning and factorization work with.

`blocks(model)` reads a model as it is now, whatever was pruned before, so nothing has to be remembered. Every
name is that of `model.named_modules()`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Rows:
    """Some outputs of a linear module: all of them, or one part of a fused one.

    Attributes:
        module: full name of the module.
        start, stop: first output and the one after the last.
        period: 0 for consecutive outputs, which the units share evenly in their order. Otherwise the module is
            fused unit by unit, `period` outputs each, and start and stop count within a unit.
    """

    module: str
    start: int
    stop: int
    period: int = 0

    def of_units(self, kept: Sequence[int], units: int) -> Tensor:
        """Return which of the module's outputs belong to the units `kept` out of `units`, int64, in order."""
        import torch

        width = self.stop - self.start if self.period else (self.stop - self.start) // units
        starts = self.start + torch.tensor(list(kept)) * (self.period or width)
        return (starts[:, None] + torch.arange(width)).flatten()


@dataclass(frozen=True)
class Attention:
    """One attention and its unit of pruning: a key-value head with the query heads that read it.

    Inputs of `output` are ordered by unit: unit u owns columns `u * unit_width` up to `(u + 1) * unit_width`.

    Attributes:
        name: the module that splits into heads.
        query, key, value: where each projection's outputs come from.
        output: the module that mixes the heads.
        head_size: width of one head.
        units: key-value heads present; as many as query heads but for grouped-query attention.
        unit_width: inputs of `output` that go with a unit, a multiple of `head_size`.
        beside: further outputs that come by unit, such as DeBERTa's projections of relative positions.
        shared_bias: whether the module is handed a `position_bias` with an entry for every head of the
            unpruned model, which its other layers read too.
        obstacle: why no unit can be removed; empty where they can.
    """

    name: str
    query: Rows
    key: Rows
    value: Rows
    output: str
    head_size: int
    units: int
    unit_width: int
    beside: tuple[Rows, ...] = ()
    shared_bias: bool = False
    obstacle: str = ""


@dataclass(frozen=True)
class FeedForward:
    """One feed-forward part; a unit of pruning is a neuron.

    Attributes:
        inputs: where the neurons come from: one projection, or two where one gates the other.
        output: the module that reads the neurons.
        units: neurons present, the inputs of `output`.
        obstacle: why no neuron can be removed; empty where they can.
    """

    inputs: tuple[Rows, ...]
    output: str
    units: int
    obstacle: str = ""


@dataclass(frozen=True)
class Block:
    """One transformer layer, of an encoder or a decoder.

    Attributes:
        name: the layer's module. ALBERT's layers share one, which is listed once.
        attentions: self-attention, then cross-attention where there is one.
        feed_forwards: usually one.
    """

    name: str
    attentions: tuple[Attention, ...]
    feed_forwards: tuple[FeedForward, ...]


def blocks(model: PreTrainedModel) -> list[Block]:
    """Return the transformer layers of `model`, an encoder's before a decoder's, in the order they run.

    Raises:
        InputError: the family has no row in the table and no attention or feed-forward part can be found.
    """
    from compress.architectures.reading import read

    return read(model)
