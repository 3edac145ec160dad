"""Modules that replace a plain `nn.Linear` or `nn.Embedding` after compression, or stand beside them.

Every class here has `description()`, the JSON that `structure.py` stores in `config.json`, and `build(...)`,
which makes the empty module from it. A new kind of layer is one class in one file, listed in `LAYERS`.
"""

from compress.layers.bias_heads import BiasHeads
from compress.layers.int8 import Int8Embedding, Int8Linear
from compress.layers.int8_static import StaticInt8Linear
from compress.layers.low_rank import LowRankLinear
from compress.layers.low_rank_embedding import LowRankEmbedding
from compress.layers.shared_embedding import SharedEmbedding
from compress.layers.weight_only import WeightOnlyLinear

Layer = (
    LowRankLinear
    | LowRankEmbedding
    | SharedEmbedding
    | Int8Linear
    | StaticInt8Linear
    | Int8Embedding
    | WeightOnlyLinear
    | BiasHeads
)
LAYERS: dict[str, type[Layer]] = {
    cls.__name__: cls
    for cls in (
        LowRankLinear,
        LowRankEmbedding,
        SharedEmbedding,
        Int8Linear,
        StaticInt8Linear,
        Int8Embedding,
        WeightOnlyLinear,
        BiasHeads,
    )
}

__all__ = [
    "LAYERS",
    "BiasHeads",
    "Int8Embedding",
    "Int8Linear",
    "Layer",
    "LowRankEmbedding",
    "LowRankLinear",
    "SharedEmbedding",
    "StaticInt8Linear",
    "WeightOnlyLinear",
]
