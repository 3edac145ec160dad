"""The heads of a shared position bias that one pruned attention still has."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn

_WHOLE = "whole_bias"


class BiasHeads(nn.Module):
    """Hands an attention module the entries of `position_bias` that belong to its own heads.

    MPNet and T5 compute one bias of shape (batch, heads, queries, keys) for all layers. A layer without some
    heads reads the rest of it. T5's attention also returns the bias, for the next layer: what it returns is
    the whole one again. The module lives beside the projections as `bias_heads` and works by hooks.

    Args:
        total: heads of the shared bias.
        heads: which of them the attention has, ascending.
    """

    NAME = "bias_heads"

    def __init__(self, total: int, heads: list[int]) -> None:
        super().__init__()
        self.total, self.heads = total, list(heads)

    def attach(self, attention: nn.Module) -> None:
        """Become part of `attention`, in place of an earlier one, and watch its calls."""
        earlier = attention._modules.get(self.NAME)
        if isinstance(earlier, BiasHeads):
            earlier.total, earlier.heads = self.total, self.heads
            return
        attention.add_module(self.NAME, self)
        attention.register_forward_pre_hook(self._choose, with_kwargs=True)
        attention.register_forward_hook(self._restore)

    def forward(self, bias: Tensor) -> Tensor:
        """Map (batch, total, queries, keys) to (batch, heads, queries, keys)."""
        chosen = bias.index_select(1, torch.tensor(self.heads, device=bias.device))
        setattr(chosen, _WHOLE, bias)
        return chosen

    def _choose(self, attention: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        place = list(inspect.signature(attention.forward).parameters).index("position_bias")
        if place < len(args):
            chosen = None if args[place] is None else self(args[place])
            return (*args[:place], chosen, *args[place + 1 :]), kwargs
        if kwargs.get("position_bias") is not None:
            return args, kwargs | {"position_bias": self(kwargs["position_bias"])}
        return None

    def _restore(self, attention: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        if not isinstance(output, tuple):
            return output
        return tuple(getattr(item, _WHOLE, item) for item in output)

    def description(self) -> dict[str, Any]:
        """Return what `build` needs."""
        return {"total": self.total, "heads": self.heads}

    @classmethod
    def build(cls, description: dict[str, Any]) -> BiasHeads:
        """Make the module from `description()`; `attach` puts it to work."""
        return cls(description["total"], description["heads"])
