"""Every kind of linear module as a plain `nn.Linear`."""

from __future__ import annotations

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from compress.errors import InputError
from compress.layers.low_rank import LowRankLinear


@torch.no_grad()
def as_linear(module: nn.Module, name: str = "") -> nn.Linear:
    """Return the `nn.Linear` that computes what `module` computes.

    That is the module itself where it is one, GPT-2's `Conv1D` transposed, a low-rank pair multiplied.

    Args:
        module: a float linear module of any kind.
        name: the module's full name, for the message.

    Raises:
        InputError: the module is of another kind, int8 for instance.
    """
    if isinstance(module, nn.Linear):
        return module
    if isinstance(module, LowRankLinear):
        return module.dense().train(module.training)
    if isinstance(module, Conv1D):
        weight = module.weight
        linear = nn.Linear(module.nx, module.nf, device=weight.device, dtype=weight.dtype)
        linear.weight.copy_(weight.T)
        linear.bias.copy_(module.bias)
        linear.requires_grad_(weight.requires_grad)
        return linear.train(module.training)
    raise InputError(
        f"cannot change {type(module).__name__}",
        place=name,
        remedy="Prune and factorize before quantize; other linear modules have to stay as they are.",
    )
