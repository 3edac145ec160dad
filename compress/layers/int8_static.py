"""Linear layers whose activations have a range that was fixed beforehand."""

from __future__ import annotations

import torch
from torch import Tensor

from compress.layers.int8 import Int8Linear


class StaticInt8Linear(Int8Linear):
    """Static int8: as `Int8Linear`, but the step and the zero point of the input are fixed.

    The arithmetic is that of ONNX `QuantizeLinear`, `DequantizeLinear` on both sides and `MatMul` (QDQ) as
    runtimes fuse it: `codes = clip(round(x / step) + zero_point, 0, 255)`, half to even, then
    `y = float(Σ_k (codes[k] - zero_point) · weight[n, k]) · (step · scale[n]) + bias[n]`.

    Args:
        in_features: width of `x`.
        out_features: width of the result.
        bias: whether a float32 bias is added.
    """

    step: Tensor  # () float32, positive
    zero_point: Tensor  # () uint8

    def __init__(self, in_features: int, out_features: int, bias: bool) -> None:
        super().__init__(in_features, out_features, bias)
        self.register_buffer("step", torch.ones(()))
        self.register_buffer("zero_point", torch.zeros((), dtype=torch.uint8))

    def codes(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return codes uint8 of the shape of `x`, the step and the zero point, both float32 scalars."""
        zero_point = self.zero_point.to(torch.float32)
        codes = (x.to(torch.float32) / self.step).round_().add_(zero_point).clamp_(0, 255)
        return codes.to(torch.uint8), self.step, zero_point
