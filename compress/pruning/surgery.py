"""Taking attention heads and feed-forward neurons out of a model's linear layers, in place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from compress.architectures import family_of, head_size_of, matrices_of
from compress.errors import InputError
from compress.layers.low_rank import LowRankLinear, saves

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def keep_heads(model: PreTrainedModel, layer: int, heads: Sequence[int]) -> None:
    """Keep only `heads` (ascending indices among those present) in one layer of `model`.

    Rows of query, key and value with their biases go, and the columns of the output projection. What stays
    computes what the full layer computes with the other heads' outputs set to zero.

    Raises:
        InputError: the family ties other weights to its number of heads, no head is kept, or a module is
            neither `nn.Linear` nor `LowRankLinear`.
    """
    if not family_of(model.config).prunable_heads:
        raise InputError(
            f"{model.config.model_type} shares one position bias per head among all layers, so heads cannot "
            "be removed layer by layer",
            place=f"layer {layer}",
            remedy="Prune its feed-forward neurons (ffn) or whole layers instead.",
        )
    names, size = matrices_of(model)[layer], head_size_of(model)
    starts = _index(model, names["value"], heads)[:, None] * size
    columns = (starts + torch.arange(size, device=starts.device)).flatten()
    for matrix in ("query", "key", "value"):
        _slice(model, names[matrix], columns, outputs=True)
    _slice(model, names["attention_output"], columns, outputs=False)


def keep_neurons(model: PreTrainedModel, layer: int, neurons: Sequence[int]) -> None:
    """Keep only `neurons` (ascending indices among those present) in one layer's feed-forward part.

    Raises:
        InputError: no neuron is kept, or a module is neither `nn.Linear` nor `LowRankLinear`.
    """
    names = matrices_of(model)[layer]
    index = _index(model, names["ffn_in"], neurons)
    _slice(model, names["ffn_in"], index, outputs=True)
    _slice(model, names["ffn_out"], index, outputs=False)


def _index(model: PreTrainedModel, name: str, kept: Sequence[int]) -> Tensor:
    if not kept:
        raise InputError("nothing would be left", place=name, remedy="Lower the share to prune.")
    return torch.tensor(list(kept), device=model.device)


def _slice(model: PreTrainedModel, name: str, index: Tensor, outputs: bool) -> None:
    """Keep rows (`outputs`) or columns `index` of the matrix a module stands for.

    Of a low-rank pair only the outer factor changes; where the pair has become larger than the matrix it
    stands for, the matrix takes its place.
    """
    module = model.get_submodule(name)
    if isinstance(module, nn.Linear):
        _slice_linear(module, index, outputs)
    elif isinstance(module, LowRankLinear):
        _slice_linear(module.second if outputs else module.first, index, outputs)
        module.in_features, module.out_features = module.first.in_features, module.second.out_features
        if not saves(module.rank, module.in_features, module.out_features):
            model.set_submodule(name, module.dense())
    else:
        raise InputError(
            f"cannot prune inside {type(module).__name__}", place=name, remedy="Prune before quantize."
        )


def _slice_linear(linear: nn.Linear, index: Tensor, outputs: bool) -> None:
    grad = linear.weight.requires_grad
    weight = linear.weight.detach().index_select(0 if outputs else 1, index)
    linear.weight = nn.Parameter(weight, requires_grad=grad)
    if outputs and linear.bias is not None:
        linear.bias = nn.Parameter(linear.bias.detach()[index], requires_grad=grad)
    linear.out_features, linear.in_features = weight.shape
