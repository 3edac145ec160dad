"""Where each model family keeps its layers, attention, feed-forward parts and embeddings."""

from compress.architectures.blocks import Attention, Block, FeedForward, Rows, blocks
from compress.architectures.families import (
    FAMILIES,
    Family,
    layer_count_of,
    layers_of,
    positions_of,
    set_layer_count,
)

__all__ = [
    "FAMILIES",
    "Attention",
    "Block",
    "Family",
    "FeedForward",
    "Rows",
    "blocks",
    "layer_count_of",
    "layers_of",
    "positions_of",
    "set_layer_count",
]
