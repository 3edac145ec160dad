"""Float layers that answer as the int8 layers which they will become, for training."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from compress.layers.int8 import quantize_activations, scaled_product
from compress.quantization.dynamic import dequantize, quantize_weight


class FakeInt8Linear(nn.Linear):
    """A linear layer that answers as `Int8Linear`, bit for bit, and passes gradients to its float weight."""

    @classmethod
    def of(cls, linear: nn.Linear) -> FakeInt8Linear:
        """Return a layer that shares the parameters of `linear`."""
        fake = cls(linear.in_features, linear.out_features, linear.bias is not None, device="meta")
        fake.weight, fake.bias = linear.weight, linear.bias
        return fake.train(linear.training)

    def plain(self) -> nn.Linear:
        """Return the `nn.Linear` with the same parameters."""
        linear = nn.Linear(self.in_features, self.out_features, self.bias is not None, device="meta")
        linear.weight, linear.bias = self.weight, self.bias
        return linear.train(self.training)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in_features) floats to (..., out_features) float32."""
        out: Tensor = _Int8Product.apply(x, self.weight, self.bias)  # type: ignore[no-untyped-call]
        return out


class FakeInt8Embedding(nn.Embedding):
    """A table that answers as `Int8Embedding`, bit for bit, and passes gradients to its float rows."""

    @classmethod
    def of(cls, table: nn.Embedding) -> FakeInt8Embedding:
        """Return a table that shares the rows of `table`."""
        fake = cls(table.num_embeddings, table.embedding_dim, table.padding_idx, device="meta")
        fake.weight = table.weight
        return fake.train(table.training)

    def plain(self) -> nn.Embedding:
        """Return the `nn.Embedding` with the same rows."""
        table = nn.Embedding(self.num_embeddings, self.embedding_dim, self.padding_idx, device="meta")
        table.weight = self.weight
        return table.train(self.training)

    def forward(self, ids: Tensor) -> Tensor:
        """Look up ids (...) int64; the result is (..., width) float32."""
        rows = super().forward(ids)
        out: Tensor = _RoundedRows.apply(rows)  # type: ignore[no-untyped-call]
        return out


class _Int8Product(torch.autograd.Function):
    """`Int8Linear`'s arithmetic forward; backward the product of the rounded values as if nothing were rounded.

    With x̂ and Ŵ the values that the codes stand for, y = x̂ Ŵᵀ + b, and roundings passed straight through
    (Bengio et al. 2013, arXiv:1308.3432): ∂L/∂x = g Ŵ, ∂L/∂W = gᵀ x̂, ∂L/∂b = Σ g. Ranges are those of the
    tensors themselves and count as constants (Jacob et al. 2018, section 3), so nothing lies outside them and no
    gradient is cut off.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        codes, step, zero_point = quantize_activations(x)
        weight_codes, scale = quantize_weight(weight)
        ctx.save_for_backward(codes, step, zero_point, weight_codes, scale)
        ctx.dtype = x.dtype
        autocast = torch.is_autocast_enabled(x.device.type)
        ctx.product = torch.get_autocast_dtype(x.device.type) if autocast else torch.float32
        return scaled_product(codes, step, zero_point, weight_codes, scale, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        codes, step, zero_point, weight_codes, scale = ctx.saved_tensors
        rows = grad.reshape(-1, grad.shape[-1])
        x_grad = weight_grad = bias_grad = None
        # Codes less their zero point are whole numbers of at most 255, which bfloat16 holds exactly; the scales
        # are multiplied on the float32 side.
        if ctx.needs_input_grad[0]:
            product = (rows * scale).to(ctx.product) @ weight_codes.to(ctx.product)
            x_grad = product.view(codes.shape).to(ctx.dtype)
        if ctx.needs_input_grad[1]:
            whole = (codes.reshape(-1, codes.shape[-1]).to(torch.float32) - zero_point).to(ctx.product)
            weight_grad = (rows.t().to(ctx.product) @ whole).to(torch.float32) * step
        if ctx.needs_input_grad[2]:
            bias_grad = rows.sum(0)
        return x_grad, weight_grad, bias_grad


class _RoundedRows(torch.autograd.Function):
    """Each row (..., width) as its int8 codes stand for it; the gradient passes as it is."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        # A row's scale is its own, so the rows of a table that are not read need not be rounded.
        codes, scale = quantize_weight(rows.reshape(-1, rows.shape[-1]))
        return dequantize(codes, scale).view(rows.shape)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad
