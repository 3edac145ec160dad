"""Where each model family keeps its layers, attention, feed-forward parts and embeddings."""

from compress.architectures.blocks import Attention, Block, FeedForward, Rows, blocks
from compress.architectures.families import (
    FAMILIES,
    MATRICES,
    Family,
    family_of,
    ffn_widths,
    head_counts,
    head_size_of,
    layer_count_of,
    layers_of,
    layers_prefix,
    matrices_of,
    positions_of,
    set_layer_count,
)

__all__ = [
    "FAMILIES",
    "MATRICES",
    "Attention",
    "Block",
    "Family",
    "FeedForward",
    "Rows",
    "blocks",
    "family_of",
    "ffn_widths",
    "head_counts",
    "head_size_of",
    "layer_count_of",
    "layers_of",
    "layers_prefix",
    "matrices_of",
    "positions_of",
    "set_layer_count",
]
