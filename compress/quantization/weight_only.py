"""Replacing a model's linear layers by ones with 4- or 8-bit weights that compute in float32."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from compress.calibration.products import add_product_, mirror_, working_dtype
from compress.calibration.statistics import evaluating, valid_tokens
from compress.errors import InputError
from compress.layers import WeightOnlyLinear
from compress.layers.dense import as_linear
from compress.layers.weight_only import pack
from compress.quantization.blocks import BlockCodes, round_to_nearest
from compress.quantization.compensation import round_compensated
from compress.quantization.dynamic import quantizable, quantize_embedding

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@torch.no_grad()
def quantize_weights(
    model: PreTrainedModel,
    bits: int,
    block: int,
    embeddings: bool = True,
    batch: dict[str, Tensor] | None = None,
) -> list[str]:
    """Replace linear layers by `WeightOnlyLinear` and embedding tables by `Int8Embedding`, in place.

    What stays in float32 is what `quantize_model` leaves. With a batch, each layer is rounded for the inputs that
    the layers before it, rounded already, give (`compress.quantization.compensation`): one forward pass in all,
    with the moments of one layer in memory at a time, 8 bytes times in². What a rounded weight adds to the mean
    output goes into the bias where there is one. A layer that the pass does not reach is rounded to nearest, and
    one that it runs more than once is rounded for its first inputs.

    Args:
        model: as for `quantize_model`.
        bits: 4 or 8.
        block: inputs that share a scale.
        embeddings: whether embedding tables become int8.
        batch: keyword arguments of the model: calibration examples as one padded batch. None rounds to nearest.

    Returns:
        The names of the modules that were replaced, in the model's order.

    Raises:
        InputError: nothing was left to quantize, or weights are not finite.
    """
    model.float()
    names = quantizable(model, embeddings)
    linears: dict[str, nn.Linear] = {}
    for name in names:
        module = model.get_submodule(name)
        if isinstance(module, nn.Embedding):
            model.set_submodule(name, quantize_embedding(name, module))
        else:
            linears[name] = as_linear(module, name)
            model.set_submodule(name, linears[name])
    rounded = {} if batch is None else _compensated(model, linears, bits, block, batch)
    for name, linear in linears.items():
        model.set_submodule(name, rounded.get(name) or _rounded(name, linear, bits, block))
    return names


def _compensated(
    model: PreTrainedModel, linears: dict[str, nn.Linear], bits: int, block: int, batch: dict[str, Tensor]
) -> dict[str, WeightOnlyLinear]:
    """Run `model` once and round each layer as the pass reaches it."""
    mask = batch.get("attention_mask")
    found: dict[str, WeightOnlyLinear] = {}

    def reached(name: str, linear: nn.Linear, x: Tensor) -> Tensor:
        if name not in found:
            found[name] = _rounded(name, linear, bits, block, valid_tokens(x, mask))
        out: Tensor = found[name](x)
        return out

    handles: list[Any] = [
        linear.register_forward_hook(
            lambda linear, inputs, output, name=name: reached(name, linear, inputs[0])
        )
        for name, linear in linears.items()
    ]
    # Logits over a vocabulary would be the largest tensor of all, and nothing reads them here.
    whole = model if model.get_output_embeddings() is None else model.base_model
    try:
        with evaluating(model):
            whole(**batch)
    finally:
        for handle in handles:
            handle.remove()
    return found


def _rounded(
    name: str, linear: nn.Linear, bits: int, block: int, x: Tensor | None = None
) -> WeightOnlyLinear:
    """Return the layer for a float one, given its inputs (tokens, in) or none."""
    weight, bias = linear.weight, None if linear.bias is None else linear.bias.clone()
    try:
        if x is None or len(x) == 0:
            rounded = round_to_nearest(weight, bits, block)
        else:
            mean, gram = _moments(x, centred=bias is not None)
            rounded = round_compensated(weight, gram, bits, block)
            if bias is not None:
                bias += ((weight.double() - rounded.dequantize().double()) @ mean).to(bias.dtype)
    except InputError as error:
        raise InputError(error.cause, place=name, remedy=error.remedy) from None
    return _layer(rounded, bias, bits).train(linear.training)


def _moments(x: Tensor, centred: bool) -> tuple[Tensor, Tensor]:
    """Return the mean (in,) of rows (tokens, in), zero unless `centred`, and the moments about it, float64."""
    x = x.to(working_dtype(x.dtype))
    mean = x.mean(0, dtype=torch.float64) if centred else x.new_zeros(x.shape[1], dtype=torch.float64)
    x = x - mean.to(x.dtype)
    gram = x.new_zeros(x.shape[1], x.shape[1])
    add_product_(gram, x, x)
    return mean, mirror_(gram).double() / len(x)


def _layer(rounded: BlockCodes, bias: Tensor | None, bits: int) -> WeightOnlyLinear:
    rows, _, block = rounded.codes.shape
    layer = WeightOnlyLinear(rounded.columns, rows, bias is not None, bits, block)
    layer.codes, layer.zero_point = pack(rounded.codes, bits), pack(rounded.zero_point, bits)
    layer.scale, layer.bias = rounded.scale, bias
    return layer
