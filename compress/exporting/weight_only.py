"""Weight-only layers in the form that ONNX Runtime reads."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.onnx.ops import symbolic

from compress.layers import WeightOnlyLinear


class OnnxWeightOnlyLinear(nn.Module):
    """A `WeightOnlyLinear` that traces to ONNX Runtime's `MatMulNBits` (domain `com.microsoft`, version 1).

    Codes, scales and zero points go into the file as they are. `accuracy_level` is left out, which means float32
    products of float32 inputs; 4 would round the inputs to int8. Only for tracing: run eagerly, the symbolic
    operator returns zeros.

    Args:
        linear: the layer whose tensors are taken over.
    """

    codes: Tensor  # (out, groups, block · bits / 8) uint8
    scale: Tensor  # (out, groups) float32
    zero_point: Tensor  # (out, ⌈groups · bits / 8⌉) uint8
    bias: Tensor | None  # (out,) float32

    def __init__(self, linear: WeightOnlyLinear) -> None:
        super().__init__()
        self.sizes: dict[str, Any] = {
            "K": linear.in_features,
            "N": linear.out_features,
            "bits": linear.bits,
            "block_size": linear.block,
        }
        for name, tensor in linear.named_buffers():
            self.register_buffer(name, tensor)
        if linear.bias is None:
            self.bias = None

    @property
    def weight(self) -> Tensor:
        """See `WeightOnlyLinear.weight`."""
        return self.scale

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in) float32 to (..., out) float32."""
        out = symbolic(
            "com.microsoft::MatMulNBits",
            (x, self.codes, self.scale, self.zero_point),
            self.sizes,
            dtype=torch.float32,
            shape=(*x.shape[:-1], self.sizes["N"]),
            version=1,
        )
        return out if self.bias is None else out + self.bias
