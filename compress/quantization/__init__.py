"""Weights as int8 codes with float32 scales."""

from compress.quantization.dynamic import (
    dequantize,
    other_matrices,
    quantizable,
    quantize_model,
    quantize_weight,
    tied_weights,
)

__all__ = ["dequantize", "other_matrices", "quantizable", "quantize_model", "quantize_weight", "tied_weights"]
