"""Static int8: dynamic int8 whose activations get a fixed range from calibration texts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from compress.layers import Int8Linear, StaticInt8Linear
from compress.quantization.dynamic import quantizable
from compress.quantization.histograms import Histogram, input_histograms
from compress.quantization.ranges import Range, step_and_zero_point

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel


def calibrate(
    model: PreTrainedModel, batches: Sequence[dict[str, Tensor]], method: Callable[[Histogram], Range]
) -> dict[str, Range]:
    """Return the range of every linear layer's input that `quantize_model` would make int8, by name.

    Args:
        model: in float; it is not changed.
        batches: keyword arguments of the model.
        method: one of `compress.quantization.ranges.METHODS`.

    Raises:
        InputError: a layer reads values that are not finite.
    """
    histograms = input_histograms(model, batches, quantizable(model, embeddings=False))
    return {name: method(histogram) for name, histogram in histograms.items()}


def fix_ranges(model: nn.Module, ranges: Mapping[str, Range]) -> list[str]:
    """Give dynamic int8 layers a fixed input range, in place, and return their names.

    Args:
        model: after `quantize_model`.
        ranges: (low, high) by layer, of `calibrate`; a layer without one stays dynamic.
    """
    fixed = []
    for name, module in list(model.named_modules()):
        if type(module) is Int8Linear and name in ranges:
            new = StaticInt8Linear(module.in_features, module.out_features, module.bias is not None)
            new.weight, new.scale, new.bias = module.weight, module.scale, module.bias
            step, zero_point = step_and_zero_point(*ranges[name])
            new.step, new.zero_point = step.to(module.scale.device), zero_point.to(module.scale.device)
            model.set_submodule(name, new.train(module.training))
            fixed.append(name)
    return fixed
