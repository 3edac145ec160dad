"""What a model's transformer layers are made of, in the terms that pruning and factorization work with.

`blocks(model)` reads a model as it is now, whatever was pruned before, so nothing has to be remembered. Every
name is that of `model.named_modules()`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Rows:
    """Some consecutive outputs of a linear module: all of them, or one part of a fused one.

    Attributes:
        module: full name of the module.
        start, stop: first output and the one after the last.
    """

    module: str
    start: int
    stop: int


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
    """Return the transformer layers of `model`, in the order in which they run.

    Raises:
        InputError: the family has no row in the table and no attention or feed-forward part can be found.
    """
    from compress.architectures.families import head_size_of, layers_prefix, matrices_of

    found, prefix, size = [], layers_prefix(model), head_size_of(model)
    for index, names in enumerate(matrices_of(model)):
        widths = {key: model.get_submodule(name).out_features for key, name in names.items()}
        rows = {key: Rows(name, 0, int(widths[key])) for key, name in names.items()}  # type: ignore[arg-type]
        attention = Attention(
            names["query"].rpartition(".")[0],
            rows["query"],
            rows["key"],
            rows["value"],
            names["attention_output"],
            size,
            rows["value"].stop // size,
            size,
        )
        feed = FeedForward((rows["ffn_in"],), names["ffn_out"], rows["ffn_in"].stop)
        found.append(Block(f"{prefix}.{index}", (attention,), (feed,)))
    return found
