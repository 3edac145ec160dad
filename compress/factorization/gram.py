"""What inputs each linear layer sees: their mean and covariance over calibration batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class InputMoments:
    """Running first and second moments of the rows of an input, in float64.

    Attributes:
        tokens: how many rows were seen.
    """

    def __init__(self, width: int, device: torch.device) -> None:
        self.tokens = 0
        self._sum = torch.zeros(width, dtype=torch.float64, device=device)
        self._gram = torch.zeros(width, width, dtype=torch.float64, device=device)

    def add(self, rows: Tensor) -> None:
        """Add rows (tokens, width) of any float dtype."""
        exact = rows.double()
        self.tokens += len(exact)
        self._sum += exact.sum(0)
        self._gram.addmm_(exact.T, exact)

    @property
    def mean(self) -> Tensor:
        """Mean input (width,)."""
        return self._sum / max(self.tokens, 1)

    @property
    def gram(self) -> Tensor:
        """XᵀX / tokens, (width, width)."""
        return self._gram / max(self.tokens, 1)

    @property
    def covariance(self) -> Tensor:
        """The Gram matrix of inputs minus their mean, (width, width)."""
        return self.gram - torch.outer(self.mean, self.mean)


@torch.no_grad()
def input_moments(
    model: PreTrainedModel, groups: Mapping[str, Iterable[str]], batches: Iterable[dict[str, Tensor]]
) -> dict[str, InputMoments]:
    """Run `model` over batches and record the inputs of some of its modules, padding left out.

    Memory is eight bytes times width² a group: layers times 75 MB for a feed-forward width of 3072.

    Args:
        model: run in eval mode, where it is.
        groups: name of the module to watch → names of the modules that share its record, because they see
            the same input (query → query, key, value).
        batches: keyword arguments of the model on its device; `attention_mask` (examples, tokens), where
            there is one, says which tokens count.

    Returns:
        One record for each module's name; those of one group are the same object.
    """
    masks: list[Tensor | None] = [None]
    watched: dict[str, InputMoments] = {}

    def recorder(name: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def record(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            x = inputs[0]  # (examples, tokens, width)
            rows = x.flatten(0, -2) if masks[0] is None else x[masks[0]]
            watched.setdefault(name, InputMoments(x.shape[-1], x.device)).add(rows)

        return record

    training = model.training
    model.train(False)
    handles = [model.get_submodule(name).register_forward_pre_hook(recorder(name)) for name in groups]
    try:
        for batch in batches:
            mask = batch.get("attention_mask")
            masks[0] = None if mask is None else mask.bool()
            model(**batch)
    finally:
        for handle in handles:
            handle.remove()
        model.train(training)
    return {
        member: watched[name] for name, members in groups.items() for member in members if name in watched
    }
