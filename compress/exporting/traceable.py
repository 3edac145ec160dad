"""A copy of a model in the form that gives the best ONNX graph."""

from __future__ import annotations

import copy
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.onnx.ops import symbolic, symbolic_multi_out
from transformers import PretrainedConfig

from compress.exporting.weight_only import OnnxWeightOnlyLinear
from compress.layers import Int8Linear, StaticInt8Linear, WeightOnlyLinear
from compress.quantization import dequantize

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class OnnxInt8Linear(nn.Module):
    """An `Int8Linear` that traces to ONNX `DynamicQuantizeLinear` and `MatMulInteger`.

    The codes go into the file as they are, transposed to (in, out) as `MatMulInteger` wants them. Only for
    tracing: run eagerly, the symbolic operators return zeros.

    Args:
        linear: the layer whose tensors are taken over.
    """

    weight: Tensor  # (in, out) int8
    scale: Tensor  # (out,) float32
    bias: Tensor | None  # (out,) float32

    def __init__(self, linear: Int8Linear) -> None:
        super().__init__()
        self.register_buffer("weight", linear.weight.t().contiguous())
        self.register_buffer("scale", linear.scale)
        self.register_buffer("bias", linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in) float32 to (..., out) float32 in the shape of graph that ONNX Runtime fuses."""
        codes, step, zero_point = symbolic_multi_out(
            "DynamicQuantizeLinear",
            (x,),
            dtypes=(torch.uint8, torch.float32, torch.uint8),
            shapes=(x.shape, (), ()),
        )
        shape = (*x.shape[:-1], self.weight.shape[1])
        sums = symbolic("MatMulInteger", (codes, self.weight, zero_point), dtype=torch.int32, shape=shape)
        out = sums.to(torch.float32) * (step * self.scale)
        return out if self.bias is None else out + self.bias


class OnnxStaticInt8Linear(nn.Module):
    """A `StaticInt8Linear` that traces to QDQ: the form that runtimes fuse to an integer product.

    `QuantizeLinear` and `DequantizeLinear` on the input, `DequantizeLinear` along the outputs on the codes, and a
    `MatMul` of the two. Only for tracing.

    Args:
        linear: the layer whose tensors are taken over.
    """

    weight: Tensor  # (in, out) int8
    scale: Tensor  # (out,) float32
    zero: Tensor  # (out,) int8, zeros
    bias: Tensor | None  # (out,) float32
    step: Tensor  # () float32
    zero_point: Tensor  # () uint8

    def __init__(self, linear: StaticInt8Linear) -> None:
        super().__init__()
        self.register_buffer("weight", linear.weight.t().contiguous())
        for name in ("scale", "bias", "step", "zero_point"):
            self.register_buffer(name, getattr(linear, name))
        self.register_buffer("zero", torch.zeros_like(linear.scale, dtype=torch.int8))

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in) float32 to (..., out) float32."""
        codes = symbolic("QuantizeLinear", (x, self.step, self.zero_point), dtype=torch.uint8, shape=x.shape)
        rounded = symbolic(
            "DequantizeLinear", (codes, self.step, self.zero_point), dtype=torch.float32, shape=x.shape
        )
        weight = symbolic(
            "DequantizeLinear",
            (self.weight, self.scale, self.zero),
            attrs={"axis": 1},
            dtype=torch.float32,
            shape=self.weight.shape,
        )
        shape = (*x.shape[:-1], self.weight.shape[1])
        out = symbolic("MatMul", (rounded, weight), dtype=torch.float32, shape=shape)
        if self.bias is None:
            return out
        if (
            x.dim() == 2
        ):  # with Add, ONNX Runtime would make a Gemm of it, in float32 where an activation follows
            return symbolic("Sum", (out, self.bias), dtype=torch.float32, shape=shape)
        return out + self.bias


def traceable(model: PreTrainedModel) -> PreTrainedModel:
    """Return a copy to trace: ONNX layers of few bits, plain attention, no cache, no pooler where nothing reads it.

    "eager" attention gives the smallest graph: torch's fused one traces with extra nodes for rows that attend
    to nothing. A cache of keys and values would become outputs of its own.
    """
    traced = _copy(model)
    traced.set_attn_implementation("eager")
    for module in traced.modules():
        config = getattr(module, "config", None)
        if isinstance(config, PretrainedConfig):
            config.use_cache = False
    if traced.base_model is traced and "pooler" in dict(traced.named_children()):
        traced.register_module("pooler", None)
    for name, module in list(traced.named_modules()):
        if isinstance(module, StaticInt8Linear):
            traced.set_submodule(name, OnnxStaticInt8Linear(module))
        elif isinstance(module, Int8Linear):
            traced.set_submodule(name, OnnxInt8Linear(module))
        elif isinstance(module, WeightOnlyLinear):
            traced.set_submodule(name, OnnxWeightOnlyLinear(module))
    return traced


def with_float_activations(model: PreTrainedModel) -> PreTrainedModel:
    """Return a copy with the same int8 weights, whose linear layers do not round their inputs."""
    plain = _copy(model)
    for name, module in list(plain.named_modules()):
        if isinstance(module, Int8Linear):
            linear = nn.Linear(module.in_features, module.out_features, module.bias is not None)
            linear.weight.data = dequantize(module.weight, module.scale)
            if module.bias is not None:
                linear.bias.data = module.bias
            plain.set_submodule(name, linear)
    return plain


def _copy(model: PreTrainedModel) -> PreTrainedModel:
    """Copy modules and config, but share the tensors."""
    shared: dict[int, Any] = {id(tensor): tensor for tensor in chain(model.parameters(), model.buffers())}
    return copy.deepcopy(model, shared)
