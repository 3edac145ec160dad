"""Linear and embedding layers whose weights are int8 codes with float32 scales."""

from __future__ import annotations

import functools
from typing import Any, Self

import torch
from torch import Tensor, nn

# A float32 sum of whole numbers is exact, in any order, while it stays below 2^24. One product of an activation
# code (at most 255) and a weight code (at most 127) is below 2^15, so 512 of them fit.
_EXACT_TERMS = 512


class Int8Linear(nn.Module):
    """Dynamic int8: weights int8 per output channel, activations uint8 per tensor, sums in int32.

    The arithmetic is that of ONNX `DynamicQuantizeLinear` followed by `MatMulInteger`, so that what torch
    computes is what the exported file computes:
    `y = float(Σ_k (codes[k] - zero_point) · weight[n, k]) · (step · scale[n]) + bias[n]`.

    Args:
        in_features: width of `x`.
        out_features: width of the result.
        bias: whether a float32 bias is added.
    """

    weight: Tensor  # (out, in) int8
    scale: Tensor  # (out,) float32
    bias: Tensor | None  # (out,) float32

    def __init__(self, in_features: int, out_features: int, bias: bool) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.register_buffer("weight", torch.zeros(out_features, in_features, dtype=torch.int8))
        self.register_buffer("scale", torch.ones(out_features))
        self.register_buffer("bias", torch.zeros(out_features) if bias else None)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in_features) floats to (..., out_features) float32."""
        return scaled_product(*self.codes(x), self.weight, self.scale, self.bias)

    def codes(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return codes uint8 of the shape of `x`, the step and the zero point, both float32 scalars."""
        return quantize_activations(x)

    def description(self) -> dict[str, Any]:
        """Return what `build` needs."""
        return {"in": self.in_features, "out": self.out_features, "bias": self.bias is not None}

    @classmethod
    def build(cls, description: dict[str, Any]) -> Self:
        """Make the module with empty weights from `description()`."""
        return cls(description["in"], description["out"], description["bias"])


class Int8Embedding(nn.Module):
    """A lookup table of int8 codes with one float32 scale a row.

    Args:
        rows: number of embeddings.
        width: size of one embedding.
    """

    weight: Tensor  # (rows, width) int8
    scale: Tensor  # (rows, 1) float32
    padding_idx: int | None = None  # some families' initialisation asks an embedding for it

    def __init__(self, rows: int, width: int) -> None:
        super().__init__()
        self.num_embeddings, self.embedding_dim = rows, width
        self.register_buffer("weight", torch.zeros(rows, width, dtype=torch.int8))
        self.register_buffer("scale", torch.ones(rows, 1))

    def forward(self, ids: Tensor) -> Tensor:
        """Look up ids (...) int64; the result is (..., width) float32."""
        codes = nn.functional.embedding(ids, self.weight)
        return codes.to(torch.float32) * nn.functional.embedding(ids, self.scale)

    def description(self) -> dict[str, Any]:
        """Return what `build` needs."""
        return {"rows": self.num_embeddings, "width": self.embedding_dim}

    @classmethod
    def build(cls, description: dict[str, Any]) -> Int8Embedding:
        """Make the module with empty weights from `description()`."""
        return cls(description["rows"], description["width"])


def quantize_activations(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Quantize a whole tensor to uint8 the way ONNX `DynamicQuantizeLinear` (opset 11) defines it.

    `step = (max(x, 0) - min(x, 0)) / 255`, 1 for a tensor of zeros as ONNX Runtime has it;
    `zero_point = clip(round(-min(x, 0) / step), 0, 255)`; `codes = clip(round(x / step) + zero_point, 0, 255)`.
    Both roundings are half to even.

    Args:
        x: floats of any shape with at least one element; computed on in float32.

    Returns:
        Codes uint8 of the shape of `x`; step float32 scalar; zero point float32 scalar, a whole number.
    """
    x = x.to(torch.float32)
    low, high = x.aminmax()
    low, high = low.clamp(max=0), high.clamp(min=0)
    step = (high - low) / 255
    step = torch.where(step == 0, torch.ones_like(step), step)
    zero_point = (-low / step).round().clamp(0, 255)
    codes = (x / step).round_().add_(zero_point).clamp_(0, 255)
    return codes.to(torch.uint8), step, zero_point


def scaled_product(
    codes: Tensor, step: Tensor, zero_point: Tensor, weight: Tensor, scale: Tensor, bias: Tensor | None
) -> Tensor:
    """Return the product of quantized activations and weights in float32, shape (..., out).

    Args:
        codes: (..., in) uint8, with `step` and `zero_point` as `quantize_activations` gives them.
        step: float32 scalar.
        zero_point: float32 scalar, a whole number in 0…255.
        weight: (out, in) int8.
        scale: (out,) float32.
        bias: (out,) float32, or None.
    """
    sums = integer_product(codes.reshape(-1, codes.shape[-1]), zero_point, weight)
    out = sums.to(torch.float32).mul_(step * scale)
    if bias is not None:
        out += bias
    return out.view(*codes.shape[:-1], len(weight))


def integer_product(codes: Tensor, zero_point: Tensor, weight: Tensor) -> Tensor:
    """Return `(codes - zero_point) @ weight.T` with exact sums, int32 of shape (rows, out).

    Args:
        codes: (rows, in) uint8.
        zero_point: float scalar, a whole number in 0…255.
        weight: (out, in) int8 in -127…127.
    """
    if codes.device.type == "cpu" and _int_mm_is_exact():
        # The kernel takes int8 on both sides: u - z = (u - 128) + (128 - z), the second part once a column.
        sums = torch._int_mm((codes ^ 128).view(torch.int8), weight.t())
        column = torch._int_mm(torch.ones_like(weight[:1]), weight.t())
        return sums.add_(column * (128 - zero_point.to(torch.int32)))
    sums = torch.zeros(len(codes), len(weight), dtype=torch.int32, device=codes.device)
    with torch.autocast(codes.device.type, enabled=False):
        for start in range(0, codes.shape[1], _EXACT_TERMS):
            part = slice(start, start + _EXACT_TERMS)
            shifted = codes[:, part].to(torch.float32) - zero_point
            sums += (shifted @ weight[:, part].to(torch.float32).t()).to(torch.int32)
    return sums


@functools.cache
def _int_mm_is_exact() -> bool:
    """Try the int8 kernel on the largest codes.

    Without VNNI or AMX, oneDNN adds pairs of products in 16 bits, which saturate: 2 · 255 · 127 > 2^15. Outside
    x86 torch may fall back to a plain loop, slower than float32.
    """
    if not torch.backends.cpu.get_cpu_capability().startswith("AVX"):
        return False
    weight = torch.full((64, 1024), 127, dtype=torch.int8)
    expected = 127 * 1024 * torch.tensor([[127], [-128]], dtype=torch.int32)
    for rows in (1, 64):  # a single row takes another kernel
        codes = torch.tensor([[127], [-128]], dtype=torch.int8).expand(2, 1024).repeat(rows, 1)[:rows]
        wanted = expected.expand(2, 64).repeat(rows, 1)[:rows]
        if not torch.equal(torch._int_mm(codes, weight.t()), wanted):
            return False
    return True
