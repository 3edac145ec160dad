"""Weights as codes of 8 or 4 bits with float32 scales."""

from compress.quantization.dynamic import (
    dequantize,
    other_matrices,
    quantizable,
    quantize_model,
    quantize_weight,
    tied_weights,
)
from compress.quantization.weight_only import quantize_weights

__all__ = [
    "dequantize",
    "other_matrices",
    "quantizable",
    "quantize_model",
    "quantize_weight",
    "quantize_weights",
    "tied_weights",
]
