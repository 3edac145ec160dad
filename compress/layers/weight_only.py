"""A linear layer whose weights are 4- or 8-bit codes in blocks, and which computes in float32."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class WeightOnlyLinear(nn.Module):
    """`y = x Ŵᵀ + b` in float32, with `Ŵ[n, k] = scale[n, g] · (code[n, k] − zero_point[n, g])`, `g = k // block`.

    The tensors are laid out as ONNX Runtime's `MatMulNBits` reads them. A row's last block is filled up where
    `in_features` is no multiple of `block`; what fills it is never read.

    Args:
        in_features: width of `x`.
        out_features: width of the result.
        bias: whether a float32 bias is added.
        bits: 4 or 8.
        block: inputs that share a scale and a zero point, an even number.
    """

    codes: Tensor  # (out, groups, block · bits / 8) uint8, packed
    scale: Tensor  # (out, groups) float32
    zero_point: Tensor  # (out, ⌈groups · bits / 8⌉) uint8, packed
    bias: Tensor | None  # (out,) float32

    def __init__(self, in_features: int, out_features: int, bias: bool, bits: int, block: int) -> None:
        super().__init__()
        self.in_features, self.out_features, self.bits, self.block = in_features, out_features, bits, block
        groups = -(-in_features // block)
        codes = torch.zeros(out_features, groups, block, dtype=torch.uint8)
        self.register_buffer("codes", pack(codes, bits))
        self.register_buffer("scale", torch.ones(out_features, groups))
        self.register_buffer("zero_point", pack(codes[..., 0], bits))
        self.register_buffer("bias", torch.zeros(out_features) if bias else None)

    @property
    def weight(self) -> Tensor:
        """The scales: T5 asks a projection for the dtype that its input should have."""
        return self.scale

    def dequantize(self) -> Tensor:
        """Return Ŵ, (out_features, in_features) float32."""
        zero_point = unpack(self.zero_point, self.bits)[:, : self.scale.shape[1]]
        steps = unpack(self.codes, self.bits).to(torch.float32) - zero_point[..., None]
        return (steps * self.scale[..., None]).flatten(1)[:, : self.in_features]

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in_features) floats to (..., out_features) float32."""
        with torch.autocast(x.device.type, enabled=False):
            return nn.functional.linear(x.to(torch.float32), self.dequantize(), self.bias)

    def description(self) -> dict[str, Any]:
        """Return what `build` needs."""
        return {
            "in": self.in_features,
            "out": self.out_features,
            "bias": self.bias is not None,
            "bits": self.bits,
            "block": self.block,
        }

    @classmethod
    def build(cls, description: dict[str, Any]) -> WeightOnlyLinear:
        """Make the module with empty weights from `description()`."""
        return cls(*(description[key] for key in ("in", "out", "bias", "bits", "block")))


def pack(codes: Tensor, bits: int) -> Tensor:
    """Pack codes (..., n) uint8 below 2^bits into bytes (..., ⌈n · bits / 8⌉).

    Of two 4-bit codes the earlier is the low half of the byte; an odd last one has 0 above it.
    """
    if bits == 8:
        return codes
    codes = nn.functional.pad(codes, (0, codes.shape[-1] % 2))
    return codes[..., ::2] | (codes[..., 1::2] << 4)


def unpack(packed: Tensor, bits: int) -> Tensor:
    """Return the codes of `pack`, uint8 (..., bytes · 8 / bits)."""
    return packed if bits == 8 else torch.stack([packed & 15, packed >> 4], -1).flatten(-2)
