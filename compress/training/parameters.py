"""Which parameters are trained, and how fast each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Literal

from compress.architectures import blocks
from compress.either import either
from compress.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

Part = Annotated[int | Literal["embeddings"], either("a layer's number from 0, or embeddings")]
"""A layer by its number from 0, or what comes before the first."""


@contextmanager
def frozen(model: PreTrainedModel, parts: Sequence[Part]) -> Iterator[None]:
    """Leave the parameters of `parts` as they are for a while.

    Raises:
        InputError: there is no such layer.
    """
    depths = depth_of_parameters(model) if parts else {}
    last = max(depths.values(), default=0) - 1
    if missing := [part for part in parts if part != "embeddings" and not 0 <= part < last]:
        raise InputError(
            f"there is no layer {missing[0]}: the model has {last}",
            place="freeze",
            remedy=f"Give layers from 0 to {last - 1}, or embeddings.",
        )
    chosen = {0 if part == "embeddings" else part + 1 for part in parts}
    stopped = [p for name, p in model.named_parameters() if depths.get(name) in chosen and p.requires_grad]
    for parameter in stopped:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in stopped:
            parameter.requires_grad_(True)


@contextmanager
def unread_frozen(model: PreTrainedModel, answer: Tensor) -> Iterator[None]:
    """Freeze for a while the parameters that an answer does not depend on, as a pooler's of which nobody asks.

    They get no gradient in any case; several processes would wait for it.

    Args:
        model: that gave the answer.
        answer: with its graph.
    """
    import torch

    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    found = torch.autograd.grad(answer.sum(), trained, allow_unused=True)
    unread = [parameter for parameter, gradient in zip(trained, found, strict=True) if gradient is None]
    for parameter in unread:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in unread:
            parameter.requires_grad_(True)


def depth_of_parameters(model: PreTrainedModel) -> dict[str, int]:
    """Return how deep each parameter lies: 0 for embeddings, i + 1 for layer i, and one more for what follows.

    Layers that share their parameters, as ALBERT's do, have the first one's depth.
    """
    prefixes = [f"{block.name}." for block in blocks(model)]
    depths, after = {}, len(prefixes) + 1
    began = False
    for name, _ in model.named_parameters():
        layer = next((i for i, prefix in enumerate(prefixes) if name.startswith(prefix)), None)
        began = began or layer is not None
        depths[name] = after if layer is None and began else 0 if layer is None else layer + 1
    return depths


def parameter_groups(
    model: PreTrainedModel, decays: set[str], learning_rate: float, weight_decay: float, layer_decay: float
) -> list[dict[str, Any]]:
    """Return an optimizer's groups, each layer slower than the one above it.

    What follows the layers learns at `learning_rate`, layer i of n at `learning_rate` · d^(n − i), the embeddings at
    `learning_rate` · d^(n + 1), with d the layer decay (Howard & Ruder 2018, section 3.2; Clark et al. 2020, table 7).

    Args:
        model: only its parameters that require gradients are taken.
        decays: names of the parameters that weights decay in.
        learning_rate: of the head.
        weight_decay: of these parameters.
        layer_decay: d in (0, 1].
    """
    depths = depth_of_parameters(model)
    top = max(depths.values())
    groups: dict[tuple[int, bool], list[Any]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups.setdefault((depths[name], name in decays), []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": learning_rate * layer_decay ** (top - depth),
            "weight_decay": weight_decay if decay else 0.0,
        }
        for (depth, decay), parameters in sorted(groups.items(), key=lambda each: each[0])
    ]
